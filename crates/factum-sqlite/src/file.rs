//! The file: one data directory, one SQLite file, one writer, a few readers.

use std::{
    fs,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use factum_core::Error;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tokio::sync::oneshot;

use crate::{
    broken::Broken,
    error::{Doing, of_file},
    group::{Desk, Order, Task},
    opening,
    options::SqliteOptions,
    queue::Queue,
    reader::{Readers, Reading, STATEMENTS_MAX},
    state::StoreState,
    witness::WITNESS_NAME,
    writer::{ORDERS_WAITING_MAX, Writer},
};

/// The name of the file within the data directory.
pub(crate) const FILE_NAME: &str = "factum.db";

/// The name of the file that is locked while a process uses the directory.
const LOCK_NAME: &str = "factum.lock";

/// All that is opened in the directory, by us and by SQLite.
const FILE_NAMES: [&str; 5] = [
    FILE_NAME,
    "factum.db-wal",
    "factum.db-shm",
    LOCK_NAME,
    WITNESS_NAME,
];

/// How a SQLite file begins.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// An open file. When the last handle is dropped, the threads end: what was acknowledged is durable long before.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    orders: Arc<Queue<Order>>,
    /// How many transactions the writer has made durable.
    transactions: Arc<AtomicU64>,
    pub(crate) broken: Broken,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Readers,
    /// Held until everything else is closed.
    lock: Mutex<Option<DirectoryLock>>,
}

/// The right to use a data directory.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// None where there is no such file and none can be made.
    #[expect(dead_code, reason = "the lock is held as long as the file is open")]
    file: Option<fs::File>,
    /// Whether nothing can be written in the directory.
    pub(crate) is_read_only: bool,
}

impl DirectoryLock {
    /// Takes it, and makes the directory if there is none.
    pub(crate) fn take(directory: &Path) -> Result<Self, Error> {
        Self::take_for(directory, false)
    }

    /// Takes it for whoever changes nothing: where nothing can be written, too.
    pub(crate) fn take_to_read(directory: &Path) -> Result<Self, Error> {
        Self::take_for(directory, true)
    }

    fn take_for(directory: &Path, reading: bool) -> Result<Self, Error> {
        let failed = |what: &str, error: std::io::Error| {
            Error::fatal(format!(
                "failed to {what} data directory `{}`",
                directory.display()
            ))
            .caused_by(error)
        };
        if !directory.is_dir() {
            fs::create_dir_all(directory).map_err(|error| failed("make", error))?;
            // The directory's own entry must outlive a power cut, as what it holds does.
            if let Some(parent) = directory
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                fs::File::open(parent)
                    .and_then(|parent| parent.sync_all())
                    .map_err(|error| failed("sync", error))?;
            }
        }
        for name in FILE_NAMES {
            check_plain(&directory.join(name))?;
        }
        let mut options = fs::OpenOptions::new();
        let lock = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK_NAME));
        let (lock, is_read_only) = match lock {
            Err(error) if reading && error.kind() == ErrorKind::ReadOnlyFilesystem => {
                match fs::File::open(directory.join(LOCK_NAME)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        // A copy without its lock.
                        return Ok(Self {
                            file: None,
                            is_read_only: true,
                        });
                    }
                    lock => (lock, true),
                }
            }
            lock => (lock, false),
        };
        let lock = lock.map_err(|error| failed("lock", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                file: Some(lock),
                is_read_only,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::fatal(format!(
                "data directory `{}` is in use by another process: stop that one first, or choose another directory",
                directory.display()
            ))),
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", error)),
        }
    }
}

