//! A small app with accounts and receipts, served over HTTP, and a client for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use factum::{
    Aggregate, App, Decision, Event, Failure, GroupSpec, Projection, Reaction, Reactor, Recorded,
    RetryPolicy, RowSet, Running, Service, ServiceName, StoreId, Topic, TopicSpec, View,
    ViewDefinition, system_env,
};
use factum_admin::{Admin, web};
use factum_testkit::{
    MemoryStore, MemoryTopicsDisk,
    faults::{Faults, FaultyBroker, FaultyStore},
};
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The amount that receipts can't be written for.
pub(crate) const POISON: u64 = 13;
/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "accounts")]
pub(crate) enum AccountEvent {
    #[event(name = "Deposited", version = 1)]
    Deposited { amount: u64 },
}

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Account {
    balance: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Deposit(pub(crate) u64);

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Id = String;
    type Command = Deposit;
    type Event = AccountEvent;
    type Error = std::convert::Infallible;

    fn handle(
        &self,
        Deposit(amount): Deposit,
        _: &Decision,
    ) -> Result<Vec<AccountEvent>, Self::Error> {
        Ok(vec![AccountEvent::Deposited { amount }])
    }

    fn apply(&mut self, AccountEvent::Deposited { amount }: &AccountEvent) {
        self.balance += amount;
    }
}

/// What the receipts service records.
#[derive(Event, Clone, Debug, PartialEq)]
pub(crate) enum Receipt {
    #[event(name = "ReceiptWritten", version = 1)]
    Written { amount: u64 },
}

struct Write;

impl Reactor for Write {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "write"
    }

    async fn react(
        &self,
        event: &Recorded<AccountEvent>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let AccountEvent::Deposited { amount } = event.data;
        if amount == POISON {
            return Err(Failure::poison(format!("amount {amount} is unlucky")));
        }
        let account = event.aggregate_id.as_deref().unwrap_or("nobody");
        cx.import(
            "receipt",
            account,
            &Receipt::Written { amount },
            event.timestamp,
        )?;
        Ok(())
    }
}

struct Totals;

impl Projection for Totals {
    const NAME: &'static str = "totals";
    type Event = AccountEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![View::<Value>::new("totals").kept_by::<Self>()]
    }

    async fn project(
        &self,
        event: &Recorded<AccountEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let AccountEvent::Deposited { amount } = event.data;
        let row = serde_json::json!({ "amount": amount });
        rows.put(
            View::<Value>::new("totals"),
            event.aggregate_id.as_deref().unwrap_or_default(),
            &row,
        )
    }
}

/// A served app, and a client for it.
pub(crate) struct World {
    pub(crate) running: Arc<Running>,
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    token: Option<&'static str>,
    /// What goes wrong with the stores, each a node of its name.
    pub(crate) faults: Faults,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// An answer: its status, type and body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The problem of this status, which names this field.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, field: Option<&str>) -> Value {
        let problem = self.is(status);
        assert_eq!(self.content_type, "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(
            problem["type"]
                .as_str()
                .unwrap()
                .starts_with("urn:factum:problem:"),
            "{problem}"
        );
        assert!(
            !problem["title"].as_str().unwrap().is_empty()
                && !problem["detail"].as_str().unwrap().is_empty()
        );
        if let Some(field) = field {
            assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        }
        problem
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_tokens(&[]).await
    }

    pub(crate) async fn with_tokens(tokens: &[&str]) -> Self {
        Self::with(tokens, |admin| admin).await
    }

    /// A world whose pages have so many bytes.
    pub(crate) async fn with_pages_of(bytes: usize) -> Self {
        Self::with(&[], |admin| admin.with_page_bytes(bytes)).await
    }

    async fn with(tokens: &[&str], admin: impl FnOnce(Admin) -> Admin) -> Self {
        let env = system_env();
        let faults = Faults::new();
        let store = |name| {
            let store = MemoryStore::new(StoreId(env.uuid()), ServiceName::of(name), env.now());
            Arc::new(FaultyStore::new(name, Arc::new(store), &faults))
        };
        let topic = || TopicSpec::new(Topic::of("accounts"), 2);
        let accounts = Service::new("accounts")
            .aggregate::<Account>()
            .topic(topic())
            .projection(Totals);
        let retry = RetryPolicy::never();
        let receipts = Service::new("receipts")
            .topic(topic())
            .group(GroupSpec::new("receipts").on(Write).retry(retry));
        let broker = Arc::new(MemoryTopicsDisk::new().open(env.clone()));
        let broker = FaultyBroker::new("broker", broker, &faults);
        let app = App::new(env.clone(), Arc::new(broker))
            .service_on(store("accounts"), accounts)
            .service_on(store("receipts"), receipts);
        let running = Arc::new(app.start().await.unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tokens: Vec<_> = tokens.iter().map(|token| token.parse().unwrap()).collect();
        let access = web::Access::new(address, tokens, [], Admin::open_paths());
        let router = web::guarded(admin(Admin::new(running.clone(), env)).router(), access);
        let stop = CancellationToken::new();
        let server = tokio::spawn(web::serve(listener, router, stop.clone()));
        Self {
            running,
            address,
            client: reqwest::Client::new(),
            token: None,
            faults,
            stop,
            server,
        }
    }

    /// The same world, spoken to with this token.
    pub(crate) fn with_bearer(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    pub(crate) async fn deposit(&self, account: &str, amount: u64) {
        assert!(self.try_to_deposit(account, amount).await);
    }

    /// Whether it was taken.
    pub(crate) async fn try_to_deposit(&self, account: &str, amount: u64) -> bool {
        let commands = self.running.service("accounts").unwrap().commands();
        let account = account.to_owned();
        let deposit = commands.execute::<Account>(&account, Deposit(amount));
        deposit.await.is_ok()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .client
            .request(method, format!("http://{}{path}", self.address));
        match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status,
            content_type: content_type.unwrap_or_default(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Waits until `path` answers what `wanted` accepts.
    #[track_caller]
    pub(crate) fn until(
        &self,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let mut last = Value::Null;
            let looked = tokio::time::timeout(PATIENCE, async {
                loop {
                    last = self.get(path).await.json();
                    if wanted(&last) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            assert!(
                looked.await.is_ok(),
                "{caller}: {path} still answers {last:#}"
            );
            last
        }
    }

    /// One dead letter: a deposit that no receipt can be written for, and one that waits behind it.
    pub(crate) async fn with_a_dead_letter(&self) -> String {
        self.deposit("a-1", POISON).await;
        self.deposit("a-1", 5).await;
        let parked = self
            .until("/admin/parked", |list| {
                let states: Vec<_> = list["parked"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| &one["state"])
                    .collect();
                states == ["dead", "waiting"]
            })
            .await;
        parked["parked"][0]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }
}
