//! The embedded store: one SQLite file, written by one thread.
//!
//! Changes queue up (bounded), the thread takes up to [`BATCH`] of them into one transaction and answers after the
//! commit (write-ahead log, `synchronous=FULL`: the commit is on the disk). One gate at a time: a lock file beside the
//! database is held for as long as the store is open; people may read the database meanwhile with `sqlite3`.
//! It refuses to start on a file that is locked, damaged, of another program, or made by a newer gate.

use super::outbox::NoticeRow;
use super::rows;
use super::{Applied, Change, Snapshot, Store, StoreFault, StoreFuture};
use crate::policy::time::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// The open store. Dropping it closes it.
#[derive(Debug)]
pub struct Embedded {
    place: String,
    /// `None`: closed.
    open: Mutex<Option<Open>>,
    noticed: Arc<Notify>,
}

#[derive(Debug)]
struct Open {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
    /// The lock goes when the file is closed, however the process ends.
    _lock: File,
}

struct Job {
    change: Change,
    done: oneshot::Sender<Result<Applied, StoreFault>>,
}

/// What its thread is asked to do.
enum Order {
    Change(Job),
    /// Read so many notices.
    Notices(usize, oneshot::Sender<Result<Vec<NoticeRow>, StoreFault>>),
}

impl Embedded {
    /// Opens the file, made where it is missing, and reads all of it.
    ///
    /// # Errors
    /// [`StoreFault`] names the file and says why.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Embedded, Snapshot), StoreFault> {
        let place = path.display().to_string();
        let lock = prepare(path)?;
        let opened = connect(path).and_then(|mut connection| {
            rows::migrate(&mut connection)?;
            let snapshot = rows::load(&connection, now)?;
            Ok((connection, snapshot))
        });
        let (connection, snapshot) =
            opened.map_err(|refusal| StoreFault(format!("{place}: {refusal}")))?;
        let (orders, queue) = sync_channel(QUEUE);
        let named = place.clone();
        let noticed = Arc::new(Notify::new());
        let notices = Arc::clone(&noticed);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || serve(connection, &queue, &named, &notices))
            .map_err(|error| StoreFault(format!("{place}: no thread for it: {error}")))?;
        let open = Open {
            orders,
            thread,
            _lock: lock,
        };
        let embedded = Embedded {
            place,
            open: Mutex::new(Some(open)),
            noticed,
        };
        Ok((embedded, snapshot))
    }

    /// Writes what was queued, closes the file and gives up its lock; blocks until then. Changes asked for after that
    /// are refused.
    pub fn close(&self) {
        let Some(Open {
            orders,
            thread,
            _lock,
        }) = self.opened().take()
        else {
            return;
        };
        drop(orders);
        if thread.join().is_err() {
            tracing::error!(store = %self.place, "the store's thread had panicked");
        }
    }

    /// Rouses whoever sends notices on: there may be some. A permit waits for one who is not waiting yet.
    pub fn noticed(&self) -> Arc<Notify> {
        Arc::clone(&self.noticed)
    }

    /// At most `most` of the notices that are to be fanned out, oldest first.
    pub fn notices(&self, most: usize) -> StoreFuture<Vec<NoticeRow>> {
        let (done, answer) = oneshot::channel();
        self.order(Order::Notices(most, done), answer)
    }

    /// Puts an order in its place now, whether or not the answer is awaited.
    fn order<T: Send + 'static>(
        &self,
        order: Order,
        answer: oneshot::Receiver<Result<T, StoreFault>>,
    ) -> StoreFuture<T> {
        let sent = match &*self.opened() {
            Some(open) => open.orders.try_send(order),
            None => Err(TrySendError::Disconnected(order)),
        };
        let place = self.place.clone();
        Box::pin(async move {
            match sent {
                Ok(()) => answer
                    .await
                    .unwrap_or_else(|_| Err(StoreFault(format!("{place}: its thread has ended")))),
                Err(TrySendError::Full(_)) => {
                    Err(StoreFault(format!("{place}: {QUEUE} changes wait already")))
                }
                Err(TrySendError::Disconnected(_)) => {
                    Err(StoreFault(format!("{place}: its thread has ended")))
                }
            }
        })
    }

    fn opened(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Embedded {
    fn apply(&self, change: Change) -> StoreFuture<Applied> {
        let (done, answer) = oneshot::channel();
        self.order(Order::Change(Job { change, done }), answer)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why the file is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}; restore it from a backup, or move it away to start without sessions and grants")]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "it is damaged ({0}); restore it from a backup, or move it away to start without sessions and grants"
    )]
    Damaged(String),
    #[error("it is a database of another program; name another file in `store.embedded.path`")]
    Foreign,
    #[error(
        "it was made by a newer gate (version {found}, this one knows {known}); start that one"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "a row of table {table} can't be read: {why}; restore the file from a backup, or remove the row"
    )]
    Row { table: &'static str, why: String },
}

