//! A member of a group. A thread of its own talks to the library, whose calls block; this is the end that its user holds.
//!
//! The thread looks for something to tell only while a call waits for it: so the library counts the member's calls, and takes
//! one that is silent for its session for dead. What the thread found for a call that was cancelled waits in a slot for the
//! next one.

mod client;
mod context;
mod member;
mod slot;

use std::{
    fmt,
    sync::Arc,
    thread::{self, Thread},
};

use async_trait::async_trait;
use factum_core::{Consumed, Consumer, Error, Subscription, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use self::{member::Member, slot::Slot};
use crate::desk::Desk;

/// How many commands may wait for the thread: calls that were cancelled leave theirs behind.
const COMMANDS_MAX: usize = 64;

/// A call that the thread carries out.
enum Command {
    Seek(TopicPartition, u64, oneshot::Sender<Result<(), Error>>),
    Pause(TopicPartition, oneshot::Sender<Result<(), Error>>),
    Resume(TopicPartition, oneshot::Sender<Result<(), Error>>),
    Commit(
        Vec<(TopicPartition, u64)>,
        oneshot::Sender<Result<(), Error>>,
    ),
    Leave(oneshot::Sender<Result<(), Error>>),
}

/// A member of a group on Kafka. When it is dropped, its thread leaves the group.
pub(crate) struct KafkaConsumer {
    subscription: Subscription,
    slot: Arc<Slot>,
    /// `None` while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    thread: Thread,
}

impl KafkaConsumer {
    /// Joins the group.
    pub(crate) async fn join(desk: &Arc<Desk>, subscription: Subscription) -> Result<Self, Error> {
        let (slot, desk) = (Arc::new(Slot::default()), desk.clone());
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (joined, joining) = oneshot::channel();
        let named = thread::Builder::new().name("kafka-member".to_owned());
        let started = named.spawn({
            let (slot, subscription) = (slot.clone(), subscription.clone());
            move || match Member::join(desk, subscription, slot.clone()) {
                Ok(member) => {
                    // Nobody listens when the call was cancelled: then the commands have ended as well.
                    drop(joined.send(Ok(())));
                    member.run(received);
                    slot.end();
                }
                Err(error) => drop(joined.send(Err(error))),
            }
        });
        let started = started.map_err(|error| {
            Error::transient("no thread for a member of a group").caused_by(error)
        })?;
        let consumer = Self {
            subscription,
            slot,
            commands: Some(commands),
            thread: started.thread().clone(),
        };
        joining.await.map_err(|_| ended())??;
        Ok(consumer)
    }

    /// Has the thread carry out a call, which counts as a sign of life.
    async fn call(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Command + Send,
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or_else(ended)?;
        commands.send(command(answer)).await.map_err(|_| ended())?;
        self.thread.unpark();
        answered.await.map_err(|_| ended())?
    }
}

fn ended() -> Error {
    Error::transient("the member's thread has ended: join again")
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Consumed, Error> {
        let call = match self.slot.call() {
            Ok(told) => return told,
            Err(call) => call,
        };
        self.thread.unpark();
        call.told().await.unwrap_or_else(|| Err(ended()))
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.call(|answer| Command::Seek(partition.clone(), offset, answer))
            .await
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.call(|answer| Command::Pause(partition.clone(), answer))
            .await
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.call(|answer| Command::Resume(partition.clone(), answer))
            .await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        self.call(|answer| Command::Commit(offsets.to_vec(), answer))
            .await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        self.call(Command::Leave).await
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.commands = None;
        self.thread.unpark();
    }
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConsumer")
            .field("group", &self.subscription.group)
            .field("member", &self.subscription.member)
            .finish_non_exhaustive()
    }
}
