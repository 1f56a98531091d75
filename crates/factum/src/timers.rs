//! Timers: durable rows that fire once.
//!
//! One process owns the timers of a store. A timer's effects and its end are one commit, so they happen once; calls
//! to the outside world happen at least once, with a key made of the timer's id and setting. A timer that fails
//! stays set and is tried again, waiting longer and longer, while the others go on.

mod runner;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    AuditEntry, CommitError, Error, ErrorClass, Failure, FailureClass, Fence, Group, HandlerName,
    Input, MessageId, Metadata, Outcome, Part, Reaction, Timer, TimerInput,
};
use futures_util::FutureExt as _;

pub(crate) use self::runner::run;
use crate::work::{Cause, Core, Work, WorkError, panic_message};

/// What happens when a timer is due. It is given to a service with the name that the ids of its timers begin with.
pub trait TimerHandler: Send + Sync + 'static {
    /// Its stable name. Idempotency keys for the outside world are made of it.
    const NAME: &'static str;

    /// Reacts to a timer that is due. May call the outside world, with [`Reaction::idempotency_key`]: such calls
    /// happen at least once. What it tells `cx` happens exactly once.
    ///
    /// # Errors
    ///
    /// A [`Failure`]: the timer is tried again later, however often it takes, and the service says that it is in
    /// trouble. [`Failure::skip`] ends the timer, recorded; [`Failure::stop`] stops all timers of the service.
    fn fire(
        &self,
        timer: &Timer,
        cx: &mut Reaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The story that the timer belongs to, when its payload says so. By default a new one begins.
    fn correlation_id(&self, timer: &Timer) -> Option<MessageId> {
        let _ = timer;
        None
    }
}

/// [`TimerHandler`] whatever its type.
#[async_trait]
pub(crate) trait AnyTimerHandler: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn correlation_id(&self, timer: &Timer) -> Option<MessageId>;
    async fn fire(&self, timer: &Timer, cx: &mut Reaction) -> Result<(), Failure>;
}

/// [`AnyTimerHandler`] of a handler.
pub(crate) struct Handling<H>(pub(crate) H);

#[async_trait]
impl<H: TimerHandler> AnyTimerHandler for Handling<H> {
    fn name(&self) -> &'static str {
        H::NAME
    }

    fn correlation_id(&self, timer: &Timer) -> Option<MessageId> {
        self.0.correlation_id(timer)
    }

    async fn fire(&self, timer: &Timer, cx: &mut Reaction) -> Result<(), Failure> {
        self.0.fire(timer, cx).await
    }
}

/// The handlers of a service's timers, each with its name checked.
struct Handlers {
    /// By the beginning of the ids.
    by_prefix: BTreeMap<String, (HandlerName, Arc<dyn AnyTimerHandler>)>,
    /// What stands for the group in idempotency keys: the service.
    group: Group,
}

/// How a timer did not fire.
enum Unfired {
    /// Not this time.
    Failed(String),
    /// The handler wants all timers to stop.
    Stop(String),
    /// The timers have another owner.
    Fenced,
    /// Nothing more should be tried.
    Fatal(Error),
}

impl Handlers {
    fn new(core: &Core, timers: &[(String, Arc<dyn AnyTimerHandler>)]) -> Result<Self, Error> {
        let fatal = |error: &dyn std::fmt::Display| {
            Error::fatal(format!("timers of `{}`: {error}", core.service))
        };
        let group = Group::new(core.service.as_str()).map_err(|error| fatal(&error))?;
        let mut by_prefix = BTreeMap::new();
        for (prefix, handler) in timers {
            let name = HandlerName::new(handler.name()).map_err(|error| fatal(&error))?;
            if by_prefix
                .insert(prefix.clone(), (name, handler.clone()))
                .is_some()
            {
                return Err(fatal(&format!("two handlers are given for `{prefix}`")));
            }
        }
        Ok(Self { by_prefix, group })
    }

    /// Fires a timer: runs its handler and commits what that said, together with the timer's end.
    async fn fire(&self, core: &Core, fence: Fence, timer: &Timer) -> Result<(), Unfired> {
        let Timer { id, generation, .. } = timer;
        let (handler_name, handler) = self.handler(id)?;
        // The same however often the timer is tried: idempotency keys are made of it.
        let event_id = MessageId::from(format!("timer/{id}/{generation}"));
        let mut cx = Reaction::new(
            &core.env,
            self.group.clone(),
            handler_name.clone(),
            event_id.clone(),
            Part::WHOLE,
        );
        let mut story = None;
        let fired = async {
            story = handler.correlation_id(timer);
            handler.fire(timer, &mut cx).await
        };
        let fired = AssertUnwindSafe(fired).catch_unwind().await;
        let fired = fired.unwrap_or_else(|panic| {
            let message = format!(
                "handler `{handler_name}` panicked: {}",
                panic_message(&*panic)
            );
            Err(Failure::new(FailureClass::Panic, message))
        });
        let mut audit = None;
        let mut effects = Vec::new();
        match fired {
            Ok(()) => {
                let again = Arc::new(cx.again());
                effects.extend(
                    cx.into_effects()
                        .into_iter()
                        .map(|effect| (effect, Some(again.clone()))),
                );
            }
            Err(failure) => match failure.outcome() {
                Outcome::Skip(reason) => {
                    tracing::warn!("timer `{id}` is left out: {reason}");
                    audit = Some(AuditEntry {
                        at: core.env.now(),
                        actor: handler_name.to_string(),
                        action: "skip".into(),
                        subject: event_id.to_string(),
                        reason: reason.clone(),
                    });
                }
                Outcome::Stop => return Err(Unfired::Stop(format!("timer `{id}`: {failure}"))),
                Outcome::Retry | Outcome::DeadLetter => {
                    return Err(Unfired::Failed(failure.to_string()));
                }
            },
        }
        let work = Work {
            cause: Cause {
                correlation_id: story.unwrap_or_else(|| event_id.clone()),
                causation_id: Some(event_id),
                metadata: Arc::new(Metadata::new()),
            },
            effects,
            input: &|| {
                Input::Timer(TimerInput {
                    fence,
                    id: id.clone(),
                    generation: *generation,
                })
            },
            audit,
        };
        match core.apply(&work).await {
            // Where it was cancelled or set again while its handler ran, what the handler said doesn't happen.
            Ok(_) | Err(WorkError::Commit(CommitError::TimerChanged(_))) => Ok(()),
            Err(WorkError::Commit(error)) => match error.class() {
                ErrorClass::Fenced => Err(Unfired::Fenced),
                ErrorClass::Fatal => Err(Unfired::Fatal(Error::fatal(format!(
                    "timer `{id}` could not be ended: {error:#}"
                )))),
                // Where nobody knows whether it happened, the next try finds out: the timer is gone, or is not.
                _ => Err(Unfired::Failed(error.to_string())),
            },
            Err(error) => Err(Unfired::Failed(error.to_string())),
        }
    }

    /// The handler whose prefix is the longest that the id begins with.
    fn handler(&self, id: &str) -> Result<&(HandlerName, Arc<dyn AnyTimerHandler>), Unfired> {
        let matching = self
            .by_prefix
            .iter()
            .filter(|(prefix, _)| id.starts_with(prefix.as_str()));
        let longest = matching.max_by_key(|(prefix, _)| prefix.len());
        longest.map(|(_, handler)| handler).ok_or_else(|| {
            let known: Vec<_> = self.by_prefix.keys().map(String::as_str).collect();
            Unfired::Failed(format!(
                "no handler is given for it (known: {})",
                known.join(", ")
            ))
        })
    }
}
