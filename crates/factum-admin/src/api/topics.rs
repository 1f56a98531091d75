//! Topics: what they hold, and publishing to them as a producer in any language would.

use std::collections::{BTreeMap, VecDeque};

use axum::{Json, extract::State, http::StatusCode};
use bytes::Bytes;
use factum::{
    Broker, Error, Headers, Key, Message, Outgoing, Timestamp, Topic, TopicPartition, TopicSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    content::{self, Content, HeaderView, key_text},
    page::{Limit, Reason, limit, reason, weight_of_message},
};
use crate::{
    Admin,
    admin::{Sender, shown},
    web::{FromBody, FromPath, FromQuery, Problem},
};

/// Headers with this prefix are the relay's: they tell duplicates from losses, and who makes them up breaks that.
const OWN_HEADERS: &str = "factum-";
/// How many headers a published message may have.
const HEADERS_MAX: usize = 100;

/// All topics.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TopicList {
    topics: Vec<TopicView>,
}

/// A topic.
#[derive(Debug, Serialize, JsonSchema)]
struct TopicView {
    topic: String,
    partitions: Vec<PartitionView>,
    /// How long messages are kept, in seconds; absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_seconds: Option<u64>,
    /// How many bytes are kept per partition; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_bytes: Option<u64>,
}

/// A partition.
#[derive(Debug, Serialize, JsonSchema)]
struct PartitionView {
    partition: u32,
    /// The oldest offset that is kept.
    first: u64,
    /// The offset that the next message gets.
    end: u64,
}

pub(crate) async fn list(State(admin): State<Admin>) -> Result<Json<TopicList>, Problem> {
    let broker = admin.running().broker();
    let mut topics = Vec::new();
    for spec in broker.topics().await? {
        let mut partitions = Vec::new();
        for partition in 0..spec.partitions {
            let marks = broker
                .watermarks(&TopicPartition::new(spec.topic.clone(), partition))
                .await?;
            partitions.push(PartitionView {
                partition,
                first: marks.first,
                end: marks.end,
            });
        }
        topics.push(TopicView {
            topic: spec.topic.to_string(),
            partitions,
            retention_seconds: spec.retention.map(|kept| kept.as_secs()),
            retention_bytes: spec.retention_bytes,
        });
    }
    Ok(Json(TopicList { topics }))
}

