//! Handling one message: it is read, the group's handlers say what shall happen, and all of it is committed
//! together with the proof that the message was handled. What fails is parked, left out for a recorded reason, or
//! stops the consumer: nothing is skipped in silence.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use factum_core::{
    AuditEntry, CommitError, Disposition, Effect, Error, ErrorClass, Failure, FailureClass,
    FailureNote, HandlerName, Input, Job, Message, MessageId, MessageInput, Parked, ParkedFilter,
    ParkedId, ParkedInput, ParkedState, Part, Reaction, Recorded, Retried, StreamId, Timestamp,
    Trying, Version,
    wire::{self, Incoming, WireError},
};
use futures_util::FutureExt as _;

use super::{
    failed::{Failed, IntoFailed as _, crashed, log_failure, note, skipped, stop_text},
    owner::{Outcome, Owner},
    suspects::Turn,
};
use crate::{
    dead_letter,
    relay::{backoff, pause},
    work::{Cause, Work, WorkError, panic_message},
};

/// How long a lane holds still when nothing could be done for its message.
const HOLD: std::time::Duration = std::time::Duration::from_millis(500);

/// The effects of all handlers for one message, each with its reaction.
type Effects = Vec<(Effect, Option<Arc<Reaction>>)>;

/// Handles a message of the partition.
pub(super) async fn live(
    owner: &Owner,
    job: Job,
    read: Option<Result<Incoming, WireError>>,
) -> Outcome {
    let Job {
        message,
        wait,
        ask,
        trying,
    } = job;
    let core = &owner.consuming.core;
    let group = &owner.consuming.group.name;
    let started = core.env.now();
    let in_flight = core.metrics.in_flight(group);
    let incoming = read.unwrap_or_else(|| wire::read(&message));
    let outcome = match is_parked(owner, &message, ask).await {
        Ok(true) => Outcome::Lane { parked: true },
        Ok(false) => live_inner(owner, &message, incoming, wait, trying).await,
        Err(error) => {
            owner.consuming.trouble(&error);
            Outcome::Nothing
        }
    };
    drop(in_flight);
    if matches!(outcome, Outcome::NoRoom | Outcome::Nothing) {
        // Nothing was done: the lane holds still for a moment, and the others flow on.
        pause(owner.stopping(), HOLD).await;
    }
    let label = match &outcome {
        Outcome::Finished(_, false) => "handled",
        Outcome::Finished(_, true) => "parked",
        _ => "given_back",
    };
    core.metrics
        .message(group, label, core.env.now().since(started));
    outcome
}

