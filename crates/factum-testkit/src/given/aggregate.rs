//! Aggregates: given what happened, when a command comes, then these events or this refusal.

use std::{fmt::Debug, fmt::Write as _, sync::Arc};

use factum_core::{
    Aggregate, AggregateKind as _, AnyAggregate, At, Decision, Encoded, Json, Key, Kind, Loaded,
    MessageId, Metadata, Record, RecordState, Snapshot, StreamId, Timestamp, Version,
};

use super::{diff::diff, stored};
use crate::TestEnv;

/// An aggregate to which `history` has happened.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::{Aggregate, Decision};
/// # use factum_macros::Event;
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// use factum_testkit::given;
///
/// #[derive(Event, Clone, Debug, PartialEq)]
/// enum OrderEvent {
///     #[event(name = "OrderPlaced", version = 1)]
///     Placed { total: u64 },
///     #[event(name = "OrderPaid", version = 1)]
///     Paid,
///     #[event(name = "OrderShipped", version = 1)]
///     Shipped,
/// }
/// # #[derive(Clone, Debug)]
/// # enum OrderCommand { Pay, Ship }
/// # #[derive(Debug, PartialEq, thiserror::Error)]
/// # enum OrderError { #[error("the order is not paid")] NotPaid }
/// # #[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
/// # struct Order { paid: bool, shipped: bool }
/// # impl Aggregate for Order {
/// #     const CATEGORY: &'static str = "order";
/// #     type Id = String;
/// #     type Command = OrderCommand;
/// #     type Event = OrderEvent;
/// #     type Error = OrderError;
/// #     fn handle(&self, command: OrderCommand, _: &Decision) -> Result<Vec<OrderEvent>, OrderError> {
/// #         match command {
/// #             OrderCommand::Pay if self.paid => Ok(vec![]),
/// #             OrderCommand::Pay => Ok(vec![OrderEvent::Paid]),
/// #             OrderCommand::Ship if !self.paid => Err(OrderError::NotPaid),
/// #             OrderCommand::Ship => Ok(vec![OrderEvent::Shipped]),
/// #         }
/// #     }
/// #     fn apply(&mut self, event: &OrderEvent) {
/// #         self.paid |= *event == OrderEvent::Paid;
/// #         self.shipped |= *event == OrderEvent::Shipped;
/// #     }
/// # }
///
/// given::<Order>([OrderEvent::Placed { total: 1200 }])
///     .when(OrderCommand::Ship)
///     .then_error(OrderError::NotPaid);
///
/// given::<Order>([OrderEvent::Placed { total: 1200 }])
///     .by("ada")
///     .when(OrderCommand::Pay)
///     .and(OrderCommand::Ship)
///     .then([OrderEvent::Paid, OrderEvent::Shipped])
///     .then_state(|order| assert!(order.shipped))
///     .and(OrderCommand::Pay)
///     .then_nothing();
/// ```
#[track_caller]
#[must_use = "give it a command with `.when(..)`"]
pub fn given<A>(history: impl IntoIterator<Item = A::Event>) -> Given<A>
where
    A: Aggregate,
    A::Event: PartialEq,
{
    let mut given = Given::new();
    for event in history {
        let encoded = stored::stored(&event);
        given.happened(encoded, format!("{event:?}"));
    }
    given
}

