//! Deciding: effects become appends, messages and timers, on aggregates that are locked.

use std::sync::Arc;

use factum_core::{
    Append, Codec, Decision, Destination, Draft, Effect, Encoded, Error, Execution,
    ExpectedVersion, Key, Reaction, RecordKind, Refusal, Snapshot, StreamId, TimerWrite, Timestamp,
    Topic, Version,
};
use tokio::sync::OwnedMutexGuard;

use super::{
    Cause, Core, WorkError,
    loading::{Loaded, Slot, guarded},
};

/// How many levels of [`Execution::on_rejected`] one effect may lead to.
const REJECTIONS_DEEP_MAX: u32 = 8;

/// What was decided so far in one attempt.
pub(super) struct Plan {
    pub(super) now: Timestamp,
    /// In the order of their names.
    pub(super) locked: Vec<(StreamId, Held)>,
    pub(super) appends: Vec<Append>,
    pub(super) outbox: Vec<Draft>,
    pub(super) timers: Vec<TimerWrite>,
}

/// An aggregate that is locked.
pub(super) struct Held {
    pub(super) guard: OwnedMutexGuard<Loaded>,
    pub(super) slot: Arc<Slot>,
    /// The version before this work.
    pub(super) before: Version,
    pub(super) snapshot: Option<Snapshot>,
    /// It was not read: it is taken to be new.
    pub(super) guessed: bool,
}

/// Why nothing was decided.
pub(super) enum Undecided {
    More(StreamId),
    Failed(WorkError),
}

impl Core {
    pub(super) fn decide(
        &self,
        effect: &Effect,
        cx: Option<&Reaction>,
        cause: &Cause,
        plan: &mut Plan,
        depth: u32,
    ) -> Result<(), Undecided> {
        match effect {
            Effect::Execute(execution) => self.execute(execution, cx, cause, plan, depth),
            Effect::Timer(timer) => {
                plan.timers.push(timer.clone());
                Ok(())
            }
            Effect::Send { topic, key, event } => {
                let to = self.destination(topic.as_str(), Some(key.clone()));
                self.send(event, to.map_err(broken)?, cause, plan);
                Ok(())
            }
            Effect::Copy {
                topic,
                partition,
                key,
                event,
            } => {
                let to = self.destination(topic.as_str(), key.clone());
                let mut to = to.map_err(broken)?;
                if to.key.is_none() {
                    to.partition = partition % self.topics[topic].max(1);
                }
                self.send(event, to, cause, plan);
                Ok(())
            }
            Effect::Import {
                stream,
                event,
                timestamp,
            } => {
                let stream_id = Some(stream.clone());
                let draft = self.draft(
                    RecordKind::Import,
                    stream_id,
                    event.clone(),
                    None,
                    cause,
                    *timestamp,
                );
                plan.append(stream, ExpectedVersion::Any, vec![draft]);
                Ok(())
            }
        }
    }

    fn send(&self, event: &Encoded, to: Destination, cause: &Cause, plan: &mut Plan) {
        let (kind, event) = (RecordKind::Message, event.clone());
        let draft = self.draft(kind, None, event, Some(to), cause, plan.now);
        plan.outbox.push(draft);
    }

