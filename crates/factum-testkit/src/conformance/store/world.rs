//! What the cases of the store suite are written with: a store, fresh ids, and ready-made values.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use factum_core::{
    Append, At, Codec, Commit, CommitError, CommitId, Committed, Destination, Draft,
    ExpectedVersion, Json, Key, LogFilter, Metadata, Position, ProjectionName, Record, RecordKind,
    Store, StreamId, Timestamp, Topic, TypeName, Version, ViewDefinition, ViewName, ViewRef,
    ViewWrite,
};
use uuid::Uuid;

use super::StoreHarness;

/// The topic that every world has pinned.
pub(crate) const TOPIC: &str = "orders";
/// How many partitions it has.
pub(crate) const PARTITIONS: u32 = 4;

/// A time, in seconds after the start of every world.
pub(crate) fn at(seconds: i64) -> Timestamp {
    // 2026-01-01T00:00:00Z, and some microseconds: a store that keeps milliseconds only is found out.
    Timestamp::from_micros(1_767_225_600_000_123 + seconds * 1_000_000)
}

/// The stream that `text` names.
pub(crate) fn stream(text: &str) -> StreamId {
    text.parse().expect("a case names its streams well")
}

/// A store with a pinned topic, and a source of fresh ids that outlives its restarts.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    ids: Arc<AtomicU64>,
}

impl World {
    /// A fresh one.
    pub(crate) async fn create(harness: &dyn StoreHarness) -> Self {
        let store = harness.create().await;
        let world = Self {
            store,
            ids: Arc::new(AtomicU64::new(1)),
        };
        world
            .store
            .pin_topic(&Topic::of(TOPIC), PARTITIONS)
            .await
            .expect("a topic can be pinned");
        world
    }

    /// The same after a restart.
    pub(crate) async fn reopen(self, harness: &dyn StoreHarness) -> Self {
        Self {
            store: harness.reopen(self.store).await,
            ids: self.ids,
        }
    }

    /// The same after the restore of a backup.
    pub(crate) async fn restore(self, harness: &dyn StoreHarness) -> Self {
        Self {
            store: harness.restore(self.store).await,
            ids: self.ids,
        }
    }

    /// The same store as another process sees it, if the adapter is shared.
    pub(crate) async fn second(&self, harness: &dyn StoreHarness) -> Option<Self> {
        let store = harness.second().await?;
        Some(Self {
            store,
            ids: self.ids.clone(),
        })
    }

    /// Another handle of this process.
    pub(crate) fn handle(&self) -> Self {
        Self {
            store: self.store.clone(),
            ids: self.ids.clone(),
        }
    }

    fn id(&self) -> Uuid {
        // Spread over the first bytes too: ids that differ at their end only would hide a prefix comparison.
        let number = u128::from(self.ids.fetch_add(1, Ordering::Relaxed));
        Uuid::from_u128(number << 96 | number)
    }

    /// An empty commit.
    pub(crate) fn commit(&self) -> Commit {
        Commit::new(CommitId(self.id()), at(0))
    }

    /// An event of a stream, for the topic.
    pub(crate) fn event(&self, name: &str) -> Draft {
        let key = Key::from(name);
        let destination = Destination {
            topic: Topic::of(TOPIC),
            partition: key.partition(PARTITIONS),
            key: Some(key),
        };
        let (kind, stream) = (RecordKind::Event, Some(stream(name)));
        Draft {
            kind,
            stream,
            destination: Some(destination),
            ..self.message()
        }
    }

    /// A message for the topic without a key, which belongs to no stream.
    pub(crate) fn message(&self) -> Draft {
        let id = self.id();
        let topic = Topic::of(TOPIC);
        Draft {
            kind: RecordKind::Message,
            stream: None,
            event_id: id.into(),
            event_type: TypeName::new("OrderCreated", 1),
            destination: Some(Destination {
                topic,
                partition: 0,
                key: None,
            }),
            timestamp: at(0),
            correlation_id: id.into(),
            causation_id: None,
            metadata: Metadata::new(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: Bytes::from_static(b"{}"),
        }
    }

    /// An append of `count` events to a stream.
    pub(crate) fn append(&self, name: &str, expected: ExpectedVersion, count: usize) -> Append {
        let drafts = (0..count).map(|_| self.event(name)).collect();
        Append {
            stream: stream(name),
            expected,
            drafts,
        }
    }

    /// A commit with one such append.
    pub(crate) fn appending(&self, name: &str, expected: ExpectedVersion, count: usize) -> Commit {
        Commit {
            appends: vec![self.append(name, expected, count)],
            ..self.commit()
        }
    }

    /// Gives a commit to the store, which must apply it.
    pub(crate) async fn apply(&self, commit: Commit) -> Committed {
        let shown = format!("{commit:?}");
        match self.store.commit(commit).await {
            Ok(committed) => committed,
            Err(error) => panic!("refused ({error}): {shown}"),
        }
    }

    /// Gives a commit to the store, which must refuse it.
    pub(crate) async fn refuse(&self, commit: Commit) -> CommitError {
        let shown = format!("{commit:?}");
        match self.store.commit(commit).await {
            Ok(committed) => {
                panic!("applied, and should have been refused: {shown} became {committed:?}")
            }
            Err(error) => error,
        }
    }

    /// Appends `count` events to a stream.
    pub(crate) async fn fill(&self, name: &str, count: usize) -> Committed {
        self.apply(self.appending(name, ExpectedVersion::Any, count))
            .await
    }

    /// The version of a stream.
    pub(crate) async fn version(&self, name: &str) -> Version {
        let page = self.store.read_stream(&stream(name), Version(1), 0).await;
        page.expect("a stream can be read").version
    }

    /// The head of the log.
    pub(crate) async fn head(&self) -> At {
        self.store.head().await.expect("the head can be read")
    }

    /// The whole log.
    pub(crate) async fn log(&self) -> Vec<Record> {
        let page = self
            .store
            .read_log(At::ZERO, &LogFilter::default(), 100_000)
            .await;
        page.expect("the log can be read").records
    }

    /// Prepares a view with a text field, if the store can hold views.
    pub(crate) async fn view(&self) -> Option<ViewRef> {
        let definition = ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"));
        let definition = definition.field("status", factum_core::FieldKind::Text);
        self.store
            .views()?
            .ensure(&definition, 1)
            .await
            .expect("a view can be prepared");
        Some(ViewRef {
            view: definition.name,
            generation: 1,
        })
    }

    /// The version of a row; `None` when it is not there.
    pub(crate) async fn row(&self, view: &ViewRef, id: &str) -> Option<Position> {
        let views = self.store.views().expect("the case has prepared a view");
        let row = views.get(&view.view, Some(view.generation), id).await;
        row.expect("a row can be read").map(|row| row.version)
    }
}

/// A write of a row.
pub(crate) fn put(view: &ViewRef, id: &str, version: u64) -> ViewWrite {
    ViewWrite::Put {
        view: view.clone(),
        id: id.into(),
        version: Position(version),
        document: Json::parse(r#"{"status":"new"}"#).expect("it is JSON"),
    }
}
