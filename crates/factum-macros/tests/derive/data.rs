//! serde's attributes on fields mean what they always mean, written and read.

use std::collections::BTreeMap;

use factum_core::Event;
use factum_macros::Event;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{read, stored};

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core")]
#[serde(rename_all_fields = "camelCase")]
enum Described {
    #[event(name = "Renamed", version = 1)]
    Renamed {
        first_field: u8,
        #[serde(rename = "second-field")]
        second: u8,
        #[serde(alias = "total")]
        total_amount: u8,
    },
    #[event(name = "Shouted", version = 1)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    Shouted { first_field: u8 },
    #[event(name = "Optional", version = 1)]
    Optional {
        #[serde(default)]
        count: u8,
        #[serde(default = "seven")]
        lucky: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        #[serde(default, skip_serializing_if = "is_default")]
        generic: u8,
        #[serde(skip)]
        cached: Vec<u8>,
    },
    #[event(name = "Converted", version = 1)]
    Converted {
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        price: u64,
        #[serde(
            serialize_with = "as_text::serialize",
            deserialize_with = "as_text::deserialize"
        )]
        #[schemars(with = "String")]
        tax: u64,
    },
    #[event(name = "Flat", version = 1)]
    Flat {
        id: u8,
        #[serde(flatten)]
        address: Address,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    },
    #[event(name = "Priced", version = 1)]
    Priced(
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        u64,
    ),
    #[event(name = "Foreign", version = 1)]
    Foreign {
        id: Uuid,
        #[schemars(with = "String")]
        version: SemanticVersion,
    },
    #[event(name = "Many", version = 1)]
    Many {
        nested: Vec<Option<(u8, Box<Address>)>>,
        big: u64,
        negative: i64,
    },
}

#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq)]
struct Address {
    street: String,
}

/// A type of somebody else's, which has no shape of its own.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct SemanticVersion(String);

fn seven() -> u8 {
    7
}

// Works on the field's own type only: a copy that holds references could not call it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

mod as_text {
    //! Numbers as text.

    use std::fmt::Display;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        number: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[test]
fn fields_can_be_renamed_one_by_one_or_together() {
    let event = Described::Renamed {
        first_field: 1,
        second: 2,
        total_amount: 3,
    };
    assert_eq!(
        stored(&event),
        json!({"firstField": 1, "second-field": 2, "totalAmount": 3})
    );
    let data = json!({"firstField": 1, "second-field": 2, "total": 3});
    assert_eq!(read::<Described>("Renamed", 1, &data), [event]);
}

#[test]
fn a_variant_can_rename_its_fields_in_another_way() {
    assert_eq!(
        stored(&Described::Shouted { first_field: 1 }),
        json!({"FIRST_FIELD": 1})
    );
}

#[test]
fn missing_fields_get_their_defaults() {
    let event = Described::Optional {
        count: 0,
        lucky: 7,
        note: None,
        generic: 0,
        cached: Vec::new(),
    };
    assert_eq!(read::<Described>("Optional", 1, &json!({})), [event]);
}

#[test]
fn skipped_fields_are_not_stored() {
    let event = Described::Optional {
        count: 1,
        lucky: 2,
        note: None,
        generic: 0,
        cached: Vec::new(),
    };
    assert_eq!(stored(&event), json!({"count": 1, "lucky": 2}));
    let cached = Described::Optional {
        count: 1,
        lucky: 2,
        note: None,
        generic: 0,
        cached: vec![1],
    };
    assert_eq!(cached.encode().unwrap(), event.encode().unwrap());
}

#[test]
fn fields_can_have_functions_of_their_own() {
    let event = Described::Converted { price: 12, tax: 3 };
    assert_eq!(stored(&event), json!({"price": "12", "tax": "3"}));
    assert_eq!(stored(&Described::Priced(12)), json!("12"));
}

#[test]
fn fields_can_be_flattened() {
    let rest = BTreeMap::from([("floor".into(), json!(3))]);
    let event = Described::Flat {
        id: 1,
        address: Address {
            street: "Elm".into(),
        },
        rest,
    };
    assert_eq!(
        stored(&event),
        json!({"id": 1, "street": "Elm", "floor": 3})
    );
}

#[test]
fn foreign_types_go_in_by_their_own_serde() {
    let event = Described::Foreign {
        id: Uuid::from_u128(1),
        version: SemanticVersion("1.2".into()),
    };
    assert_eq!(
        stored(&event),
        json!({"id": "00000000-0000-0000-0000-000000000001", "version": "1.2"})
    );
}

#[test]
fn nested_values_and_large_numbers_come_back_exactly() {
    let address = Box::new(Address {
        street: "Elm".into(),
    });
    let event = Described::Many {
        nested: vec![Some((1, address)), None],
        big: u64::MAX,
        negative: i64::MIN,
    };
    let expected =
        json!({"nested": [[1, {"street": "Elm"}], null], "big": u64::MAX, "negative": i64::MIN});
    assert_eq!(stored(&event), expected);
}

#[test]
fn what_cannot_be_json_is_an_error_and_no_panic() {
    #[derive(Event, Clone, Debug)]
    #[event(crate = "factum_core")]
    enum Odd {
        #[event(name = "Odd", version = 1)]
        Odd { by_pair: BTreeMap<Pair, u8> },
    }
    #[derive(
        Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord,
    )]
    struct Pair(u8, u8);
    let event = Odd::Odd {
        by_pair: BTreeMap::from([(Pair(1, 2), 3)]),
    };
    assert_eq!(
        event.encode().unwrap_err().to_string(),
        "key must be a string"
    );
}

/// The user's own `Serialize` is for something else, and leaves the data alone.
#[derive(Event, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[event(crate = "factum_core")]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Both {
    #[event(name = "BothHappened", version = 1)]
    #[serde(rename = "it")]
    Happened { the_count: u8 },
    #[event(name = "NothingHappened", version = 1)]
    Nothing,
}

#[test]
fn a_serialize_of_the_users_own_does_not_change_what_is_stored() {
    let event = Both::Happened { the_count: 1 };
    assert_eq!(stored(&event), json!({"the_count": 1}));
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        json!({"kind": "it", "the_count": 1})
    );
    assert_eq!(stored(&Both::Nothing), json!({}));
}
