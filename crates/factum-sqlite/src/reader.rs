//! Reading: a few threads with connections of their own behind one bounded queue, and as many connections for reads
//! that are over before a thread would wake.
//!
//! Reads never wait for the writer, nor it for them. What a read does is short, so that the write-ahead log can
//! start over: whoever reads much reads it in pages.
//!
//! A row or two that are looked up by their key take some microseconds, and handing them to another thread and back
//! takes ten times as long. Such brief reads run where they are asked for. When the page is not in memory, that task's
//! thread waits for the disk, once for each connection at most: whoever finds all of them busy goes to the queue.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use factum_core::{Error, StreamId, TypeName};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{error::Doing, recent::Recent};

/// How many reads may wait for a thread. Each is a small closure; whoever comes after waits to hand over theirs.
const READS_WAITING_MAX: usize = 256;

/// How many stream names a reading thread remembers: at 150 bytes each, 1 MB.
const STREAMS_REMEMBERED_MAX: usize = 8_192;

/// How many types and topics a reading thread remembers; a program has some hundreds.
const NAMES_REMEMBERED_MAX: usize = 4_096;

/// How many prepared statements a connection keeps: those of the ports are some fifty, and each view has five.
pub(crate) const STATEMENTS_MAX: usize = 256;

type Read = Box<dyn FnOnce(&Reading) + Send>;

/// A reading thread's connection, and what it remembers. Interned names never change.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) connection: Connection,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) streams: RefCell<Recent<i64, StreamId>>,
    pub(crate) types: RefCell<Recent<i64, TypeName>>,
    pub(crate) topics: RefCell<Recent<i64, factum_core::Topic>>,
}

impl Reading {
    /// Over a connection of its own.
    pub(crate) fn new(connection: Connection, path: Arc<PathBuf>) -> Self {
        Self {
            connection,
            path,
            streams: RefCell::new(Recent::at_most(STREAMS_REMEMBERED_MAX)),
            types: RefCell::new(Recent::at_most(NAMES_REMEMBERED_MAX)),
            topics: RefCell::new(Recent::at_most(NAMES_REMEMBERED_MAX)),
        }
    }

    /// Reads in one transaction, so that all of it is of the same moment.
    pub(crate) fn at_once<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        const WHAT: &str = "read at once";
        // Prepared once, unlike a transaction of the connection's.
        let run = |sql| {
            self.connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute([]))
                .doing(WHAT)
        };
        run("BEGIN")?;
        let result = read(&self.connection);
        let ended = run("COMMIT").or_else(|_| run("ROLLBACK"));
        result.and_then(|found| ended.map(|_| found))
    }
}

/// The handle of all reading threads.
#[derive(Debug)]
pub(crate) struct Readers {
    queue: Arc<Waiting>,
    /// For so many more reads in the queue.
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// For brief reads; none when the file is closed.
    brief: Vec<Mutex<Option<Reading>>>,
}

impl Readers {
    /// Starts `count` threads over the file at `path`.
    pub(crate) fn start(path: &Path, count: usize) -> Result<Self, Error> {
        let path = Arc::new(path.to_path_buf());
        let open = || {
            let mut connection = crate::file::connect(&path)?;
            connection
                .pragma_update(None, "query_only", true)
                .doing("prepare a reading connection")?;
            crate::own_sql::guard(&mut connection)?;
            Ok::<_, Error>(Reading::new(connection, path.clone()))
        };
        let mut readers = Self {
            queue: Arc::default(),
            room: Arc::new(Semaphore::new(READS_WAITING_MAX)),
            threads: Mutex::default(),
            brief: Vec::new(),
        };
        for number in 0..count.max(1) {
            readers.brief.push(Mutex::new(Some(open()?)));
            let reading = open()?;
            let taker = Taker::of(&readers.queue);
            let run = move || {
                while let Some(read) = taker.next() {
                    read(&reading);
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("factum-read-{number}"))
                .spawn(run);
            let thread = thread.map_err(|error| {
                Error::fatal("failed to start a thread that reads").caused_by(error)
            })?;
            readers.threads().push(thread);
        }
        Ok(readers)
    }

    /// Does a read that is over in some microseconds, here if a connection is free.
    pub(crate) async fn read_brief<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        for reading in &self.brief {
            // One that a panic has left behind is not used again.
            if let Ok(reading) = reading.try_lock()
                && let Some(reading) = &*reading
            {
                return read(reading);
            }
        }
        self.read(read).await
    }

    /// Does `read` on one of the threads.
    ///
    /// Cancel-safe: a read whose caller has gone is done for nothing.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let stopped = || Error::fatal("the file is closed: nothing more can be read");
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |reading| {
            // Whoever asked may have gone.
            drop(reply.send(read(reading)));
        });
        let room = self.room.clone().acquire_owned().await;
        self.queue.put(read, room.map_err(|_| stopped())?);
        answer.await.map_err(|_| stopped())?
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the threads, after what they are given already, and closes all connections.
    pub(crate) fn stop(&self) {
        for reading in &self.brief {
            drop(
                reading
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        }
        self.room.close();
        self.queue.close();
        for thread in self.threads().drain(..) {
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread that reads has panicked");
            }
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Reads that wait for a thread, and threads that wait for a read.
#[derive(Default)]
struct Waiting {
    reads: Mutex<Reads>,
    given: Condvar,
}

#[derive(Default)]
struct Reads {
    waiting: VecDeque<(Read, OwnedSemaphorePermit)>,
    takers: usize,
    closed: bool,
}

impl Waiting {
    fn put(&self, read: Read, room: OwnedSemaphorePermit) {
        let mut reads = self.lock();
        // Dropped, it tells its caller that nobody reads any more.
        if !reads.closed {
            reads.waiting.push_back((read, room));
            drop(reads);
            self.given.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.given.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

/// A thread's share of what waits. When a panic has ended the last one, nobody waits any longer.
struct Taker(Arc<Waiting>);

impl Taker {
    fn of(waiting: &Arc<Waiting>) -> Self {
        waiting.lock().takers += 1;
        Self(waiting.clone())
    }

    /// The next read, waiting for one. `None` when there will be no more. Its room is free from now on.
    fn next(&self) -> Option<Read> {
        let nothing = |reads: &mut Reads| reads.waiting.is_empty() && !reads.closed;
        let reads = self.0.given.wait_while(self.0.lock(), nothing);
        let mut reads = reads.unwrap_or_else(PoisonError::into_inner);
        reads.waiting.pop_front().map(|(read, _)| read)
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut reads = self.0.lock();
        reads.takers -= 1;
        if reads.takers == 0 {
            reads.closed = true;
            let left = std::mem::take(&mut reads.waiting);
            drop(reads);
            drop(left);
        }
    }
}

/// A record's place, as errors name it.
pub(crate) struct Place<'a>(pub(crate) &'a Path, pub(crate) factum_core::Position);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the record at position {} of `{}`",
            self.1,
            self.0.display()
        )
    }
}
