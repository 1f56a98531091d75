//! Partition keys, and the partition that a key belongs to.
//!
//! Keys are hashed as Kafka's Java client does it (murmur2, seed `0x9747b28c`, sign bit cleared, modulo
//! the partition count), so that our events and a Java, Python or Go producer's land together. The
//! algorithm is `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner`.

use std::fmt;

use bytes::Bytes;

/// What decides a message's partition and its place in order: events of one key keep their order.
///
/// A key is bytes, as in Kafka. Ours are texts; those of foreign producers may be anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The key as text, when it is UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The partition of this key in a topic of `partitions` partitions.
    ///
    /// ```
    /// use factum_core::Key;
    /// assert_eq!(Key::from("user-1").partition(1), 0);
    /// ```
    pub fn partition(&self, partitions: u32) -> u32 {
        (murmur2(&self.0) & 0x7fff_ffff) % partitions.max(1)
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// As text; bytes that are not UTF-8 are shown as `\xNN`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.to_string().escape_debug())
    }
}

/// Austin Appleby's `MurmurHash2` (32 bits) with the seed of Kafka's Java client.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    const SEED: u32 = 0x9747_b28c;
    let (chunks, rest) = data.as_chunks::<4>();
    // Java's lengths are ints; a key of 4 GiB doesn't exist.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as in Java, where a length is an int"
    )]
    let mut hash = SEED ^ data.len() as u32;
    for chunk in chunks {
        let mut k = u32::from_le_bytes(*chunk).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafkas_java_client_does() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_text_is_shown_and_kept() {
        let key = Key::from(vec![b'a', 0xff]);
        assert_eq!(key.to_string(), "a\\xff");
        assert_eq!(key.as_text(), None);
        assert_eq!(key.as_bytes(), [b'a', 0xff]);
    }
}
