//! Reactors: when an event comes, then these effects.

use std::{
    fmt::{self, Debug, Display, Write as _},
    sync::Arc,
};

use bytes::Bytes;
use factum_core::{
    Aggregate, AnyError, AnyReactor as _, Category, Effect, Encoded, Event, Failure, FailureClass,
    Group, HandlerName, Json, Key, MessageId, Part, Reacting, Reaction, Reactor, Recorded,
    StreamId, TimerWrite, Timestamp, Topic, Version,
};

use super::{block_on::block_on, diff::diff, stored};
use crate::TestEnv;

/// `reactor` gets `event`: the short form of [`given_event`]`(event).when(reactor)`.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::{Aggregate, Decision, Failure, Reaction, Reactor, Recorded};
/// # use factum_macros::Event;
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// use factum_testkit::when_event;
///
/// #[derive(Event, Clone, Debug, PartialEq)]
/// #[event(topic = "orders")]
/// enum OrderEvent {
///     #[event(name = "OrderPlaced", version = 1)]
///     Placed { order: String, total: u64 },
///     #[event(name = "OrderClosed", version = 1)]
///     Closed,
/// }
/// # #[derive(Event, Clone, Debug, PartialEq)]
/// # #[event(name = "Charged", version = 1)]
/// # struct Charged;
/// # #[derive(Clone, Debug, PartialEq)]
/// # struct Charge { amount: u64 }
/// # #[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
/// # struct Payment;
/// # impl Aggregate for Payment {
/// #     const CATEGORY: &'static str = "payment";
/// #     type Id = String;
/// #     type Command = Charge;
/// #     type Event = Charged;
/// #     type Error = std::fmt::Error;
/// #     fn handle(&self, _: Charge, _: &Decision) -> Result<Vec<Charged>, std::fmt::Error> {
/// #         Ok(vec![Charged])
/// #     }
/// #     fn apply(&mut self, _: &Charged) {}
/// # }
///
/// struct ChargeOrders;
///
/// impl Reactor for ChargeOrders {
///     type Event = OrderEvent;
///
///     fn name(&self) -> &'static str {
///         "charge-orders"
///     }
///
///     async fn react(&self, event: &Recorded<OrderEvent>, cx: &mut Reaction) -> Result<(), Failure> {
///         if let OrderEvent::Placed { order, total } = &event.data {
///             cx.execute::<Payment>(order, Charge { amount: *total })?;
///         }
///         Ok(())
///     }
/// }
///
/// when_event(ChargeOrders, OrderEvent::Placed { order: "order-1".into(), total: 1200 })
///     .then_executes::<Payment>("order-1", Charge { amount: 1200 })
///     .then_nothing()
///     .is_idempotent();
///
/// when_event(ChargeOrders, OrderEvent::Closed).then_nothing();
/// ```
#[track_caller]
pub fn when_event<R: Reactor>(reactor: R, event: R::Event) -> Reacted<R>
where
    R::Event: PartialEq,
{
    given_event(event).when(reactor)
}

/// An event on its way to a reactor, as its topic carries it.
#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "a test writes the event down here"
)]
pub fn given_event<E: Event + PartialEq>(event: E) -> GivenEvent {
    GivenEvent::new(stored::stored(&event))
}

/// An event on its way to a reactor, as another program wrote it, with its stored name and version: a test of
/// upcasters, and of foreign producers.
#[track_caller]
pub fn given_stored_event(name: &str, version: u32, data: &serde_json::Value) -> GivenEvent {
    GivenEvent::new(stored::written(name, version, data))
}

/// An event with what is known about it. Made by [`given_event`].
#[must_use = "give it to a reactor with `.when(..)`"]
#[derive(Debug)]
pub struct GivenEvent {
    recorded: Recorded<Bytes>,
    group: Group,
    env: TestEnv,
}

impl GivenEvent {
    fn new(encoded: Encoded) -> Self {
        let env = TestEnv::seeded(0);
        let mut recorded = Recorded::of(encoded.data, env.clock().now());
        recorded.event_type = encoded.event_type;
        Self {
            recorded,
            group: Group::of("test"),
            env,
        }
    }

