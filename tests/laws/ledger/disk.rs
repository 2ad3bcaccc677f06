//! A disk on which chosen calls fail.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use toolgate::ledger::storage::{Disk, Segment, Storage};

/// A disk on which chosen calls fail.
pub(super) struct Faulty {
    pub(super) disk: Disk,
    pub(super) plan: Arc<Plan>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) calls: AtomicUsize,
    pub(super) faults: Mutex<BTreeMap<usize, Misfortune>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Misfortune {
    /// EIO; a write may have put some bytes down first.
    Broken { after_bytes: usize },
    /// ENOSPC, likewise.
    Full { after_bytes: usize },
    /// A write takes less than all and says so.
    Short { bytes: usize },
}

impl Misfortune {
    fn error(self) -> io::Result<()> {
        match self {
            Misfortune::Broken { .. } => Err(io::Error::from_raw_os_error(5)),
            Misfortune::Full { .. } => Err(io::ErrorKind::StorageFull.into()),
            Misfortune::Short { .. } => Ok(()),
        }
    }
}

impl Plan {
    fn next(&self) -> Option<Misfortune> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.faults.lock().unwrap().get(&call).copied()
    }

    fn judge(&self) -> io::Result<()> {
        self.next().map_or(Ok(()), Misfortune::error)
    }
}

impl Storage for Faulty {
    fn instance(&self) -> &str {
        self.disk.instance()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.disk.place(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        self.disk.bytes(name)
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>> {
        self.disk.read(name, from)
    }

    fn append(&mut self, name: &str, keep: u64) -> io::Result<Box<dyn Segment>> {
        self.plan.judge()?;
        Ok(Box::new(FaultySegment {
            file: self.disk.append(name, keep)?,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn cut(&mut self, name: &str, keep: u64) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.cut(name, keep)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.remove(name)
    }

    fn replace(&mut self, draft: &str, name: &str) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.replace(draft, name)
    }

    fn retry_after(&self) -> Duration {
        Duration::from_millis(1)
    }
}

#[derive(Debug)]
pub(super) struct FaultySegment {
    pub(super) file: Box<dyn Segment>,
    pub(super) plan: Arc<Plan>,
}

impl Segment for FaultySegment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.plan.next() {
            None => self.file.write(bytes),
            Some(Misfortune::Short { bytes: count }) => {
                self.file.write(&bytes[..count.clamp(1, bytes.len())])
            }
            Some(
                fault @ (Misfortune::Broken { after_bytes } | Misfortune::Full { after_bytes }),
            ) => {
                self.file.write(&bytes[..after_bytes.min(bytes.len())])?;
                fault.error().map(|()| 0)
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.plan.judge()?;
        self.file.sync()
    }

    fn twin(&self) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(FaultySegment {
            file: self.file.twin()?,
            plan: Arc::clone(&self.plan),
        }))
    }
}

pub(super) fn misfortune() -> impl Strategy<Value = Misfortune> {
    prop_oneof![
        (0..600_usize).prop_map(|after_bytes| Misfortune::Broken { after_bytes }),
        (0..600_usize).prop_map(|after_bytes| Misfortune::Full { after_bytes }),
        (0..600_usize).prop_map(|bytes| Misfortune::Short { bytes }),
    ]
}