async fn spec(admin: &Admin, name: &str) -> Result<TopicSpec, Problem> {
    let topics = admin.running().broker().topics().await?;
    let known = || {
        topics
            .iter()
            .map(|spec| spec.topic.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = topics
        .iter()
        .find(|spec| spec.topic.as_str() == name)
        .cloned();
    found.ok_or_else(|| {
        Problem::not_found(format!(
            "there is no topic `{}` (known: {})",
            shown(name),
            known()
        ))
    })
}

fn partition(spec: &TopicSpec, asked: u32) -> Result<u32, Problem> {
    if asked < spec.partitions {
        return Ok(asked);
    }
    let TopicSpec {
        topic, partitions, ..
    } = spec;
    Err(Problem::invalid("the partition is not there").field(
        "partition",
        format!("topic `{topic}` has {partitions} partitions, numbered from 0"),
    ))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Only of this partition.
    partition: Option<u32>,
    /// From this offset on; by default from the oldest.
    offset: Option<u64>,
    /// The newest first, and not the oldest.
    #[serde(default)]
    newest: bool,
    /// `next` of the page before: only what comes behind its last messages.
    after: Option<String>,
    /// How many at most.
    #[schemars(with = "Option<Limit>")]
    limit: Option<u64>,
}

/// Messages of a topic.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageList {
    topic: String,
    messages: Vec<MessageView>,
    /// Where the next page begins, to be given as `after`. It is there on the last page too: what comes later is behind
    /// it. Not on that of the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Whether there are more by now.
    more: bool,
}

/// How many messages of a partition are read at a time.
const READ_MAX: usize = 8;

/// A message.
#[derive(Debug, Serialize, JsonSchema)]
struct MessageView {
    partition: u32,
    offset: u64,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    headers: Vec<HeaderView>,
    /// The value; empty for a tombstone.
    value: Content,
}

impl From<&Message> for MessageView {
    fn from(message: &Message) -> Self {
        Self {
            partition: message.partition,
            offset: message.offset,
            timestamp: message.timestamp.to_string(),
            key: key_text(message.key.as_ref()),
            headers: HeaderView::all(&message.headers),
            value: Content::of(message.value.as_ref()),
        }
    }
}

pub(crate) async fn messages(
    State(admin): State<Admin>,
    FromPath(topic): FromPath<String>,
    FromQuery(asked): FromQuery<Asked>,
) -> Result<Json<MessageList>, Problem> {
    let limit = limit(asked.limit)?;
    let spec = spec(&admin, &topic).await?;
    let partitions = match asked.partition {
        Some(asked) => {
            let one = partition(&spec, asked)?;
            one..one + 1
        }
        None => 0..spec.partitions,
    };
    if asked.offset.is_some() && (asked.newest || asked.after.is_some()) {
        return Err(Problem::invalid("there are two places to begin at").field(
            "offset",
            "goes with neither `after` nor `newest`: they say where to begin",
        ));
    }
    let mut room = admin.room(limit);
    let broker = &**admin.running().broker();
    let mut readings = Vec::new();
    for partition in partitions {
        let place = TopicPartition::new(spec.topic.clone(), partition);
        let marks = broker.watermarks(&place).await?;
        let from = match &asked.after {
            // Read backwards from where nothing is yet, it would pass over every place in between.
            Some(cursor) if asked.newest => place_in(cursor, partition)?.min(marks.end),
            Some(cursor) => place_in(cursor, partition)?,
            None if asked.newest => marks.end,
            None => asked.offset.unwrap_or(0),
        };
        readings.push(Reading {
            place,
            back_to: asked.newest.then_some(marks.first),
            from,
            read: VecDeque::new(),
        });
    }
    let (mut messages, mut more) = (Vec::new(), false);
    loop {
        for reading in &mut readings {
            reading.read_on(broker).await?;
        }
        let waiting = readings
            .iter_mut()
            .filter(|reading| !reading.read.is_empty());
        let first = if asked.newest {
            waiting.max_by_key(|reading| reading.first())
        } else {
            waiting.min_by_key(|reading| reading.first())
        };
        let Some(first) = first else {
            break;
        };
        if !room.takes(first.read.front().map_or(0, weight_of_message)) {
            more = true;
            break;
        }
        messages.extend(first.read.pop_front().as_ref().map(MessageView::from));
    }
    let places = readings
        .iter()
        .map(|reading| format!("{}:{}", reading.place.partition, reading.place_of_next()));
    let places = places.collect::<Vec<_>>().join(",");
    Ok(Json(MessageList {
        topic: spec.topic.to_string(),
        messages,
        next: (more || !asked.newest).then_some(places),
        more,
    }))
}

/// Where the page behind `cursor` begins in a partition.
fn place_in(cursor: &str, partition: u32) -> Result<u64, Problem> {
    let place = cursor.split(',').find_map(|place| {
        let (of, offset) = place.split_once(':')?;
        (of.parse() == Ok(partition)).then(|| offset.parse().ok())?
    });
    place.ok_or_else(|| {
        Problem::invalid("the place to go on from can't be right").field(
            "after",
            "pass on `next` of the page before, as it is, and ask for the same partitions",
        )
    })
}

/// A partition that is read on while its messages are shown.
struct Reading {
    place: TopicPartition,
    /// How far back it is read, when the newest come first.
    back_to: Option<u64>,
    /// The offset to read on from; of the newest, those before it.
    from: u64,
    /// In the order in which they are shown.
    read: VecDeque<Message>,
}

impl Reading {
    /// Reads on, when all that was read is shown; then there is nothing more if nothing is read.
    async fn read_on(&mut self, broker: &dyn Broker) -> Result<(), Error> {
        let Some(first) = self.back_to else {
            if self.read.is_empty() {
                self.read = broker.read(&self.place, self.from, READ_MAX).await?.into();
                self.from = self.read.back().map_or(self.from, |last| last.offset + 1);
            }
            return Ok(());
        };
        if self.read.is_empty() {
            let mut search = Search::new(self.from, first);
            while let Some(from) = search.asks() {
                search.hears(broker.read(&self.place, from, READ_MAX).await?);
            }
            (self.read, self.from) = search.into_found();
        }
        Ok(())
    }

    /// Where the next page begins.
    fn place_of_next(&self) -> u64 {
        match (self.read.front(), self.back_to) {
            (None, _) => self.from,
            (Some(next), None) => next.offset,
            (Some(next), Some(_)) => next.offset + 1,
        }
    }

    /// What tells which message of several partitions comes first.
    fn first(&self) -> Option<(Timestamp, u32, u64)> {
        let first = self.read.front()?;
        Some((first.timestamp, first.partition, first.offset))
    }
}

/// The search for the last messages before an offset, by reads that give the first few from an offset on.
///
/// Where offsets are missing, a stretch of them may hold nothing. Then the one before it is twice as long, and one that
/// holds something is halved until all of it can be read: a hole costs as many reads as its length has binary digits, twice.
struct Search {
    /// No message before this is looked for.
    first: u64,
    /// None is left between this and the offset that was asked about.
    end: u64,
    /// The stretch that is looked at reaches from here to `end`.
    from: u64,
    /// What was found in it reaches up to here.
    next: u64,
    found: VecDeque<Message>,
    is_over: bool,
}

impl Search {
    fn new(end: u64, first: u64) -> Self {
        let mut search = Self {
            first,
            end,
            from: end,
            next: end,
            found: VecDeque::new(),
            is_over: end <= first,
        };
        search.look_at(READ_MAX as u64);
        search
    }

    fn look_at(&mut self, offsets: u64) {
        self.from = self.end.saturating_sub(offsets).max(self.first);
        self.next = self.from;
        self.found.clear();
    }

    /// Where to read: at most [`READ_MAX`] messages, or fewer where they are large. `None` when the search is over.
    fn asks(&self) -> Option<u64> {
        (!self.is_over).then_some(self.next)
    }

    /// Takes what was read there.
    fn hears(&mut self, mut few: Vec<Message>) {
        few.retain(|message| message.offset < self.end);
        let length = self.end - self.from;
        let is_short = length <= READ_MAX as u64;
        let last = few.last().map(|last| last.offset);
        self.found.extend(few);
        match last {
            Some(last) if is_short && last + 1 < self.end => self.next = last + 1,
            _ if self.found.is_empty() => {
                self.end = self.from;
                self.is_over = self.end == self.first;
                self.look_at(length.saturating_mul(2));
            }
            _ if is_short => self.is_over = true,
            _ => self.look_at(length.div_ceil(2).max(READ_MAX as u64)),
        }
    }

    /// What was found, newest first, and the offset before which there may be more.
    fn into_found(self) -> (VecDeque<Message>, u64) {
        (self.found.into_iter().rev().collect(), self.from)
    }
}

/// A message to publish: `value` or `value_base64` has to be there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = content::one_of_the_values()))]
pub(crate) struct Publish {
    /// The key, which decides the partition, as Kafka's Java client would. Without one the message is in no order
    /// with any other.
    #[serde(default)]
    key: Option<String>,
    /// The headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The value, when it is JSON. Published as it is written.
    #[serde(default, deserialize_with = "content::present")]
    #[schemars(with = "Option<serde_json::Value>")]
    value: Option<Box<RawValue>>,
    /// The value, whatever it is, in base64.
    #[serde(default)]
    value_base64: Option<String>,
    /// Why, for the audit record.
    #[serde(default)]
    #[schemars(with = "Reason")]
    reason: Option<String>,
}

/// Where a published message is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Published {
    topic: String,
    partition: u32,
    offset: u64,
}

