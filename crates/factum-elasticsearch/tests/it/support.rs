//! What the tests are made with: a cluster, and indexes of its own for each test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use factum_core::{
    At, CommitError, Epoch, Error, FieldKind, Json, LogInput, OutsideViews, Position,
    ProjectionClaim, ProjectionName, Query, Row, ServiceName, Store, StoreId, Timestamp,
    ViewDefinition, ViewName, ViewRef, ViewWrite, ViewsEngine as _,
};
use factum_elasticsearch::{ElasticsearchOptions, ElasticsearchViews};
use factum_testkit::{MemoryDisk, MemoryStore, engines};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A place in the cluster of the tests that nobody else uses. Its indexes are deleted with this.
pub(crate) struct Place {
    /// The cluster's address.
    pub(crate) url: String,
    pub(crate) prefix: String,
    disk: MemoryDisk,
}

impl Place {
    /// One of its own; `None`, which is then said, when there is no cluster.
    pub(crate) fn new() -> Option<Self> {
        let url = engines::server("FACTUM_TEST_OPENSEARCH")?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let process = u64::from(std::process::id());
        let id = StoreId(Uuid::from_u64_pair(process, number));
        Some(Self {
            url,
            prefix: format!("t{process}_{number}"),
            disk: MemoryDisk::new(id, ServiceName::of("order"), Timestamp::UNIX_EPOCH),
        })
    }

    pub(crate) fn options(&self) -> ElasticsearchOptions {
        options_at(&format!("{}/{}", self.url, self.prefix))
    }

    pub(crate) fn engine(&self) -> ElasticsearchViews {
        ElasticsearchViews::connect(self.options()).expect("the options are right")
    }

    /// The store whose views are kept: the same for all processes.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::open(self.disk.clone()))
    }

    /// Asks the cluster what no adapter would.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        ask(&self.url, method, path, body).await
    }

    /// The names of all indexes of this place.
    pub(crate) async fn indexes(&self) -> Vec<String> {
        let found = self
            .ask("GET", &format!("/{}-*/_alias", self.prefix), "")
            .await;
        let names = found.as_object().expect("indexes are listed");
        names.keys().cloned().collect()
    }
}

/// How a cluster is reached in tests.
pub(crate) fn options_at(address: &str) -> ElasticsearchOptions {
    let options = ElasticsearchOptions::parse(address).expect("the address is right");
    // What queries show, they show because it was asked for.
    options.replicas(0).refresh(Duration::from_hours(1))
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, prefix) = (self.url.clone(), self.prefix.clone());
        // On a thread of its own, since a test may be on a runtime's. An index that stays behind harms nobody.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let path = format!("/{prefix}-*?expand_wildcards=all");
            runtime.map(|runtime| runtime.block_on(ask(&url, "DELETE", &path, "")))
        });
        drop(thread.join());
    }
}

async fn ask(url: &str, method: &str, path: &str, body: &str) -> Value {
    let (_, body) = exchange(url, method, path, "application/json", body.as_bytes()).await;
    serde_json::from_slice(&body).unwrap_or_default()
}

/// Sends one request on a connection of its own; its answer's status and body.
pub(crate) async fn exchange(
    url: &str,
    method: &str,
    path: &str,
    content: &str,
    body: &[u8],
) -> (u16, Vec<u8>) {
    let host = url
        .strip_prefix("http://")
        .expect("the tests' cluster has no TLS");
    let mut stream = TcpStream::connect(host)
        .await
        .expect("the cluster is there");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {content}\r\n\
         content-length: {length}\r\n\r\n"
    );
    let request = [head.as_bytes(), body].concat();
    stream
        .write_all(&request)
        .await
        .expect("the cluster listens");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .await
        .expect("the cluster answers");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = answer.split_off(end.expect("it is HTTP") + 4);
    let head = String::from_utf8(answer).expect("a head is text");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("it has a status"), body)
}

/// A process with a projection `orders` that keeps one view, `orders`.
pub(crate) struct Process {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) views: Arc<dyn OutsideViews>,
}

/// The projection of the tests.
pub(crate) fn orders() -> ProjectionName {
    ProjectionName::of("orders")
}

/// The view of the tests.
pub(crate) fn view() -> ViewName {
    ViewName::of("orders")
}

/// Its definition.
pub(crate) fn definition() -> ViewDefinition {
    ViewDefinition::new(view(), orders())
        .field("name", FieldKind::Text)
        .field("total", FieldKind::Integer)
        .index(["total"])
        .searched(["name"])
}

/// A write of a row.
pub(crate) fn put(id: &str, version: u64, document: &str) -> ViewWrite {
    let view = ViewRef {
        view: view(),
        generation: 1,
    };
    let (id, version) = (id.into(), Position(version));
    let document = Json::parse(document).expect("a test writes good JSON");
    ViewWrite::Put {
        view,
        id,
        version,
        document,
    }
}

/// Lets readers see the first generation.
pub(crate) fn activate() -> ViewWrite {
    ViewWrite::Activate {
        projection: orders(),
        generation: 1,
    }
}

impl Process {
    pub(crate) async fn of(place: &Place, options: ElasticsearchOptions) -> Self {
        let engine = ElasticsearchViews::connect(options).expect("the options are right");
        let store = place.store();
        let views = engine.open(store.clone()).await.expect("the views open");
        Self { store, views }
    }

    /// The same with a generation that it owns.
    pub(crate) async fn owner(place: &Place) -> (Self, Owner) {
        let process = Self::of(place, place.options()).await;
        let owner = process.claim().await;
        (process, owner)
    }

    /// Makes sure of the first generation and claims it.
    pub(crate) async fn claim(&self) -> Owner {
        let claim = self.try_claim().await;
        claim.expect("a generation can be claimed")
    }

    pub(crate) async fn try_claim(&self) -> Result<Owner, Error> {
        self.views.ensure(&definition(), 1).await?;
        let claim = self.views.claim(&orders(), 1, "f").await?;
        Ok(Owner {
            views: self.views.clone(),
            epoch: self.store.identity().epoch,
            claim,
        })
    }

    pub(crate) async fn get(&self, id: &str) -> Option<Row> {
        let row = self.views.get(&view(), Some(1), id).await;
        row.expect("a row can be read")
    }

    /// The ids that a query finds.
    pub(crate) async fn ids(&self, query: &Query) -> Vec<String> {
        let found = self.views.query(&view(), Some(1), query).await;
        let rows = found.expect("rows are found").rows;
        rows.into_iter().map(|row| row.id).collect()
    }
}

/// Whoever owns the first generation.
pub(crate) struct Owner {
    views: Arc<dyn OutsideViews>,
    epoch: Epoch,
    pub(crate) claim: ProjectionClaim,
}

impl Owner {
    pub(crate) fn at(&self, position: u64) -> At {
        At {
            epoch: self.epoch,
            position: Position(position),
        }
    }

    /// Writes rows, and moves the checkpoint to a position.
    pub(crate) async fn apply(
        &mut self,
        to: u64,
        writes: Vec<ViewWrite>,
    ) -> Result<(), CommitError> {
        let to = self.at(to);
        let input = LogInput {
            projection: orders(),
            generation: 1,
            fence: self.claim.fence,
            from: self.claim.checkpoint,
            to,
        };
        self.views.apply(&input, writes).await?;
        self.claim.checkpoint = to;
        Ok(())
    }
}
