//! Structs: the struct is the one stored type.

use factum_core::Event;
use factum_macros::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::support::{read, shape, stored};

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core", name = "StockReceived", version = 2, topic = "stock", upcast(1 => counted))]
#[serde(rename_all = "camelCase")]
struct StockReceived {
    sku_code: String,
    quantity: u32,
}

/// What version 1 had.
#[derive(Deserialize)]
struct StockReceivedV1 {
    sku: String,
}

/// What version 2 has: `Event` alone would do, but an upcaster's result is serialised.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StockReceivedV2 {
    sku_code: String,
    quantity: u32,
}

fn counted(old: StockReceivedV1) -> StockReceivedV2 {
    StockReceivedV2 {
        sku_code: old.sku,
        quantity: 1,
    }
}

#[test]
fn a_struct_is_stored_as_an_object() {
    let event = StockReceived {
        sku_code: "tea".into(),
        quantity: 3,
    };
    assert_eq!(stored(&event), json!({"skuCode": "tea", "quantity": 3}));
    assert_eq!(event.stored_type(), ("StockReceived", 2));
    assert_eq!(StockReceived::NAME, "StockReceived");
    assert_eq!(StockReceived::TOPIC, Some("stock"));
}

#[test]
fn a_struct_is_read_from_its_older_versions() {
    let expected = StockReceived {
        sku_code: "tea".into(),
        quantity: 1,
    };
    assert_eq!(
        read::<StockReceived>("StockReceived", 1, &json!({"sku": "tea"})),
        [expected]
    );
}

#[test]
fn a_unit_struct_is_stored_as_an_empty_object() {
    #[derive(Event, Clone, Debug, PartialEq)]
    #[event(crate = "factum_core", name = "DayClosed", version = 1)]
    struct DayClosed;
    assert_eq!(stored(&DayClosed), json!({}));
}

#[test]
fn a_newtype_is_stored_as_what_it_holds() {
    #[derive(Event, Clone, Debug, PartialEq)]
    #[event(crate = "factum_core", name = "PricesSet", version = 1)]
    struct PricesSet(Vec<u64>);
    assert_eq!(stored(&PricesSet(vec![3, 4])), json!([3, 4]));
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core", name = "LimitsSet", version = 1)]
#[serde(default)]
struct LimitsSet {
    daily: u64,
    monthly: u64,
}

impl Default for LimitsSet {
    fn default() -> Self {
        Self {
            daily: 100,
            monthly: 2_000,
        }
    }
}

#[test]
fn missing_fields_of_a_struct_come_from_its_default() {
    let expected = LimitsSet {
        daily: 5,
        monthly: 2_000,
    };
    assert_eq!(
        read::<LimitsSet>("LimitsSet", 1, &json!({"daily": 5})),
        [expected]
    );
    let shape = shape::<LimitsSet>("LimitsSet");
    assert_eq!(shape["properties"]["monthly"]["default"], json!(2_000));
    assert_eq!(shape["required"], json!(null));
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core", name = "FeesSet", version = 1)]
#[serde(default = "no_fees")]
struct FeesSet {
    card: u64,
}

fn no_fees() -> FeesSet {
    FeesSet { card: 0 }
}

#[test]
fn missing_fields_of_a_struct_come_from_its_function() {
    assert_eq!(
        read::<FeesSet>("FeesSet", 1, &json!({})),
        [FeesSet { card: 0 }]
    );
}
