//! The source chain: how a consumer tells duplicates, losses and restores apart by three numbers.
//!
//! A message says which store it comes from, its own place there, and the place of the record that this
//! source published before it to this partition. Comparing them with the last place seen is the *fold*.
//! Its result depends on the partition's content up to an offset and on nothing else: not on what was
//! handled, by whom, or when. The rules are model-checked; `docs/internals/protocol.md` has them with
//! what breaks without each.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{At, StoreId};

/// The header that holds the source's store id.
pub const HEADER_SOURCE: &str = "factum-source";
/// The header that holds the record's own place.
pub const HEADER_AT: &str = "factum-at";
/// The header that holds the place of the record before it.
pub const HEADER_PREVIOUS: &str = "factum-previous";

/// One link of a source's chain in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The store that the message comes from.
    pub source: StoreId,
    /// The record's place there, with the epoch that it was *written* in.
    pub at: At,
    /// The place of the record that the source published before it to this partition; zero for its first.
    pub previous: At,
}

impl Link {
    /// Reads the link from a message's headers.
    ///
    /// `Ok(None)` when the message has none of the three headers: it is foreign.
    ///
    /// # Errors
    ///
    /// A text that says which header is missing or can't be read.
    pub fn from_headers<'a>(
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Option<Self>, String> {
        let texts = [HEADER_SOURCE, HEADER_AT, HEADER_PREVIOUS].map(|name| (name, header(name)));
        if texts.iter().all(|(_, value)| value.is_none()) {
            return Ok(None);
        }
        let [source, at, previous] = texts;
        let link = Self {
            source: field(source)?,
            at: field(at)?,
            previous: field(previous)?,
        };
        if link.previous < link.at {
            Ok(Some(link))
        } else {
            Err(format!(
                "`{HEADER_PREVIOUS}` ({}) is not before `{HEADER_AT}` ({})",
                link.previous, link.at
            ))
        }
    }

    /// The three headers that say this.
    pub fn to_headers(self) -> [(&'static str, String); 3] {
        [
            (HEADER_SOURCE, self.source.to_string()),
            (HEADER_AT, self.at.to_string()),
            (HEADER_PREVIOUS, self.previous.to_string()),
        ]
    }
}

fn field<T: FromStr>((name, value): (&str, Option<&[u8]>)) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("header `{name}` is missing beside its siblings"))?;
    let parsed = str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        let shown: String = value.escape_ascii().map(char::from).take(60).collect();
        format!("header `{name}` can't be read: {shown}")
    })
}

/// What the fold says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// To be handled.
    Deliver,
    /// Seen before: void.
    Duplicate,
    /// A record before it was lost on the way and is still to come, or its source is one too many; this one will come
    /// again: void.
    Premature,
}

/// Where a group starts in a partition that it has no row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest message that is kept; every source's chain is expected from its first link.
    Beginning,
    /// With the messages published from now on; the first record seen of a source is that source's start.
    Anchor,
}

/// How many sources a group keeps in mind of a partition: one for each store that ever published there. At 60 bytes each,
/// which are written with every group of commits, 15 KB.
pub const SOURCES_MAX: usize = 256;

/// The last place seen of each source, in a partition up to an offset: of at most [`SOURCES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lasts(Vec<(StoreId, At)>);

impl Lasts {
    /// The last place seen of `source`; zero when none was.
    pub fn get(&self, source: StoreId) -> At {
        self.0
            .iter()
            .find(|(known, _)| *known == source)
            .map_or(At::ZERO, |(_, at)| *at)
    }

    /// Sets the last place seen of `source`: by the fold, or by an operator who accepts a loss.
    pub fn set(&mut self, source: StoreId, at: At) {
        match self.0.iter_mut().find(|(known, _)| *known == source) {
            Some((_, last)) => *last = at,
            None => self.0.push((source, at)),
        }
    }

    /// Forgets a source that publishes no more.
    pub fn retire(&mut self, source: StoreId) {
        self.0.retain(|(known, _)| *known != source);
    }

    /// Whether a source that is not among these can't be taken, because there are as many as are kept in mind.
    pub fn is_too_many_for(&self, source: StoreId) -> bool {
        self.0.len() >= SOURCES_MAX && self.get(source) == At::ZERO
    }

