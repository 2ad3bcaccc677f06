//! Syncing in the background: what is at level `written` reaches the disk within a commit window, and the writer goes on
//! writing meanwhile. A sync on the writer's own thread would hold up every call for as long as the disk takes.
//!
//! The system reports a failed flush once, to whoever asks first. So before the writer relies on a sync of its own, it
//! waits for the one that is under way here, and takes its error for its own.

use super::storage::Segment;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// One thread that syncs what it is handed, one segment at a time. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Flusher {
    jobs: SyncSender<Box<dyn Segment>>,
    results: Receiver<io::Result<()>>,
    under_way: bool,
}

impl Flusher {
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Box<dyn Segment>>(1);
        let (answers, results) = sync_channel(1);
        std::thread::Builder::new()
            .name("ledger-sync".into())
            .spawn(move || {
                while let Ok(mut segment) = queue.recv() {
                    if answers.send(segment.sync()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Flusher {
            jobs,
            results,
            under_way: false,
        })
    }

    /// Whether a sync is under way.
    pub fn busy(&self) -> bool {
        self.under_way
    }

    /// Begins one; none may be under way.
    pub fn begin(&mut self, segment: Box<dyn Segment>) -> io::Result<()> {
        self.jobs.send(segment).map_err(|_| ended())?;
        self.under_way = true;
        Ok(())
    }

    /// What became of the one under way, if that is known by now.
    pub fn look(&mut self) -> io::Result<()> {
        if !self.under_way {
            return Ok(());
        }
        match self.results.try_recv() {
            Ok(result) => {
                self.under_way = false;
                result
            }
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err(ended()),
        }
    }

    /// Waits for the one under way.
    pub fn join(&mut self) -> io::Result<()> {
        if !self.under_way {
            return Ok(());
        }
        self.under_way = false;
        self.results.recv().map_err(|_| ended())?
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that syncs has ended")
}
