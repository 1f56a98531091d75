//! Aggregates: what decides, purely.

use std::{
    any::Any,
    error::Error as StdError,
    fmt::{self, Debug, Display},
    sync::Arc,
};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Catalog, Category, Env, Error, Event, Json, Key, MessageId, Metadata, Read, Record, Snapshot,
    Timestamp, TypeName, Version,
};

/// A thing that decides: commands come in, events come out, and its state is what its events made of it.
///
/// Both functions are pure. `handle` looks at the state and answers with events or a refusal; `apply` is the
/// only place where the state changes, and must take every event that `handle` ever made.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    note = "implement `Aggregate`; its state derives Default, Clone, Debug, Serialize, Deserialize and JsonSchema"
)]
pub trait Aggregate:
    Default + Clone + Debug + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The category of its streams: a stable stored name.
    const CATEGORY: &'static str;

    /// Raise this when `apply` changes its meaning while the state keeps its shape: older snapshots are
    /// then left aside. A change of shape is noticed by itself.
    const REVISION: u32 = 1;

    /// After how many events a snapshot is kept; 0: never.
    const SNAPSHOT_EVERY: u64 = 100;

    /// What names one aggregate within the category.
    type Id: Display + Send + Sync;
    /// What it can be asked to do.
    type Command: Clone + Debug + Send + Sync + 'static;
    /// What can happen to it.
    type Event: Event;
    /// Why it refuses.
    type Error: StdError + Send + Sync + 'static;

    /// Decides what happens, without changing anything. No events: nothing needs to be done.
    ///
    /// # Errors
    ///
    /// A refusal, by the rules of the business.
    fn handle(
        &self,
        command: Self::Command,
        at: &Decision,
    ) -> Result<Vec<Self::Event>, Self::Error>;

    /// Takes note of what happened.
    fn apply(&mut self, event: &Self::Event);

    /// What all its events are ordered by on their topic; `None`: the aggregate's id. It is asked for after the
    /// first event and can't change later.
    fn partition_key(&self) -> Option<Key> {
        None
    }
}

/// What a decision may know besides the state: the time, new ids, and who asks.
#[derive(Clone, Debug)]
pub struct Decision {
    env: Env,
    now: Timestamp,
    version: Version,
    metadata: Arc<Metadata>,
}

impl Decision {
    /// A decision at the present time of `env` on an aggregate at `version`.
    pub fn new(env: &Env, version: Version, metadata: Arc<Metadata>) -> Self {
        Self {
            env: env.clone(),
            now: env.now(),
            version,
            metadata,
        }
    }

    /// The time of the decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How many events the aggregate has had.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A new id.
    pub fn new_id(&self) -> MessageId {
        self.env.message_id()
    }

    /// What came with the command.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Who asks, when that is known: the member `actor` of the metadata.
    pub fn actor(&self) -> Option<String> {
        self.metadata
            .get("actor")
            .and_then(|actor| actor.read().ok())
    }
}

/// An event ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its stored type.
    pub event_type: TypeName,
    /// Its data.
    pub data: Bytes,
}

impl Encoded {
    /// `event`, ready to be stored.
    ///
    /// # Errors
    ///
    /// Class poison when it can't be JSON.
    pub fn of(event: &impl Event) -> Result<Self, Error> {
        let (name, version) = event.stored_type();
        let data = event.encode().map_err(|error| {
            Error::poison(format!("event `{name}` can't be encoded")).caused_by(error)
        })?;
        Ok(Self {
            event_type: TypeName::new(name, version),
            data: data.into(),
        })
    }
}

/// Why a command had no events.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The aggregate refuses, by its own error.
    Rejected(Arc<dyn AnyError>),
    /// It could not be decided at all: a bug, named.
    Broken(Error),
}

/// An aggregate's error behind a pointer, which can be looked at as what it is.
pub trait AnyError: StdError + Send + Sync + 'static {
    /// The error as [`Any`], to be downcast.
    fn as_any(&self) -> &dyn Any;
    /// The shared error as [`Any`], to be downcast.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<E: StdError + Send + Sync + 'static> AnyError for E {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A command behind a pointer.
pub trait AnyCommand: Any + Debug + Send + Sync {
    /// The command as [`Any`], to be downcast.
    fn as_any(&self) -> &dyn Any;
}

impl<C: Any + Debug + Send + Sync> AnyCommand for C {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a runtime needs to know of a kind of aggregate, whatever its type.
pub trait AggregateKind: Debug + Send + Sync + 'static {
    /// The category of its streams.
    fn category(&self) -> &Category;
    /// The topic of its events.
    fn topic(&self) -> Option<&'static str>;
    /// The stored names that it reads.
    fn names(&self) -> Vec<&'static str>;
    /// The state's shape and revision: snapshots with another are left aside.
    fn fingerprint(&self) -> &str;
    /// After how many events a snapshot is kept; 0: never.
    fn snapshot_every(&self) -> u64;
    /// An aggregate without events.
    fn empty(&self) -> Box<dyn AnyAggregate>;
    /// The aggregate that a snapshot holds; `None` when it can't be read, which costs time and nothing else.
    fn restore(&self, snapshot: &Snapshot) -> Option<Box<dyn AnyAggregate>>;
}