/// Whether a message's lane is parked, if that is to be asked.
async fn is_parked(owner: &Owner, message: &Message, ask: bool) -> Result<bool, Error> {
    if !ask {
        return Ok(false);
    }
    for state in [ParkedState::Retrying, ParkedState::Dead] {
        let head = ParkedFilter {
            inbox: Some(owner.inbox().clone()),
            lane: Some(message.lane()),
            state: Some(state),
            ..ParkedFilter::default()
        };
        if !owner
            .consuming
            .core
            .store
            .parked(&head, 1)
            .await?
            .is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn live_inner(
    owner: &Owner,
    message: &Message,
    incoming: Result<Incoming, WireError>,
    wait: bool,
    trying: Option<Trying>,
) -> Outcome {
    // The id is remembered for foreign messages: ours are told apart by their chain.
    let event_id = match &incoming {
        Ok(incoming) if incoming.link.is_none() => {
            let until = owner.consuming.core.env.now() + owner.consuming.group.remember;
            Some((incoming.identity(), until))
        }
        _ => None,
    };
    let place = Place {
        owner,
        message,
        event_id,
    };
    if wait {
        let parked = place.parked(ParkedState::Waiting, None, None);
        return place.park(parked, true).await;
    }
    // Held until the message is done with.
    let _turn = match trying {
        Some(trying) if trying.tries > owner.consuming.group.crashes_max => {
            return place.failed(crashed(trying.tries - 1).into()).await;
        }
        Some(trying) => match try_behind_mark(owner, trying).await {
            Ok(turn) => turn,
            Err(outcome) => return outcome,
        },
        None => None,
    };
    let incoming = match incoming {
        Ok(incoming) => incoming,
        Err(error) => {
            return place
                .failed(Failure::poison(error.to_string()).into())
                .await;
        }
    };
    let effects = match react(owner, message, &incoming).await {
        Ok(effects) => effects,
        Err(failed) => return place.failed(failed).await,
    };
    let input = || place.input(Disposition::Apply);
    let work = Work {
        cause: cause(&incoming),
        effects,
        input: &input,
        audit: None,
    };
    match commit(owner, &work).await {
        Ok(applied) => finished(applied.committed.inbox, false),
        Err(WorkError::Rejected(stream, error)) => {
            let message = format!("`{stream}` rejected the command: {error}");
            place
                .failed(Failure::new(FailureClass::Rejected, message).into())
                .await
        }
        Err(WorkError::Broken(error)) => place.failed(error.into_failed()).await,
        Err(WorkError::Failure(failure)) => place.failed(failure.into()).await,
        Err(WorkError::Commit(CommitError::DuplicateEvent(_))) => place.duplicate().await,
        Err(WorkError::Commit(error)) if is_contended(&error) => {
            place.failed(contended(&error).into()).await
        }
        Err(WorkError::Commit(error)) if error.class() == ErrorClass::Poison => {
            place
                .failed(Failure::poison(error.to_string()).into())
                .await
        }
        Err(WorkError::Commit(error)) => refused(owner, error),
    }
}

/// Tries a parked message again.
pub(super) async fn retry(owner: &Owner, parked: Parked, trying: Option<Trying>) -> Outcome {
    let consuming = &owner.consuming;
    let core = &consuming.core;
    let started = core.env.now();
    // Held until the message is done with.
    let _turn = match trying {
        Some(trying) if trying.tries > consuming.group.crashes_max => {
            return retry_failed(owner, parked, crashed(trying.tries - 1).into()).await;
        }
        Some(trying) => match try_behind_mark(owner, trying).await {
            Ok(turn) => turn,
            Err(outcome) => return outcome,
        },
        None => None,
    };
    let mut message = parked.message.clone();
    message.value = parked.value().cloned();
    let incoming = match wire::read(&message) {
        Ok(incoming) => incoming,
        Err(error) => {
            return retry_failed(owner, parked, Failure::poison(error.to_string()).into()).await;
        }
    };
    if !consuming
        .group
        .handles(&message.topic, &incoming.event_type.name)
    {
        return retry_failed(owner, parked, unhandled(&message, &incoming).into()).await;
    }
    let effects = match react(owner, &message, &incoming).await {
        Ok(effects) => effects,
        Err(failed) => return retry_failed(owner, parked, failed).await,
    };
    let input = || retried(owner, &parked, Retried::Settled);
    let work = Work {
        cause: cause(&incoming),
        effects,
        input: &input,
        audit: None,
    };
    match commit(owner, &work).await {
        Ok(_) => {
            core.metrics.message(
                &consuming.group.name,
                "handled",
                core.env.now().since(started),
            );
            released(owner, &parked).await
        }
        Err(WorkError::Rejected(stream, error)) => {
            let message = format!("`{stream}` rejected the command: {error}");
            let failure = Failure::new(FailureClass::Rejected, message);
            retry_failed(owner, parked, failure.into()).await
        }
        Err(WorkError::Broken(error)) => retry_failed(owner, parked, error.into_failed()).await,
        Err(WorkError::Failure(failure)) => retry_failed(owner, parked, failure.into()).await,
        Err(WorkError::Commit(error)) if is_contended(&error) => {
            retry_failed(owner, parked, contended(&error).into()).await
        }
        Err(WorkError::Commit(error)) if error.class() == ErrorClass::Poison => {
            retry_failed(owner, parked, Failure::poison(error.to_string()).into()).await
        }
        Err(WorkError::Commit(error)) => refused(owner, error),
    }
}

/// A parked message had a handler when it came. Settled without one it would be left out in silence.
fn unhandled(message: &Message, incoming: &Incoming) -> Failure {
    let (name, topic) = (&incoming.event_type.name, &message.topic);
    Failure::dead_letter(format!(
        "no handler of the group reads `{name}` from topic `{topic}` any more: give it one and redrive this, or discard it"
    ))
}

/// Asks all handlers of the group what shall happen.
async fn react(owner: &Owner, message: &Message, incoming: &Incoming) -> Result<Effects, Failed> {
    let consuming = &owner.consuming;
    let recorded = recorded(message, incoming);
    let mut effects = Vec::new();
    for (topic, reactor) in &consuming.group.reactors {
        if *topic != message.topic {
            continue;
        }
        let handler = HandlerName::of(reactor.name());
        let cx = |part: Part| {
            let (group, handler) = (consuming.group.name.clone(), handler.clone());
            Reaction::new(
                &consuming.core.env,
                group,
                handler,
                incoming.event_id.clone(),
                part,
            )
        };
        let reactions = AssertUnwindSafe(reactor.react(&recorded, &cx))
            .catch_unwind()
            .await;
        let reactions = reactions.unwrap_or_else(|panic| {
            let message = format!("handler `{handler}` panicked: {}", panic_message(&*panic));
            Err(Failure::new(FailureClass::Panic, message))
        });
        let reactions = reactions.map_err(|failure| Failed {
            failure,
            handler: Some(handler.clone()),
        })?;
        for reaction in reactions.unwrap_or_default() {
            let again = Arc::new(reaction.again());
            effects.extend(
                reaction
                    .into_effects()
                    .into_iter()
                    .map(|effect| (effect, Some(again.clone()))),
            );
        }
    }
    Ok(effects)
}

/// The message as handlers see it.
fn recorded(message: &Message, incoming: &Incoming) -> Recorded<Bytes> {
    // Only a message of our own kind belongs to a stream; of others nothing more is known than what they say.
    let stream = match (
        &incoming.link,
        &incoming.aggregate_type,
        &incoming.aggregate_id,
    ) {
        (Some(_), Some(category), Some(id)) => format!("{category}/{id}").parse::<StreamId>().ok(),
        _ => None,
    };
    let version = incoming.aggregate_version.unwrap_or(Version::ZERO);
    Recorded {
        data: Bytes::copy_from_slice(incoming.data.as_str().as_bytes()),
        event_id: incoming.event_id.clone(),
        event_type: incoming.event_type.clone(),
        timestamp: incoming.timestamp,
        correlation_id: incoming
            .correlation_id
            .clone()
            .unwrap_or_else(|| incoming.event_id.clone()),
        causation_id: incoming.causation_id.clone(),
        metadata: Arc::new(incoming.metadata.clone()),
        part: Part::WHOLE,
        stream: stream.map(|stream| (stream, version)),
        aggregate_id: incoming.aggregate_id.clone(),
        key: message.key.clone(),
        at: None,
    }
}

fn cause(incoming: &Incoming) -> Cause {
    Cause {
        correlation_id: incoming
            .correlation_id
            .clone()
            .unwrap_or_else(|| incoming.event_id.clone()),
        causation_id: Some(incoming.event_id.clone()),
        metadata: Arc::new(incoming.metadata.clone()),
    }
}

/// The story of a message of which perhaps not all could be read.
fn story(owner: &Owner, correlation: Option<MessageId>, event: Option<MessageId>) -> Cause {
    let correlation_id = correlation.or_else(|| event.clone());
    let correlation_id = correlation_id.unwrap_or_else(|| owner.consuming.core.env.message_id());
    Cause {
        correlation_id,
        causation_id: event,
        metadata: Arc::default(),
    }
}

/// A message at its place, and what may become of it there.
struct Place<'a> {
    owner: &'a Owner,
    message: &'a Message,
    event_id: Option<(MessageId, Timestamp)>,
}

impl Place<'_> {
    fn input(&self, disposition: Disposition) -> Input {
        Input::Message(MessageInput {
            inbox: self.owner.inbox().clone(),
            fence: self.owner.fence(),
            offset: self.message.offset,
            lane: self.message.lane(),
            advance: self.owner.advance(),
            event_id: self.event_id.clone(),
            disposition,
        })
    }

    /// What a failure of this message leads to.
    async fn failed(&self, failed: Failed) -> Outcome {
        let consuming = &self.owner.consuming;
        let core = &consuming.core;
        let Failed { failure, handler } = failed;
        match failure.outcome() {
            factum_core::Outcome::Stop => {
                return Outcome::Stop(stop_text(handler.as_ref(), &failure));
            }
            factum_core::Outcome::Skip(reason) => {
                let audit = skipped(self.owner, self.message.offset, reason);
                let input = || self.input(Disposition::Skip);
                return self.finish(Vec::new(), &input, Some(audit)).await;
            }
            factum_core::Outcome::Retry | factum_core::Outcome::DeadLetter => {}
        }
        let due = match failure.outcome() {
            factum_core::Outcome::DeadLetter => None,
            _ => consuming
                .group
                .retry
                .delay_for(failure.class(), 1, core.env.fraction()),
        };
        log_failure(
            self.owner,
            self.message.offset,
            1,
            handler.as_ref(),
            &failure,
            due.is_none(),
        );
        let now = core.env.now();
        let state = if due.is_some() {
            ParkedState::Retrying
        } else {
            ParkedState::Dead
        };
        let parked = self.parked(
            state,
            due.map(|wait| now + wait),
            Some(note(handler, &failure, now)),
        );
        self.park(parked, false).await
    }

    fn parked(
        &self,
        state: ParkedState,
        due: Option<Timestamp>,
        failure: Option<FailureNote>,
    ) -> Parked {
        let glimpse = wire::glimpse(self.message);
        Parked {
            id: ParkedId {
                inbox: self.owner.inbox().clone(),
                offset: self.message.offset,
            },
            lane: self.message.lane(),
            state,
            revision: 1,
            message: self.message.clone(),
            edited: None,
            event_id: glimpse.event_id,
            event_type: glimpse.event_type,
            correlation_id: glimpse.correlation_id,
            tries: u32::from(failure.is_some()),
            due,
            failure,
            parked_at: self.owner.consuming.core.env.now(),
            redrives: 0,
            discarded_at: None,
        }
    }

    async fn park(&self, parked: Parked, wait: bool) -> Outcome {
        let room = self.owner.consuming.group.room;
        let copy = (parked.state == ParkedState::Dead)
            .then(|| copy_of(self.owner, &parked))
            .flatten();
        let input = || {
            let parked = Box::new(parked.clone());
            self.input(if wait {
                Disposition::Wait(parked, room)
            } else {
                Disposition::Park(parked, room)
            })
        };
        let effects = copy.into_iter().map(|effect| (effect, None)).collect();
        match self.finish(effects, &input, None).await {
            Outcome::Finished(row, _) => Outcome::Finished(row, true),
            other => other,
        }
    }

    async fn duplicate(&self) -> Outcome {
        self.finish(Vec::new(), &|| self.input(Disposition::Duplicate), None)
            .await
    }

    async fn finish(
        &self,
        effects: Effects,
        input: &(dyn Fn() -> Input + Sync),
        audit: Option<AuditEntry>,
    ) -> Outcome {
        let glimpse = wire::glimpse(self.message);
        let cause = story(self.owner, glimpse.correlation_id, glimpse.event_id);
        let work = Work {
            cause,
            effects,
            input,
            audit,
        };
        match commit(self.owner, &work).await {
            Ok(applied) => finished(applied.committed.inbox, false),
            Err(WorkError::Commit(CommitError::DuplicateEvent(_))) => {
                // Parked or skipped would be a second time: it is a duplicate, and void.
                let work = Work {
                    cause: work.cause.clone(),
                    effects: Vec::new(),
                    input: &|| self.input(Disposition::Duplicate),
                    audit: None,
                };
                match commit(self.owner, &work).await {
                    Ok(applied) => finished(applied.committed.inbox, false),
                    Err(error) => error_outcome(self.owner, error),
                }
            }
            Err(error) => error_outcome(self.owner, error),
        }
    }
}

