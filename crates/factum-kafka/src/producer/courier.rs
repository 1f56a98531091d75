//! The thread of a producer run: it hears what became of messages, and gives them up when nothing comes for too long.

use std::{
    io,
    sync::Arc,
    thread::{self, Thread},
    time::Duration,
};

use factum_core::Error;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Message},
    producer::{BaseProducer, Producer, ProducerContext, PurgeConfig},
};

use super::outbox::Outbox;
use crate::{
    error,
    log::{self, Complaint},
};

/// How long the library is listened to at a time; a failure is acted upon no later.
const SLICE: Duration = Duration::from_millis(20);

/// How long the thread sleeps when nothing is on the way: the library's log lines are taken that often.
const NAP: Duration = Duration::from_secs(1);

/// Puts into the outbox what became of each message.
pub(super) struct Delivered {
    outbox: Arc<Outbox>,
    complaint: Complaint,
}

impl Delivered {
    pub(super) fn into(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            complaint: Complaint::default(),
        }
    }
}

impl ClientContext for Delivered {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        log::note(&self.complaint, level, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::Fatal) {
            // The run is over; the next one may do better.
            self.outbox.fail(Error::unknown(format!(
                "the producer has stopped: {reason}"
            )));
        }
        log::note(&self.complaint, RDKafkaLogLevel::Info, reason);
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, ticket: usize) {
        let place = |message: &rdkafka::message::BorrowedMessage<'_>| {
            format!("publish to `{}/{}`", message.topic(), message.partition())
        };
        let result = match delivered {
            Ok(message) => u64::try_from(message.offset()).map_err(|_| {
                let what = place(message);
                Error::unknown(format!(
                    "failed to {what}: it was appended, and nobody knows where"
                ))
            }),
            Err((error, message)) => Err(error::sorted(&place(message), error.clone())),
        };
        self.outbox.settle(ticket, result);
    }
}

/// Starts the thread. It ends, and drops the producer, when the outbox is closed.
pub(super) fn start(
    producer: Arc<BaseProducer<Delivered>>,
    outbox: Arc<Outbox>,
    stall_max: Duration,
) -> io::Result<Thread> {
    let thread = thread::Builder::new().name("kafka-producer".to_owned());
    let started = thread.spawn(move || listen(&producer, &outbox, stall_max))?;
    Ok(started.thread().clone())
}

fn listen(producer: &BaseProducer<Delivered>, outbox: &Outbox, stall_max: Duration) {
    let (mut oldest, mut waited) = (None, Duration::ZERO);
    loop {
        let look = outbox.look();
        if look.purge {
            // What is with the broker already has its fate still to come.
            producer.purge(PurgeConfig::default().queue());
        }
        if look.closed {
            return;
        }
        if look.oldest.is_none() {
            producer.poll(Duration::ZERO);
            thread::park_timeout(NAP);
            continue;
        }
        if look.oldest != oldest {
            (oldest, waited) = (look.oldest, Duration::ZERO);
        }
        producer.poll(SLICE);
        waited += SLICE;
        if waited >= stall_max && outbox.look().oldest == oldest {
            outbox.give_up(&Error::unknown(format!(
                "the brokers have said nothing of a message for {stall_max:?}: it may be appended or not"
            )));
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    }
}