    /// Each source with its last place.
    pub fn iter(&self) -> impl Iterator<Item = (StoreId, At)> + '_ {
        self.0.iter().copied()
    }

    /// Classifies the next message of the partition and takes note of it.
    pub fn fold(&mut self, start: Start, link: Option<&Link>) -> Class {
        let Some(link) = link else {
            return Class::Deliver;
        };
        let last = self.get(link.source);
        if link.at <= last {
            return Class::Duplicate;
        }
        let anchors = start == Start::Anchor && last == At::ZERO;
        // One source too many is left out like one that misses a message: it comes again when there is room for it.
        if link.previous > last && !anchors || self.is_too_many_for(link.source) {
            return Class::Premature;
        }
        self.set(link.source, link.at);
        Class::Deliver
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn link(at: (u64, u64), previous: (u64, u64)) -> Link {
        let source = StoreId(Uuid::from_u128(1));
        Link {
            source,
            at: At::new(at.0, at.1),
            previous: At::new(previous.0, previous.1),
        }
    }

    fn fold(start: Start, links: &[Link]) -> Vec<Class> {
        let mut lasts = Lasts::default();
        links
            .iter()
            .map(|link| lasts.fold(start, Some(link)))
            .collect()
    }

    use Class::{Deliver, Duplicate, Premature};

    #[test]
    fn a_loss_makes_what_follows_premature_until_it_comes_again() {
        let (one, two, three) = (
            link((1, 1), (0, 0)),
            link((1, 2), (1, 1)),
            link((1, 3), (1, 2)),
        );
        assert_eq!(
            fold(Start::Beginning, &[one, three, two, three, two]),
            [Deliver, Premature, Deliver, Deliver, Duplicate]
        );
    }

    #[test]
    fn a_record_published_again_after_a_restore_keeps_its_epoch_and_is_a_duplicate() {
        let one = link((1, 1), (0, 0));
        let lost = link((1, 2), (1, 1));
        let new = link((9, 2), (1, 1));
        assert_eq!(
            fold(Start::Beginning, &[one, one, new, lost]),
            [Deliver, Duplicate, Deliver, Duplicate]
        );
    }

    #[test]
    fn an_anchored_group_starts_with_the_first_that_it_sees() {
        let (two, three) = (link((1, 2), (1, 1)), link((1, 3), (1, 2)));
        assert_eq!(fold(Start::Anchor, &[two, three]), [Deliver, Deliver]);
        assert_eq!(
            fold(Start::Beginning, &[two, three]),
            [Premature, Premature]
        );
    }

    /// It went wrong: each source that was ever seen was kept for ever.
    #[test]
    fn a_source_too_many_is_left_out_until_another_is_retired() {
        let first = |source| Link {
            source: StoreId(Uuid::from_u128(source)),
            ..link((1, 1), (0, 0))
        };
        let mut lasts = Lasts::default();
        let many = SOURCES_MAX as u128;
        for source in 0..many {
            assert_eq!(lasts.fold(Start::Anchor, Some(&first(source))), Deliver);
        }
        assert_eq!(lasts.fold(Start::Anchor, Some(&first(many))), Premature);
        assert_eq!(lasts.fold(Start::Beginning, Some(&first(many))), Premature);
        assert_eq!(lasts.iter().count(), SOURCES_MAX);
        let next = Link {
            at: At::new(1, 2),
            previous: At::new(1, 1),
            ..first(7)
        };
        assert_eq!(lasts.fold(Start::Beginning, Some(&next)), Deliver);
        lasts.retire(first(3).source);
        assert_eq!(lasts.fold(Start::Beginning, Some(&first(many))), Deliver);
        assert_eq!(lasts.iter().count(), SOURCES_MAX);
    }

    #[test]
    fn a_link_reads_back_from_headers_and_half_a_link_is_an_error() {
        let link = link((1, 7), (1, 3));
        let headers = link.to_headers();
        let find = |name: &str| {
            headers
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.as_bytes())
        };
        assert_eq!(Link::from_headers(find), Ok(Some(link)));
        assert_eq!(Link::from_headers(|_| None), Ok(None));
        let half = |name: &str| find(name).filter(|_| name != HEADER_PREVIOUS);
        assert_eq!(
            Link::from_headers(half),
            Err("header `factum-previous` is missing beside its siblings".into())
        );
    }
}
