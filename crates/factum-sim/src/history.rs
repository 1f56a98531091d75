//! The history of a story: what its logs and topics hold at its end, and every commit on the way.
//!
//! Plain data in the types of the ports. It comes from outside of the code under test: the commits from a
//! [`Witness`](crate::Witness) at each store's door, the rest is read when all is quiet. So a test can doctor it, to
//! see that what looks at it finds what is wrong.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{
    At, Broker, Commit, CommitId, Committed, Disposition, Error, Fence, Group, InboxId, Input,
    LogFilter, Message, MessageId, OperatorAction, ParkedId, Position, ProjectionName, Record,
    Retried, ServiceName, Store, StoreId, TopicPartition,
};

/// How many records or messages are read at a time.
const PAGE: usize = 1_000;

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Each service's book.
    pub books: Vec<Book>,
    /// What is in the topics.
    pub partitions: BTreeMap<TopicPartition, Vec<Message>>,
}

/// What happened in one service.
#[derive(Clone, Debug)]
pub struct Book {
    /// The service.
    pub service: ServiceName,
    /// Its store.
    pub store: StoreId,
    /// Its log.
    pub records: Vec<Record>,
    /// What was committed, in order.
    pub steps: Vec<Step>,
    /// How far its relay says that the log was published.
    pub published: At,
}

/// One commit that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The commit.
    pub commit: CommitId,
    /// What it was about.
    pub what: What,
    /// The position of its first record, if it had any.
    pub first: Option<Position>,
    /// The event ids of its records, in their order.
    pub records: Vec<MessageId>,
}

/// What a commit was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message of a partition.
    Message {
        /// The inbox.
        inbox: InboxId,
        /// Whose commit it was.
        fence: Fence,
        /// Where the message stands.
        offset: u64,
        /// The id by which a foreign message is told from its duplicates.
        foreign: Option<MessageId>,
        /// What was done with it.
        done: Done,
    },
    /// Void messages of a partition, a mark, a release.
    Void {
        /// The inbox.
        inbox: InboxId,
        /// Whose commit it was.
        fence: Fence,
    },
    /// A parked message that was tried again.
    Retry {
        /// Which one.
        id: ParkedId,
        /// Whose commit it was.
        fence: Fence,
        /// Whether it is done with.
        settled: bool,
    },
    /// A parked message, by an operator.
    Operator {
        /// Which one.
        id: ParkedId,
        /// Whether it was given up.
        discarded: bool,
    },
    /// A stretch of the log, by a projection.
    Projection {
        /// The projection.
        projection: ProjectionName,
        /// Which generation of its rows.
        generation: u32,
        /// Whose commit it was.
        fence: Fence,
        /// From where.
        from: At,
        /// Up to where.
        to: At,
    },
    /// The relay's checkpoint.
    Relay {
        /// Whose commit it was.
        fence: Fence,
        /// Up to where the log was published.
        checkpoint: At,
    },
    /// A command with an idempotency key.
    Command {
        /// Its scope and key.
        key: (String, String),
    },
    /// Something else.
    Other,
}

/// What was done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Its effects happened.
    Applied,
    /// It was left out, for a reason.
    Skipped,
    /// It failed, and was parked.
    Parked,
    /// It waits behind a parked one.
    Waits,
    /// It is the duplicate of a foreign message.
    Duplicate,
}

impl Step {
    /// What `commit` did when it became `committed`.
    pub(crate) fn of(commit: &Commit, committed: &Committed) -> Self {
        let what = match &commit.input {
            Input::None | Input::Timer(_) => What::Other,
            Input::Command(input) => What::Command {
                key: (input.scope.clone(), input.key.clone()),
            },
            Input::Message(input) => What::Message {
                inbox: input.inbox.clone(),
                fence: input.fence,
                offset: input.offset,
                foreign: input.event_id.as_ref().map(|(id, _)| id.clone()),
                done: match input.disposition {
                    Disposition::Apply => Done::Applied,
                    Disposition::Skip => Done::Skipped,
                    Disposition::Park(..) => Done::Parked,
                    Disposition::Wait(..) => Done::Waits,
                    Disposition::Duplicate => Done::Duplicate,
                },
            },
            Input::Void(input) => What::Void {
                inbox: input.inbox.clone(),
                fence: input.fence,
            },
            Input::Parked(input) => What::Retry {
                id: input.id.clone(),
                fence: input.fence,
                settled: matches!(input.outcome, Retried::Settled),
            },
            Input::Operator(input) => What::Operator {
                id: input.id.clone(),
                discarded: matches!(input.action, OperatorAction::Discard),
            },
            Input::Log(input) => What::Projection {
                projection: input.projection.clone(),
                generation: input.generation,
                fence: input.fence,
                from: input.from,
                to: input.to,
            },
            Input::Relay(input) => What::Relay {
                fence: input.fence,
                checkpoint: input.checkpoint,
            },
        };
        Self {
            commit: commit.id,
            what,
            first: committed.first,
            records: commit
                .drafts()
                .map(|draft| draft.event_id.clone())
                .collect(),
        }
    }

    /// The group whose message the step ended or parked, if it was about one.
    pub fn group(&self) -> Option<&Group> {
        match &self.what {
            What::Message { inbox, .. } | What::Void { inbox, .. } => Some(&inbox.group),
            What::Retry { id, .. } | What::Operator { id, .. } => Some(&id.inbox.group),
            _ => None,
        }
    }
}

/// What was committed to one store, in order. Clones are handles of one, which outlives each store object.
#[derive(Clone, Debug, Default)]
pub struct Chronicle(Arc<Mutex<Vec<Step>>>);

impl Chronicle {
    fn steps_now(&self) -> MutexGuard<'_, Vec<Step>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a commit. One that was sent again and answered as before is the same step.
    pub(crate) fn note(&self, step: Step) {
        let mut steps = self.steps_now();
        let again = |known: &Step| known.commit == step.commit && known.first == step.first;
        // What is sent again is sent soon.
        if !steps.iter().rev().take(PAGE).any(again) {
            steps.push(step);
        }
    }

    /// How many commits there were.
    pub fn len(&self) -> usize {
        self.steps_now().len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.steps_now().is_empty()
    }

    /// All of them.
    pub fn steps(&self) -> Vec<Step> {
        self.steps_now().clone()
    }
}

impl Book {
    /// What `store` holds, and how it came there.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn read(store: &dyn Store, chronicle: &Chronicle) -> Result<Self, Error> {
        let identity = store.identity();
        let mut records = Vec::new();
        let mut after = At::ZERO;
        loop {
            let page = store.read_log(after, &LogFilter::default(), PAGE).await?;
            records.extend(page.records);
            if page.next == after || page.next.position >= page.head.position {
                break;
            }
            after = page.next;
        }
        Ok(Self {
            service: identity.service,
            store: identity.id,
            records,
            steps: chronicle.steps(),
            published: store.relay().await?.checkpoint,
        })
    }
}

impl History {
    /// Reads what is in the topics.
    ///
    /// # Errors
    ///
    /// What the broker says.
    pub async fn read_topics(&mut self, broker: &dyn Broker) -> Result<(), Error> {
        for spec in broker.topics().await? {
            for partition in 0..spec.partitions {
                let partition = TopicPartition::new(spec.topic.clone(), partition);
                let end = broker.watermarks(&partition).await?.end;
                let mut messages: Vec<Message> = Vec::new();
                let mut next = 0;
                while next < end {
                    let page = broker.read(&partition, next, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    next = last.offset + 1;
                    messages.extend(page);
                }
                self.partitions.insert(partition, messages);
            }
        }
        Ok(())
    }
}