/// The copy of a dead letter for its topic, unless the service has no such topic (any more): the row in the store is what
/// counts.
fn copy_of(owner: &Owner, parked: &Parked) -> Option<Effect> {
    let topics = &owner.consuming.core.topics;
    let is_known = |effect: &Effect| matches!(effect, Effect::Copy { topic, .. } if topics.contains_key(topic));
    dead_letter::effect(parked).filter(is_known)
}

/// What a failed retry leads to.
async fn retry_failed(owner: &Owner, parked: Parked, failed: Failed) -> Outcome {
    let consuming = &owner.consuming;
    let core = &consuming.core;
    let Failed { failure, handler } = failed;
    let tries = parked.tries + 1;
    let now = core.env.now();
    let mut audit = None;
    let (result, dead) = match failure.outcome() {
        factum_core::Outcome::Stop => return Outcome::Stop(stop_text(handler.as_ref(), &failure)),
        factum_core::Outcome::Skip(reason) => {
            audit = Some(skipped(owner, parked.id.offset, reason));
            (Retried::Settled, false)
        }
        factum_core::Outcome::DeadLetter => {
            (Retried::Dead(note(handler.clone(), &failure, now)), true)
        }
        factum_core::Outcome::Retry => {
            let failure_note = note(handler.clone(), &failure, now);
            match consuming
                .group
                .retry
                .delay_for(failure.class(), tries, core.env.fraction())
            {
                Some(wait) => (
                    Retried::Later {
                        due: now + wait,
                        failure: failure_note,
                    },
                    false,
                ),
                None => (Retried::Dead(failure_note), true),
            }
        }
    };
    if audit.is_none() {
        log_failure(
            owner,
            parked.id.offset,
            tries,
            handler.as_ref(),
            &failure,
            dead,
        );
    }
    let mut effects = Vec::new();
    if let Retried::Dead(note) = &result {
        let mut copy = parked.clone();
        copy.dead(note.clone());
        effects.extend(copy_of(owner, &copy).map(|effect| (effect, None)));
    }
    let settles = matches!(result, Retried::Settled);
    let cause = story(
        owner,
        parked.correlation_id.clone(),
        parked.event_id.clone(),
    );
    let input = || retried(owner, &parked, result.clone());
    let work = Work {
        cause,
        effects,
        input: &input,
        audit,
    };
    match commit(owner, &work).await {
        Ok(_) if settles => released(owner, &parked).await,
        Ok(_) => Outcome::Retried { parked: true },
        Err(error) => error_outcome(owner, error),
    }
}

