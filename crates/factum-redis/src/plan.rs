//! How a query is answered: along which index, from where to where, and what is left to be looked at row by row.
//!
//! An index whose first fields the query fixes and whose last one it sorts by has the rows in the wanted order, one
//! behind the other. Where there is none, the rows that may meet the filter are looked through, and the least of
//! them kept: see [`Plan::sorted`].

use factum_core::{Comparison, Operator, Query, Value};

use crate::{
    table::{BY_ID, Table, prefix},
    value::{NULL, PRESENT, encode, end_of},
};

/// How a query is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The index.
    pub(crate) index: usize,
    /// Its stretches, in the order in which they are walked.
    pub(crate) stretches: Vec<Stretch>,
    /// Whether each is walked backwards.
    pub(crate) backwards: bool,
    /// The comparisons that the stretches don't stand for, by field.
    pub(crate) filter: Vec<(usize, Operator, Vec<u8>)>,
    /// Whether the rows come in the query's order, and the stretches begin behind its cursor.
    pub(crate) sorted: bool,
    /// What the members of all stretches begin with, before the field that is sorted by or compared, if there is one, and
    /// the id.
    start: Vec<u8>,
}

/// A stretch of an index: from `low` on, up to what comes before `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Vec<u8>,
}

impl Stretch {
    fn narrow(&mut self, low: Option<Vec<u8>>, high: Option<Vec<u8>>) {
        if let Some(low) = low.filter(|low| *low > self.low) {
            self.low = low;
        }
        if let Some(high) = high.filter(|high| *high < self.high) {
            self.high = high;
        }
    }

    fn clear(&mut self) {
        self.high.clone_from(&self.low);
    }

    fn is_empty(&self) -> bool {
        self.low >= self.high
    }
}

/// The bytes right behind `bytes`.
pub(crate) fn behind(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(0);
    bytes
}

impl Plan {
    /// How to give the rows of a query, in its order from behind `after` on: a value, if it is sorted by a field, and an
    /// id.
    pub(crate) fn rows(
        table: &Table,
        query: &Query,
        after: Option<(Option<&Value>, &str)>,
    ) -> Self {
        let sort = query.sort.as_ref();
        let column = sort.map(|(field, _)| table.column(field));
        let fixed = fixed(table, query);
        let serves = |index: &usize| {
            let columns = &table.indexes[*index];
            let first = match column {
                None => Some(&columns[..]),
                Some(column) => columns
                    .split_last()
                    .and_then(|(last, first)| (*last == column).then_some(first)),
            };
            first.is_some_and(|first| first.iter().all(|column| fixed[*column].is_some()))
        };
        let longest = (0..table.indexes.len())
            .filter(serves)
            .max_by_key(|index| table.indexes[*index].len());
        let Some(index) = longest else {
            return Self::any(table, query);
        };
        let mut plan = Self::along(table, query, index, &fixed, column.is_some());
        plan.backwards = sort.is_some_and(|(_, descending)| *descending);
        plan.sorted = true;
        if let Some((value, id)) = after {
            plan.cut(value, id);
        }
        plan.stretches.retain(|stretch| !stretch.is_empty());
        plan
    }

    /// How to find the rows of a query, in whatever order.
    pub(crate) fn any(table: &Table, query: &Query) -> Self {
        let fixed = fixed(table, query);
        let is_fixed = |column: &usize| fixed[*column].is_some();
        let plan = |index: usize| {
            let columns = &table.indexes[index];
            if columns.iter().all(is_fixed) {
                return Some(Self::along(table, query, index, &fixed, false));
            }
            let (_, first) = columns.split_last()?;
            first
                .iter()
                .all(is_fixed)
                .then(|| Self::along(table, query, index, &fixed, true))
        };
        // The fewer comparisons are left, the fewer rows are looked at in vain; of those, the shortest index.
        let mut plan = (0..table.indexes.len())
            .filter_map(plan)
            .min_by_key(|plan| (plan.filter.len(), table.indexes[plan.index].len()))
            .expect("the index by id serves all");
        plan.stretches.retain(|stretch| !stretch.is_empty());
        plan
    }

    /// Along an index whose fields are fixed, but for the last one if it is `ranged`.
    fn along(
        table: &Table,
        query: &Query,
        index: usize,
        fixed: &[Fixed<'_>],
        ranged: bool,
    ) -> Self {
        let columns = &table.indexes[index];
        let (last, first) = match columns.split_last() {
            Some((last, first)) if ranged => (Some(*last), first),
            _ => (None, &columns[..]),
        };
        let mut used: Vec<usize> = Vec::new();
        let values = first.iter().filter_map(|column| fixed[*column]);
        let values = values.map(|(comparison, value)| {
            used.push(comparison);
            value
        });
        let mut start = prefix(values);
        if columns.is_empty() {
            start = BY_ID.to_vec();
        }
        let stretch = |low: Vec<u8>| {
            let high = end_of(&low);
            Stretch { low, high }
        };
        let stretches = if let Some(last) = last {
            // What has a value, and what has none: nulls are last in both directions.
            let mut present = stretch([start.as_slice(), &[PRESENT]].concat());
            let mut null = stretch([start.as_slice(), &[NULL]].concat());
            for (number, comparison) in query.filter.iter().enumerate() {
                if table.column(&comparison.field) == last {
                    used.push(number);
                    compare(&mut present, &mut null, comparison, &start);
                }
            }
            vec![present, null]
        } else {
            vec![stretch(start.clone())]
        };
        let left = query.filter.iter().enumerate();
        let left = left.filter(|(number, _)| !used.contains(number));
        let filter = left.map(|(_, comparison)| {
            let column = table.column(&comparison.field);
            (column, comparison.operator, encode(&comparison.value))
        });
        Self {
            index,
            filter: filter.collect(),
            stretches,
            backwards: false,
            sorted: false,
            start,
        }
    }

    /// Leaves out all up to a row, that one too.
    fn cut(&mut self, value: Option<&Value>, id: &str) {
        let value_bytes = value.map(encode).unwrap_or_default();
        let place = [self.start.as_slice(), &value_bytes, id.as_bytes()].concat();
        let part = usize::from(value == Some(&Value::Null));
        let (before, rest) = self.stretches.split_at_mut(part);
        for stretch in before {
            stretch.clear();
        }
        if self.backwards {
            rest[0].narrow(None, Some(place));
        } else {
            rest[0].narrow(Some(behind(place)), None);
        }
    }
}

/// The first comparison that fixes a field, and its value.
type Fixed<'a> = Option<(usize, &'a Value)>;

