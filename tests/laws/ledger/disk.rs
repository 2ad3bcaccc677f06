//! A disk on which chosen calls fail, and which knows what of it would survive a power loss.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use toolgate::ledger::storage::{Disk, Segment, Storage};
use toolgate::policy::time::Timestamp;

/// A disk on which chosen calls fail.
pub(super) struct Faulty {
    pub(super) disk: Disk,
    pub(super) plan: Arc<Plan>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) calls: AtomicUsize,
    pub(super) faults: Mutex<BTreeMap<usize, Misfortune>>,
    /// Whoever holds it holds up every write to a segment.
    pub(super) hold: Mutex<()>,
    watch: Mutex<Watch>,
}

/// What was written and what is on the disk, in lines.
#[derive(Debug, Default)]
struct Watch {
    written: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    /// Checkpoints that said more than what was on the disk when they were written.
    ahead: Vec<String>,
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

    /// From now on this call, counted from the next one, comes to grief.
    pub(super) fn fail(&self, faults: impl IntoIterator<Item = (usize, Misfortune)>) {
        let at = self.calls.load(Ordering::SeqCst);
        let faults = faults.into_iter().map(|(call, fault)| (at + call, fault));
        *self.faults.lock().unwrap() = faults.collect();
    }

    /// No checkpoint ever covered what was not on the disk.
    pub(super) fn never_ahead(&self) -> Result<(), String> {
        let ahead = &self.watch.lock().unwrap().ahead;
        ahead
            .is_empty()
            .then_some(())
            .ok_or_else(|| ahead.join("\n"))
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Watch {
    fn wrote(&mut self, name: &str, bytes: &[u8]) {
        *self.written.entry(name.to_owned()).or_default() += lines(bytes);
    }

    fn cut(&mut self, name: &str, path: &Path) {
        let there = lines(&std::fs::read(path).unwrap_or_default());
        self.written.insert(name.to_owned(), there);
        self.synced.insert(name.to_owned(), there);
    }

    fn sealed(&mut self, note: &[u8]) {
        let text = String::from_utf8_lossy(note);
        let size: u64 = text.lines().nth(1).unwrap().parse().unwrap();
        let first = |name: &String| name[..16].parse::<u64>().unwrap();
        let mut durable = 0;
        // Line by line from the oldest segment on: a successor counts only where all before it is there.
        for (name, synced) in &self.synced {
            let oldest = self.synced.keys().next() == Some(name);
            if oldest || first(name) <= durable {
                durable = first(name) + synced;
            }
        }
        if size > durable {
            let why = format!("{size} records sealed, {durable} on the disk: {self:?}");
            self.ahead.push(why);
        }
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
        let file = self.disk.append(name, keep)?;
        if name.ends_with(".jsonl") {
            let mut watch = self.plan.watch.lock().unwrap();
            watch.cut(name, &self.disk.place(name));
        }
        Ok(Box::new(FaultySegment {
            name: name.to_owned(),
            file,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn cut(&mut self, name: &str, keep: u64) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.cut(name, keep)?;
        // What a failed flush left is not on the disk for a cut.
        let there = lines(&std::fs::read(self.disk.place(name))?);
        let mut watch = self.plan.watch.lock().unwrap();
        watch.written.insert(name.to_owned(), there);
        if let Some(synced) = watch.synced.get_mut(name) {
            *synced = there.min(*synced);
        }
        Ok(())
    }

    fn redo(&mut self, name: &str, from: u64, to: u64) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.redo(name, from, to)?;
        let text = std::fs::read(self.disk.place(name))?;
        let there = lines(&text[..usize::try_from(to).unwrap()]);
        let mut watch = self.plan.watch.lock().unwrap();
        watch.synced.insert(name.to_owned(), there);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.remove(name)?;
        let mut watch = self.plan.watch.lock().unwrap();
        watch.synced.remove(name);
        watch.written.remove(name);
        Ok(())
    }

    fn replace(&mut self, draft: &str, name: &str) -> io::Result<()> {
        self.plan.judge()?;
        self.disk.replace(draft, name)
    }

    fn retry_after(&self) -> Duration {
        Duration::from_millis(1)
    }
}

impl Faulty {
    pub(super) fn open(directory: &Path, plan: &Arc<Plan>, now: Timestamp) -> Box<Self> {
        Box::new(Faulty {
            disk: Disk::open(directory, now).unwrap(),
            plan: Arc::clone(plan),
        })
    }
}

#[derive(Debug)]
struct FaultySegment {
    name: String,
    file: Box<dyn Segment>,
    plan: Arc<Plan>,
}

impl FaultySegment {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.name == "checkpoints" {
            self.plan.watch.lock().unwrap().sealed(bytes);
        }
        let count = self.file.write(bytes)?;
        if self.name.ends_with(".jsonl") {
            let mut watch = self.plan.watch.lock().unwrap();
            watch.wrote(&self.name, &bytes[..count]);
        }
        Ok(count)
    }
}

impl Segment for FaultySegment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.name.ends_with(".jsonl") {
            drop(self.plan.hold.lock().unwrap());
        }
        match self.plan.next() {
            None => self.put(bytes),
            // Of a note the second part would read as one of its own here.
            Some(Misfortune::Short { .. }) if !self.name.ends_with(".jsonl") => self.put(bytes),
            Some(Misfortune::Short { bytes: count }) => {
                self.put(&bytes[..count.clamp(1, bytes.len())])
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
        let written = {
            let watch = self.plan.watch.lock().unwrap();
            watch.written.get(&self.name).copied()
        };
        self.plan.judge()?;
        self.file.sync()?;
        if let Some(written) = written {
            let mut watch = self.plan.watch.lock().unwrap();
            if let Some(synced) = watch.synced.get_mut(&self.name) {
                *synced = written.max(*synced);
            }
        }
        Ok(())
    }

    fn twin(&self) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(FaultySegment {
            name: self.name.clone(),
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
