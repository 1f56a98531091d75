//! The lines of an order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sku;

/// A line of an order: so many of one thing, at a price for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WireItem")]
pub struct Item {
    /// What is sold.
    pub sku: Sku,
    /// What it is called.
    pub name: String,
    /// How many.
    pub qty: u32,
    /// The price of one, in minor units.
    pub price: u64,
}

/// A line as producers write it: a thing without a `sku` goes by its name, and one without a name by its `sku`.
#[derive(Deserialize, JsonSchema)]
struct WireItem {
    #[serde(default)]
    sku: Option<Sku>,
    #[serde(default)]
    name: Option<String>,
    qty: u32,
    price: u64,
}

impl TryFrom<WireItem> for Item {
    type Error = &'static str;

    fn try_from(
        WireItem {
            sku,
            name,
            qty,
            price,
        }: WireItem,
    ) -> Result<Self, Self::Error> {
        let known = sku.clone().or_else(|| name.as_deref().map(Sku::from));
        let sku = known.ok_or("an item needs a `sku` or a `name`")?;
        let name = name.unwrap_or_else(|| sku.to_string());
        Ok(Self {
            sku,
            name,
            qty,
            price,
        })
    }
}

/// How many of each thing the lines ask for together: two lines may be of one thing.
pub fn quantities(items: &[Item]) -> BTreeMap<Sku, u64> {
    let mut wanted = BTreeMap::new();
    for item in items {
        *wanted.entry(item.sku.clone()).or_default() += u64::from(item.qty);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_without_a_sku_goes_by_its_name() {
        let item: Item = serde_json::from_str(r#"{"name":"tea","qty":2,"price":500}"#).unwrap();
        assert_eq!((item.sku, &*item.name), (Sku::from("tea"), "tea"));
        let item: Item = serde_json::from_str(r#"{"sku":"t-1","qty":2,"price":500}"#).unwrap();
        assert_eq!(item.name, "t-1");
        let error = serde_json::from_str::<Item>(r#"{"qty":2,"price":500}"#).unwrap_err();
        assert!(
            error.to_string().contains("needs a `sku` or a `name`"),
            "{error}"
        );
    }

    #[test]
    fn a_price_is_never_a_fraction() {
        assert!(serde_json::from_str::<Item>(r#"{"sku":"t","qty":1,"price":9.99}"#).is_err());
    }

    #[test]
    fn lines_of_one_thing_are_counted_together() {
        let item = |sku: &str, qty| Item {
            sku: sku.into(),
            name: sku.into(),
            qty,
            price: 1,
        };
        let wanted = quantities(&[item("tea", 2), item("cup", 1), item("tea", 3)]);
        assert_eq!(
            wanted,
            BTreeMap::from([("cup".into(), 1), ("tea".into(), 5)])
        );
    }
}
