//! What indexes, aliases and fields are called.
//!
//! Names of ours differ in case and punctuation and may be as long as an index's name alone, so each becomes a readable
//! beginning and a hash. Hyphens stand between the parts and never within one. All begin with the prefix, the store
//! and its epoch: `factum-<store>-e<epoch>`, below `…`.
//!
//! | name | is |
//! |---|---|
//! | `…-i-<projection>-g<generation>` | the index of one generation of a projection, with the rows of all its views |
//! | `…-u-<identity>` | an alias of this very index: one that is made anew under the same name has another |
//! | `…-w-<view>` | an alias of the indexes of all generations that have this view |
//! | `…-a-<projection>` | an alias of the index that readers see |
//! | `<prefix>-v-<store>-<view>` | an alias of its rows of one view, for people: nothing here reads by it |

use factum_core::{Epoch, ProjectionName, StoreId, ViewName};
use sha2::{Digest as _, Sha256};

/// How many letters of a name are kept for whoever reads it.
const LETTERS_MAX: usize = 40;

/// The names of what belongs to one epoch of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    prefix: String,
    store: String,
    epoch: Epoch,
}

impl Names {
    pub(crate) fn new(prefix: &str, store: StoreId, epoch: Epoch) -> Self {
        Self {
            prefix: prefix.into(),
            store: hash(store.0.as_bytes(), 6),
            epoch,
        }
    }

    fn begin(&self) -> String {
        let Self {
            prefix,
            store,
            epoch,
        } = self;
        format!("{prefix}-{store}-e{epoch}")
    }

    /// The index of a generation of a projection.
    pub(crate) fn index(&self, projection: &ProjectionName, generation: u32) -> String {
        format!(
            "{}-i-{}-g{generation}",
            self.begin(),
            part(projection.as_str())
        )
    }

    /// All indexes of this epoch, as a pattern.
    pub(crate) fn indexes(&self) -> String {
        format!("{}-i-*", self.begin())
    }

    /// All indexes of this store, whatever the epoch, as a pattern.
    pub(crate) fn indexes_of_all_epochs(&self) -> String {
        format!("{}-{}-e*-i-*", self.prefix, self.store)
    }

    /// The epoch that an index of this store belongs to.
    pub(crate) fn epoch_of(&self, index: &str) -> Option<Epoch> {
        let rest = index.strip_prefix(&format!("{}-{}-e", self.prefix, self.store))?;
        rest.split('-').next()?.parse().ok().map(Epoch)
    }

    /// The alias of the very index that the cluster knows by `uuid`.
    pub(crate) fn identity(&self, uuid: &str) -> String {
        format!("{}-u-{}", self.begin(), hash(uuid.as_bytes(), 12))
    }

    /// The alias of all indexes that have a view.
    pub(crate) fn with_view(&self, view: &ViewName) -> String {
        format!("{}-w-{}", self.begin(), part(view.as_str()))
    }

    /// The alias of the index that readers see.
    pub(crate) fn active(&self, projection: &ProjectionName) -> String {
        format!("{}-a-{}", self.begin(), part(projection.as_str()))
    }

    /// What the aliases of indexes that readers see begin with.
    pub(crate) fn active_of_any(&self) -> String {
        format!("{}-a-", self.begin())
    }

    /// Whether an alias is one of a view's rows, for people.
    pub(crate) fn is_for_people(&self, alias: &str) -> bool {
        alias.starts_with(&format!("{}-v-{}-", self.prefix, self.store))
    }

    /// The epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The alias of a view's rows, for people.
    pub(crate) fn view(&self, view: &ViewName) -> String {
        format!("{}-v-{}-{}", self.prefix, self.store, part(view.as_str()))
    }
}

/// The generation that an index's name tells.
pub(crate) fn generation(index: &str) -> Option<u32> {
    index.rsplit('-').next()?.strip_prefix('g')?.parse().ok()
}

/// What the fields of a view have in their names, so that views of one projection are kept apart.
pub(crate) fn code(view: &ViewName) -> String {
    hash(view.as_str().as_bytes(), 4)
}

/// A name of ours as part of a name.
fn part(name: &str) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let readable: String = name.chars().take(LETTERS_MAX).map(letter).collect();
    format!("{readable}.{}", hash(name.as_bytes(), 6))
}

/// The first `length` bytes of the hash of `bytes`, in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8], length: usize) -> String {
    let digest = Sha256::digest(bytes);
    let digits = digest.iter().take(length).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str, epoch: u64) -> Names {
        Names {
            prefix: prefix.into(),
            store: "5".repeat(12),
            epoch: Epoch(epoch),
        }
    }

    #[test]
    fn similar_names_are_kept_apart_and_long_ones_fit() {
        let long = "x".repeat(249);
        let other = format!("{}y", "x".repeat(248));
        let views = ["a.b", "a_b", "a-b", "A.B", "a.b.1", &long, &other];
        let aliases = views.map(|view| names("factum", 1).with_view(&ViewName::new(view).unwrap()));
        for (number, name) in aliases.iter().enumerate() {
            assert!(!aliases[..number].contains(name), "{name}");
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            assert!(name.chars().all(allowed), "{name}");
        }
        let projection = ProjectionName::new(&long).unwrap();
        let longest = names(&"p".repeat(40), u64::MAX).index(&projection, u32::MAX);
        assert!(longest.len() <= 255, "{}", longest.len());
    }

    #[test]
    fn an_index_says_its_epoch_and_generation() {
        let names = names("factum", 7);
        let index = names.index(&ProjectionName::of("g8-x"), 12);
        assert_eq!(
            (generation(&index), names.epoch_of(&index)),
            (Some(12), Some(Epoch(7)))
        );
        assert_eq!(
            (generation("factum"), names.epoch_of("factum")),
            (None, None)
        );
        assert!(index.starts_with(names.indexes().trim_end_matches('*')));
    }
}
