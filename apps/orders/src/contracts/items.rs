//! The lines of an order.

use std::{collections::BTreeMap, io};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

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
    type Error = String;

    fn try_from(
        WireItem {
            sku,
            name,
            qty,
            price,
        }: WireItem,
    ) -> Result<Self, Self::Error> {
        let sku = match (sku, &name) {
            (Some(sku), _) => sku,
            (None, Some(name)) => name
                .clone()
                .try_into()
                .map_err(|error| format!("an item without a `sku` goes by its name: {error}"))?,
            (None, None) => return Err("an item needs a `sku` or a `name`".into()),
        };
        let name = name.unwrap_or_else(|| sku.to_string());
        Ok(Self {
            sku,
            name,
            qty,
            price,
        })
    }
}

/// How many lines an order may have, whoever places it: each is a shelf in the one commit that puts all of them aside.
pub const LINES_MAX: usize = 1_000;

/// What the lines of an order may weigh, as JSON. They are passed on from event to event, each of which weighs at most
/// 900,000 bytes with all that stands beside them. At their longest, a hundred lines weigh less.
pub const LINES_BYTES_MAX: usize = 400_000;

/// Reads the lines of an order. Those that can't be served to the end are refused here, before money is taken for them.
///
/// # Errors
///
/// When they are no lines, too many, or weigh too much.
pub(super) fn lines<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Item>, D::Error> {
    let items = Vec::<Item>::deserialize(from)?;
    check(&items).map_err(D::Error::custom)?;
    Ok(items)
}

/// Reads the lines of an order where they may be absent.
///
/// # Errors
///
/// As [`lines`].
pub(super) fn lines_if_any<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<Item>>, D::Error> {
    let items = Option::<Vec<Item>>::deserialize(from)?;
    check(items.as_deref().unwrap_or_default()).map_err(D::Error::custom)?;
    Ok(items)
}

fn check(items: &[Item]) -> Result<(), String> {
    if items.len() > LINES_MAX {
        return Err(format!("an order has at most {LINES_MAX} items"));
    }
    let mut weight = Weight(0);
    serde_json::to_writer(&mut weight, items).map_err(|error| error.to_string())?;
    if weight.0 > LINES_BYTES_MAX {
        return Err(format!(
            "the items of an order have at most {LINES_BYTES_MAX} bytes, each with a `sku` and a `name`"
        ));
    }
    Ok(())
}

/// Counts what is written, and keeps nothing.
struct Weight(usize);

impl io::Write for Weight {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
