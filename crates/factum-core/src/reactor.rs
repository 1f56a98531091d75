//! Reactors: an event comes in, effects come out, as values.

mod function;
pub use function::{ReactorFn, reactor};

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;

use crate::{
    Aggregate, AnyCommand, AnyError, Category, Encoded, Env, Error, Event, Failure, Group,
    HandlerName, Key, MessageId, Part, Recorded, StreamId, TimerWrite, Timestamp, ToId, Topic,
};

/// A handler of events from a topic. It has no state of its own and writes nothing itself: it tells its
/// [`Reaction`] what shall happen, and the runtime commits all of it at once, together with the proof that the
/// event was handled.
///
/// Implement it for what calls the outside world. A rule that only tells is a function: [`reactor`].
pub trait Reactor: Send + Sync + 'static {
    /// The events that it understands. Others of the topic are void for it, and counted.
    type Event: Event;

    /// Its stable name. Idempotency keys for the outside world are made of it.
    fn name(&self) -> &'static str;

    /// Reacts to an event. May call the outside world, with [`Reaction::idempotency_key`]: such calls happen at
    /// least once. What it tells `cx` happens exactly once.
    ///
    /// # Errors
    ///
    /// A [`Failure`]: by default retried with backoff, then a dead letter behind which the event's key waits.
    fn react(
        &self,
        event: &Recorded<Self::Event>,
        cx: &mut Reaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What shall happen because of an event: filled by a handler, committed by the runtime.
pub struct Reaction {
    env: Env,
    now: Timestamp,
    group: Group,
    handler: HandlerName,
    event_id: MessageId,
    part: Part,
    effects: Vec<Effect>,
}

/// One effect of a handler.
#[derive(Debug)]
pub enum Effect {
    /// A command to an aggregate of this service, decided and committed with everything else.
    Execute(Execution),
    /// A message to a topic.
    Send {
        /// The topic.
        topic: Topic,
        /// The partition key.
        key: Key,
        /// The event.
        event: Encoded,
    },
    /// The copy of a message for another topic, which no handler asks for: that of a dead letter. One without a key has
    /// none either, and goes to the partition that it is given.
    Copy {
        /// The topic.
        topic: Topic,
        /// The partition of the original.
        partition: u32,
        /// The partition key, if it has one.
        key: Option<Key>,
        /// What is recorded of it.
        event: Encoded,
    },
    /// A foreign fact, recorded in the own log.
    Import {
        /// The stream to record it in.
        stream: StreamId,
        /// The fact.
        event: Encoded,
        /// When it happened.
        timestamp: Timestamp,
    },
    /// A timer set or cancelled.
    Timer(TimerWrite),
}

/// A command that a handler gave.
pub struct Execution {
    /// The aggregate's stream.
    pub stream: StreamId,
    /// The command.
    pub command: Arc<dyn AnyCommand>,
    /// What happens instead when it is rejected; `None`: the handler fails as poison.
    pub on_rejected: Option<OnRejected>,
}

/// What happens when a command is rejected: more effects.
pub type OnRejected =
    Box<dyn Fn(&dyn AnyError, &mut Reaction) -> Result<(), Failure> + Send + Sync>;

impl Reaction {
    /// An empty reaction of `handler` in `group` to part `part` of event `event_id`.
    pub fn new(
        env: &Env,
        group: Group,
        handler: HandlerName,
        event_id: MessageId,
        part: Part,
    ) -> Self {
        Self {
            now: env.now(),
            env: env.clone(),
            group,
            handler,
            event_id,
            part,
            effects: Vec::new(),
        }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A new id. Another one each time that the event is tried: for what must be the same, use
    /// [`Reaction::idempotency_key`].
    pub fn new_id(&self) -> MessageId {
        self.env.message_id()
    }

    /// A key for a call to the outside world: the same however often the event is tried, redriven or edited.
    /// `label` tells several calls of one handler apart.
    pub fn idempotency_key(&self, label: &str) -> String {
        let Self {
            group,
            handler,
            event_id,
            part,
            ..
        } = self;
        if *part == Part::WHOLE {
            format!("{group}/{handler}/{event_id}/{label}")
        } else {
            format!("{group}/{handler}/{event_id}#{}/{label}", part.index)
        }
    }

    /// Gives a command to an aggregate of this service. It is decided when the handler has returned, on what its
    /// stream holds then; if somebody else was faster, it alone is decided again.
    ///
    /// # Errors
    ///
    /// A poison failure when the id can't name a stream.
    pub fn execute<A: Aggregate>(
        &mut self,
        id: impl ToId<A::Id>,
        command: A::Command,
    ) -> Result<&mut Execution, Failure> {
        let category =
            Category::new(A::CATEGORY).map_err(|error| Failure::poison(error.to_string()))?;
        let stream = StreamId::new(category, id.to_id())
            .map_err(|error| Failure::poison(error.to_string()))?;
        self.effects.push(Effect::Execute(Execution {
            stream,
            command: Arc::new(command),
            on_rejected: None,
        }));
        match self.effects.last_mut() {
            Some(Effect::Execute(execution)) => Ok(execution),
            _ => unreachable!("it was pushed above"),
        }
    }

    /// Sends an event to its topic, as a message that belongs to no stream.
    ///
    /// # Errors
    ///
    /// A poison failure when the event can't be encoded.
    pub fn send<E: Event>(&mut self, key: impl Into<Key>, event: &E) -> Result<(), Failure> {
        let topic = const {
            match E::TOPIC {
                Some(topic) => topic,
                None => panic!("an event without a topic can't be sent: #[event(topic = \"..\")]"),
            }
        };
        let topic = Topic::new(topic).map_err(|error| Failure::poison(error.to_string()))?;
        self.effects.push(Effect::Send {
            topic,
            key: key.into(),
            event: Encoded::of(event)?,
        });
        Ok(())
    }

    /// Records a foreign fact in the own log, where projections can read it.
    ///
    /// # Errors
    ///
    /// A poison failure when the fact can't be encoded or the id can't name a stream.
    pub fn import<E: Event>(
        &mut self,
        category: &'static str,
        id: &str,
        event: &E,
        timestamp: Timestamp,
    ) -> Result<(), Failure> {
        let poison = |error: &dyn fmt::Display| Failure::poison(error.to_string());
        let category = Category::new(category).map_err(|error| poison(&error))?;
        let stream = StreamId::new(category, id).map_err(|error| poison(&error))?;
        self.effects.push(Effect::Import {
            stream,
            event: Encoded::of(event)?,
            timestamp,
        });
        Ok(())
    }

    /// Sets a durable timer, again if it is set. It fires once.
    pub fn set_timer(&mut self, id: impl Into<String>, due: Timestamp, payload: impl Into<Bytes>) {
        let (id, payload) = (id.into(), payload.into());
        self.effects
            .push(Effect::Timer(TimerWrite::Set { id, due, payload }));
    }

    /// Cancels a timer; nothing happens when it is not set.
    pub fn cancel_timer(&mut self, id: impl Into<String>) {
        self.effects
            .push(Effect::Timer(TimerWrite::Cancel { id: id.into() }));
    }

    /// An empty reaction of the same handler to the same event.
    #[must_use]
    pub fn again(&self) -> Self {
        let Self {
            env,
            group,
            handler,
            event_id,
            part,
            ..
        } = self;
        Self::new(env, group.clone(), handler.clone(), event_id.clone(), *part)
    }

    /// The handler that it is of.
    pub fn handler(&self) -> &HandlerName {
        &self.handler
    }

    /// What was told so far.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// All that was told.
    pub fn into_effects(self) -> Vec<Effect> {
        self.effects
    }
}

impl Execution {
    /// Lets a rejection lead to other effects, instead of failing the handler.
    pub fn on_rejected<E: std::error::Error + 'static>(
        &mut self,
        then: impl Fn(&E, &mut Reaction) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> &mut Self {
        self.on_rejected = Some(Box::new(move |error, cx| {
            // Another type would make every rejection vanish in silence.
            let error = error.as_any().downcast_ref::<E>().ok_or_else(|| {
                let expected = std::any::type_name::<E>();
                Failure::poison(format!(
                    "the rejection is not a `{expected}`, as `on_rejected` says: {error}"
                ))
            })?;
            then(error, cx)
        }));
        self
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {:?}", self.stream, self.command)
    }
}

impl fmt::Debug for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaction")
            .field("handler", &self.handler)
            .field("event_id", &self.event_id)
            .field("effects", &self.effects)
            .finish_non_exhaustive()
    }
}

