//! A producer behind a plan of faults: messages that are lost, doubled, swapped, or reported late or wrongly.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::Arc,
};

use async_trait::async_trait;
use factum_core::{Error, Outgoing, Producer, Report};
use futures_util::future::{Either, select, select_all};

use super::{
    Call, Faults, Gate,
    plan::{Begun, answer},
    rule::Fault,
};

/// A producer run of one node.
#[derive(Debug)]
pub(super) struct FaultyProducer {
    inner: Box<dyn Producer>,
    node: Arc<str>,
    faults: Faults,
    /// The inner producer's own numbers: a message that is sent twice has two of them.
    next: u64,
    /// What is on the way, by these numbers. The second of two is not here, and its report is nobody's.
    sent: BTreeMap<u64, Sent>,
    /// Reports that nobody has heard yet.
    ready: VecDeque<Report>,
    /// Reports that are heard when their gates are open.
    late: Vec<(Vec<Gate>, Report)>,
    /// A failure was reported: nothing more is sent.
    failed: Option<Error>,
}

#[derive(Debug)]
struct Sent {
    /// The sender's number.
    sequence: u64,
    /// Where it goes, in words.
    subject: String,
    /// What is reported in place of what happened.
    told: Option<Error>,
}

/// A message that is being handed over.
struct Handed {
    sequence: u64,
    outgoing: Outgoing,
    begun: Begun,
}

impl Handed {
    fn has_partition_of(&self, other: &Self) -> bool {
        let (own, other) = (&self.outgoing, &other.outgoing);
        own.topic == other.topic && own.partition == other.partition
    }
}

impl FaultyProducer {
    pub(super) fn new(inner: Box<dyn Producer>, node: Arc<str>, faults: Faults) -> Self {
        Self {
            inner,
            node,
            faults,
            next: 0,
            sent: BTreeMap::new(),
            ready: VecDeque::new(),
            late: Vec::new(),
            failed: None,
        }
    }

    /// Asks what becomes of a message. Each has a fate of its own, and the hook between any two.
    async fn take_up(&mut self, sequence: u64, outgoing: Outgoing) -> Handed {
        let begun = self
            .faults
            .begin(&self.node, Call::Send, subject(&outgoing));
        self.faults.before(&begun).await;
        Handed {
            sequence,
            outgoing,
            begun,
        }
    }

    /// Hands over one message.
    async fn hand_over(&mut self, handed: Handed) -> Result<(), Error> {
        let Handed {
            sequence,
            outgoing,
            begun,
        } = handed;
        let subject = subject(&outgoing);
        let (copies, told) = match &begun.fault {
            Some(Fault::Fails(error)) => {
                self.ready.push_back(Report {
                    sequence,
                    result: Err(error.clone()),
                });
                (0, None)
            }
            Some(Fault::Loses(error)) => (1, Some(error.clone())),
            Some(Fault::Twice) => (2, None),
            _ => (1, None),
        };
        let mut sent = Some(Sent {
            sequence,
            subject,
            told,
        });
        let mut result = Ok(());
        for _ in 0..copies {
            self.next += 1;
            if let Some(sent) = sent.take() {
                self.sent.insert(self.next, sent);
            }
            result = self.inner.send(vec![(self.next, outgoing.clone())]).await;
            if result.is_err() {
                break;
            }
        }
        self.faults.after(&begun, answer(&result)).await;
        result
    }

    /// Takes over what the inner producer reports.
    fn hear(&mut self, report: Report) {
        let Some(sent) = self.sent.remove(&report.sequence) else {
            return;
        };
        let mut begun = self.faults.begin(&self.node, Call::Report, sent.subject);
        let told = match &begun.fault {
            Some(Fault::Fails(error) | Fault::Loses(error)) => Some(error.clone()),
            _ => sent.told,
        };
        let result = told.map_or(report.result, Err);
        let report = Report {
            sequence: sent.sequence,
            result,
        };
        let gates = begun.take_gates();
        if gates.is_empty() {
            self.ready.push_back(report);
        } else {
            self.late.push((gates, report));
        }
    }

    /// Lets those reports be heard whose gates are open by now.
    fn let_through(&mut self) {
        let late = std::mem::take(&mut self.late);
        for (gates, report) in late {
            if gates.iter().all(Gate::is_open) {
                self.ready.push_back(report);
            } else {
                self.late.push((gates, report));
            }
        }
    }
}

#[async_trait]
impl Producer for FaultyProducer {
    async fn send(&mut self, batch: Vec<(u64, Outgoing)>) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error
                .clone()
                .while_("a producer that has failed sends no more: make a new one"));
        }
        // One that changes places with the next.
        let mut behind: Option<Handed> = None;
        for (sequence, outgoing) in batch {
            let next = self.take_up(sequence, outgoing).await;
            let held = match behind.take() {
                Some(first) if first.has_partition_of(&next) => {
                    self.hand_over(first).await?;
                    None
                }
                held => held,
            };
            if held.is_none() && matches!(next.begun.fault, Some(Fault::Swaps)) {
                behind = Some(next);
                continue;
            }
            self.hand_over(next).await?;
            if let Some(first) = held {
                self.hand_over(first).await?;
            }
        }
        match behind {
            Some(last) => self.hand_over(last).await,
            None => Ok(()),
        }
    }

    async fn reports(&mut self) -> Result<Vec<Report>, Error> {
        loop {
            self.let_through();
            if !self.ready.is_empty() {
                let reports: Vec<_> = self.ready.drain(..).collect();
                let failure = reports
                    .iter()
                    .find_map(|report| report.result.as_ref().err());
                self.failed = self.failed.take().or_else(|| failure.cloned());
                return Ok(reports);
            }
            let heard = if self.late.is_empty() {
                self.inner.reports().await?
            } else {
                let gates = self
                    .late
                    .iter()
                    .flat_map(|(gates, _)| gates)
                    .filter(|gate| !gate.is_open());
                let opened = pin!(select_all(gates.map(|gate| Box::pin(gate.passed()))));
                if self.sent.is_empty() {
                    opened.await;
                    continue;
                }
                match select(opened, self.inner.reports()).await {
                    Either::Left(_) => continue,
                    Either::Right((heard, _)) => heard?,
                }
            };
            if heard.is_empty() {
                // Nothing is on the way; what the inner producer refused to send will never be reported.
                self.sent.clear();
                if self.late.is_empty() {
                    return Ok(Vec::new());
                }
            }
            for report in heard {
                self.hear(report);
            }
        }
    }
}

/// A message in words: where it goes, and its key.
fn subject(outgoing: &Outgoing) -> String {
    let Outgoing {
        topic,
        partition,
        key,
        ..
    } = outgoing;
    match key {
        Some(key) => format!("{topic}/{partition} {key}"),
        None => format!("{topic}/{partition} (no key)"),
    }
}
