//! What a memory broker leaves behind when it stops: topics, messages and committed offsets.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{Group, Message, Topic, TopicPartition, TopicSpec};

/// The topics of a memory broker, which survive it. Clones are handles of one disk.
#[derive(Clone, Default)]
pub struct MemoryTopicsDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) topics: BTreeMap<Topic, TopicContent>,
    pub(super) offsets: BTreeMap<Group, BTreeMap<TopicPartition, u64>>,
    /// How often it was opened: only the broker that did so last may use it.
    pub(super) opened: u64,
}

#[derive(Debug)]
pub(super) struct TopicContent {
    pub(super) spec: TopicSpec,
    pub(super) partitions: Vec<Partition>,
}

/// A partition: offsets are dense, so a message's place follows from its offset.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) first: u64,
    pub(super) messages: VecDeque<Message>,
    pub(super) bytes: u64,
}

impl Partition {
    pub(super) fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }
}

impl MemoryTopicsDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        // Each change is made in one go after everything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryTopicsDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content();
        let topics = content
            .topics
            .iter()
            .map(|(topic, content)| (topic, content.partitions.len()));
        f.debug_map().entries(topics).finish()
    }
}
