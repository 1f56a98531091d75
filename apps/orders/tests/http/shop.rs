//! A platform that is served, and a client for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use factum::{RetryPolicy, ServiceName, Store, StoreId, system_env};
use factum_admin::{Admin, web};
use factum_testkit::{MemoryDisk, MemoryStore, MemoryTopicsDisk};
use orders::{
    http,
    outside::Outside,
    platform::{Platform, PlatformOptions, Role, World},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Shop {
    base: String,
    client: reqwest::Client,
    pub(crate) platform: Arc<Platform>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    data: TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) token: Option<String>,
    pub(crate) replayed: bool,
    pub(crate) location: Option<String>,
    /// Whether pages of other sites may read it.
    pub(crate) allows_origins: bool,
    pub(crate) body: Value,
}

fn retry() -> RetryPolicy {
    RetryPolicy::exponential(Duration::from_millis(20))
}

impl Answer {
    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{self:?}");
        &self.body
    }

    /// A problem of this status that names this field.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, field: &str) {
        let errors = self.is(status)["errors"].as_array();
        assert!(
            errors.is_some_and(|errors| errors.iter().any(|one| one["field"] == field)),
            "{field}: {self:?}"
        );
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.body[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {self:?}"))
            .to_owned()
    }
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::on(TempDir::new().unwrap()).await
    }

    /// The platform on a data directory that may have a past.
    pub(crate) async fn on(data: TempDir) -> Self {
        Self::served(data, |router, address| {
            let access = web::Access::new(address, Vec::new(), [], Admin::open_paths());
            web::guarded(router, access)
        })
        .await
    }

    /// A new platform, for clients that show one of these tokens.
    pub(crate) async fn with_tokens(tokens: &[&str]) -> Self {
        let tokens = tokens.iter().map(|token| token.parse().unwrap()).collect();
        Self::served(TempDir::new().unwrap(), |router, address| {
            web::guarded(
                router,
                web::Access::new(address, tokens, [], Admin::open_paths()),
            )
        })
        .await
    }

    /// A new platform, served as it must never be: to whoever asks, under any name, for any page.
    pub(crate) async fn without_guard() -> Self {
        Self::served(TempDir::new().unwrap(), |router, _| router).await
    }

    async fn served(data: TempDir, guard: impl FnOnce(Router, SocketAddr) -> Router) -> Self {
        let options = PlatformOptions::new(data.path()).retry(retry());
        let platform = Platform::open(options).await.unwrap();
        Self::of(data, platform, guard).await
    }

    /// A new platform whose stores are in memory: their views find words.
    pub(crate) async fn in_memory() -> Self {
        let env = system_env();
        let stores = Role::ALL.map(|role| {
            let (id, service) = (StoreId(env.uuid()), ServiceName::of(role.name()));
            let disk = MemoryDisk::new(id, service, env.now());
            Arc::new(MemoryStore::open(disk)) as Arc<dyn Store>
        });
        let world = World {
            broker: Arc::new(MemoryTopicsDisk::new().open(env.clone())),
            env,
            stores,
            outside: Outside::in_memory(),
        };
        let platform = Platform::over(world, &retry(), None).await.unwrap();
        Self::of(TempDir::new().unwrap(), platform, |router, _| router).await
    }

    async fn of(
        data: TempDir,
        platform: Platform,
        guard: impl FnOnce(Router, SocketAddr) -> Router,
    ) -> Self {
        let platform = Arc::new(platform);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = guard(http::router(platform.clone(), system_env()), address);
        let stop = CancellationToken::new();
        let server = tokio::spawn(web::serve(listener, router, stop.clone()));
        Self {
            base: format!("http://{address}"),
            client: reqwest::Client::new(),
            platform,
            stop,
            server,
            data,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        Answer {
            status: response.status().as_u16(),
            token: header("factum-token"),
            replayed: header("idempotency-replayed").is_some(),
            location: header("location"),
            allows_origins: header("access-control-allow-origin").is_some(),
            body: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// The body of a good answer, read and as it came.
    pub(crate) async fn get_text(&self, path: &str) -> (Value, String) {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let text = response.text().await.unwrap();
        (serde_json::from_str(&text).unwrap(), text)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn post_keyed(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send(
            self.request(Method::POST, path)
                .header("Idempotency-Key", key)
                .json(body),
        )
        .await
    }

    pub(crate) async fn register(&self, name: &str) -> String {
        let body = json!({ "name": name, "email": format!("{}@example.org", name.to_lowercase()) });
        let answer = self.post("/users", &body).await;
        answer.is(201);
        answer.id("user_id")
    }

    pub(crate) async fn receive(&self, sku: &str, qty: u64) {
        self.post(&format!("/stock/{sku}/receive"), &json!({ "qty": qty }))
            .await
            .is(202);
    }

    /// Waits until `path` answers what `wanted` accepts.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let looked = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get(path).await.body;
                if wanted(&last) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(looked.await.is_ok(), "{path} still answers {last:#}");
        last
    }

    pub(crate) async fn until_status(&self, order: &str, status: &str) -> Value {
        self.until(&format!("/orders/{order}"), |body| body["status"] == status)
            .await
    }

    /// Nothing is on its way any more, and nothing is broken.
    pub(crate) async fn must_be_whole(&self) {
        let found = self
            .until("/invariants", |body| body["quiet"] == true)
            .await;
        assert_eq!(found["broken"], json!([]));
    }

    /// Stops it in good order, and gives its data directory back.
    pub(crate) async fn close(self) -> TempDir {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
        self.platform.stop().await;
        self.data
    }
}

/// An order of one line.
pub(crate) fn order(user: &str, sku: &str, qty: u64) -> Value {
    json!({ "user_id": user, "items": [{ "sku": sku, "qty": qty, "price": 500 }] })
}