impl File {
    /// Opens the file in the directory of `options`, or makes it.
    pub(crate) fn open(options: &SqliteOptions) -> Result<Self, Error> {
        let lock = DirectoryLock::take(&options.directory)?;
        let path = options.directory.join(FILE_NAME);
        let (connection, witness) =
            opening::open(options).map_err(|error| of_file(error, &path))?;
        let orders = Arc::new(Queue::bounded(ORDERS_WAITING_MAX));
        let broken = Broken::not_yet();
        let writer = Writer::new(
            connection,
            witness,
            orders.clone(),
            &path,
            options.wal_bytes_max,
            broken.clone(),
            options.pages_max,
        )?;
        let transactions = writer.transactions();
        let readers = Readers::start(&path, options.readers)?;
        let thread = std::thread::Builder::new()
            .name("factum-write".into())
            .spawn(move || writer.run());
        let thread = thread
            .map_err(|error| Error::fatal("failed to start the writing thread").caused_by(error))?;
        Ok(Self {
            path,
            orders,
            transactions,
            broken,
            writer: Mutex::new(Some(thread)),
            readers,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Hands an order to the writer, behind all that were handed over before. Dropped before it returns, it did not.
    pub(crate) async fn order(&self, order: Order) -> Result<(), Error> {
        self.orders.give(order).await.map_err(|_| closed())
    }

    /// How many orders wait for the writer.
    pub(crate) fn waiting(&self) -> u64 {
        self.orders.len() as u64
    }

    /// How many transactions the writer has made durable.
    pub(crate) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Does `work` in the writer's transaction, under a savepoint of its own, and answers when it is durable.
    ///
    /// It is run in the order in which it was given, among the commits of all stores. When it fails, what it
    /// wrote is undone, and nobody else notices.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.write_then(work, |_| {}).await
    }

    /// As [`write`](Self::write); `after` sees the result before the answer is given, on the writing thread and in
    /// the order of the jobs: when the group is durable, or has failed. It must be quick, and must not wait.
    ///
    /// Once handed over, the work and `after` are done even when the caller has gone.
    pub(crate) async fn write_then<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
        after: impl FnOnce(&Result<T, Error>) + Send + 'static,
    ) -> Result<T, Error> {
        self.job(move |desk| work(desk.connection), after).await
    }

    /// Does `work` on one store, as [`write`](Self::write) does. What it changes in memory it must change last.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        store: i64,
        work: impl FnOnce(&Connection, &mut StoreState) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let work = move |desk: &mut Desk<'_>| {
            let connection = desk.connection;
            work(connection, desk.store(store)?)
        };
        self.job(work, |_| {}).await
    }

    /// Does `work` on the writer's desk.
    pub(crate) async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk<'_>) -> Result<T, Error> + Send + 'static,
        after: impl FnOnce(&Result<T, Error>) + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            looks_first: false,
            work: Some(work),
            after: Some(after),
            result: None,
            reply,
        };
        self.order(Order::Job(Box::new(task))).await?;
        let result = answer.await.map_err(|_| closed())?;
        result.map_err(|error| of_file(error, &self.path))
    }

    /// Does `read` on a reading thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let result = self.readers.read(read).await;
        result.map_err(|error| of_file(error, &self.path))
    }

    /// Does a read of a row or two by their key: at once, if a connection is free.
    pub(crate) async fn read_brief<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let result = self.readers.read_brief(read).await;
        result.map_err(|error| of_file(error, &self.path))
    }

    /// Ends the threads, after what they were given, and gives the directory free. Blocks until then.
    pub(crate) fn stop(&self) {
        self.orders.close();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.thread().id() != std::thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the writing thread has panicked");
        }
        self.readers.stop();
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn closed() -> Error {
    Error::fatal("the file is closed, or its writer has ended: open it again")
}

/// A connection to the file as all of them are.
pub(crate) fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).doing(&format!("open `{}`", path.display()))?;
    set_up(connection)
}

/// A connection to the file where nothing can be written, and no log lies beside it. Otherwise SQLite would make files
/// there, by which those who use a log tell each other of it.
pub(crate) fn connect_to_read(path: &Path) -> Result<Connection, Error> {
    let text = path
        .to_str()
        .ok_or_else(|| Error::fatal(format!("`{}` is no UTF-8 path", path.display())))?;
    let text = text.replace('%', "%25");
    let text = text.replace('?', "%3f").replace('#', "%23");
    // What follows two slashes is a host, and there is none.
    let host = if path.is_absolute() { "//" } else { "" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{host}{text}?immutable=1"), flags)
        .doing(&format!("open `{}`", path.display()))?;
    set_up(connection)
}

fn set_up(connection: Connection) -> Result<Connection, Error> {
    const WHAT: &str = "open a connection";
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection
        .pragma_update(None, "foreign_keys", false)
        .doing(WHAT)?;
    connection
        .pragma_update(None, "trusted_schema", false)
        .doing(WHAT)?;
    // The writer moves the log into the file when it ends well. When it does not, after a failed sync or in a start
    // that is refused, closing must neither sync nor write.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .doing(WHAT)?;
    // Without this guarantee, SQLite looks at the value of a bound `LIMIT` while it plans, and prepares the statement
    // anew whenever one is bound: each reading of a page was parsed and planned again.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .doing(WHAT)?;
    Ok(connection)
}

/// Refuses what stands in a file's place and is none. A pipe would be waited for without end; two directories with a
/// link to one file would each believe to be alone with it.
fn check_plain(path: &Path) -> Result<(), Error> {
    let what = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(
                Error::fatal(format!("failed to look at `{}`", path.display())).caused_by(error),
            );
        }
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() => "a directory",
        Ok(found) if found.is_symlink() => "a link",
        Ok(_) => "no file",
    };
    Err(Error::fatal(format!(
        "`{}` is {what}, expected a plain file: move it away, or choose another data directory (a link may lead to \
         the directory as a whole)",
        path.display()
    )))
}

/// Refuses a file that is not SQLite's before SQLite sees it, since it would take some for an empty one.
pub(crate) fn check_magic(path: &Path) -> Result<(), Error> {
    let mut start = Vec::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(Error::fatal(format!("failed to read `{}`", path.display())).caused_by(error))
        }
        Ok(_) if start.is_empty() || start == SQLITE_MAGIC => Ok(()),
        Ok(_) => Err(Error::fatal(format!(
            "`{}` is not a data file of Factum, or its beginning is damaged: move it away and restore the newest \
             backup, or choose another data directory",
            path.display()
        ))),
    }
}
