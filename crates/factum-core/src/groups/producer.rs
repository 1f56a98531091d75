//! The producer of an embedded broker: it keeps its order, counts what is on the way and dies with its first failure.

use std::{
    collections::VecDeque,
    fmt,
    future::{poll_fn, ready},
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;

use super::{
    Appending, TopicLog,
    broker::{Shared, outgoing_size},
};
use crate::{Error, Outgoing, Producer, Report};

/// How many messages of one producer may be on the way.
///
/// A batch of the relay has some hundreds; this leaves room for a few of them while the first is being synced.
pub const IN_FLIGHT_MESSAGES_MAX: usize = 4096;

/// How many bytes of messages of one producer may be on the way: at 500 bytes each, the bound above is reached first.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A producer run over a [`TopicLog`].
pub(super) struct LogProducer<L> {
    shared: Arc<Shared<L>>,
    /// What was handed over, in order.
    under_way: VecDeque<UnderWay>,
    in_flight: Amount,
    reports: VecDeque<Report>,
    failed: Option<Error>,
    /// Set while the log takes over a batch: still set at the next call if that was cancelled.
    handing_over: bool,
}

struct UnderWay {
    sequences: Vec<u64>,
    bytes: usize,
    outcome: Appending,
}

/// So many messages, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    messages: usize,
    bytes: usize,
}

impl Amount {
    /// Whether this much more may be on the way. A batch above the bound goes alone.
    fn has_room_for(self, more: Self) -> bool {
        self.messages == 0
            || self.messages + more.messages <= IN_FLIGHT_MESSAGES_MAX
                && self.bytes + more.bytes <= IN_FLIGHT_BYTES_MAX
    }
}

impl<L: TopicLog> LogProducer<L> {
    pub(super) fn new(shared: Arc<Shared<L>>) -> Self {
        Self {
            shared,
            under_way: VecDeque::new(),
            in_flight: Amount::default(),
            reports: VecDeque::new(),
            failed: None,
            handing_over: false,
        }
    }

    /// Turns outcomes that are there into reports, oldest first, until `enough` or one is not there yet.
    fn poll_outcomes(
        &mut self,
        context: &mut Context<'_>,
        enough: impl Fn(&Self) -> bool,
    ) -> Poll<()> {
        while let Some(oldest) = self.under_way.front_mut() {
            let Poll::Ready(outcome) = oldest.outcome.as_mut().poll(context) else {
                break;
            };
            let (sequences, bytes) = (std::mem::take(&mut oldest.sequences), oldest.bytes);
            self.under_way.pop_front();
            self.in_flight.messages -= sequences.len();
            self.in_flight.bytes -= bytes;
            match outcome {
                Ok(offsets) => {
                    let reports = sequences.into_iter().zip(offsets);
                    self.reports
                        .extend(reports.map(|(sequence, offset)| Report {
                            sequence,
                            result: Ok(offset),
                        }));
                }
                Err(error) => {
                    self.failed.get_or_insert_with(|| error.clone());
                    let reports = sequences.into_iter();
                    self.reports.extend(reports.map(|sequence| Report {
                        sequence,
                        result: Err(error.clone()),
                    }));
                }
            }
        }
        if enough(self) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn push(&mut self, sequences: Vec<u64>, bytes: usize, outcome: Appending) {
        if !sequences.is_empty() {
            self.in_flight.messages += sequences.len();
            self.in_flight.bytes += bytes;
            self.under_way.push_back(UnderWay {
                sequences,
                bytes,
                outcome,
            });
        }
    }

    fn verify_alive(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error
                .clone()
                .while_("a producer that has failed sends no more: make a new one")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl<L: TopicLog> Producer for LogProducer<L> {
    async fn send(&mut self, batch: Vec<(u64, Outgoing)>) -> Result<(), Error> {
        if std::mem::take(&mut self.handing_over) {
            self.failed = Some(Error::unknown(
                "an earlier `send` was cancelled on the way to the log",
            ));
        }
        self.verify_alive()?;
        let more = Amount {
            messages: batch.len(),
            bytes: batch
                .iter()
                .map(|(_, message)| outgoing_size(message))
                .sum(),
        };
        poll_fn(|context| {
            self.poll_outcomes(context, |this| {
                this.in_flight.has_room_for(more) || this.failed.is_some()
            })
        })
        .await;
        self.verify_alive()?;

        let (mut sequences, mut messages) = (
            Vec::with_capacity(more.messages),
            Vec::with_capacity(more.messages),
        );
        let (mut refused, mut refusal) = (Vec::new(), None);
        for (sequence, message) in batch {
            // What comes behind a message that can't be appended isn't either, or the order would break.
            refusal = refusal.or_else(|| self.shared.refusal(&message));
            if refusal.is_some() {
                refused.push(sequence);
            } else {
                sequences.push(sequence);
                messages.push(message);
            }
        }
        if !messages.is_empty() {
            self.handing_over = true;
            let appending = self.shared.log.append(messages).await;
            self.handing_over = false;
            match appending {
                Ok(outcome) => self.push(sequences, more.bytes, outcome),
                Err(error) => {
                    self.failed = Some(error.clone());
                    self.push(sequences, 0, Box::pin(ready(Err(error))));
                }
            }
        }
        if let Some(error) = refusal {
            self.failed.get_or_insert_with(|| error.clone());
            self.push(refused, 0, Box::pin(ready(Err(error))));
        }
        Ok(())
    }

    async fn reports(&mut self) -> Result<Vec<Report>, Error> {
        poll_fn(|context| {
            self.poll_outcomes(context, |this| {
                !this.reports.is_empty() || this.under_way.is_empty()
            })
        })
        .await;
        if !self.reports.is_empty() {
            // Before the reports are taken: if this is cancelled, they come with the next call.
            self.shared.sweep_if_due().await;
        }
        Ok(self.reports.drain(..).collect())
    }
}

impl<L> fmt::Debug for LogProducer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogProducer")
            .field("in_flight", &self.in_flight)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
