//! The server: a platform on a data directory, or some of its services on engines, served over HTTP until it is told to
//! stop.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use factum::{Env, RetryPolicy, system_env};
use factum_admin::{Admin, web};
use orders::{
    http::{self, Front},
    peers::Peers,
    platform::{Part, Platform, PlatformOptions, Role},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{DATA_DEFAULT, Engines, Options, Serve},
    connect::{self, NotConnected},
    failure::Failure,
    screen::Screen,
    signals::Signals,
};

/// How soon the demo and the load try again for the first time: nobody wants to watch the default of a second.
const RETRY_SOON: Duration = Duration::from_millis(150);

/// After how long of silence another process takes over what one consumed: with the time that it takes to notice, in less
/// than ten seconds. Kafka's own lower bound is this.
const SESSION: Duration = Duration::from_secs(6);

/// How long a process waits for engines that are still starting, or can't be reached for a while.
const ENGINES_WAIT_MAX: Duration = Duration::from_mins(1);
/// The first and the longest pause between two tries.
const ENGINES_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A platform that is served.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    platform: Arc<Platform>,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    /// Where the data is when nobody wants to keep it; gone with the server.
    temporary: Option<tempfile::TempDir>,
}

/// The tokens that clients may have.
fn tokens(options: &Options) -> Result<Vec<web::Token>, Failure> {
    let read = |token: &String| {
        token
            .parse()
            .map_err(|error| Failure::while_("`--token` (or FACTUM_TOKEN)", error))
    };
    options.tokens.iter().map(read).collect()
}

/// Listens as the options say, and says where, and who may speak there.
pub(crate) async fn listen(
    options: &Options,
) -> Result<(TcpListener, SocketAddr, Vec<web::Token>), Failure> {
    let tokens = tokens(options)?;
    web::allow_listen(options.listen, &tokens).map_err(|error| Failure::new(error.to_string()))?;
    // First the address: a second server on the same port should say so, and not that the data is in use.
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| Failure::while_(format!("can't listen on {}", options.listen), error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::while_("can't listen", error))?;
    Ok((listener, address, tokens))
}

impl Server {
    /// Serves a platform in a directory.
    pub(crate) async fn start(
        options: &Options,
        data: &Path,
        retry: &RetryPolicy,
    ) -> Result<Self, Failure> {
        let (listener, address, tokens) = listen(options).await?;
        let env = system_env();
        let settings = PlatformOptions::new(data)
            .retry(retry.clone())
            .retention_bytes(options.retention_bytes)
            .snapshot_every(options.snapshot_every)
            .accept(options.accept(env.now()));
        let platform = Platform::open(settings).await.map_err(|error| {
            Failure::while_(format!("can't start on `{}`", data.display()), error)
        })?;
        let platform = Arc::new(platform);
        let router = http::router(platform.clone(), env);
        let access = web::Access::new(address, tokens, options.hosts.clone(), Admin::open_paths());
        Ok(Self::serving(
            listener,
            address,
            platform,
            web::guarded(router, access),
        ))
    }

    /// Serves some of the services, on engines.
    async fn start_part(options: &Options, engines: &Engines) -> Result<Self, Failure> {
        let (listener, address, tokens) = listen(options).await?;
        let env = system_env();
        let settings = PlatformOptions::new("")
            .session(SESSION)
            .retention_bytes(options.retention_bytes)
            .snapshot_every(options.snapshot_every);
        let part = connected(engines, &env, &options.tokens).await?;
        let platform = Platform::part(part, &settings)
            .await
            .map_err(|error| Failure::while_("can't start", error))?;
        let platform = Arc::new(platform);
        let router = if engines.is_front() {
            let peers = Peers::new(engines.peers.clone());
            let peers = peers.map_err(|error| Failure::new(format!("{error:#}")))?;
            http::router_of_all(platform.clone(), env, Front::new(peers))
        } else {
            http::router(platform.clone(), env)
        };
        let access = web::Access::new(address, tokens, options.hosts.clone(), Admin::open_paths());
        Ok(Self::serving(
            listener,
            address,
            platform,
            web::guarded(router, access),
        ))
    }

    fn serving(
        listener: TcpListener,
        address: SocketAddr,
        platform: Arc<Platform>,
        router: axum::Router,
    ) -> Self {
        let stop = CancellationToken::new();
        let serving = tokio::spawn(web::serve(listener, router, stop.clone()));
        Self {
            address,
            platform,
            stop,
            serving,
            temporary: None,
        }
    }

    /// Serves a platform for one run, on a free port of this machine, with data that is gone afterwards unless a
    /// directory was named.
    pub(crate) async fn for_a_run(options: &Options) -> Result<Self, Failure> {
        let mut options = options.clone();
        options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut temporary = None;
        let data = if let Some(data) = &options.data {
            data.clone()
        } else {
            let made = tempfile::Builder::new().prefix("factum-orders-").tempdir();
            let made =
                made.map_err(|error| Failure::while_("can't make a temporary directory", error))?;
            let path = made.path().to_owned();
            temporary = Some(made);
            path
        };
        let mut server =
            Self::start(&options, &data, &RetryPolicy::exponential(RETRY_SOON)).await?;
        server.temporary = temporary;
        Ok(server)
    }