    /// It happens, and comes, at this time.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.env.set(time);
        self.recorded.timestamp = time;
        self
    }

    /// It comes to this group: a part of the idempotency keys.
    pub fn in_group(mut self, group: &'static str) -> Self {
        self.group = Group::of(group);
        self
    }

    /// It is of this stream, such as `order/order-1`, with this version there.
    #[track_caller]
    pub fn of(mut self, stream: &str, version: u64) -> Self {
        let stream = stored::stream(stream);
        self.recorded.aggregate_id = Some(stream.id().into());
        self.recorded.stream = Some((stream, Version(version)));
        self
    }

    /// It has this id.
    pub fn with_id(mut self, id: impl Into<MessageId>) -> Self {
        self.recorded.event_id = id.into();
        self
    }

    /// It has this in its metadata.
    #[track_caller]
    pub fn with(mut self, name: &str, value: &(impl serde::Serialize + ?Sized)) -> Self {
        let value = Json::of(value)
            .unwrap_or_else(|error| panic!("metadata `{name}` can't be JSON: {error}"));
        Arc::make_mut(&mut self.recorded.metadata).insert(name.into(), value);
        self
    }

    /// `reactor` gets it.
    #[track_caller]
    #[must_use = "say what is expected, with `.then_executes(..)` or one of its kind"]
    pub fn when<R: Reactor>(self, reactor: R) -> Reacted<R> {
        let name = HandlerName::new(reactor.name()).unwrap_or_else(|error| panic!("{error}"));
        let reactor = Reacting::new(reactor).unwrap_or_else(|error| panic!("{error:#}"));
        let mut reacted = Reacted {
            event: self,
            name,
            reactor,
            effects: Vec::new(),
            own: 0,
            last: None,
            failure: None,
        };
        match reacted.react(0) {
            Ok(effects) => (reacted.own, reacted.effects) = (effects.len(), effects),
            Err(failure) => reacted.failure = Some(failure),
        }
        reacted
    }
}

/// What a reactor made of an event. Each expectation takes one effect; the order in which a test names them does
/// not matter.
pub struct Reacted<R: Reactor> {
    event: GivenEvent,
    name: HandlerName,
    reactor: Reacting<R>,
    /// What the reactor told, and behind it what it told for rejections.
    effects: Vec<Told>,
    /// How many of them the event itself led to.
    own: usize,
    /// The command that was expected last, for [`Reacted::when_rejected`].
    last: Option<usize>,
    failure: Option<Failure>,
}

/// One effect, as it was told.
struct Told {
    effect: Effect,
    /// An empty reaction of the handler that told it.
    again: Reaction,
    /// Whether an expectation took it.
    taken: bool,
}