pub(crate) async fn publish(
    State(admin): State<Admin>,
    FromPath(topic): FromPath<String>,
    sender: Sender,
    FromBody(asked): FromBody<Publish>,
) -> Result<(StatusCode, Json<Published>), Problem> {
    let spec = spec(&admin, &topic).await?;
    let value = content::given(asked.value, asked.value_base64.as_deref())?;
    let by = sender.by(reason(asked.reason)?);
    let headers = headers(asked.headers)?;
    let key = asked.key.map(Key::from);
    bounded(&admin, key.as_ref(), &headers, &value)?;
    // A message without a key goes anywhere: by chance, so that no partition gets them all.
    let chance = u32::try_from(admin.env().random() >> 32).unwrap_or(0) % spec.partitions.max(1);
    let partition = key
        .as_ref()
        .map_or(chance, |key| key.partition(spec.partitions));
    let outgoing = Outgoing {
        topic: spec.topic.clone(),
        partition,
        key,
        headers,
        value: Some(value),
        timestamp: admin.env().now(),
    };
    let place = format!("{}/{partition}", spec.topic);
    admin.record_beside("publish", place, by).await?;
    let offset = send(&admin, outgoing).await?;
    let topic: &Topic = &spec.topic;
    Ok((
        StatusCode::CREATED,
        Json(Published {
            topic: topic.to_string(),
            partition,
            offset,
        }),
    ))
}

