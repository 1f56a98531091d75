//! One run of a producer: what is sent keeps its order, and ends with the first failure.
//!
//! The library keeps the order of each partition through retries, by numbers that the broker checks, and stops at the first
//! message that the broker refuses. A message never expires alone, which would leave a gap: when the oldest has been on the
//! way for too long, all that are count as failed, and none of those that wait is sent any more.

mod courier;
mod outbox;

use std::{collections::BTreeMap, fmt, sync::Arc, thread::Thread};

use async_trait::async_trait;
use factum_core::{Error, Outgoing, Producer, Report, Topic, TopicPartition};
use rdkafka::{
    config::FromClientConfigAndContext,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord},
    types::RDKafkaErrorCode,
};

use self::{courier::Delivered, outbox::Outbox};
use crate::{
    config,
    desk::{Desk, number, unknown_partition, unknown_topic},
    error::{self, Doing},
    message,
};

/// A producer run on Kafka.
pub(crate) struct KafkaProducer {
    desk: Arc<Desk>,
    outbox: Arc<Outbox>,
    /// The courier has it too, and drops it last: dropping blocks.
    producer: Option<Arc<BaseProducer<Delivered>>>,
    courier: Thread,
}

impl KafkaProducer {
    /// Starts a run.
    pub(crate) async fn start(desk: &Arc<Desk>) -> Result<Self, Error> {
        let outbox = Arc::new(Outbox::new(
            desk.options.in_flight_messages_max,
            desk.options.in_flight_bytes_max,
        ));
        let delivered = Delivered::into(outbox.clone());
        let producer = desk
            .ask(move |desk| {
                BaseProducer::from_config_and_context(&config::producer(&desk.options), delivered)
                    .doing("make a producer")
            })
            .await?;
        let producer = Arc::new(producer);
        let courier = courier::start(producer.clone(), outbox.clone(), desk.options.stall_max)
            .map_err(|error| Error::transient("no thread for a producer").caused_by(error))?;
        Ok(Self {
            desk: desk.clone(),
            outbox,
            producer: Some(producer),
            courier,
        })
    }

    /// The partition counts of the topics that the batch goes to, or why they are not known.
    async fn counts(&self, batch: &[(u64, Outgoing)]) -> BTreeMap<Topic, Result<u32, Error>> {
        let mut counts = BTreeMap::new();
        for (_, message) in batch {
            let topic = &message.topic;
            if counts.contains_key(topic) {
                continue;
            }
            let count = if let Some(count) = self.desk.remembered(topic) {
                Ok(count)
            } else {
                let topic = topic.clone();
                self.desk.ask(move |desk| desk.partitions(&topic)).await
            };
            counts.insert(topic.clone(), count);
        }
        counts
    }

    /// Why a message can't be sent, if so.
    fn refusal(
        &self,
        message: &Outgoing,
        counts: &BTreeMap<Topic, Result<u32, Error>>,
    ) -> Option<Error> {
        let partition = TopicPartition::new(message.topic.clone(), message.partition);
        match counts.get(&message.topic) {
            None => return Some(unknown_topic(&message.topic)),
            Some(Err(error)) => return Some(error.clone()),
            Some(Ok(count)) if message.partition >= *count => {
                return Some(unknown_partition(&partition, *count));
            }
            Some(Ok(_)) => {}
        }
        let (bytes, most) = (message::size(message), self.desk.options.message_bytes_max);
        (bytes > most).then(|| {
            Error::poison(format!(
                "message for `{partition}` has {bytes} bytes, {most} at most"
            ))
        })
    }

    /// Gives a message to the library, which copies it.
    fn hand_over(&self, ticket: usize, message: &Outgoing) -> Result<(), Error> {
        let Some(producer) = &self.producer else {
            return Err(Error::fatal("the producer was dropped"));
        };
        let partition = TopicPartition::new(message.topic.clone(), message.partition);
        let record = BaseRecord::<[u8], [u8], usize> {
            topic: message.topic.as_str(),
            partition: Some(number(&partition)),
            payload: message.value.as_deref(),
            key: message.key.as_ref().map(factum_core::Key::as_bytes),
            timestamp: Some(message.timestamp.as_millis()),
            headers: message::sent_headers(message),
            delivery_opaque: ticket,
        };
        producer.send(record).map_err(|(error, _)| {
            if error == KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition) {
                self.desk.forget(&message.topic);
            }
            error::sorted(&format!("publish to `{partition}`"), error)
        })
    }
}

#[async_trait]
impl Producer for KafkaProducer {
    async fn send(&mut self, batch: Vec<(u64, Outgoing)>) -> Result<(), Error> {
        let bytes: usize = batch
            .iter()
            .map(|(_, message)| message::size(message))
            .sum();
        self.outbox.room(batch.len(), bytes).await?;
        let counts = self.counts(&batch).await;
        // From here on nothing waits: a batch is handed over as a whole, or not at all.
        let mut batch = batch.into_iter();
        while let Some((sequence, message)) = batch.next() {
            let refused = self.refusal(&message, &counts).or_else(|| {
                let ticket = self.outbox.begin(sequence, message::size(&message));
                let handed_over = self.hand_over(ticket, &message);
                handed_over.err().inspect(|_| self.outbox.undo(ticket))
            });
            if let Some(error) = refused {
                let behind = batch.map(|(sequence, _)| sequence);
                let refused = std::iter::once(sequence).chain(behind);
                self.outbox.refuse(refused, &error);
                break;
            }
        }
        self.courier.unpark();
        Ok(())
    }

    async fn reports(&mut self) -> Result<Vec<Report>, Error> {
        Ok(self.outbox.reports().await)
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.producer = None;
        self.outbox.close();
        self.courier.unpark();
    }
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer")
            .field("outbox", &self.outbox)
            .finish_non_exhaustive()
    }
}
