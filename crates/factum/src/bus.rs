//! The command bus: a command comes in, its aggregate decides, the events are committed, an answer goes out.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use factum_core::{
    Aggregate, Answered, At, Category, CommandInput, CommitError, Effect, Error, ErrorClass,
    Execution, Input, Loaded, LogFilter, MessageId, Metadata, Position, StreamId, ToId, Token,
    TopicWrite, Version,
};

use crate::work::{Applied, Cause, Core, Work, WorkError};

/// How many records of an answered command are read at a time.
const AGAIN_RECORDS: usize = 500;

/// Gives commands to the aggregates of one service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commands {
    core: Arc<Core>,
}

/// What goes with a command besides itself. The default is right for a command that nobody sends twice.
#[derive(Clone, Debug, Default)]
pub struct CommandOptions {
    /// What goes into the metadata of the events, such as `actor`.
    pub metadata: Metadata,
    /// The story that it belongs to; by default a new one begins.
    pub correlation_id: Option<MessageId>,
    /// The message that led to it.
    pub causation_id: Option<MessageId>,
    /// What makes the command safe to send again.
    pub idempotency: Option<Idempotency>,
}

/// A key that makes a command safe to send again: the same key gets the same answer.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Whose keys these are, such as one HTTP endpoint.
    pub scope: String,
    /// The key.
    pub key: String,
    /// A hash of the request: the same key with another request is refused.
    pub request: u64,
    /// What to answer, now and whenever the command comes again.
    pub answer: Bytes,
    /// How long the answer is remembered.
    pub remember: Duration,
}

/// A command that was carried out.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The version that the aggregate stands at; of the first time, when the command came again.
    pub version: Option<Version>,
    /// The token with which queries see what this command did.
    pub token: Token,
    /// The answer that was given the first time, when the command came again.
    pub repeated: Option<Bytes>,
}

/// Why a command was not carried out. Nothing of it happened, unless the class says `unknown`.
#[derive(Debug)]
pub enum CommandError<E> {
    /// The aggregate refused.
    Rejected(Arc<E>),
    /// The idempotency key was used before for another request.
    KeyReused(String),
    /// The id can't name an aggregate.
    InvalidId(String),
    /// It could not be done: see the class.
    Failed(Error),
}

