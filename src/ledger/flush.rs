//! Syncing in the background: what is at level `written` reaches the disk within a commit window, and the writer goes on
//! writing meanwhile. A sync on the writer's own thread would hold up every call for as long as the disk takes. What may be
//! done only once the segment is on the disk (a checkpoint is signed) is done here too, right behind the sync.
//!
//! The system reports a failed flush once, to whoever asks first. So before the writer relies on a sync of its own, it
//! waits for the one that is under way here, and takes its error for its own.

use super::storage::Segment;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// One thread that does one job at a time. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Flusher {
    jobs: SyncSender<Job>,
    results: Receiver<Done>,
    syncing: bool,
    busy: bool,
}

/// What follows a sync.
pub(super) type Sequel = Box<dyn FnOnce() -> io::Result<()> + Send>;

struct Job {
    /// To be synced first.
    segment: Option<Box<dyn Segment>>,
    /// Only if that worked.
    then: Sequel,
}

enum Done {
    /// Where this failed, nothing follows.
    Sync(io::Result<()>),
    Job(io::Result<()>),
}

impl Flusher {
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (answers, results) = sync_channel(2);
        std::thread::Builder::new()
            .name("ledger-sync".into())
            .spawn(move || {
                while let Ok(Job { segment, then }) = queue.recv() {
                    if let Some(mut segment) = segment {
                        let synced = segment.sync();
                        let failed = synced.is_err();
                        if answers.send(Done::Sync(synced)).is_err() {
                            return;
                        }
                        if failed {
                            continue;
                        }
                    }
                    if answers.send(Done::Job(then())).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Flusher {
            jobs,
            results,
            syncing: false,
            busy: false,
        })
    }

    /// Whether a job is under way.
    pub fn busy(&self) -> bool {
        self.busy
    }

    /// Begins one; none may be under way.
    pub fn begin(&mut self, segment: Option<Box<dyn Segment>>, then: Sequel) -> io::Result<()> {
        let syncing = segment.is_some();
        let job = Job { segment, then };
        self.jobs.send(job).map_err(|_| ended())?;
        (self.syncing, self.busy) = (syncing, true);
        Ok(())
    }

    /// What became of the one under way, as far as that is known by now.
    pub fn look(&mut self) -> io::Result<()> {
        while self.busy {
            match self.results.try_recv() {
                Ok(done) => self.take(done)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
        Ok(())
    }

    /// Waits until no sync is under way; what follows it may be.
    pub fn join_sync(&mut self) -> io::Result<()> {
        while self.syncing {
            self.wait()?;
        }
        self.look()
    }

    /// Waits until nothing is under way.
    pub fn join(&mut self) -> io::Result<()> {
        while self.busy {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.results.recv() {
            Ok(done) => self.take(done),
            Err(_) => {
                (self.syncing, self.busy) = (false, false);
                Err(ended())
            }
        }
    }

    fn take(&mut self, done: Done) -> io::Result<()> {
        self.syncing = false;
        match done {
            Done::Sync(Ok(())) => Ok(()),
            Done::Sync(result) | Done::Job(result) => {
                self.busy = false;
                result
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that syncs has ended")
}
