//! The consistency token: what a command answers, so that a query can answer with what it did.
//!
//! A token names the store, the place that its log had reached, and each topic that was written to. A reader
//! of the same store waits for the place; one in another service waits for its import of the topics, then for
//! its view. To its holder a token is an opaque text that is passed on as it was given.
//!
//! It is no secret and proves nothing: whoever makes one up only makes himself wait.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{At, Epoch, Key, Position, StoreId, Topic};

/// The longest token, as text, in bytes: it travels in a header or a query, where 4 KiB are safe.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// How many writes a token names at most.
pub const TOKEN_WRITES_MAX: usize = 16;

/// The longest key that is named; what follows a longer one waits for the whole partition.
const KEY_BYTES_MAX: usize = 64;
/// The encoded bytes of a token: in base64 they are 4,000 bytes of text, and the prefix fits beside them.
const BODY_BYTES_MAX: usize = 3_000;
const PREFIX: &str = "ft";
const FORMAT: u32 = 1;
const SUM_BYTES: usize = 4;

/// A commit's record for a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicWrite {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The record's position in the log of the token's store, in the token's epoch.
    pub position: Position,
    /// The record's key; `None` when it has none, or stands for several: then the reader waits until the
    /// partition was taken up to there, whatever the key.
    pub key: Option<Key>,
}

/// What a command has done, as far as a reader has to wait for it.
///
/// ```
/// use factum_core::{At, StoreId, Token};
/// # let store: StoreId = "01920000-0000-7000-8000-000000000001".parse().unwrap();
/// let token = Token::new(store, At::new(1, 4711), []);
/// let text = token.to_string();
/// assert_eq!(text.parse(), Ok(token));
/// assert!("4711".parse::<Token>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token {
    store: StoreId,
    at: At,
    writes: Vec<TopicWrite>,
    whole: bool,
}

impl Token {
    /// The token of a commit that left the log of `store` at `at` and wrote to topics.
    ///
    /// Writes to one partition become one, at the last of their positions, without a key unless they share
    /// it. A key of more than 64 bytes is left out in the same way. Where more partitions remain than
    /// [`TOKEN_WRITES_MAX`], or more than fits into [`TOKEN_BYTES_MAX`], the last by topic and partition
    /// are left out, and the token [is not whole](Self::is_whole).
    pub fn new(store: StoreId, at: At, writes: impl IntoIterator<Item = TopicWrite>) -> Self {
        let mut merged: BTreeMap<(Topic, u32), (Position, Option<Key>)> = BTreeMap::new();
        for write in writes {
            let key = write
                .key
                .filter(|key| key.as_bytes().len() <= KEY_BYTES_MAX);
            merged
                .entry((write.topic, write.partition))
                .and_modify(|(position, known)| {
                    *position = (*position).max(write.position);
                    known.take_if(|known| key.as_ref() != Some(known));
                })
                .or_insert_with(|| (write.position, key.clone()));
        }
        let mut token = Self {
            store,
            at,
            writes: Vec::new(),
            whole: true,
        };
        let mut room = BODY_BYTES_MAX - token.body().len() - SUM_BYTES;
        for ((topic, partition), (position, key)) in merged {
            let write = TopicWrite {
                topic,
                partition,
                position,
                key,
            };
            let mut encoded = Vec::new();
            write.encode(&mut encoded);
            if token.writes.len() == TOKEN_WRITES_MAX || encoded.len() > room {
                token.whole = false;
                break;
            }
            room -= encoded.len();
            token.writes.push(write);
        }
        token
    }

    /// The store that was written to.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The epoch that the store was in. In a later one, what was written may be lost.
    pub fn epoch(&self) -> Epoch {
        self.at.epoch
    }

    /// The position that the store's log had reached.
    pub fn position(&self) -> Position {
        self.at.position
    }

    /// The writes to topics, by topic and partition.
    pub fn writes(&self) -> &[TopicWrite] {
        &self.writes
    }

