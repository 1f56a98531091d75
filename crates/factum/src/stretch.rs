//! A stretch of a partition, read whole.
//!
//! What a broker gives at a time is bounded by bytes, and begins with the oldest: whoever asks for the last messages and
//! takes what comes first has not seen the last ones, if they are large.

use factum_core::{Broker, Error, Message, TopicPartition};

/// Shows each message of a partition from offset `from` on, and before `to`, in their order.
pub(crate) async fn read_stretch(
    broker: &dyn Broker,
    partition: &TopicPartition,
    from: u64,
    to: u64,
    mut each: impl FnMut(&Message) + Send,
) -> Result<(), Error> {
    let mut next = from;
    while next < to {
        let limit = usize::try_from(to - next).unwrap_or(usize::MAX);
        let messages = broker.read(partition, next, limit).await?;
        let Some(last) = messages.last() else { break };
        next = last.offset + 1;
        messages
            .iter()
            .filter(|message| message.offset < to)
            .for_each(&mut each);
    }
    Ok(())
}