fn retried(owner: &Owner, parked: &Parked, outcome: Retried) -> Input {
    Input::Parked(ParkedInput {
        id: parked.id.clone(),
        fence: owner.fence(),
        revision: parked.revision,
        outcome,
    })
}

/// A parked message has left its lane: whether others wait there.
async fn released(owner: &Owner, parked: &Parked) -> Outcome {
    let lanes = factum_core::ParkedFilter {
        inbox: Some(parked.id.inbox.clone()),
        lane: Some(parked.lane.clone()),
        state: Some(ParkedState::Retrying),
        ..factum_core::ParkedFilter::default()
    };
    // The next of the lane, if there is one, was released by the same commit. When that can't be found out, the
    // condition of the next commit tells.
    let next = owner.consuming.core.store.parked(&lanes, 1).await;
    Outcome::Retried {
        parked: next.is_ok_and(|rows| !rows.is_empty()),
    }
}

/// Waits for the message's turn if it is a suspect, and sets the durable attempt mark.
async fn try_behind_mark(owner: &Owner, trying: Trying) -> Result<Option<Turn>, Outcome> {
    let core = &owner.consuming.core;
    let turn = core.suspects.turn(trying).await;
    let input = || owner.void(Some(trying), false);
    let id = core.env.message_id();
    let cause = Cause {
        correlation_id: id,
        causation_id: None,
        metadata: Arc::default(),
    };
    let work = Work {
        cause,
        effects: Vec::new(),
        input: &input,
        audit: None,
    };
    match commit(owner, &work).await {
        Ok(_) => Ok(turn),
        Err(error) => Err(error_outcome(owner, error)),
    }
}