/// One aggregate, loaded.
pub trait AnyAggregate: Debug + Send {
    /// The version that it stands at.
    fn version(&self) -> Version;
    /// Takes the next event of its stream.
    ///
    /// # Errors
    ///
    /// Class fatal when the event is not the next one or is of a type or version that the code doesn't know;
    /// class poison when its data can't be read.
    fn apply(&mut self, record: &Record) -> Result<(), Error>;
    /// Decides a command, and stands behind its events afterwards.
    ///
    /// # Errors
    ///
    /// A refusal; the state is then as it was.
    fn decide(
        &mut self,
        command: &dyn AnyCommand,
        decision: &Decision,
    ) -> Result<Vec<Encoded>, Refusal>;
    /// The partition key that its state gives.
    fn partition_key(&self) -> Option<Key>;
    /// The state as JSON, for snapshots and for people.
    ///
    /// # Errors
    ///
    /// Class poison when it can't be JSON.
    fn state(&self) -> Result<Json, Error>;
    /// The aggregate as [`Any`], to be downcast to [`Loaded`].
    fn as_any(&self) -> &dyn Any;
}

/// The kind of aggregate that `A` is.
#[derive(Debug)]
pub struct Kind<A: Aggregate> {
    category: Category,
    catalog: Arc<Catalog<A::Event>>,
    fingerprint: String,
}

impl<A: Aggregate> Kind<A> {
    /// The kind of `A`.
    ///
    /// # Errors
    ///
    /// Class fatal when the category is not a name or the events' upcasters are not in order.
    pub fn new() -> Result<Self, Error> {
        let category =
            Category::new(A::CATEGORY).map_err(|error| Error::fatal(error.to_string()))?;
        let shape = schemars::schema_for!(A);
        let shape = serde_json::to_vec(&shape).unwrap_or_default();
        let fingerprint = format!("{:08x}-{}", crc32fast::hash(&shape), A::REVISION);
        Ok(Self {
            category,
            catalog: Arc::new(Catalog::new()?),
            fingerprint,
        })
    }
}

impl<A: Aggregate> AggregateKind for Kind<A> {
    fn category(&self) -> &Category {
        &self.category
    }

    fn topic(&self) -> Option<&'static str> {
        A::Event::TOPIC
    }

    fn names(&self) -> Vec<&'static str> {
        self.catalog.names().collect()
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn snapshot_every(&self) -> u64 {
        A::SNAPSHOT_EVERY
    }

    fn empty(&self) -> Box<dyn AnyAggregate> {
        let (state, version) = (A::default(), Version::ZERO);
        Box::new(Loaded::<A> {
            state,
            version,
            catalog: self.catalog.clone(),
        })
    }

    fn restore(&self, snapshot: &Snapshot) -> Option<Box<dyn AnyAggregate>> {
        let state: A = serde_json::from_slice(&snapshot.state).ok()?;
        Some(Box::new(Loaded {
            state,
            version: snapshot.version,
            catalog: self.catalog.clone(),
        }))
    }
}

/// An aggregate of type `A`, loaded.
#[derive(Debug)]
pub struct Loaded<A: Aggregate> {
    state: A,
    version: Version,
    catalog: Arc<Catalog<A::Event>>,
}

impl<A: Aggregate> Loaded<A> {
    /// The state.
    pub fn state(&self) -> &A {
        &self.state
    }
}

impl<A: Aggregate> AnyAggregate for Loaded<A> {
    fn version(&self) -> Version {
        self.version
    }

    fn apply(&mut self, record: &Record) -> Result<(), Error> {
        if record.version != self.version.next() {
            return Err(Error::fatal(format!(
                "event {} of `{}` follows version {}: the stream has a gap",
                record.version,
                A::CATEGORY,
                self.version
            )));
        }
        match self
            .catalog
            .read(&record.draft.event_type, &record.draft.data)?
        {
            Read::Events(events) => events.iter().for_each(|(event, _)| self.state.apply(event)),
            Read::Foreign | Read::UnknownVersion => {
                return Err(Error::fatal(format!(
                    "`{}` at {} is of a type or version that this program doesn't know: a newer program wrote it",
                    record.draft.event_type, record.at
                )));
            }
        }
        self.version = record.version;
        Ok(())
    }

    fn decide(
        &mut self,
        command: &dyn AnyCommand,
        decision: &Decision,
    ) -> Result<Vec<Encoded>, Refusal> {
        let command = command
            .as_any()
            .downcast_ref::<A::Command>()
            .ok_or_else(|| {
                Refusal::Broken(Error::fatal(format!(
                    "{command:?} is no command of `{}`",
                    A::CATEGORY
                )))
            })?;
        let events = self
            .state
            .handle(command.clone(), decision)
            .map_err(|error| Refusal::Rejected(Arc::new(error)))?;
        // Encode all before the first is applied: a refusal leaves the state as it was.
        let encoded: Result<Vec<_>, _> = events.iter().map(Encoded::of).collect();
        let encoded = encoded.map_err(Refusal::Broken)?;
        for event in &events {
            self.state.apply(event);
            self.version = self.version.next();
        }
        Ok(encoded)
    }

    fn partition_key(&self) -> Option<Key> {
        self.state.partition_key()
    }

    fn state(&self) -> Result<Json, Error> {
        Json::of(&self.state).map_err(|error| {
            Error::poison(format!("the state of `{}` can't be JSON", A::CATEGORY)).caused_by(error)
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(error) => Display::fmt(error, f),
            Self::Broken(error) => Display::fmt(error, f),
        }
    }
}
