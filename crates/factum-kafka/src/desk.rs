//! Questions to the brokers: topics, offsets and groups. Each blocks until it is answered, so none is asked on the runtime's
//! threads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use factum_core::{
    Error, ErrorClass, Group, GroupMember, Message, Topic, TopicPartition, Watermarks,
};
use rdkafka::{
    TopicPartitionList,
    admin::AdminClient,
    client::DefaultClientContext,
    config::{ClientConfig, FromClientConfigAndContext},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    topic_partition_list::Offset,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use crate::{
    KafkaOptions, assignment, config,
    error::{self, Doing},
    log::Plain,
    reader::Readers,
    verify::Shape,
};

/// What all of an adapter shares: a client to ask with, and what is known of topics.
pub(crate) struct Desk {
    pub(crate) options: KafkaOptions,
    /// `None` while it is dropped.
    clients: Option<Clients>,
    /// How many partitions a topic has. The count of a topic that we use never changes.
    known: Mutex<BTreeMap<Topic, u32>>,
}

struct Clients {
    admin: AdminClient<DefaultClientContext>,
    desk: BaseConsumer<Plain>,
    readers: Readers,
}

/// How many events of a client are looked at after a question: complaints of a few connections.
const EVENTS_MAX: usize = 1024;

/// How long a first answer is waited for before it is looked whether there will be none.
const GREETING: Duration = Duration::from_millis(500);

/// How often brokers that are about to be able to answer are asked again.
const LOOK: Duration = Duration::from_millis(50);

impl Desk {
    /// Makes the clients. Whether anybody answers shows with the first question.
    pub(crate) fn open(options: KafkaOptions) -> Result<Self, Error> {
        config::verify(&options)?;
        let what = format!("use Kafka at `{}`", options.servers.join(","));
        let clients = Clients {
            admin: config::admin(&options).create().doing(&what)?,
            desk: made(&config::desk(&options)).doing(&what)?,
            readers: Readers::default(),
        };
        Ok(Self {
            known: Mutex::default(),
            options,
            clients: Some(clients),
        })
    }

    fn clients(&self) -> &Clients {
        let clients = self.clients.as_ref();
        clients.expect("they go when the desk goes")
    }

    fn client(&self) -> &BaseConsumer<Plain> {
        &self.clients().desk
    }

    pub(crate) fn admin(&self) -> &AdminClient<DefaultClientContext> {
        &self.clients().admin
    }

    /// Asks on a thread that may block.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let desk = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let answer = question(&desk);
            desk.hear();
            answer
        });
        asked
            .await
            .map_err(|error| Error::fatal("a question to Kafka was not asked").caused_by(error))?
    }

    /// Takes what the client says by itself, so that it doesn't pile up; the first complaint that won't pass is returned.
    fn hear(&self) -> Option<KafkaError> {
        let mut first = None;
        for _ in 0..EVENTS_MAX {
            let before = self.client().context().lines();
            match self.client().poll(Duration::ZERO) {
                Some(Err(complaint)) => {
                    let code = complaint.rdkafka_error_code();
                    let stays = code.is_some_and(|code| error::class(code) == ErrorClass::Fatal);
                    first = first.or(stays.then_some(complaint));
                }
                None if self.client().context().lines() == before => break,
                Some(Ok(_)) | None => {}
            }
        }
        first
    }

    /// Whether the brokers answer, and let us in.
    pub(crate) fn greet(&self) -> Result<(), Error> {
        let what = format!("reach Kafka at `{}`", self.options.servers.join(","));
        let mut waited = Duration::ZERO;
        let error = loop {
            // A topic that nobody has: its answer is short, however many topics there are.
            let Err(error) = self.client().fetch_metadata(Some("factum"), GREETING) else {
                return Ok(());
            };
            waited += GREETING;
            // The answer says that there was none; the client's own complaints say why.
            match self.hear() {
                Some(refused) => break refused,
                None if waited >= self.options.patience => break error,
                None => {}
            }
        };
        let error = error::sorted(&what, error);
        Err(match self.client().context().complaint.take() {
            Some(complaint) => {
                let why = format!("{error} ({complaint})");
                error::of(error.class(), why).caused_by(error)
            }
            None => error,
        })
    }

    /// The topic as the brokers have it; `None` when they have none of that name.
    pub(crate) fn shape(&self, topic: &Topic) -> Result<Option<Shape>, Error> {
        let what = format!("look at topic `{topic}`");
        let metadata = self
            .client()
            .fetch_metadata(Some(topic.as_str()), self.options.patience)
            .doing(&what)?;
        let mut found = metadata.topics().iter();
        let Some(found) = found.find(|found| found.name() == topic.as_str()) else {
            return Ok(None);
        };
        match found.error() {
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
            ) => return Ok(None),
            Some(error) => return Err(error::sorted_code(&what, error.into())),
            None => {}
        }
        let partitions = found.partitions();
        let copies = partitions
            .iter()
            .map(|partition| partition.replicas().len());
        Ok(Some(Shape {
            partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            copies: copies.min().unwrap_or(0),
            led: partitions.iter().all(|partition| partition.leader() >= 0),
        }))
    }

    /// All topics but the brokers' own, with their partition counts.
    pub(crate) fn all_topics(&self) -> Result<Vec<(Topic, u32)>, Error> {
        let metadata = self.client().fetch_metadata(None, self.options.patience);
        let metadata = metadata.doing("list the topics")?;
        let topics = metadata.topics().iter();
        let topics =
            topics.filter(|topic| topic.error().is_none() && !topic.name().starts_with("__"));
        let mut topics: Vec<_> = topics
            .filter_map(|topic| {
                let partitions = u32::try_from(topic.partitions().len()).ok()?;
                Some((Topic::new(topic.name()).ok()?, partitions))
            })
            .collect();
        topics.sort_unstable();
        Ok(topics)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Topic, u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember(&self, topic: &Topic, partitions: u32) {
        self.known().insert(topic.clone(), partitions);
    }

    /// Looks the topic up anew when it is next asked for.
    pub(crate) fn forget(&self, topic: &Topic) {
        self.known().remove(topic);
    }

    /// The partition count, if it is known without asking.
    pub(crate) fn remembered(&self, topic: &Topic) -> Option<u32> {
        self.known().get(topic).copied()
    }

    /// The partition count of a topic, asked for once.
    pub(crate) fn partitions(&self, topic: &Topic) -> Result<u32, Error> {
        if let Some(partitions) = self.remembered(topic) {
            return Ok(partitions);
        }
        let shape = self.shape(topic)?.ok_or_else(|| unknown_topic(topic))?;
        self.remember(topic, shape.partitions);
        Ok(shape.partitions)
    }

    /// # Errors
    ///
    /// Class fatal when there is no such partition.
    pub(crate) fn verify_known(&self, partition: &TopicPartition) -> Result<(), Error> {
        let partitions = self.partitions(&partition.topic)?;
        if partition.partition < partitions {
            return Ok(());
        }
        Err(unknown_partition(partition, partitions))
    }

    /// Asks again while the brokers are about to be able to answer.
    fn patiently<T>(&self, ask: impl Fn(&BaseConsumer<Plain>) -> KafkaResult<T>) -> KafkaResult<T> {
        let mut waited = Duration::ZERO;
        loop {
            match ask(self.client()) {
                Err(error) if error::is_moving(&error) && waited < self.options.patience => {
                    // Waits, too.
                    drop(self.client().poll(LOOK));
                    waited += LOOK;
                }
                asked => return asked,
            }
        }
    }

    /// The offsets that a partition holds.
    pub(crate) fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.verify_known(partition)?;
        let what = format!("ask for the offsets of `{partition}`");
        let asked = self.patiently(|client| {
            client.fetch_watermarks(
                partition.topic.as_str(),
                number(partition),
                self.options.patience,
            )
        });
        let (first, end) = asked.map_err(|error| {
            // Whatever it was, the topic may be another one by now.
            self.forget(&partition.topic);
            error::sorted(&what, error)
        })?;
        Ok(Watermarks {
            first: u64::try_from(first).unwrap_or(0),
            end: u64::try_from(end).unwrap_or(0),
        })
    }

    /// Messages of a partition, outside of any group.
    pub(crate) fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let kept = self.watermarks(partition)?;
        let offset = offset.max(kept.first);
        if offset >= kept.end || limit == 0 {
            return Ok(Vec::new());
        }
        self.clients()
            .readers
            .read(&self.options, partition, offset..kept.end, limit)
    }

    /// The members of a group and what they are assigned.
    pub(crate) fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        let what = format!("ask for the members of group `{group}`");
        let listed = self.patiently(|client| {
            client.fetch_group_list(Some(group.as_str()), self.options.patience)
        });
        let listed = match listed {
            Ok(listed) => listed,
            Err(KafkaError::GroupListFetch(RDKafkaErrorCode::GroupIdNotFound)) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error::sorted(&what, error)),
        };
        let Some(found) = listed
            .groups()
            .iter()
            .find(|found| found.name() == group.as_str())
        else {
            return Ok(Vec::new());
        };
        // What the brokers list, and call dead when they are asked about it, is of a kind that they don't tell this request.
        if found.members().is_empty() && found.state() == "Dead" {
            return Err(Error::fatal(format!(
                "failed to {what}: its partitions are shared out by the broker (`group.protocol=consumer`), and this client can ask \
                 only for members of the classic protocol; `kafka-consumer-groups.sh --describe --members` shows them"
            )));
        }
        let members = found.members().iter().map(|member| GroupMember {
            member: member.client_id().to_owned(),
            // While the group is rebalancing, nobody is assigned anything.
            partitions: member
                .assignment()
                .and_then(assignment::read)
                .unwrap_or_default(),
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by(|a, b| (&a.member, &a.partitions).cmp(&(&b.member, &b.partitions)));
        Ok(members)
    }

    /// The offsets that a group told the brokers. Kafka is asked for each partition that there is: which ones a group has
    /// spoken of is nothing that this client can ask.
    pub(crate) fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        let mut list = TopicPartitionList::new();
        let topics = self.all_topics()?;
        for (topic, partitions) in &topics {
            for partition in 0..*partitions {
                list.add_partition(topic.as_str(), i32::try_from(partition).unwrap_or(i32::MAX));
            }
        }
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let what = format!("ask for the offsets of group `{group}`");
        let client = made(&config::outsider(&self.options, group.as_str())).doing(&what)?;
        let told = client
            .committed_offsets(list, self.options.patience)
            .doing(&what)?;
        let mut offsets: Vec<_> = told
            .elements()
            .iter()
            .filter_map(|told| {
                let Offset::Offset(offset) = told.offset() else {
                    return None;
                };
                let partition = u32::try_from(told.partition()).ok()?;
                let partition = TopicPartition::new(Topic::new(told.topic()).ok()?, partition);
                Some((partition, u64::try_from(offset).ok()?))
            })
            .collect();
        offsets.sort_unstable();
        Ok(offsets)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let clients = self.clients.take();
        // Clients end their threads when they are dropped, and wait for them: not here, where a runtime may wait too.
        let ending = std::thread::Builder::new().name("kafka-end".to_owned());
        drop(ending.spawn(move || drop(clients)));
    }
}

/// A client that reads, or asks.
pub(crate) fn made(config: &ClientConfig) -> Result<BaseConsumer<Plain>, KafkaError> {
    BaseConsumer::from_config_and_context(config, Plain::default())
}

/// The partition's number, as the library counts.
pub(crate) fn number(partition: &TopicPartition) -> i32 {
    i32::try_from(partition.partition).unwrap_or(i32::MAX)
}

pub(crate) fn unknown_topic(topic: &Topic) -> Error {
    Error::fatal(format!(
        "unknown topic `{topic}`: make it with `ensure_topic` first"
    ))
}

pub(crate) fn unknown_partition(partition: &TopicPartition, partitions: u32) -> Error {
    Error::fatal(format!(
        "topic `{}` has no partition {}: it has {partitions}, counted from 0",
        partition.topic, partition.partition
    ))
}