    fn execute(
        &self,
        execution: &Execution,
        cx: Option<&Reaction>,
        cause: &Cause,
        plan: &mut Plan,
        depth: u32,
    ) -> Result<(), Undecided> {
        let stream = &execution.stream;
        let kind = self.kind(stream).map_err(broken)?;
        let now = plan.now;
        let Some(held) = plan.held(stream) else {
            return Err(Undecided::More(stream.clone()));
        };
        held.guard.deciding = true;
        let aggregate = held
            .guard
            .aggregate
            .as_mut()
            .expect("a locked aggregate is loaded");
        let before = aggregate.version();
        let decision = Decision::new(&self.env, before, cause.metadata.clone());
        let decided = guarded(A_DECISION, || {
            aggregate.decide(&*execution.command, &decision)
        })
        .unwrap_or_else(|panic| {
            Err(Refusal::Broken(
                panic.while_(format!("deciding on `{stream}`")),
            ))
        });
        let events = match decided {
            Ok(events) => events,
            Err(Refusal::Broken(error)) => return Err(broken(error)),
            // Perhaps it refuses only because its events were not read: see where guesses are doubted.
            Err(Refusal::Rejected(error)) if held.guessed => {
                return Err(Undecided::Failed(WorkError::Rejected(
                    stream.clone(),
                    error,
                )));
            }
            Err(Refusal::Rejected(error)) => {
                let then = execution
                    .on_rejected
                    .as_ref()
                    .filter(|_| depth < REJECTIONS_DEEP_MAX);
                let (Some(then), Some(mut reaction)) = (then, cx.map(Reaction::again)) else {
                    return Err(Undecided::Failed(WorkError::Rejected(
                        stream.clone(),
                        error,
                    )));
                };
                guarded("a handler's `on_rejected`", || then(&*error, &mut reaction))
                    .map_err(broken)?
                    .map_err(|failure| Undecided::Failed(WorkError::Failure(failure)))?;
                let effects = reaction.into_effects();
                return effects
                    .iter()
                    .try_for_each(|effect| self.decide(effect, cx, cause, plan, depth + 1));
            }
        };
        if events.is_empty() {
            return Ok(());
        }
        let key = guarded("a partition key", || aggregate.partition_key()).map_err(broken)?;
        let key = key.unwrap_or_else(|| stream.id().into());
        let to = match kind.topic() {
            Some(topic) => Some(self.destination(topic, Some(key)).map_err(broken)?),
            None => None,
        };
        let drafts = events.into_iter().map(|event| {
            self.draft(
                RecordKind::Event,
                Some(stream.clone()),
                event,
                to.clone(),
                cause,
                now,
            )
        });
        let drafts: Vec<_> = drafts.collect();
        let every = self.snapshot_every.unwrap_or_else(|| kind.snapshot_every());
        let after = aggregate.version();
        if every > 0 && before.0 / every != after.0 / every {
            let state = guarded("a snapshot", || aggregate.state());
            let state = state.flatten().map_err(broken)?;
            held.snapshot = drafts.last().map(|last| Snapshot {
                version: after,
                event_id: last.event_id.clone(),
                state: state.as_str().as_bytes().to_vec().into(),
            });
        }
        plan.append(stream, ExpectedVersion::Exact(before), drafts);
        Ok(())
    }

    pub(crate) fn destination(&self, topic: &str, key: Option<Key>) -> Result<Destination, Error> {
        let Some((topic, partitions)) = self.topics.get_key_value(topic) else {
            let known: Vec<_> = self.topics.keys().map(Topic::as_str).collect();
            return Err(Error::fatal(format!(
                "topic `{topic}` is not declared by service `{}` (declared: {})",
                self.service,
                known.join(", ")
            )));
        };
        let partition = key.as_ref().map_or(0, |key| key.partition(*partitions));
        Ok(Destination {
            topic: topic.clone(),
            partition,
            key,
        })
    }

    fn draft(
        &self,
        kind: RecordKind,
        stream: Option<StreamId>,
        event: Encoded,
        destination: Option<Destination>,
        cause: &Cause,
        timestamp: Timestamp,
    ) -> Draft {
        Draft {
            kind,
            stream,
            event_id: self.env.message_id(),
            event_type: event.event_type,
            destination,
            timestamp,
            correlation_id: cause.correlation_id.clone(),
            causation_id: cause.causation_id.clone(),
            metadata: (*cause.metadata).clone(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: event.data,
        }
    }
}

impl Plan {
    /// Adds events behind those of the same stream. Of what is expected there the decision's counts: the version that it
    /// stands on is the one before all of them.
    fn append(&mut self, stream: &StreamId, expected: ExpectedVersion, drafts: Vec<Draft>) {
        match self
            .appends
            .iter_mut()
            .find(|append| append.stream == *stream)
        {
            Some(append) => {
                if append.expected == ExpectedVersion::Any {
                    append.expected = expected;
                }
                append.drafts.extend(drafts);
            }
            None => self.appends.push(Append {
                stream: stream.clone(),
                expected,
                drafts,
            }),
        }
    }

    fn held(&mut self, stream: &StreamId) -> Option<&mut Held> {
        let mut locked = self.locked.iter_mut();
        locked
            .find(|(known, _)| known == stream)
            .map(|(_, held)| held)
    }

    pub(super) fn versions(&self) -> Vec<(StreamId, Version)> {
        let version = |held: &Held| held.guard.aggregate.as_ref().map(|loaded| loaded.version());
        self.locked
            .iter()
            .filter_map(|(stream, held)| Some((stream.clone(), version(held)?)))
            .collect()
    }
}

impl Held {
    pub(super) fn is_changed(&self) -> bool {
        self.guard
            .aggregate
            .as_ref()
            .is_some_and(|loaded| loaded.version() != self.before)
    }
}
/// What panics in an aggregate's decision are said to come from.
const A_DECISION: &str = "a decision";

fn broken(error: Error) -> Undecided {
    Undecided::Failed(WorkError::Broken(error))
}
