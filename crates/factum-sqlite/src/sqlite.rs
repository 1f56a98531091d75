//! The embedded world as its user sees it: a data directory with stores and topics.

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use factum_core::{Env, Error, Position, ServiceName, Store, StoreId, Stores};
use tokio::sync::{OnceCell, oneshot};

use crate::{
    broker::SqliteBroker, file::File, log, options::SqliteOptions, own_sql, state::StoreState,
    store::SqliteStore,
};

/// An open data directory: one file with the stores of any number of services. Clones are the same.
///
/// One process uses a directory at a time. All stores share one writer, and so one sync for what is committed at
/// the same moment; they share nothing else.
///
/// ```
/// # use factum_core::{Env, ServiceName, Source, Store as _, Timestamp};
/// # use factum_sqlite::{Sqlite, SqliteOptions};
/// # struct Fixed;
/// # impl Source for Fixed {
/// #     fn now(&self) -> Timestamp { Timestamp::UNIX_EPOCH }
/// #     fn random(&self) -> u64 { 4 }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), factum_core::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let env = Env::new(Fixed);
/// let sqlite = Sqlite::open(&SqliteOptions::new(directory.path()))?;
/// let orders = sqlite.store(&ServiceName::of("order"), &env).await?;
/// assert_eq!(orders.head().await?.position.0, 0);
/// // A directory has one process, and one object in it.
/// assert!(Sqlite::open(&SqliteOptions::new(directory.path())).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sqlite {
    pub(crate) file: Arc<File>,
    /// The one broker: two would not hear of each other's messages and members.
    pub(crate) broker: Arc<OnceCell<SqliteBroker>>,
}

impl Sqlite {
    /// Opens the data directory of `options`, or makes it. Blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// Class fatal, with the file's name and the way out: a directory in use by another process, a file of
    /// another application, of a newer version, or damaged.
    pub fn open(options: &SqliteOptions) -> Result<Self, Error> {
        Ok(Self {
            file: Arc::new(File::open(options)?),
            broker: Arc::default(),
        })
    }

    /// The store of `service`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// Class transient on a full disk, fatal when the file is damaged.
    pub async fn store(&self, service: &ServiceName, env: &Env) -> Result<Arc<SqliteStore>, Error> {
        let (id, at) = (StoreId(env.uuid()), env.now());
        let name = service.clone();
        let open = self.file.job(
            move |desk| {
                own_sql::settle(desk.connection, "main", &name)?;
                let number = match StoreState::find(desk.connection, &name)? {
                    Some(number) => number,
                    None => StoreState::create(desk.connection, &name, id, at)?,
                };
                if let Some(state) = desk.stores.get(&number) {
                    return Ok((state.shared.clone(), None));
                }
                let state = StoreState::open(desk.connection, number)?;
                // Nobody else has read anything of it yet.
                let indexed = state.shared.records_read();
                let opened = (state.shared.clone(), Some((state.head, indexed)));
                desk.stores.insert(number, state);
                Ok(opened)
            },
            |_| {},
        );
        let (shared, opened) = open.await?;
        if let Some((head, indexed)) = opened {
            // What was written last is what a crash may have torn: it is looked at before anybody builds upon it.
            let tail = Position(head.position.0.saturating_sub(log::INDEX_SLICE));
            let of = shared.clone();
            let check = move |reading: &_| {
                let mut checked = 0;
                log::check(reading, of.number, tail, head.position, |_| {
                    of.count_read(1);
                    checked += 1;
                    Ok(())
                })?;
                Ok(checked)
            };
            let checked: u64 = self.file.read(check).await?;
            tracing::info!(
                start.checked = checked,
                start.indexed = indexed,
                "store `{service}` goes on behind {head}: {indexed} records were put into its indexes, and the last \
                 {checked} are whole"
            );
        }
        Ok(Arc::new(SqliteStore::new(self.file.clone(), shared)))
    }

    /// Waits until nothing can be written any more, and says why: a sync has failed, or the file is damaged. Every
    /// commit is refused from then on, and the process should end: only a new start looks at what the disk has.
    ///
    /// Cancel-safe. While all is well it waits for ever; it keeps nothing open.
    pub fn failed(&self) -> impl Future<Output = Error> + Send + use<> {
        let broken = self.file.broken.clone();
        async move { broken.wait().await }
    }

    /// The file with everything in it.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Finishes what was handed over, moves the write-ahead log into the file and closes it. All stores of it are
    /// closed with it: what they are asked afterwards fails.
    ///
    /// Dropping the last handle does the same, and blocks.
    pub async fn close(self) {
        let (done, wait) = oneshot::channel();
        let file = self.file.clone();
        let stop = move || {
            file.stop();
            // Whoever waited may have gone.
            done.send(()).unwrap_or_default();
        };
        match std::thread::Builder::new()
            .name("factum-close".into())
            .spawn(stop)
        {
            // An error means that the thread has panicked, which was logged.
            Ok(_) => drop(wait.await),
            Err(_) => self.file.stop(),
        }
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.file.path)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Stores for Sqlite {
    async fn open(&self, service: &ServiceName, env: &Env) -> Result<Arc<dyn Store>, Error> {
        let store: Arc<dyn Store> = self.store(service, env).await?;
        Ok(store)
    }

    async fn close(&self) {
        self.clone().close().await;
    }
}
