//! The platform with a card gateway that takes the process down: for `poison`, which runs this program again as a
//! process of its own.
//!
//! All of it is the real platform but for the gateway's book, which is where a client library that aborts, recurses
//! without end or eats all memory would be.

use std::{hint::black_box, io, path::Path, process::Command, sync::Arc};

use async_trait::async_trait;
use factum::{
    Begin, Error, InboxId, InboxRow, RetryPolicy, ServiceName, Sqlite, SqliteOptions, Store,
    system_env,
};
use factum_admin::{Admin, web};
use factum_testkit::{Layered, StoreLayer};
use orders::{
    http,
    outside::{FileLedger, Ledger, Outside},
    platform::{Platform, Role, World},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The variable that names the data directory, and makes this program the process that serves it.
const DATA: &str = "FACTUM_DEADLY_DATA";
/// The variable that is there when the gateway is mended.
const MENDED: &str = "FACTUM_DEADLY_MENDED";
/// The variable that is there when the store forgets how often a message was tried.
const FORGETS: &str = "FACTUM_DEADLY_FORGETS";
/// All the memory that the process may have, in KiB: several times what it needs.
const MEMORY_KIB: u64 = 2 << 20;

/// How a charge takes the process down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Abort,
    StackOverflow,
    OutOfMemory,
}

impl Death {
    pub(crate) const ALL: [Self; 3] = [Self::Abort, Self::StackOverflow, Self::OutOfMemory];

    /// The currency in which an order is charged like that.
    pub(crate) fn currency(self) -> &'static str {
        match self {
            Self::Abort => "XAB",
            Self::StackOverflow => "XSO",
            Self::OutOfMemory => "XOM",
        }
    }

    fn die(self) {
        match self {
            Self::Abort => std::process::abort(),
            Self::StackOverflow => {
                black_box(recurse(0));
            }
            Self::OutOfMemory => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![0_u8; 16 << 20]));
                }
            }
        }
    }
}

/// Never comes back: the stack is a few megabytes.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == u64::MAX {
        return frame[0];
    }
    recurse(depth + 1) + frame[1]
}

/// A gateway's book that is deadly to write some things into.
#[derive(Debug)]
struct Deadly(FileLedger);

#[async_trait]
impl Ledger for Deadly {
    async fn enter(&self, key: &str, entry: String) -> io::Result<String> {
        let is_deadly = |death: &Death| entry.contains(&format!("\"{}\"", death.currency()));
        if std::env::var_os(MENDED).is_none()
            && let Some(death) = Death::ALL.into_iter().find(is_deadly)
        {
            death.die();
        }
        self.0.enter(key, entry).await
    }

    fn entry(&self, key: &str) -> Option<String> {
        self.0.entry(key)
    }

    fn entries(&self) -> Vec<(String, String)> {
        self.0.entries()
    }
}

/// A store that forgets how often its messages were tried, so that deaths are counted for nothing: as with
/// `GroupSpec::crashes_at_most(u32::MAX)`.
#[derive(Debug)]
struct Forgetful(Arc<dyn Store>);

#[async_trait]
impl StoreLayer for Forgetful {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        let mut row = self.0.claim_inbox(inbox, begin).await?;
        if let Some(trying) = &mut row.trying {
            trying.tries = 0;
        }
        Ok(row)
    }
}

/// What a process that is started again finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The gateway is mended.
    pub(crate) mended: bool,
    /// The store forgets how often a message was tried.
    pub(crate) forgets: bool,
}

/// The command that serves the platform on `data`.
pub(crate) fn command(data: &Path, settings: Settings) -> Command {
    // A limit can be set in a process's own shell without `unsafe`.
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(
            "ulimit -c 0; ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""
        ))
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "deadly::serves_when_it_is_told_where",
            "--nocapture",
        ])
        .env(DATA, data);
    if settings.mended {
        command.env(MENDED, "1");
    }
    if settings.forgets {
        command.env(FORGETS, "1");
    }
    command
}

/// Does nothing among the tests: it is the process that they start.
#[test]
fn serves_when_it_is_told_where() {
    let Some(data) = std::env::var_os(DATA) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    runtime.unwrap().block_on(serve(Path::new(&data)));
}

async fn serve(data: &Path) {
    let env = system_env();
    let sqlite = Sqlite::open(&SqliteOptions::new(data)).unwrap();
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for role in Role::ALL {
        let store = sqlite.store(&ServiceName::of(role.name()), &env).await;
        let store: Arc<dyn Store> = store.unwrap();
        stores.push(if std::env::var_os(FORGETS).is_some() {
            Arc::new(Layered(Forgetful(store)))
        } else {
            store
        });
    }
    let book = |name: &str| FileLedger::open(&data.join(name)).unwrap();
    let world = World {
        env: env.clone(),
        broker: Arc::new(sqlite.broker(&env).await.unwrap()),
        stores: stores.try_into().unwrap(),
        outside: Outside::over(
            Arc::new(Deadly(book("gateway"))),
            Arc::new(book("notifier")),
        ),
    };
    let platform = Platform::over(world, &RetryPolicy::default(), None)
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let access = web::Access::new(address, Vec::new(), Vec::new(), Admin::open_paths());
    let router = web::guarded(http::router(Arc::new(platform), env), access);
    println!("http://{address}");
    web::serve(listener, router, CancellationToken::new())
        .await
        .unwrap();
}