/// An aggregate whose stream holds `history` as older programs wrote it, each with its stored name and version: a
/// test of upcasters.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::{Aggregate, Decision};
/// # use factum_macros::Event;
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// use factum_testkit::given_stored;
/// use serde_json::{Value, json};
///
/// #[derive(Event, Clone, Debug, PartialEq)]
/// enum OrderEvent {
///     #[event(name = "OrderPlaced", version = 2, upcast(1 => with_currency))]
///     Placed { total: u64, currency: String },
/// }
///
/// fn with_currency(mut old: Value) -> Value {
///     old["currency"] = json!("KRW");
///     old
/// }
/// # #[derive(Clone, Debug)]
/// # struct Close;
/// # #[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
/// # struct Order { currency: String }
/// # impl Aggregate for Order {
/// #     const CATEGORY: &'static str = "order";
/// #     type Id = String;
/// #     type Command = Close;
/// #     type Event = OrderEvent;
/// #     type Error = std::fmt::Error;
/// #     fn handle(&self, _: Close, _: &Decision) -> Result<Vec<OrderEvent>, std::fmt::Error> {
/// #         Ok(vec![])
/// #     }
/// #     fn apply(&mut self, event: &OrderEvent) {
/// #         let OrderEvent::Placed { currency, .. } = event;
/// #         self.currency = currency.clone();
/// #     }
/// # }
///
/// given_stored::<Order>([("OrderPlaced", 1, json!({ "total": 1200 }))])
///     .then_state(|order| assert_eq!(order.currency, "KRW"));
/// ```
#[track_caller]
#[must_use = "give it a command with `.when(..)`"]
pub fn given_stored<A>(
    history: impl IntoIterator<Item = (&'static str, u32, serde_json::Value)>,
) -> Given<A>
where
    A: Aggregate,
    A::Event: PartialEq,
{
    let mut given = Given::new();
    for (name, version, data) in history {
        let encoded = stored::written(name, version, &data);
        let shown = stored::line(&encoded);
        given.happened(encoded, shown);
    }
    given
}

/// An aggregate with its history: what a command is given to. Made by [`given`].
pub struct Given<A: Aggregate> {
    kind: Kind<A>,
    aggregate: Box<dyn AnyAggregate>,
    stream: StreamId,
    /// The partition key that the first event gave.
    key: Option<Key>,
    env: TestEnv,
    metadata: Metadata,
    /// What happened, in words.
    history: Vec<String>,
    /// The decisions so far: each has a randomness of its own.
    decisions: u64,
}

/// What an aggregate has decided.
pub struct Decided<A: Aggregate> {
    given: Given<A>,
    /// The commands since the last expectation, in words.
    commands: Vec<String>,
    /// What was decided since the last expectation.
    events: Vec<A::Event>,
    refused: Option<A::Error>,
}

impl<A> Given<A>
where
    A: Aggregate,
    A::Event: PartialEq,
{
    #[track_caller]
    fn new() -> Self {
        let kind = Kind::new().unwrap_or_else(|error| panic!("{error:#}"));
        let aggregate = kind.empty();
        let stream =
            StreamId::new(kind.category().clone(), "test").expect("`test` can name a stream");
        Self {
            kind,
            aggregate,
            stream,
            key: None,
            env: TestEnv::seeded(0),
            metadata: Metadata::new(),
            history: Vec::new(),
            decisions: 0,
        }
    }

    /// It is this time when the commands come.
    pub fn at(self, time: Timestamp) -> Self {
        self.env.set(time);
        self
    }

    /// The commands come from `actor`.
    #[track_caller]
    pub fn by(self, actor: &str) -> Self {
        self.with("actor", &actor)
    }

    /// The commands come with this in their metadata.
    #[track_caller]
    pub fn with(mut self, name: &str, value: &(impl serde::Serialize + ?Sized)) -> Self {
        let value = Json::of(value)
            .unwrap_or_else(|error| panic!("metadata `{name}` can't be JSON: {error}"));
        self.metadata.insert(name.into(), value);
        self
    }

    /// A command comes.
    #[track_caller]
    #[must_use = "say what is expected, with `.then(..)` or one of its kind"]
    pub fn when(self, command: A::Command) -> Decided<A> {
        let decided = Decided {
            given: self,
            commands: Vec::new(),
            events: Vec::new(),
            refused: None,
        };
        decided.and(command)
    }

    /// Looks at the state that the history has led to.
    #[track_caller]
    pub fn then_state(self, look: impl FnOnce(&A)) -> Self {
        look(self.state());
        self
    }

    fn state(&self) -> &A {
        state_of(&*self.aggregate)
    }

    /// Lets `encoded` happen to the aggregate, as if it was read from its stream.
    #[track_caller]
    fn happened(&mut self, encoded: Encoded, shown: String) {
        let version = self.aggregate.version().next();
        let id = MessageId::from(format!("test-event-{version}"));
        let draft = stored::draft(
            encoded,
            self.stream.clone(),
            id,
            self.env.clock().now(),
            self.metadata.clone(),
        );
        let record = Record {
            at: At::new(1, version.0),
            version,
            state: RecordState::Live,
            draft: Arc::new(draft),
        };
        self.history.push(shown);
        if let Err(error) = self.aggregate.apply(&record) {
            panic!(
                "{}",
                story::<A>(
                    &self.history,
                    &[],
                    &format!("the last event can't be read: {error:#}")
                )
            );
        }
        let key = self.aggregate.partition_key();
        if version == Version(1) {
            self.key = key;
        } else if self.key != key {
            let what = format!(
                "the partition key can't change: it was {} after the first event, and is {} after the last",
                shown_key(self.key.as_ref()),
                shown_key(key.as_ref())
            );
            panic!("{}", story::<A>(&self.history, &[], &what));
        }
    }

    /// The aggregate as it comes out of a snapshot; `None` when it keeps none.
    #[track_caller]
    fn restored(&self) -> Option<Box<dyn AnyAggregate>> {
        if A::SNAPSHOT_EVERY == 0 {
            return None;
        }
        let lost = |why: &str| {
            story::<A>(
                &self.history,
                &[],
                &format!("no snapshot can be kept: {why}"),
            )
        };
        let state = self
            .aggregate
            .state()
            .unwrap_or_else(|error| panic!("{}", lost(&format!("{error:#}"))));
        let snapshot = Snapshot {
            version: self.aggregate.version(),
            event_id: "the last".into(),
            state: state.as_str().to_owned().into(),
        };
        let restored = self.kind.restore(&snapshot);
        Some(restored.unwrap_or_else(|| {
            panic!(
                "{}",
                lost(&format!("{state} can't be read as a state again"))
            )
        }))
    }
}

impl<A> Decided<A>
where
    A: Aggregate,
    A::Event: PartialEq,
{
    /// One more command comes.
    #[track_caller]
    #[must_use = "say what is expected, with `.then(..)` or one of its kind"]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a test writes the command down here"
    )]
    pub fn and(mut self, command: A::Command) -> Self {
        if self.refused.is_some() {
            self.fail(&format!(
                "a command was refused before `{command:?}` came{}",
                self.refusal()
            ));
        }
        self.commands.push(format!("{command:?}"));
        self.given.decisions += 1;
        let first = self.decide(&*self.given.aggregate, &command);
        if let Some(restored) = self.given.restored() {
            let second = self.decide(&*restored, &command);
            if shown(&first) != shown(&second) || first.as_ref().ok() != second.as_ref().ok() {
                self.fail(&format!(
                    "decides otherwise on the state that comes out of a snapshot: the state loses something in \
                     JSON, or `handle` is not pure\n{}",
                    diff(&first, &second)
                ));
            }
        }
        match first {
            Err(error) => self.refused = Some(error),
            Ok(events) => {
                for event in events {
                    self.given
                        .happened(stored::stored(&event), format!("{event:?}"));
                    self.events.push(event);
                }
            }
        }
        self
    }

    /// It is this time when the next command comes.
    #[must_use]
    pub fn at(self, time: Timestamp) -> Self {
        self.given.env.set(time);
        self
    }

    /// Exactly these events have happened since the commands began, or since the last expectation.
    #[track_caller]
    pub fn then(mut self, expected: impl IntoIterator<Item = A::Event>) -> Self {
        self.accepted();
        let expected: Vec<_> = expected.into_iter().collect();
        if self.events != expected {
            self.fail(&format!(
                "other events than expected\n{}",
                diff(&expected, &self.events)
            ));
        }
        self.met();
        self
    }

    /// The commands were accepted, and nothing needed to be done.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// The last command was refused for this reason. Commands before it were accepted.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a test writes the error down here"
    )]
    pub fn then_error(mut self, expected: A::Error) -> Self
    where
        A::Error: PartialEq,
    {
        match &self.refused {
            None => self.fail(&format!(
                "accepted, and should be refused: {expected}\n{}",
                diff(&Err::<(), _>(&expected), &Ok::<_, ()>(&self.events))
            )),
            Some(error) if *error != expected => {
                self.fail(&format!(
                    "refused for another reason than expected\n{}",
                    diff(&expected, error)
                ));
            }
            Some(_) => self.met(),
        }
        self
    }

    /// Looks at the state that all of it has led to.
    #[track_caller]
    pub fn then_state(self, look: impl FnOnce(&A)) -> Self {
        self.accepted();
        look(self.given.state());
        self
    }

    /// What happened since the last expectation: for events that hold drawn ids, which a test can't write down.
    pub fn events(&self) -> &[A::Event] {
        &self.events
    }

    /// Why the last command was refused: for errors that can't be compared.
    pub fn error(&self) -> Option<&A::Error> {
        self.refused.as_ref()
    }

    #[track_caller]
    fn accepted(&self) {
        if self.refused.is_some() {
            self.fail(&format!(
                "refused, and should be accepted{}",
                self.refusal()
            ));
        }
    }

    fn refusal(&self) -> String {
        self.refused
            .as_ref()
            .map_or_else(String::new, |error| format!(": {error} ({error:?})"))
    }

    /// An expectation was met: the next one is about what comes.
    fn met(&mut self) {
        self.events.clear();
        self.commands.clear();
        self.refused = None;
    }

    fn decide(
        &self,
        aggregate: &dyn AnyAggregate,
        command: &A::Command,
    ) -> Result<Vec<A::Event>, A::Error> {
        let Given {
            env,
            metadata,
            decisions,
            ..
        } = &self.given;
        // From a seed of its own, so that the same decision draws the same ids when it is made again.
        let env = TestEnv::with_clock(*decisions, env.clock().clone()).env();
        let decision = Decision::new(&env, aggregate.version(), Arc::new(metadata.clone()));
        state_of::<A>(aggregate).handle(command.clone(), &decision)
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        // What the commands led to is no part of what was given.
        let history = &self.given.history;
        let history = &history[..history.len() - self.events.len()];
        panic!("{}", story::<A>(history, &self.commands, what));
    }
}

/// What failed, and how it came to that.
fn story<A: Aggregate>(history: &[String], commands: &[String], what: &str) -> String {
    let mut story = format!("{}: {what}\n", A::CATEGORY);
    let mut chapter = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            writeln!(story, "{title}").expect("a text takes more text");
        }
        for line in lines {
            writeln!(story, "    {line}").expect("a text takes more text");
        }
    };
    chapter("given", history);
    chapter("when", commands);
    story
}

fn state_of<A: Aggregate>(aggregate: &dyn AnyAggregate) -> &A {
    let loaded = aggregate.as_any().downcast_ref::<Loaded<A>>();
    loaded
        .expect("a kind makes aggregates of its own type")
        .state()
}

fn shown<E, R: std::fmt::Display>(decision: &Result<E, R>) -> Option<String> {
    decision.as_ref().err().map(ToString::to_string)
}

fn shown_key(key: Option<&Key>) -> String {
    key.map_or_else(|| "the aggregate's id".into(), |key| format!("`{key}`"))
}

impl<A: Aggregate> Debug for Given<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given")
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl<A: Aggregate> Debug for Decided<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decided")
            .field("events", &self.events)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