    /// Answers what is under way, then stops the services in good order.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        let served = self
            .serving
            .await
            .map_err(|error| Failure::while_("serving", error))?;
        self.platform.stop().await;
        drop(self.temporary);
        served.map_err(|error| Failure::while_("serving", error))
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What the engines give, as soon as they answer.
async fn connected(engines: &Engines, env: &Env, tokens: &[String]) -> Result<Part, Failure> {
    let mut wait = ENGINES_AGAIN.0;
    let give_up = tokio::time::Instant::now() + ENGINES_WAIT_MAX;
    loop {
        let error = match connect::part(engines, env, tokens).await {
            Ok(part) => return Ok(part),
            Err(NotConnected::Failed(failure)) => return Err(failure),
            Err(NotConnected::Yet(error)) => error,
        };
        if tokio::time::Instant::now() + wait > give_up {
            let waited = format!("waited {} s for the engines", ENGINES_WAIT_MAX.as_secs());
            return Err(Failure::while_(waited, format!("{error:#}")));
        }
        tracing::warn!("the engines don't answer yet: {error:#}");
        tokio::time::sleep(wait.mul_f64(0.5 + env.fraction() / 2.0)).await;
        wait = (wait * 2).min(ENGINES_AGAIN.1);
    }
}

/// Serves until SIGTERM or ctrl-c, and then ends in good order; another one while it does ends it at once.
pub(crate) async fn serve(options: &Options, how: &Serve) -> Result<(), Failure> {
    // Before anything else: a signal that comes early must not be lost.
    let mut signals = Signals::listen()?;
    let engines = how.engines()?;
    let data = options
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
    let server = match &engines {
        None => Server::start(options, &data, &RetryPolicy::default()).await?,
        Some(engines) => {
            options.are_for_engines()?;
            tokio::select! {
                started = Server::start_part(options, engines) => started?,
                // Nothing is under way yet that would have to be given back.
                _ = signals.next() => {
                    Screen::say("stopped before it began");
                    return Ok(());
                }
            }
        }
    };
    match &engines {
        None => greet(&server, &data, !options.tokens.is_empty()),
        Some(engines) => greet_as_part(&server, engines),
    }
    let failed = tokio::select! {
        _ = signals.next() => None,
        error = server.platform.failed() => Some(error),
    };
    if let Some(error) = failed {
        // Queries and health are answered until the services have given back what they hold.
        Screen::error(&format!("the data directory has failed: {error:#}"));
        unless_told_again(&mut signals, async {
            server.platform.running().stop().await;
            server.stop().await
        })
        .await?;
        return Err(Failure::while_(
            format!(
                "stopped, since nothing can be written to `{}`",
                data.display()
            ),
            error,
        ));
    }
    Screen::say("stopping: what is under way is finished or given back (again: at once)");
    unless_told_again(&mut signals, server.stop()).await?;
    Screen::say("stopped");
    Ok(())
}

/// What `ending` comes to, unless another signal says that it takes too long.
async fn unless_told_again(
    signals: &mut Signals,
    ending: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::select! {
        ended = ending => ended,
        signal = signals.next() => {
            let what = format!("ended at once by {signal}: the next start takes up what was under way");
            Err(Failure::with_code(signal.code(), what))
        }
    }
}

fn greet(server: &Server, data: &Path, token: bool) {
    let url = server.url();
    let services: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
    let bearer = if token {
        " -H \"Authorization: Bearer $TOKEN\""
    } else {
        ""
    };
    let json = format!("-H 'Content-Type: application/json'{bearer}");
    Screen::say(&format!(
        "The order platform is at {url}, its data in {}",
        data.display()
    ));
    Screen::say(&format!(
        "  services     {} (one process, a store for each)",
        services.join(", ")
    ));
    Screen::say("  users        /users /orders /stock           described at /openapi.json");
    Screen::say("  operators    /admin/... /metrics /health    described at /admin/openapi.json");
    Screen::say("");
    Screen::say("Try, in another terminal:");
    Screen::say(&format!("  curl -s{bearer} {url}/"));
    Screen::say(&format!(
        "  curl -s {url}/users {json} -d '{{\"name\":\"Kim\",\"email\":\"kim@example.org\"}}'"
    ));
    Screen::say(&format!(
        "  curl -s {url}/stock/tea/receive {json} -d '{{\"qty\":100}}'"
    ));
    Screen::say(&format!(
        "  curl -s {url}/orders {json} -d '{{\"user_id\":\"<user_id>\",\"items\":[{{\"sku\":\"tea\",\"qty\":2,\"price\":500}}]}}'"
    ));
    Screen::say(&format!(
        "  curl -s{bearer} {url}/orders/<order_id>/history"
    ));
    Screen::say(&format!(
        "  orders demo --target {url}     (cargo run -- demo --target {url})"
    ));
    Screen::say("Stop it with ctrl-c; another one ends it at once.");
}

fn greet_as_part(server: &Server, engines: &Engines) {
    let url = server.url();
    let roles: Vec<_> = engines.roles.iter().map(|role| role.name()).collect();
    Screen::say(&format!("{} at {url}", roles.join(", ")));
    if engines.is_front() {
        Screen::say("  speaks for all services: /users /orders /stock, /admin/..., /invariants");
        Screen::say(&format!("  orders demo --target {url}"));
    }
}
