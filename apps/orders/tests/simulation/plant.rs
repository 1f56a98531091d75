//! Worlds that are wrong on purpose, each in one way: what the checkers are for must be found in them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use factum::{
    Broker, BrokerCapabilities, Commit, Consumer, Error, Group, GroupMember, Input, Message,
    Outgoing, Producer, ProjectionName, Report, Subscription, TopicPartition, TopicSpec, ViewWrite,
    Watermarks,
};
use factum_sim::{Meddler, unguarded};

/// How often a planted fault happens: at each n-th chance.
const EVERY: u64 = 5;

/// What is wrong with the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The gateway forgets which charges it has made.
    ForgetfulGateway,
    /// The store loses the last record of a commit.
    LostRecord,
    /// The store writes a record of a commit twice.
    DoubledRecord,
    /// The store keeps the effects of a message and forgets that it was handled.
    ForgottenInput,
    /// The store handles a message and loses its effects.
    LostEffects,
    /// The store loses rows of views.
    LostRow,
    /// The store takes a projection's checkpoint for rows that it doesn't have yet, and writes them with the next.
    LateRow,
    /// The stores let an owner write that has been followed by another.
    ZombieOwner,
    /// The broker puts a message in front of the one before it.
    Reordered,
    /// The broker loses a message and says that it has it.
    LostMessage,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::ForgetfulGateway,
        Self::LostRecord,
        Self::DoubledRecord,
        Self::ForgottenInput,
        Self::LostEffects,
        Self::LostRow,
        Self::LateRow,
        Self::ZombieOwner,
        Self::Reordered,
        Self::LostMessage,
    ];

    /// The plant of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|plant| format!("{plant:?}") == name)
    }

    /// What changes commits on their way into one store, if this is about stores.
    pub(crate) fn meddler(self) -> Option<Meddler> {
        let chances = AtomicU64::new(0);
        let now = move || chances.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1;
        Some(match self {
            Self::LostRecord => Arc::new(move |commit: &mut Commit| {
                let append = commit.appends.last_mut();
                if let Some(append) = append.filter(|append| append.drafts.len() > 1)
                    && now()
                {
                    append.drafts.pop();
                }
            }),
            Self::DoubledRecord => Arc::new(move |commit: &mut Commit| {
                if let Some(append) = commit.appends.last_mut()
                    && now()
                {
                    append.drafts.extend_from_within(..1);
                }
            }),
            Self::ForgottenInput => Arc::new(move |commit: &mut Commit| {
                if matches!(commit.input, Input::Message(_)) && now() {
                    commit.input = Input::None;
                }
            }),
            Self::LostEffects => Arc::new(move |commit: &mut Commit| {
                if matches!(commit.input, Input::Message(_)) && !commit.appends.is_empty() && now()
                {
                    commit.appends.clear();
                }
            }),
            Self::LostRow => Arc::new(move |commit: &mut Commit| {
                let put = |write: &ViewWrite| matches!(write, ViewWrite::Put { .. });
                if commit.views.iter().any(put) && now() {
                    commit.views.retain(|write| !put(write));
                }
            }),
            Self::LateRow => {
                let held: Mutex<BTreeMap<ProjectionName, Vec<ViewWrite>>> = Mutex::default();
                Arc::new(move |commit: &mut Commit| {
                    let Input::Log(input) = &commit.input else {
                        return;
                    };
                    let put = |write: &mut ViewWrite| matches!(write, ViewWrite::Put { .. });
                    let now: Vec<_> = commit.views.extract_if(.., put).collect();
                    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = held.insert(input.projection.clone(), now);
                    commit.views.extend(before.unwrap_or_default());
                })
            }
            Self::ZombieOwner => unguarded(),
            Self::ForgetfulGateway | Self::Reordered | Self::LostMessage => return None,
        })
    }
}

/// A broker that a plant has spoilt.
#[derive(Debug)]
pub(crate) struct SpoiltBroker {
    pub(crate) inner: Arc<dyn Broker>,
    pub(crate) plant: Plant,
}

#[derive(Debug)]
struct SpoiltProducer {
    inner: Box<dyn Producer>,
    plant: Plant,
    chances: u64,
    /// The message that the next one overtakes.
    held: Option<(u64, Outgoing)>,
    reports: Vec<Report>,
}

#[async_trait]
impl Producer for SpoiltProducer {
    async fn send(&mut self, batch: Vec<(u64, Outgoing)>) -> Result<(), Error> {
        for (sequence, outgoing) in batch {
            self.chances += 1;
            if let Some(held) = self.held.take() {
                self.inner.send(vec![(sequence, outgoing), held]).await?;
                continue;
            }
            let now = self.chances % EVERY == EVERY - 1;
            match self.plant {
                Plant::Reordered if now => self.held = Some((sequence, outgoing)),
                Plant::LostMessage if now => self.reports.push(Report {
                    sequence,
                    result: Ok(self.chances),
                }),
                _ => self.inner.send(vec![(sequence, outgoing)]).await?,
            }
        }
        Ok(())
    }

    async fn reports(&mut self) -> Result<Vec<Report>, Error> {
        if let Some(held) = self.held.take() {
            self.inner.send(vec![held]).await?;
        }
        if !self.reports.is_empty() {
            return Ok(std::mem::take(&mut self.reports));
        }
        let mut reports = self.inner.reports().await?;
        if self.plant == Plant::Reordered {
            // It says that all went well: in the order of the sender, at offsets that grow.
            reports.sort_by_key(|report| report.sequence);
            let mut offsets: Vec<_> = reports
                .iter()
                .filter_map(|report| report.result.clone().ok())
                .collect();
            offsets.sort_unstable();
            for (report, offset) in reports.iter_mut().zip(offsets) {
                report.result = Ok(offset);
            }
        }
        Ok(reports)
    }
}

#[async_trait]
impl Broker for SpoiltBroker {
    fn capabilities(&self) -> BrokerCapabilities {
        self.inner.capabilities()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        self.inner.ensure_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        self.inner.topics().await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.inner.watermarks(partition).await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        self.inner.read(partition, offset, limit).await
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(SpoiltProducer {
            inner: self.inner.producer().await?,
            plant: self.plant,
            chances: 0,
            held: None,
            reports: Vec::new(),
        }))
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        self.inner.join(subscription).await
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        self.inner.members(group).await
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        self.inner.committed(group).await
    }
}