    /// Whether all writes to topics are named. If not, a reader in another service can't know what to wait
    /// for, and must never say that it is fresh. Readers of the same store need only the position.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(64);
        body.extend_from_slice(self.store.0.as_bytes());
        number(&mut body, self.at.epoch.0);
        number(&mut body, self.at.position.0);
        body.push(u8::from(self.whole));
        body.push(u8::try_from(self.writes.len()).expect("at most 16 writes are taken"));
        for write in &self.writes {
            write.encode(&mut body);
        }
        body
    }

    fn of_body(body: &[u8]) -> Option<Self> {
        let (store, mut rest) = body.split_first_chunk::<16>()?;
        let at = At::new(take_number(&mut rest)?, take_number(&mut rest)?);
        let whole = match take(&mut rest, 1)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let count = usize::from(*take(&mut rest, 1)?.first()?);
        if count > TOKEN_WRITES_MAX {
            return None;
        }
        let writes = (0..count)
            .map(|_| TopicWrite::decode(&mut rest))
            .collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self {
            store: StoreId(Uuid::from_bytes(*store)),
            at,
            writes,
            whole,
        })
    }
}

impl TopicWrite {
    fn encode(&self, body: &mut Vec<u8>) {
        let topic = self.topic.as_str().as_bytes();
        number(body, topic.len() as u64);
        body.extend_from_slice(topic);
        number(body, self.partition.into());
        number(body, self.position.0);
        // One more than the length, so that the empty key is not no key.
        let key = self.key.as_ref().map(Key::as_bytes);
        number(body, key.map_or(0, |key| key.len() as u64 + 1));
        body.extend_from_slice(key.unwrap_or_default());
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let topic = take_number(rest)?;
        let topic = str::from_utf8(take(rest, topic)?).ok()?;
        let topic = Topic::new(topic).ok()?;
        let partition = u32::try_from(take_number(rest)?).ok()?;
        let position = Position(take_number(rest)?);
        let key = match take_number(rest)?.checked_sub(1) {
            None => None,
            Some(len) => Some(Key::from(take(rest, len)?.to_vec())),
        };
        Some(Self {
            topic,
            partition,
            position,
            key,
        })
    }
}

/// Seven bits a byte, the low ones first; the high bit says that more follow.
fn number(body: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit");
        number >>= 7;
        if number == 0 {
            return body.push(low);
        }
        body.push(low | 0x80);
    }
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        let low = u64::from(byte & 0x7f);
        number |= low
            .checked_shl(shift)
            .filter(|shifted| shifted >> shift == low)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = left;
    Some(taken)
}

/// `ft1.` and base64url, without padding, of the body and its CRC-32.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = self.body();
        body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        write!(
            f,
            "{PREFIX}{FORMAT}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(body)
        )
    }
}

/// A text that is not a token that this process can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It has more bytes than any token.
    #[error("the consistency token has {0} bytes, at most {TOKEN_BYTES_MAX} are possible")]
    TooLong(usize),
    /// It doesn't look like a token.
    #[error("`{0}` is not a consistency token of ours: pass on what a command answered, as it is")]
    Foreign(String),
    /// It looks like a token and was changed on its way.
    #[error("the consistency token is damaged: pass on what a command answered, as it is")]
    Damaged,
    /// It was made by a newer version of Factum.
    #[error(
        "the consistency token has format {0}, and this version reads {FORMAT}: update this service, or ask without it"
    )]
    Newer(u32),
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        // Before anything is allocated for it.
        if text.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken::TooLong(text.len()));
        }
        let parts = || {
            let (format, body) = text.strip_prefix(PREFIX)?.split_once('.')?;
            let plain =
                !format.starts_with('0') && format.bytes().all(|byte| byte.is_ascii_digit());
            Some((format.parse::<u32>().ok().filter(|_| plain)?, body))
        };
        let shown = || text.chars().take(60).flat_map(char::escape_debug).collect();
        let (format, body) = parts().ok_or_else(|| InvalidToken::Foreign(shown()))?;
        if format != FORMAT {
            return Err(InvalidToken::Newer(format));
        }
        let read = || {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?;
            let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
            (crc32fast::hash(body).to_le_bytes() == *sum)
                .then(|| Self::of_body(body))
                .flatten()
        };
        read().ok_or(InvalidToken::Damaged)
    }
}

impl TryFrom<String> for Token {
    type Error = InvalidToken;
    fn try_from(text: String) -> Result<Self, InvalidToken> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.to_string()
    }
}
