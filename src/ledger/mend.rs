//! When the disk fails: the writer stops at once, and begins anew when the disk answers.
//!
//! Everything pending fails, nothing is accepted but outcomes of what has happened already, and the segment is never written
//! again. The new segment begins with a record of the fault, which says how many bytes of the old one count; then the outcomes
//! follow. A fault of `roots` or `checkpoints` is one of the ledger like any other: what can't be sealed is not gone on with.

use super::Unavailable;
use super::encode::Particulars;
use super::queue::{Entry, Fate, locked};
use super::storage::{segment_name, write_all};
use super::writer::{Tail, Writer};
use std::io;
use std::sync::atomic::Ordering;

impl Writer {
    /// The disk failed. Nothing that waits is acknowledged; outcomes are kept.
    pub(super) fn poison(&mut self, error: &io::Error, entries: &mut Vec<Entry>) {
        tracing::error!(
            segment = %self.storage.place(&self.tail.name).display(), %error,
            "the ledger can't be written: no call is forwarded until it can"
        );
        self.tail.file = None;
        self.tail.fault = error.to_string();
        let below = self.queue.fail(entries);
        self.queue.acks.settle(below, Err(Unavailable));
        while self.queue.acks.wake() {}
        let (kept, failed): (Vec<_>, Vec<_>) = entries
            .drain(..)
            .partition(|entry| entry.fate != Fate::Fail);
        self.kept.extend(kept);
        self.discard(failed.into_iter(), false);
    }

    /// Tries to begin anew until it works (true) or the ledger is closed (false).
    pub(super) fn wait_for_disk(&mut self) -> bool {
        let retry_after = self.storage.retry_after();
        // Sooner the first time: most faults are over at once.
        let mut pause = retry_after / 5;
        loop {
            let closing = self.queue.pause(pause);
            self.seen = self.seen.plus(pause);
            pause = retry_after;
            match self.mend() {
                Ok(()) => {
                    tracing::info!(segment = %self.tail.name, "the ledger can be written again");
                    return true;
                }
                Err(error) => {
                    tracing::warn!(%error, "the ledger still can't be written");
                    self.tail.file = None;
                }
            }
            if closing {
                let lost = self.kept.len();
                tracing::error!(
                    lost,
                    "the ledger is closed with outcomes that can't be written"
                );
                return false;
            }
        }
    }

    /// A new segment: the fault, then the outcomes that were kept, all synced; then calls are accepted again.
    fn mend(&mut self) -> io::Result<()> {
        if let Err(error) = self.flusher.join() {
            tracing::debug!(%error, "a flush of the segment that failed has failed too");
        }
        let (name, bytes) = (self.tail.name.clone(), self.tail.bytes);
        let fresh = segment_name(self.log.size());
        if fresh != name {
            // For those who read with other tools. Whether or not it works, the record below says what counts.
            if let Err(error) = self.storage.cut(&name, bytes) {
                tracing::warn!(segment = %name, %error, "the torn tail can't be cut off");
            }
            // Acknowledged and maybe not on the disk: nothing is written or signed behind it before it is.
            if self.tail.synced < bytes {
                self.storage.redo(&name, self.tail.synced, bytes)?;
                (self.tail.synced, self.tail.flushing) = (bytes, bytes);
            }
        }
        self.adopt()?;
        self.roots.mend(self.storage.as_mut())?;
        locked(&self.sealer).mend(self.storage.as_mut())?;
        let mut file = self.begin_segment(&fresh)?;
        let particulars = Particulars {
            // A segment without an acknowledged byte is begun again under its own name.
            kept: (fresh != name).then_some((&*name, bytes)),
            ..Particulars::default()
        };
        let version = env!("CARGO_PKG_VERSION");
        let fault = &self.tail.fault;
        let first = self
            .encoder
            .gate("fault", version, fault, &particulars, self.seen);
        let (mut log, mut lines) = (self.log.clone(), Vec::new());
        // Outcomes that came in meanwhile.
        let mut kept = std::mem::take(&mut self.kept);
        self.queue.collect(&mut kept);
        for line in std::iter::once(&first).chain(kept.iter().map(|entry| &entry.line)) {
            let start = lines.len();
            line.finish(log.chain.next, &log.chain.head, &mut lines);
            log.advance(&lines[start..lines.len() - 1]);
        }
        let written = write_all(file.as_mut(), &lines).and_then(|()| file.sync());
        if let Err(error) = written {
            self.kept = kept;
            return Err(error);
        }
        self.log = log;
        self.tail = Tail::new(fresh, self.seen);
        self.tail.file = Some(file);
        self.tail.bytes = lines.len() as u64;
        self.tail.since = Some(self.seen);
        (self.tail.synced, self.tail.flushing) = (self.tail.bytes, self.tail.bytes);
        self.queue.records.fetch_add(1, Ordering::Relaxed);
        self.discard(kept.into_iter(), true);
        let below = self.queue.heal();
        self.queue.acks.settle(below, Ok(()));
        Ok(())
    }
}
