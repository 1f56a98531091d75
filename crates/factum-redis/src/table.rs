//! One generation of a view: its keys, and its indexes.
//!
//! ```text
//! <prefix>:{<store>:<projection>}:<epoch>                                 the state of a projection
//! <prefix>:{<store>:<projection>}:<epoch>:<generation>.<stamp>:<view>     the rows of a view
//! <prefix>:{<store>:<projection>}:<epoch>:<generation>.<stamp>:<view>:<n> an index of it
//! ```
//!
//! What stands in braces decides the slot in a cluster. Names have neither braces nor colons.

use factum_core::{Epoch, Error, FieldKind, ProjectionName, StoreId, Value, ViewDefinition};

use crate::value::encode;

/// A projection of one epoch of a store, as the beginning of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) projection: ProjectionName,
    /// Up to the epoch: what the keys of all epochs begin with.
    pub(crate) tag: String,
    pub(crate) epoch: Epoch,
}

impl Home {
    pub(crate) fn new(
        prefix: &str,
        store: StoreId,
        epoch: Epoch,
        projection: &ProjectionName,
    ) -> Self {
        Self {
            projection: projection.clone(),
            tag: format!("{prefix}:{{{store}:{projection}}}:"),
            epoch,
        }
    }

    /// The key of the projection's state.
    pub(crate) fn state(&self) -> String {
        format!("{}{}", self.tag, self.epoch)
    }

    /// What the server answers can't come of what was written.
    pub(crate) fn strange(&self) -> Error {
        Error::fatal(format!(
            "the rows of projection `{}` are not as they were written: somebody else has changed them; rebuild it",
            self.projection
        ))
    }

    /// Which epoch, generation and stamp a key of this projection is of; the latter two are empty for a state.
    pub(crate) fn parse<'a>(&self, key: &'a str) -> Option<(Epoch, &'a str, &'a str)> {
        let rest = key.strip_prefix(&self.tag)?;
        let (epoch, rest) = rest.split_once(':').unwrap_or((rest, ""));
        let epoch = Epoch(epoch.parse().ok()?);
        if rest.is_empty() {
            return Some((epoch, "", ""));
        }
        let (generation, _) = rest.split_once(':')?;
        let (generation, stamp) = generation.split_once('.')?;
        Some((epoch, generation, stamp))
    }
}

/// The key of what a store's views are kept by.
pub(crate) fn registry(prefix: &str, store: StoreId, epoch: Epoch) -> String {
    format!("{prefix}:{{{store}}}:{epoch}")
}

/// One generation of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) definition: ViewDefinition,
    pub(crate) home: Home,
    pub(crate) generation: u32,
    /// Which of all generations that ever had this number.
    pub(crate) stamp: String,
    /// The fields of each index, by their place in the definition. The first one is by id alone.
    pub(crate) indexes: Vec<Vec<usize>>,
}

impl Table {
    pub(crate) fn new(
        definition: ViewDefinition,
        home: Home,
        generation: u32,
        stamp: String,
    ) -> Self {
        let indexes = indexes(&definition);
        Self {
            definition,
            home,
            generation,
            stamp,
            indexes,
        }
    }

    /// The key of its rows, and those of its indexes.
    pub(crate) fn keys(&self) -> Vec<String> {
        let rows = self.rows();
        let indexes = (0..self.indexes.len()).map(|index| self.index(index));
        std::iter::once(rows).chain(indexes).collect()
    }

    pub(crate) fn rows(&self) -> String {
        format!(
            "{}:{}.{}:{}",
            self.home.state(),
            self.generation,
            self.stamp,
            self.definition.name
        )
    }

    pub(crate) fn index(&self, index: usize) -> String {
        format!("{}:{index}", self.rows())
    }

    /// The place of a declared field.
    pub(crate) fn column(&self, field: &str) -> usize {
        let column = self
            .definition
            .fields
            .iter()
            .position(|known| known.name == field);
        column.expect("queries are validated, and name declared fields only")
    }

    pub(crate) fn kind(&self, column: usize) -> FieldKind {
        self.definition.fields[column].kind
    }

    /// The kinds of an index' fields, a letter each.
    pub(crate) fn kinds(&self, index: usize) -> String {
        let letter = |column: &usize| match self.kind(*column) {
            FieldKind::Text => 't',
            FieldKind::Integer => 'i',
            FieldKind::Boolean => 'b',
        };
        self.indexes[index].iter().map(letter).collect()
    }
}

/// An index that is declared over some fields serves those who fix the first of them and sort by the next; ties are by
/// id. So there is one for all, one for all but the last, and so on, down to none.
fn indexes(definition: &ViewDefinition) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new()];
    for declared in &definition.indexes {
        let columns: Vec<_> = declared
            .iter()
            .filter_map(|name| {
                let is_it = |field: &factum_core::Field| field.name == *name;
                definition.fields.iter().position(is_it)
            })
            .collect();
        for length in 1..=columns.len() {
            let prefix = columns[..length].to_vec();
            if !found.contains(&prefix) {
                found.push(prefix);
            }
        }
    }
    found
}

/// What the members of an index begin with that have these values. All that have none begin alike too, so that nothing
/// comes before them but what is no row.
pub(crate) fn prefix<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    values.into_iter().flat_map(encode).collect()
}

/// What the members of the index by id begin with.
pub(crate) const BY_ID: &[u8] = &[1];

#[cfg(test)]
mod tests {
    use factum_core::ViewName;

    use super::*;

    #[test]
    fn a_key_says_what_it_is_of() {
        let projection = ProjectionName::of("order.totals");
        let definition =
            ViewDefinition::new(ViewName::of("orders"), projection.clone()).integer("total");
        let home = Home::new("factum", StoreId(uuid::Uuid::nil()), Epoch(3), &projection);
        let table = Table::new(definition, home.clone(), 7, "99".into());
        for key in table.keys() {
            assert_eq!(home.parse(&key), Some((Epoch(3), "7", "99")), "{key}");
        }
        assert_eq!(home.parse(&home.state()), Some((Epoch(3), "", "")));
        let other = Home::new(
            "factum",
            StoreId(uuid::Uuid::nil()),
            Epoch(3),
            &ProjectionName::of("order"),
        );
        assert_eq!(other.parse(&home.state()), None);
    }

    #[test]
    fn there_is_an_index_for_each_beginning_of_a_declared_one() {
        let definition = ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .text("user")
            .text("status")
            .integer("created")
            .index(["user", "status", "created"])
            .index(["user", "created"])
            .index(["created"]);
        assert_eq!(
            indexes(&definition),
            [
                vec![],
                vec![0],
                vec![0, 1],
                vec![0, 1, 2],
                vec![0, 2],
                vec![2]
            ]
        );
    }
}