/// A reactor whatever its type: what a runtime calls.
#[async_trait::async_trait]
pub trait AnyReactor: Send + Sync + 'static {
    /// Its stable name.
    fn name(&self) -> &'static str;
    /// The stored names that it reads.
    fn names(&self) -> Vec<&'static str>;
    /// What it makes of a message: for each part of the event a reaction. `None`: the type is void for it.
    async fn react(
        &self,
        incoming: &Recorded<Bytes>,
        cx: &(dyn Fn(Part) -> Reaction + Sync),
    ) -> Result<Option<Vec<Reaction>>, Failure>;
}

/// [`AnyReactor`] of a reactor.
pub struct Reacting<R: Reactor> {
    reactor: R,
    catalog: crate::Catalog<R::Event>,
}

impl<R: Reactor> Reacting<R> {
    /// `reactor`, with the catalog of its events.
    ///
    /// # Errors
    ///
    /// Class fatal when its name can't be one, or the events' upcasters are not in order.
    pub fn new(reactor: R) -> Result<Self, Error> {
        HandlerName::new(reactor.name())
            .map_err(|error| Error::fatal(format!("handler: {error}")))?;
        Ok(Self {
            reactor,
            catalog: crate::Catalog::new()?,
        })
    }
}

#[async_trait::async_trait]
impl<R: Reactor> AnyReactor for Reacting<R> {
    fn name(&self) -> &'static str {
        self.reactor.name()
    }

    fn names(&self) -> Vec<&'static str> {
        self.catalog.names().collect()
    }

    async fn react(
        &self,
        incoming: &Recorded<Bytes>,
        cx: &(dyn Fn(Part) -> Reaction + Sync),
    ) -> Result<Option<Vec<Reaction>>, Failure> {
        let events = match self.catalog.read(&incoming.event_type, &incoming.data)? {
            crate::Read::Events(events) => events,
            crate::Read::Foreign => return Ok(None),
            crate::Read::UnknownVersion => {
                return Err(Failure::poison(format!(
                    "`{}` is of a version that handler `{}` doesn't know: update this service, then redrive",
                    incoming.event_type,
                    self.reactor.name()
                )));
            }
        };
        let mut reactions = Vec::with_capacity(events.len());
        for (event, part) in events {
            let mut event = incoming.clone().with(event);
            event.part = part;
            let mut reaction = cx(part);
            self.reactor.react(&event, &mut reaction).await?;
            reactions.push(reaction);
        }
        Ok(Some(reactions))
    }
}

impl<R: Reactor> std::fmt::Debug for Reacting<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reacting({})", self.reactor.name())
    }
}
