//! What a member of a group is assigned, out of the bytes in which members tell each other.

use factum_core::{Topic, TopicPartition};

/// The partitions that Kafka's consumer protocol writes as: version, topics with their partitions, bytes of the user's.
/// `None` when that is not what the bytes are.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    let mut rest = Bytes(bytes);
    rest.number::<2>()?;
    let mut partitions = Vec::new();
    for _ in 0..rest.number::<4>()? {
        let name = rest.number::<2>()?;
        let topic = Topic::new(str::from_utf8(rest.take(name)?).ok()?).ok()?;
        for _ in 0..rest.number::<4>()? {
            let partition = u32::try_from(rest.number::<4>()?).ok()?;
            partitions.push(TopicPartition::new(topic.clone(), partition));
        }
    }
    partitions.sort_unstable();
    Some(partitions)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `N` bytes; lengths and partitions are never negative.
    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(N)?;
        if bytes.first()? & 0x80 != 0 {
            return None;
        }
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_anything_else_refused() {
        let mut bytes = vec![0, 3, 0, 0, 0, 1, 0, 6];
        bytes.extend_from_slice(b"orders");
        bytes.extend_from_slice(&[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff]);

        let orders = |partition| TopicPartition::new(Topic::of("orders"), partition);
        assert_eq!(read(&bytes), Some(vec![orders(4), orders(256)]));
        for cut in 0..bytes.len() - 4 {
            assert_eq!(read(&bytes[..cut]), None, "cut at {cut}");
        }
        bytes[10] = 0xff;
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn who_has_nothing_is_assigned_nothing() {
        assert_eq!(read(&[0, 0, 0, 0, 0, 0]), Some(Vec::new()));
    }
}
