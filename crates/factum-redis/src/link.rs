//! The connection to the server: one, shared by all callers, made anew when it breaks.
//!
//! A task keeps it. Callers find it up, wait a moment while it is being made, or are told why it is not; each answer has
//! a time limit, and who runs into it has the connection replaced, since nothing comes back on it in order any more.
//!
//! Each connection is told which life of the server it leads to (see [`Server::life`]). When that changes, the server may
//! have lost its last writes, and the lineage grows before anything is asked on the new connection.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use factum_core::Error;
use redis::{
    AsyncConnectionConfig, FromRedisValue, Pipeline, RedisConnectionInfo, RedisResult,
    ScriptInvocation, aio::MultiplexedConnection, cmd,
};
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    error::{Doing, sorted},
    options::RedisOptions,
    server::Server,
    tls::Tls,
};

/// How long it waits after a connection could not be made: doubled each time, up to the most.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The connection of one process to one server.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    options: RedisOptions,
    state: watch::Sender<State>,
    lineage: AtomicU64,
    /// The number of a connection on which an answer did not come.
    suspect: AtomicU64,
    suspected: Notify,
    remarks: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
enum State {
    Up(Connected),
    /// It is not, for this reason; whether it was tried in vain to make it anew.
    Down {
        reason: Error,
        tried: bool,
    },
    Closed,
}

/// A connection that is up.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    connection: MultiplexedConnection,
    number: u64,
    /// What [`Link::lineage`] was when it was made.
    pub(crate) lineage: u64,
}

/// A connection that was made, with the task that drives it.
struct Made {
    connection: MultiplexedConnection,
    driver: JoinSet<()>,
    server: Server,
}

impl Link {
    /// Connects to the server.
    pub(crate) async fn connect(options: RedisOptions) -> Result<Self, Error> {
        let tls = options
            .tls
            .as_ref()
            .map(|tls| Tls::new(&options.host, tls))
            .transpose()?;
        let first = make(&options, tls.as_ref()).await?;
        let reason = Error::transient("the connection to Redis is being made");
        let shared = Arc::new(Shared {
            options,
            state: watch::Sender::new(State::Down {
                reason,
                tried: false,
            }),
            lineage: AtomicU64::new(0),
            suspect: AtomicU64::new(0),
            suspected: Notify::new(),
            remarks: Mutex::default(),
        });
        let mut keeper = Keeper {
            shared: shared.clone(),
            tls,
            life: first.server.life.clone(),
            number: 0,
        };
        keeper.publish(&first);
        let keeper = tokio::spawn(async move { keeper.run(first).await }).abort_handle();
        Ok(Self { shared, keeper })
    }

    /// Closes it: whoever asks for it afterwards is refused.
    pub(crate) fn close(&self) {
        self.keeper.abort();
        self.shared.state.send_replace(State::Closed);
    }

    /// Grows when the server that answers may have gone back to an earlier state.
    pub(crate) fn lineage(&self) -> u64 {
        self.shared.lineage.load(Ordering::SeqCst)
    }