/// Commits, again and again while the store is in passing trouble.
async fn commit(owner: &Owner, work: &Work<'_>) -> Result<crate::work::Applied, WorkError> {
    let consuming = &owner.consuming;
    let mut failures = 0;
    loop {
        let error = match consuming.core.apply(work).await {
            Err(WorkError::Commit(CommitError::Failed(error)) | WorkError::Broken(error))
                if error.is_transient() && !owner.is_stopping() =>
            {
                error
            }
            other => return other,
        };
        consuming.trouble(&error);
        pause(owner.stopping(), backoff(&consuming.core.env, failures)).await;
        failures += 1;
    }
}

fn finished(row: Option<factum_core::InboxRow>, parked: bool) -> Outcome {
    row.map_or(Outcome::Reclaim, |row| {
        Outcome::Finished(Box::new(row), parked)
    })
}

fn error_outcome(owner: &Owner, error: WorkError) -> Outcome {
    match error {
        WorkError::Commit(error) => refused(owner, error),
        WorkError::Broken(error) if error.is_transient() => Outcome::Nothing,
        other => Outcome::Stop(other.to_string()),
    }
}

/// Whether others were faster each time that the work was decided.
fn is_contended(error: &CommitError) -> bool {
    match error {
        CommitError::Conflict { .. }
        | CommitError::RowChanged { .. }
        | CommitError::StoodOnFailed(_) => true,
        CommitError::Failed(error) => error.is_conflict(),
        _ => false,
    }
}

/// The failure that this is: it may pass, and says nothing about who owns the inbox.
fn contended(error: &CommitError) -> Failure {
    Failure::transient(format!("others were faster each time: {error}"))
}

/// What a refused commit means.
fn refused(owner: &Owner, error: CommitError) -> Outcome {
    match error {
        CommitError::LaneParked => Outcome::Lane { parked: true },
        CommitError::LaneFree => Outcome::Lane { parked: false },
        CommitError::NoRoom { .. } => {
            owner.is_out_of_room(&error);
            Outcome::NoRoom
        }
        // The row was redriven, edited or discarded meanwhile: it is looked up again.
        CommitError::RevisionChanged { .. } => Outcome::Retried { parked: true },
        CommitError::Failed(error) if error.is_fatal() => Outcome::Stop(format!("{error:#}")),
        CommitError::Failed(error) if error.is_poison() => {
            Outcome::Stop(format!("a commit was refused as bad: {error:#}"))
        }
        error => {
            tracing::debug!("inbox `{}` is claimed again: {error}", owner.inbox());
            Outcome::Reclaim
        }
    }
}