impl<R: Reactor> Reacted<R> {
    /// This command goes to the aggregate `id`.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a test writes the command down here"
    )]
    pub fn then_executes<A: Aggregate>(mut self, id: impl Display, command: A::Command) -> Self
    where
        A::Command: PartialEq,
    {
        let category = Category::new(A::CATEGORY).unwrap_or_else(|error| panic!("{error}"));
        let stream =
            StreamId::new(category, id.to_string()).unwrap_or_else(|error| panic!("{error}"));
        let is_it = |effect: &Effect| match effect {
            Effect::Execute(execution) => {
                let given = (*execution.command).as_any().downcast_ref::<A::Command>();
                execution.stream == stream && given == Some(&command)
            }
            _ => false,
        };
        self.last = Some(self.take(&format!("execute {stream} <- {command:?}"), is_it));
        self
    }

    /// This event is sent to its topic, with this key.
    #[track_caller]
    pub fn then_sends<E: Event + PartialEq>(mut self, key: impl Into<Key>, event: &E) -> Self {
        let topic =
            E::TOPIC.map(|topic| Topic::new(topic).unwrap_or_else(|error| panic!("{error}")));
        let topic =
            topic.unwrap_or_else(|| panic!("an event without a topic can't be sent: {event:?}"));
        let key = key.into();
        let wanted = format!(
            "send to {topic} with key {key}: {}",
            stored::line(&stored::stored(event))
        );
        self.take(&wanted, |effect| match effect {
            Effect::Send {
                topic: to,
                key: with,
                event: sent,
            } => *to == topic && *with == key && is_event(sent, event),
            _ => false,
        });
        self
    }

    /// This fact is recorded in the own log.
    #[track_caller]
    pub fn then_imports<E: Event + PartialEq>(
        mut self,
        category: &'static str,
        id: &str,
        event: &E,
        timestamp: Timestamp,
    ) -> Self {
        let stream =
            StreamId::new(Category::of(category), id).unwrap_or_else(|error| panic!("{error}"));
        let wanted = format!(
            "import {stream} at {timestamp}: {}",
            stored::line(&stored::stored(event))
        );
        self.take(&wanted, |effect| match effect {
            Effect::Import {
                stream: to,
                event: fact,
                timestamp: at,
            } => *to == stream && *at == timestamp && is_event(fact, event),
            _ => false,
        });
        self
    }

    /// This timer is set.
    #[track_caller]
    pub fn then_timer(mut self, id: &str, due: Timestamp, payload: impl Into<Bytes>) -> Self {
        self.take_timer(&TimerWrite::Set {
            id: id.into(),
            due,
            payload: payload.into(),
        });
        self
    }

    /// This timer is cancelled.
    #[track_caller]
    pub fn then_cancels_timer(mut self, id: &str) -> Self {
        self.take_timer(&TimerWrite::Cancel { id: id.into() });
        self
    }

    /// The command that was expected last is rejected with this error: what the reactor wants to happen then is
    /// expected from here on.
    #[track_caller]
    pub fn when_rejected(mut self, error: impl AnyError) -> Self {
        let last = self
            .last
            .unwrap_or_else(|| panic!("say first which command, with `.then_executes(..)`"));
        let told = &self.effects[last];
        let Effect::Execute(execution) = &told.effect else {
            unreachable!("only commands are kept as the last")
        };
        let Some(on_rejected) = &execution.on_rejected else {
            self.fail(&format!(
                "nothing is said for a rejection, so `{error}` fails the handler for good"
            ));
        };
        let mut reaction = told.again.again();
        if let Err(failure) = on_rejected(&error, &mut reaction) {
            self.fail(&format!(
                "what is said for the rejection `{error}` fails itself: {failure}"
            ));
        }
        let more = Told::all(reaction);
        self.effects.extend(more);
        self
    }

    /// Nothing happens, or nothing else than was expected so far.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.worked();
        if self.effects.iter().any(|told| !told.taken) {
            self.fail("something happens that was not expected");
        }
        self
    }

    /// The reactor fails, with a failure of this class.
    #[track_caller]
    pub fn then_fails(self, class: FailureClass) -> Self {
        match &self.failure {
            None => self.fail(&format!("works, and should fail as {class}")),
            Some(failure) if failure.class() != class => {
                self.fail(&format!(
                    "fails as {}, and should fail as {class}: {failure}",
                    failure.class()
                ));
            }
            Some(_) => self,
        }
    }

    /// When the event comes again, after a crash or as a redrive, the same effects are told again.
    ///
    /// The second time other ids are drawn at the same time of day. So an effect that holds
    /// [`Reaction::new_id`] is found: harmless in a commit, which happens once, and a double effect in the outside
    /// world, where [`Reaction::idempotency_key`] belongs. What the reactor called in the outside world is known to
    /// the fake that stands for it; ask it whether the keys are the same.
    #[track_caller]
    pub fn is_idempotent(self) -> Self {
        let lines = |effects: &[Told]| effects.iter().map(Told::line).collect::<Vec<_>>();
        let second = self.react(1);
        let first = match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(lines(&self.effects[..self.own])),
        };
        let second = second.map(|effects| lines(&effects));
        if first != second {
            self.fail(&format!(
                "the same event leads to something else when it comes again\n{}",
                diff(&first, &second)
            ));
        }
        self
    }

    /// The failure, if the reactor failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    #[track_caller]
    fn react(&self, seed: u64) -> Result<Vec<Told>, Failure> {
        let GivenEvent {
            recorded,
            group,
            env,
        } = &self.event;
        let env = TestEnv::with_clock(seed, env.clock().clone()).env();
        let cx = |part: Part| {
            Reaction::new(
                &env,
                group.clone(),
                self.name.clone(),
                recorded.event_id.clone(),
                part,
            )
        };
        let reactions = block_on(self.reactor.react(recorded, &cx))?;
        let Some(reactions) = reactions else {
            panic!(
                "`{}` is void for handler `{}`: it reads {}",
                recorded.event_type,
                self.name,
                self.reactor.names().join(", ")
            );
        };
        Ok(reactions.into_iter().flat_map(Told::all).collect())
    }

    #[track_caller]
    fn take_timer(&mut self, wanted: &TimerWrite) {
        let shown = timer_line(wanted);
        self.take(
            &shown,
            |effect| matches!(effect, Effect::Timer(write) if write == wanted),
        );
    }

    /// Takes the first effect that is wanted and was not taken.
    #[track_caller]
    fn take(&mut self, wanted: &str, is_it: impl Fn(&Effect) -> bool) -> usize {
        self.worked();
        let found = self
            .effects
            .iter()
            .position(|told| !told.taken && is_it(&told.effect));
        let Some(index) = found else {
            self.fail(&format!("expected and not there:\n    {wanted}"));
        };
        self.effects[index].taken = true;
        index
    }

    #[track_caller]
    fn worked(&self) {
        if let Some(failure) = &self.failure {
            self.fail(&format!("fails as {}: {failure}", failure.class()));
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let Recorded {
            event_type, data, ..
        } = &self.event.recorded;
        let mut story = format!(
            "{}: {what}\nwhen\n    {event_type} {}\n",
            self.name,
            String::from_utf8_lossy(data)
        );
        if self.failure.is_none() {
            story.push_str(if self.effects.is_empty() {
                "then nothing\n"
            } else {
                "then\n"
            });
        }
        for told in &self.effects {
            let taken = if told.taken { " (expected)" } else { "" };
            writeln!(story, "    {}{taken}", told.line()).expect("a text takes more text");
        }
        panic!("{story}");
    }
}