impl<E> CommandError<E> {
    /// What to do about it: rejections, reused keys and invalid ids are poison, the command will never be right.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Rejected(_) | Self::KeyReused(_) | Self::InvalidId(_) => ErrorClass::Poison,
            Self::Failed(error) => error.class(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CommandError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(error) => error.fmt(f),
            Self::KeyReused(key) => {
                write!(f, "idempotency key `{key}` was used for another request")
            }
            Self::InvalidId(what) => f.write_str(what),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl<E: StdError> StdError for CommandError<E> {}

impl Commands {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Carries out a command on the aggregate `id`.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn execute<A: Aggregate>(
        &self,
        id: impl ToId<A::Id>,
        command: A::Command,
    ) -> Result<Executed, CommandError<A::Error>> {
        self.execute_with::<A>(id, command, CommandOptions::default())
            .await
    }

    /// Carries out a command with all that goes with it.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn execute_with<A: Aggregate>(
        &self,
        id: impl ToId<A::Id>,
        command: A::Command,
        options: CommandOptions,
    ) -> Result<Executed, CommandError<A::Error>> {
        let core = &*self.core;
        let started = core.env.now();
        let outcome = self.carry_out::<A>(id, command, options).await;
        let label = match &outcome {
            Ok(executed) if executed.repeated.is_some() => "duplicate",
            Ok(_) => "accepted",
            Err(
                CommandError::Rejected(_) | CommandError::KeyReused(_) | CommandError::InvalidId(_),
            ) => "rejected",
            Err(CommandError::Failed(error)) if error.is_conflict() => "conflict",
            Err(CommandError::Failed(_)) => "error",
        };
        core.metrics
            .command(A::CATEGORY, label, core.env.now().since(started));
        outcome
    }

    async fn carry_out<A: Aggregate>(
        &self,
        id: impl ToId<A::Id>,
        command: A::Command,
        options: CommandOptions,
    ) -> Result<Executed, CommandError<A::Error>> {
        let core = &*self.core;
        let stream = stream_of::<A>(core, id).map_err(CommandError::InvalidId)?;
        if let Some(idempotency) = &options.idempotency
            && let Some(executed) = self.answered(idempotency).await?
        {
            return Ok(executed);
        }
        let input = || match &options.idempotency {
            None => Input::None,
            Some(idempotency) => Input::Command(CommandInput {
                scope: idempotency.scope.clone(),
                key: idempotency.key.clone(),
                request: idempotency.request,
                answer: idempotency.answer.clone(),
                expires: core.env.now() + idempotency.remember,
            }),
        };
        let correlation_id = options
            .correlation_id
            .clone()
            .unwrap_or_else(|| core.env.message_id());
        let command = Arc::new(command);
        let execution = Execution {
            stream: stream.clone(),
            command,
            on_rejected: None,
        };
        let work = Work {
            cause: Cause {
                correlation_id,
                causation_id: options.causation_id.clone(),
                metadata: Arc::new(options.metadata.clone()),
            },
            effects: vec![(Effect::Execute(execution), None)],
            input: &input,
            audit: None,
        };
        match core.apply(&work).await {
            Ok(applied) => Ok(Executed {
                version: applied.version(&stream),
                token: token(core, &applied),
                repeated: None,
            }),
            Err(WorkError::Rejected(_, error)) => {
                // The rejection may stand on the very same command, sent twice at a time.
                if let Some(idempotency) = &options.idempotency
                    && let Some(executed) = self.answered(idempotency).await?
                {
                    return Ok(executed);
                }
                Err(match error.into_any().downcast::<A::Error>() {
                    Ok(error) => CommandError::Rejected(error),
                    Err(_) => CommandError::Failed(Error::fatal(format!(
                        "`{stream}` rejected a command with another error than its own"
                    ))),
                })
            }
            Err(WorkError::Commit(CommitError::Answered(answered))) => self.again(&answered).await,
            Err(WorkError::Commit(CommitError::KeyReused { key })) => {
                Err(CommandError::KeyReused(key))
            }
            Err(WorkError::Commit(CommitError::Failed(error)) | WorkError::Broken(error)) => {
                Err(CommandError::Failed(error))
            }
            Err(WorkError::Failure(failure)) => {
                Err(CommandError::Failed(Error::poison(failure.message())))
            }
            Err(WorkError::Commit(error)) if error.class() == ErrorClass::Poison => {
                Err(CommandError::Failed(Error::poison(error.to_string())))
            }
            Err(WorkError::Commit(error)) => Err(CommandError::Failed(Error::conflict(format!(
                "command on `{stream}` met too many conflicts: {error}"
            )))),
        }
    }

    async fn answered<E>(
        &self,
        idempotency: &Idempotency,
    ) -> Result<Option<Executed>, CommandError<E>> {
        let known = self
            .core
            .store
            .answered(&idempotency.scope, &idempotency.key, self.core.env.now())
            .await;
        match known.map_err(CommandError::Failed)? {
            None => Ok(None),
            Some((request, _)) if request != idempotency.request => {
                Err(CommandError::KeyReused(idempotency.key.clone()))
            }
            Some((_, answered)) => self.again(&answered).await.map(Some),
        }
    }

    /// The same answer again, with the token of then: what the command wrote to topics is in the log.
    async fn again<E>(&self, answered: &Answered) -> Result<Executed, CommandError<E>> {
        let writes = self.written(answered).await.map_err(CommandError::Failed)?;
        let token = Token::new(self.core.store.identity().id, answered.head, writes);
        Ok(Executed {
            version: None,
            token,
            repeated: Some(answered.answer.clone()),
        })
    }

    async fn written(&self, answered: &Answered) -> Result<Vec<TopicWrite>, Error> {
        let mut writes = Vec::new();
        let Some(first) = answered.first else {
            return Ok(writes);
        };
        let before = |position: Position| At {
            position: Position(position.0.saturating_sub(1)),
            ..answered.head
        };
        let mut after = before(first);
        while after < answered.head {
            let left = answered.head.position.0 - after.position.0;
            let limit = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(AGAIN_RECORDS);
            let log = &self.core.store;
            let page = log.read_log(after, &LogFilter::default(), limit).await?;
            if page.next <= after {
                break;
            }
            after = page.next;
            writes.extend(page.records.iter().filter_map(|record| {
                let to = record.draft.destination.clone()?;
                Some(TopicWrite {
                    topic: to.topic,
                    partition: to.partition,
                    position: record.at.position,
                    key: to.key,
                })
            }));
        }
        Ok(writes)
    }

    /// The state of the aggregate `id` as it is stored, and its version.
    ///
    /// # Errors
    ///
    /// When the store fails or an event can't be read.
    pub async fn load<A: Aggregate>(&self, id: impl ToId<A::Id>) -> Result<(A, Version), Error> {
        let stream = stream_of::<A>(&self.core, id).map_err(Error::poison)?;
        let aggregate = self.core.load(&stream).await?;
        let loaded = aggregate.as_any().downcast_ref::<Loaded<A>>();
        let loaded = loaded.ok_or_else(|| {
            Error::fatal(format!(
                "category `{}` is of another aggregate",
                A::CATEGORY
            ))
        })?;
        Ok((loaded.state().clone(), aggregate.version()))
    }
}

fn stream_of<A: Aggregate>(core: &Core, id: impl ToId<A::Id>) -> Result<StreamId, String> {
    let category = match core.kinds.get_key_value(A::CATEGORY) {
        Some((category, _)) => category.clone(),
        None => Category::new(A::CATEGORY).map_err(|error| error.to_string())?,
    };
    StreamId::new(category, id.to_id()).map_err(|error| error.to_string())
}

/// The token for what was applied.
pub(crate) fn token(core: &Core, applied: &Applied) -> Token {
    let head = applied.committed.head;
    let writes = applied
        .published
        .iter()
        .map(|(topic, partition, position, key)| TopicWrite {
            topic: topic.clone(),
            partition: *partition,
            position: *position,
            key: key.clone(),
        });
    Token::new(core.store.identity().id, head, writes)
}