fn headers(given: BTreeMap<String, String>) -> Result<Headers, Problem> {
    if given.len() > HEADERS_MAX {
        return Err(Problem::invalid("these are too many headers")
            .field("headers", format!("must be at most {HEADERS_MAX}")));
    }
    for name in given.keys() {
        if name.to_ascii_lowercase().starts_with(OWN_HEADERS) {
            return Err(Problem::invalid("a header is not for producers").field(
                format!("headers.{}", shown(name)),
                format!("headers that begin with `{OWN_HEADERS}` are those of relays, which tell losses by them"),
            ));
        }
    }
    Ok(given.into_iter().collect())
}

fn bounded(
    admin: &Admin,
    key: Option<&Key>,
    headers: &Headers,
    value: &Bytes,
) -> Result<(), Problem> {
    let bound = admin.running().broker().capabilities().message_bytes_max;
    let headers: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let size = headers + value.len() + key.map_or(0, |key| key.as_bytes().len());
    if size <= bound {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "message-too-large",
        "The message is too large",
        format!("key, headers and value have {size} bytes, and the broker takes {bound}"),
    ))
}

async fn send(admin: &Admin, outgoing: Outgoing) -> Result<u64, Problem> {
    let mut producer = admin.running().broker().producer().await?;
    producer.send(vec![(0, outgoing)]).await?;
    match producer.reports().await?.into_iter().next() {
        Some(report) => Ok(report.result?),
        None => Err(Problem::unavailable(
            "the broker did not say whether it took the message: look before you try again",
            1,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: [u64; 7] = [3, 4, 5, 1_000_000, 1_000_007, 1_000_020, 9_000_000_000];

    /// It went wrong: each eight offsets of a hole cost a read, and a restore may leave out millions.
    #[test]
    fn a_hole_costs_a_few_reads_and_hides_nothing() {
        let mut reads = 0;
        for (at_a_time, first) in [(READ_MAX, 0), (READ_MAX, 4), (2, 0), (1, 1_000_007)] {
            let (mut seen, mut end) = (Vec::new(), 9_000_000_001);
            loop {
                let mut search = Search::new(end, first);
                while let Some(from) = search.asks() {
                    let there = OFFSETS.into_iter().filter(|offset| *offset >= from);
                    search.hears(there.take(at_a_time).map(message).collect());
                    reads += 1;
                }
                let (found, next) = search.into_found();
                if found.is_empty() {
                    break;
                }
                seen.extend(found.iter().map(|message| message.offset));
                end = next;
            }
            let there = OFFSETS.into_iter().filter(|offset| *offset >= first);
            assert_eq!(seen, there.rev().collect::<Vec<_>>());
        }
        assert!(reads < 4 * 5 * 66, "{reads} reads");
    }

    fn message(offset: u64) -> Message {
        Message {
            topic: Topic::new("orders").unwrap(),
            partition: 0,
            offset,
            timestamp: Timestamp::UNIX_EPOCH,
            key: None,
            headers: Headers::default(),
            value: None,
        }
    }
}
