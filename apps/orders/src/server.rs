//! The server: a platform on a data directory, served over HTTP until it is told to stop.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use factum::{RetryPolicy, system_env};
use factum_admin::{Admin, web};
use orders::{
    http,
    platform::{Platform, PlatformOptions, Role},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{DATA_DEFAULT, Options},
    failure::Failure,
    screen::Screen,
    signals::Signals,
};

/// How soon the demo and the load try again for the first time: nobody wants to watch the default of a second.
const RETRY_SOON: Duration = Duration::from_millis(150);

/// A platform that is served.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    platform: Arc<Platform>,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    /// Where the data is when nobody wants to keep it; gone with the server.
    temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// Serves a platform as the options say.
    pub(crate) async fn start(
        options: &Options,
        data: &Path,
        retry: &RetryPolicy,
    ) -> Result<Self, Failure> {
        let tokens: Vec<web::Token> = options
            .tokens
            .iter()
            .map(|token| {
                token
                    .parse()
                    .map_err(|error| Failure::while_("`--token` (or FACTUM_TOKEN)", error))
            })
            .collect::<Result<_, Failure>>()?;
        web::allow_listen(options.listen, &tokens)
            .map_err(|error| Failure::new(error.to_string()))?;
        // First the address: a second server on the same port should say so, and not that the data is in use.
        let listener = TcpListener::bind(options.listen).await.map_err(|error| {
            Failure::while_(format!("can't listen on {}", options.listen), error)
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::while_("can't listen", error))?;
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
        let access = web::Access::new(address, tokens, options.hosts.clone(), Admin::open_paths());
        let router = web::guarded(http::router(platform.clone(), env), access);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(web::serve(listener, router, stop.clone()));
        Ok(Self {
            address,
            platform,
            stop,
            serving,
            temporary: None,
        })
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

/// Serves until SIGTERM or ctrl-c, and then ends in good order; another one while it does ends it at once.
pub(crate) async fn serve(options: &Options) -> Result<(), Failure> {
    // Before anything else: a signal that comes early must not be lost.
    let mut signals = Signals::listen()?;
    let data = options
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
    let server = Server::start(options, &data, &RetryPolicy::default()).await?;
    greet(&server, &data, !options.tokens.is_empty());
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
