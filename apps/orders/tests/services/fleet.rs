//! A platform in parts, and a client of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use factum::{Broker, Env, RetryPolicy, ServiceName, Store, StoreId, system_env};
use factum_admin::{Admin, web};
use factum_testkit::{MemoryDisk, MemoryStore, MemoryTopicsDisk};
use orders::{
    http::{self, Front},
    outside::{self, Outside},
    peers::Peers,
    platform::{Part, Platform, PlatformOptions, Role},
};
use reqwest::{Method, Url};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon what failed is tried again for the first time.
const RETRY: Duration = Duration::from_millis(50);

/// A process, as others see it.
pub(crate) struct Process {
    pub(crate) role: Role,
    pub(crate) url: String,
    platform: Arc<Platform>,
    stop: CancellationToken,
}

impl Process {
    /// Ends its serving and its services in good order.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.platform.stop().await;
    }
}

/// The platform in parts.
pub(crate) struct Fleet {
    /// Two processes of `order` and of `payment`, one of each other role.
    pub(crate) processes: Vec<Process>,
    pub(crate) client: Client,
    outside: CancellationToken,
}

/// Serves a router, and says where.
fn serve(listener: TcpListener, router: Router) -> CancellationToken {
    let stop = CancellationToken::new();
    let address = listener.local_addr().unwrap();
    let access = web::Access::new(address, Vec::new(), [], Admin::open_paths());
    tokio::spawn(web::serve(
        listener,
        web::guarded(router, access),
        stop.clone(),
    ));
    stop
}

async fn listen() -> (TcpListener, Url) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url.parse().unwrap())
}

/// What all processes share.
struct World {
    env: Env,
    broker: Arc<dyn Broker>,
    disks: BTreeMap<Role, MemoryDisk>,
    outside: Url,
}

impl World {
    async fn platform(&self, role: Role) -> Arc<Platform> {
        let outside = match role {
            Role::Payment | Role::Notification => Outside::at(self.outside.clone(), None).unwrap(),
            _ => Outside::in_memory(),
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(self.disks[&role].clone()));
        let part = Part {
            env: self.env.clone(),
            broker: self.broker.clone(),
            stores: BTreeMap::from([(role, store)]),
            outside,
            opened: None,
        };
        let options = PlatformOptions::new("").retry(RetryPolicy::exponential(RETRY));
        Arc::new(Platform::part(part, &options).await.unwrap())
    }
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let env = system_env();
        let (listener, outside) = listen().await;
        let firms = serve(listener, outside::router(Outside::in_memory()));
        let disk = |role: Role| {
            let name = ServiceName::of(role.name());
            MemoryDisk::new(StoreId(env.uuid()), name, env.now())
        };
        let world = World {
            broker: Arc::new(MemoryTopicsDisk::new().open(env.clone())),
            disks: Role::EVERY
                .into_iter()
                .map(|role| (role, disk(role)))
                .collect(),
            outside,
            env,
        };
        let mut processes = Vec::new();
        let mut peers: BTreeMap<Role, Vec<Url>> = BTreeMap::new();
        for role in [&Role::ALL[..], &[Role::Order, Role::Payment]].concat() {
            let (listener, url) = listen().await;
            let platform = world.platform(role).await;
            let stop = serve(listener, http::router(platform.clone(), world.env.clone()));
            peers.entry(role).or_default().push(url.clone());
            processes.push(Process {
                role,
                url: url.to_string(),
                platform,
                stop,
            });
        }
        let (listener, url) = listen().await;
        let platform = world.platform(Role::Query).await;
        let front = Front::new(Peers::new(peers).unwrap());
        let router = http::router_of_all(platform.clone(), world.env.clone(), front);
        let stop = serve(listener, router);
        let client = Client::of(url.as_ref());
        processes.push(Process {
            role: Role::Query,
            url: url.to_string(),
            platform,
            stop,
        });
        Self {
            processes,
            client,
            outside: firms,
        }
    }

    /// The processes of a role.
    pub(crate) fn of(&self, role: Role) -> Vec<&Process> {
        let of_role = self.processes.iter().filter(|process| process.role == role);
        of_role.collect()
    }

    pub(crate) async fn stop(self) {
        for process in &self.processes {
            process.stop().await;
        }
        self.outside.cancel();
    }
}

/// Runs the program with this target, and gives what it shows when all went well.
pub(crate) async fn orders(args: &'static [&'static str], target: String) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    command
        .args(args)
        .args(["--target", target.as_str()])
        .env_remove("FACTUM_TOKEN")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = ran.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out
}

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) token: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{self:?}");
        &self.body
    }
}

impl Client {
    pub(crate) fn of(url: &str) -> Self {
        Self {
            base: url.trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let token = response.headers().get("factum-token");
        Answer {
            status: response.status().as_u16(),
            token: token.map(|token| token.to_str().unwrap().to_owned()),
            body: response.json().await.unwrap_or_default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, &[], Some(body)).await
    }

    /// Waits until `path` answers 200 and what `wanted` accepts.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let looked = tokio::time::timeout(PATIENCE, async {
            loop {
                let answer = self.get(path).await;
                if answer.status == 200 && wanted(&answer.body) {
                    return answer.body;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if let Ok(body) = looked.await {
            return body;
        }
        panic!("{path} still answers {:?}", self.get(path).await);
    }
}
