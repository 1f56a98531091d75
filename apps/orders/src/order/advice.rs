//! Advice on stock: orders that are plainly short are refused at once.
//!
//! It is only advice. What it knows may be old; the stock service decides, and what slips through is refunded.

use std::collections::BTreeMap;

use crate::contracts::{Item, Sku, quantities};

/// A thing of which there is plainly not enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {available} of `{sku}` are left, and {wanted} were ordered")]
pub struct Short {
    /// The thing.
    pub sku: Sku,
    /// How many were ordered.
    pub wanted: u64,
    /// How many are left, as far as is known.
    pub available: u64,
}

/// What is short of `items`, when so many are `available`. A thing that is not known there is not judged.
pub fn short(items: &[Item], available: &BTreeMap<Sku, u64>) -> Vec<Short> {
    let known = |(sku, wanted): (Sku, u64)| {
        let available = *available.get(&sku)?;
        (available < wanted).then_some(Short {
            sku,
            wanted,
            available,
        })
    };
    quantities(items).into_iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_short_is_refused() {
        let item = |sku: &str, qty| Item {
            sku: sku.into(),
            name: sku.into(),
            qty,
            price: 1,
        };
        let available = BTreeMap::from([("tea".into(), 2), ("cup".into(), 5)]);
        let short = short(
            &[
                item("tea", 2),
                item("cup", 5),
                item("tea", 1),
                item("pot", 9),
            ],
            &available,
        );
        assert_eq!(
            short,
            [Short {
                sku: "tea".into(),
                wanted: 3,
                available: 2
            }]
        );
    }
}