/// Makes directory and file private, and takes the lock.
fn prepare(path: &Path) -> Result<File, StoreFault> {
    let fault = |path: &Path, error: &io::Error| StoreFault(format!("{}: {error}", path.display()));
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| fault(directory, &error))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let lock = private(&lock_path).map_err(|error| fault(&lock_path, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: a lock file that can't be read names no holder.
            let _ = (&lock).take(20).read_to_string(&mut holder);
            return Err(StoreFault(format!(
                "{}: held by another gate (process {holder}); stop it, or give this one its own `store.embedded.path`",
                lock_path.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(fault(&lock_path, &error)),
    }
    let holder = std::process::id().to_string();
    lock.set_len(0)
        .and_then(|()| lock.write_all_at(holder.as_bytes(), 0))
        .map_err(|error| fault(&lock_path, &error))?;
    // Made here for its mode: SQLite gives its companions (-wal, -shm) the mode of the database.
    private(path).map_err(|error| fault(path, &error))?;
    Ok(lock)
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn connect(path: &Path) -> Result<Connection, Refusal> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Refusal::Damaged(verdict));
    }
    Ok(connection)
}

fn serve(mut connection: Connection, queue: &Receiver<Order>, place: &str, noticed: &Notify) {
    while let Ok(first) = queue.recv() {
        let (mut batch, mut readers) = (Vec::new(), Vec::new());
        for order in std::iter::once(first).chain(queue.try_iter().take(BATCH - 1)) {
            match order {
                Order::Change(job) => batch.push(job),
                Order::Notices(most, done) => readers.push((most, done)),
            }
        }
        let notices = batch.iter().any(|job| job.change.may_notify());
        write(&mut connection, batch, place);
        if notices {
            noticed.notify_one();
        }
        for (most, done) in readers {
            let read = rows::notices(&connection, most);
            // A caller that has left needs no answer.
            let _ = done.send(read.map_err(|error| StoreFault(format!("{place}: {error}"))));
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::error!(store = place, %error, "the store did not close cleanly");
    }
}

fn write(connection: &mut Connection, batch: Vec<Job>, place: &str) {
    if batch.is_empty() {
        return;
    }
    let answers = match commit(connection, &batch) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        // One bad change must not fail its neighbours: nothing of the batch was kept, so each is tried alone.
        Err(_) if batch.len() > 1 => batch
            .iter()
            .map(|job| Ok(commit(connection, std::slice::from_ref(job))?[0]))
            .collect(),
        Err(error) => vec![Err(error)],
    };
    for (job, answer) in batch.into_iter().zip(answers) {
        let answer: Result<Applied, rusqlite::Error> = answer;
        if let Err(error) = &answer {
            tracing::error!(store = place, %error, "a change could not be made durable");
        }
        // A caller that has left needs no answer.
        let _ = job
            .done
            .send(answer.map_err(|error| StoreFault(format!("{place}: {error}"))));
    }
}

fn commit(connection: &mut Connection, batch: &[Job]) -> Result<Vec<Applied>, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        answers.push(rows::apply(&transaction, &job.change)?);
    }
    transaction.commit()?;
    Ok(answers)
}

/// Changes in one transaction.
const BATCH: usize = 64;
/// Changes that may wait; past it they are refused.
const QUEUE: usize = 4096;
/// How long a person reading with `sqlite3` may hold the writer up.
const BUSY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: Timestamp = Timestamp::from_micros(1);

    fn refusal(path: &Path) -> String {
        Embedded::open(path, NOW).unwrap_err().to_string()
    }

    #[test]
    fn a_second_gate_is_told_which_file_is_held_and_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/toolgate.db");
        let (held, _) = Embedded::open(&path, NOW).unwrap();
        let text = refusal(&path);
        assert!(text.contains("data/toolgate.db.lock: held"), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(held);
        Embedded::open(&path, NOW).unwrap();
    }

    #[tokio::test]
    async fn a_closed_store_has_let_go_of_its_file_and_refuses_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toolgate.db");
        let (closed, _) = Embedded::open(&path, NOW).unwrap();
        closed.close();
        let (_next, _) = Embedded::open(&path, NOW).unwrap();
        let change = Change::ClearCost {
            session: crate::policy::id::SessionId::new(uuid::Uuid::nil()),
        };
        assert!(closed.apply(change).await.is_err());
    }

    #[test]
    fn nobody_else_can_read_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/toolgate.db");
        let _held = Embedded::open(&path, NOW).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toolgate.db");
        std::fs::write(&path, "this is not a database, whatever it is ".repeat(100)).unwrap();
        let text = refusal(&path);
        assert!(
            text.contains("toolgate.db") && text.contains("not a database"),
            "{text}"
        );
    }

    #[test]
    fn a_damaged_page_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toolgate.db");
        drop(Embedded::open(&path, NOW).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = 4096;
        bytes[at..at + 64].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let text = refusal(&path);
        assert!(
            text.contains("toolgate.db") && text.contains("backup"),
            "{text}"
        );
    }

    #[test]
    fn a_database_of_another_program_or_a_newer_gate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toolgate.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE things (a)").unwrap();
        drop(other);
        assert!(refusal(&path).contains("another program"));
        let newer = folder.path().join("newer.db");
        drop(Embedded::open(&newer, NOW).unwrap());
        let connection = Connection::open(&newer).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        assert!(refusal(&newer).contains("newer gate"));
    }
}