/// For each field of the view, what fixes it.
fn fixed<'a>(table: &Table, query: &'a Query) -> Vec<Fixed<'a>> {
    let mut fixed = vec![None; table.definition.fields.len()];
    for (number, comparison) in query.filter.iter().enumerate() {
        if comparison.operator == Operator::Equal {
            fixed[table.column(&comparison.field)].get_or_insert((number, &comparison.value));
        }
    }
    fixed
}

/// Narrows the stretches of what has a value and of what has none to what meets a comparison.
fn compare(present: &mut Stretch, null: &mut Stretch, comparison: &Comparison, start: &[u8]) {
    if comparison.value == Value::Null {
        present.clear();
        if comparison.operator != Operator::Equal {
            null.clear();
        }
        return;
    }
    null.clear();
    let least = [start, &encode(&comparison.value)].concat();
    let greater = end_of(&least);
    let (low, high) = match comparison.operator {
        Operator::Equal => (Some(least), Some(greater)),
        Operator::Less => (None, Some(least)),
        Operator::AtMost => (None, Some(greater)),
        Operator::Greater => (Some(greater), None),
        Operator::AtLeast => (Some(least), None),
    };
    present.narrow(low, high);
}

#[cfg(test)]
mod tests {
    use factum_core::{Epoch, ProjectionName, StoreId, ViewDefinition, ViewName};

    use super::*;
    use crate::table::Home;

    fn table() -> Table {
        let projection = ProjectionName::of("orders");
        let definition = ViewDefinition::new(ViewName::of("orders"), projection.clone())
            .text("user")
            .text("status")
            .integer("created")
            .index(["user", "created"])
            .index(["status"]);
        let home = Home::new("factum", StoreId(uuid::Uuid::nil()), Epoch(1), &projection);
        Table::new(definition, home, 1, "1".into())
    }

    /// The fields of the index that is walked, whether the order is right, and how many comparisons are left.
    fn check(query: &Query, fields: &[usize], sorted: bool, left: usize) -> Plan {
        let table = table();
        let plan = Plan::rows(&table, query, None);
        let found = (
            table.indexes[plan.index].as_slice(),
            plan.sorted,
            plan.filter.len(),
        );
        assert_eq!(found, (fields, sorted, left), "{query:?}");
        plan
    }

    #[test]
    fn what_an_index_was_declared_for_is_walked_in_order_and_nothing_is_left_to_look_at() {
        let of_user = || Query::all().equal("user", "u");
        check(&of_user().sort_descending("created"), &[0, 2], true, 0);
        check(
            &of_user()
                .compare("created", Operator::Less, 7)
                .sort("created"),
            &[0, 2],
            true,
            0,
        );
        check(&of_user(), &[0], true, 0);
        check(&Query::all().sort("user"), &[0], true, 0);
        check(&Query::all(), &[], true, 0);
    }

    #[test]
    fn what_no_index_was_declared_for_is_looked_through() {
        check(&Query::all().sort("created"), &[], false, 0);
        check(
            &Query::all().equal("status", "open").sort("created"),
            &[1],
            false,
            0,
        );
        check(
            &Query::all().equal("user", "u").equal("status", "open"),
            &[1],
            true,
            1,
        );
        check(&Query::all().equal("created", 7), &[], true, 1);
    }

    #[test]
    fn two_values_of_one_field_are_met_by_no_row() {
        let plan = check(
            &Query::all().equal("status", "a").equal("status", "b"),
            &[1],
            true,
            1,
        );
        assert_eq!(plan.filter[0].2, encode(&"b".into()));
        let query = Query::all()
            .equal("status", "a")
            .equal("status", "b")
            .sort("status");
        assert!(check(&query, &[1], true, 0).stretches.is_empty());
    }

    #[test]
    fn what_can_meet_nothing_has_no_stretches() {
        let query = Query::all()
            .compare("status", Operator::Less, Value::Null)
            .sort("status");
        assert!(check(&query, &[1], true, 0).stretches.is_empty());
        let query = Query::all().equal("status", Value::Null).sort("status");
        assert_eq!(check(&query, &[1], true, 0).stretches.len(), 1);
    }
}