impl Told {
    fn all(reaction: Reaction) -> Vec<Self> {
        let again = reaction.again();
        let told = |effect| Self {
            effect,
            again: again.again(),
            taken: false,
        };
        reaction.into_effects().into_iter().map(told).collect()
    }

    fn line(&self) -> String {
        match &self.effect {
            Effect::Execute(execution) => format!("execute {execution:?}"),
            Effect::Send { topic, key, event } => {
                format!("send to {topic} with key {key}: {}", stored::line(event))
            }
            Effect::Copy { topic, event, .. } => {
                format!("copy to {topic}: {}", stored::line(event))
            }
            Effect::Import {
                stream,
                event,
                timestamp,
            } => {
                format!("import {stream} at {timestamp}: {}", stored::line(event))
            }
            Effect::Timer(write) => timer_line(write),
        }
    }
}

fn timer_line(write: &TimerWrite) -> String {
    match write {
        TimerWrite::Set { id, due, payload } => {
            format!(
                "set timer {id} to {due}: {}",
                String::from_utf8_lossy(payload)
            )
        }
        TimerWrite::Cancel { id } => format!("cancel timer {id}"),
    }
}

/// Whether stored data is `event`, compared as values: two texts of JSON may mean the same.
fn is_event<E: Event + PartialEq>(encoded: &Encoded, event: &E) -> bool {
    stored::read::<E>(encoded).is_ok_and(|read| matches!(&read[..], [one] if one == event))
}

impl<R: Reactor> Debug for Reacted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effects: Vec<_> = self.effects.iter().map(Told::line).collect();
        f.debug_struct("Reacted")
            .field("effects", &effects)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
