//! What lies in a partition before the place where an owner goes on: the links of the messages there, without the messages.
//!
//! It is read backwards, a stretch at a time, and each stretch whole: what a broker gives at a time is bounded by bytes, and
//! begins with the oldest. The newest messages are those that say where a chain stands.

use factum_core::{Broker, Error, Link, Message, Timestamp, TopicPartition};

/// How many messages are read at a time.
const STRETCH: u64 = 100;

/// After so many bytes no further stretch is begun. With one of large messages that makes 164 MB at most, of which
/// what the broker gives at a time is held.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A message with a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linked {
    pub(super) offset: u64,
    pub(super) link: Link,
    pub(super) timestamp: Timestamp,
}

/// The links of at most `depth` messages before `low`, and from `first` on, in their order: the last ones, whatever their
/// size.
pub(super) async fn before(
    broker: &dyn Broker,
    partition: &TopicPartition,
    first: u64,
    low: u64,
    depth: u64,
) -> Result<Vec<Linked>, Error> {
    let lowest = low.saturating_sub(depth).max(first);
    let (mut stretches, mut bytes, mut to) = (Vec::new(), 0, low);
    while to > lowest && bytes < BYTES_MAX {
        let from = to.saturating_sub(STRETCH).max(lowest);
        let mut stretch = Vec::new();
        let mut next = from;
        while next < to {
            let limit = usize::try_from(to - next).expect("a stretch is short");
            let messages = broker.read(partition, next, limit).await?;
            let Some(last) = messages.last() else { break };
            next = last.offset + 1;
            bytes += messages.iter().map(Message::size).sum::<usize>();
            let of_stretch = messages.iter().filter(|message| message.offset < to);
            stretch.extend(of_stretch.filter_map(linked));
        }
        stretches.push(stretch);
        to = from;
    }
    Ok(stretches.into_iter().rev().flatten().collect())
}

fn linked(message: &Message) -> Option<Linked> {
    let link = Link::from_headers(|name| message.headers.get(name));
    Some(Linked {
        offset: message.offset,
        link: link.ok().flatten()?,
        timestamp: message.timestamp,
    })
}