    /// What a person should know about the server's settings.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.shared.remarks().clone()
    }

    /// The connection, if it is up, or up in a moment.
    pub(crate) async fn connected(&self) -> Result<Connected, Error> {
        let shared = &self.shared;
        let mut state = shared.state.subscribe();
        let settled = |state: &State| !matches!(state, State::Down { tried: false, .. });
        let settled = timeout(shared.options.connect_max, state.wait_for(settled)).await;
        let state = match settled {
            Ok(Ok(state)) => state.clone(),
            _ => shared.state.borrow().clone(),
        };
        match state {
            State::Up(connected) => Ok(connected),
            State::Down { reason, .. } => Err(reason),
            State::Closed => Err(Error::fatal("the views on Redis are closed")),
        }
    }

    /// Runs a script on a connection.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        connected: &Connected,
        doing: Doing<'_>,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Error> {
        let mut connection = connected.connection.clone();
        self.answer(connected, doing, script.invoke_async(&mut connection))
            .await
    }

    /// Sends commands on a connection, all at once.
    pub(crate) async fn commands<T: FromRedisValue>(
        &self,
        connected: &Connected,
        doing: Doing<'_>,
        commands: &Pipeline,
    ) -> Result<T, Error> {
        let mut connection = connected.connection.clone();
        self.answer(connected, doing, commands.query_async(&mut connection))
            .await
    }

    /// Waits for an answer, as long as one may take.
    async fn answer<T>(
        &self,
        connected: &Connected,
        doing: Doing<'_>,
        answer: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Error> {
        let shared = &self.shared;
        let answer = answer.await;
        answer.map_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() {
                shared.suspect.store(connected.number, Ordering::SeqCst);
                shared.suspected.notify_one();
            }
            sorted(doing, error)
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn remarks(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who makes the connection anew.
struct Keeper {
    shared: Arc<Shared>,
    tls: Option<Tls>,
    /// The life of the server that was connected to last.
    life: Option<String>,
    number: u64,
}

impl Keeper {
    async fn run(&mut self, first: Made) {
        let mut made = first;
        loop {
            self.watch(&mut made).await;
            drop(made);
            let server = self.shared.options.server();
            let reason = Error::transient(format!("the connection to Redis at `{server}` is lost"));
            tracing::warn!("{reason}");
            self.down(reason, false);
            made = self.make().await;
            self.publish(&made);
            tracing::info!("connected to Redis at `{server}` again");
        }
    }

    /// Waits until a connection is of no use any more.
    async fn watch(&self, made: &mut Made) {
        loop {
            tokio::select! {
                biased;
                _ = made.driver.join_next() => return,
                () = self.shared.suspected.notified() => {
                    if self.shared.suspect.load(Ordering::SeqCst) == self.number {
                        return;
                    }
                }
            }
        }
    }

    /// Makes a connection, however often it has to be tried.
    async fn make(&self) -> Made {
        let mut wait = BACKOFF;
        loop {
            match make(&self.shared.options, self.tls.as_ref()).await {
                Ok(made) => return made,
                Err(error) => {
                    tracing::debug!("{error:#}");
                    // Whatever it is, a person may mend it on the server's side: nothing is given up for it.
                    self.down(Error::transient(error.to_string()).caused_by(error), true);
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    fn down(&self, reason: Error, tried: bool) {
        self.shared
            .state
            .send_replace(State::Down { reason, tried });
    }

    /// Hands a connection out.
    fn publish(&mut self, made: &Made) {
        let life = &made.server.life;
        // A server that doesn't say which life it leads may have begun another one each time.
        let first = self.number == 0;
        if !first && (life.is_none() || *life != self.life) {
            self.shared.lineage.fetch_add(1, Ordering::SeqCst);
        }
        self.life.clone_from(life);
        self.number += 1;
        let mut remarks = self.shared.remarks();
        if *remarks != made.server.remarks {
            for remark in &made.server.remarks {
                tracing::warn!("{remark}");
            }
            remarks.clone_from(&made.server.remarks);
        }
        drop(remarks);
        self.shared.state.send_replace(State::Up(Connected {
            connection: made.connection.clone(),
            number: self.number,
            lineage: self.shared.lineage.load(Ordering::SeqCst),
        }));
    }
}

/// Makes a connection: within its time, with the password shown, the database chosen and the server looked at.
async fn make(options: &RedisOptions, tls: Option<&Tls>) -> Result<Made, Error> {
    let server = options.server();
    timeout(options.connect_max, greet(options, tls))
        .await
        .unwrap_or_else(|_| {
            Err(Error::transient(format!(
                "Redis at `{server}` does not answer"
            )))
        })
}

async fn greet(options: &RedisOptions, tls: Option<&Tls>) -> Result<Made, Error> {
    let server = options.server();
    let unreachable =
        |error| Error::transient(format!("Redis at `{server}` can't be reached")).caused_by(error);
    let stream = TcpStream::connect((options.host.as_str(), options.port))
        .await
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut driver = JoinSet::new();
    // Nothing is said to the server but what is said below, so that each refusal is heard.
    let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(options.call_max));
    let what = format!("connect to Redis at `{server}`");
    let doing = Doing::Reading(&what);
    let mut connection = if let Some(tls) = tls {
        let session = tls.connector.connect(tls.host.clone(), stream).await;
        let session = session.map_err(|error| refused_session(&server, error))?;
        let made = MultiplexedConnection::new_with_config(&silent, session, config).await;
        let (connection, work) = made.map_err(|error| sorted(doing, error))?;
        driver.spawn(work);
        connection
    } else {
        let made = MultiplexedConnection::new_with_config(&silent, stream, config).await;
        let (connection, work) = made.map_err(|error| sorted(doing, error))?;
        driver.spawn(work);
        connection
    };
    if let Some(password) = &options.password {
        let mut auth = cmd("AUTH");
        if let Some(user) = &options.user {
            auth.arg(user);
        }
        let shown: RedisResult<()> = auth.arg(password).query_async(&mut connection).await;
        shown.map_err(|error| refused_account(&server, options, error))?;
    }
    if options.database > 0 {
        let mut select = cmd("SELECT");
        select.arg(options.database);
        let chosen: RedisResult<()> = select.query_async(&mut connection).await;
        chosen.map_err(|error| {
            let database = options.database;
            let refused = if error.code() == Some("ERR") {
                Error::fatal(format!(
                    "Redis at `{server}` has no database {database}: `databases` says how many it has, and a cluster has one"
                ))
            } else {
                return sorted(doing, error);
            };
            refused.caused_by(error)
        })?;
    }
    let info: RedisResult<String> = cmd("INFO").query_async(&mut connection).await;
    let info = match info {
        Ok(info) => info,
        Err(error) if error.code() == Some("NOPERM") => String::new(),
        Err(error) => return Err(sorted(doing, error)),
    };
    if info.lines().any(|line| line.trim() == "loading:1") {
        return Err(Error::transient(format!(
            "Redis at `{server}` is still reading its files"
        )));
    }
    Ok(Made {
        connection,
        driver,
        server: Server::parse(&server, &info)?,
    })
}

/// A certificate that is not trusted stays so; a connection that breaks may come about the next time.
fn refused_session(server: &str, error: std::io::Error) -> Error {
    let refused = if error.kind() == std::io::ErrorKind::InvalidData {
        Error::fatal(format!(
            "TLS with Redis at `{server}` is refused: its certificate is not trusted, or it speaks no TLS there"
        ))
    } else {
        Error::transient(format!("TLS with Redis at `{server}` does not come about"))
    };
    refused.caused_by(error)
}

fn refused_account(server: &str, options: &RedisOptions, error: redis::RedisError) -> Error {
    if error.is_io_error() {
        return sorted(Doing::Reading("show Redis the password"), error);
    }
    let who = match &options.user {
        Some(user) => format!("user `{user}` with this password"),
        None => "this password".into(),
    };
    Error::fatal(format!("Redis at `{server}` refuses {who}")).caused_by(error)
}
