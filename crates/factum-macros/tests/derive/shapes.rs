//! The whole shape of a stored type: nested types, serde's attributes, foreign types.

use factum_macros::Event;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::shape;

/// What happens to orders.
#[derive(Event, Clone, Debug)]
#[event(crate = "factum_core")]
enum OrderEvent {
    /// An order was created.
    #[event(name = "OrderCreated", version = 1)]
    #[serde(rename_all = "camelCase")]
    Created {
        /// Whose it is.
        user_id: Uuid,
        order_items: Vec<Item>,
        #[serde(default)]
        note: Option<String>,
        #[serde(default = "one")]
        parcels: u8,
        #[serde(with = "text")]
        #[schemars(with = "String")]
        weight: Weight,
        #[serde(skip)]
        cached: Uncounted,
    },
    /// It was paid.
    #[event(name = "OrderPaid", version = 1)]
    Paid(
        /// How.
        Payment,
    ),
    #[event(name = "OrderClosed", version = 1)]
    Closed,
    /// A type with the name of a stored type, and another shape.
    #[event(name = "Payment", version = 1)]
    Refunded { payment: Payment },
}

#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug)]
struct Item {
    #[serde(rename = "qty")]
    quantity: u32,
    colour: Colour,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug)]
#[serde(rename_all = "kebab-case")]
enum Colour {
    LightBlue,
    Red,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug)]
struct Payment {
    method: String,
}

/// No shape: its field says how it is stored.
#[derive(Clone, Debug)]
struct Weight(u32);

/// Neither shape nor serde: it isn't stored.
#[derive(Clone, Debug, Default)]
struct Uncounted;

fn one() -> u8 {
    1
}

mod text {
    //! A weight as text.

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Weight;

    pub(super) fn serialize<S: Serializer>(
        weight: &Weight,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&weight.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Weight, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Weight)
            .map_err(D::Error::custom)
    }
}

fn type_of(shape: &Value, field: &str) -> Value {
    shape["properties"][field]["type"].clone()
}

#[test]
fn a_shape_is_that_of_an_object_with_the_stored_name_as_its_title() {
    let shape = shape::<OrderEvent>("OrderCreated");
    assert_eq!(shape["title"], "OrderCreated");
    assert_eq!(shape["type"], "object");
    assert_eq!(shape["description"], "An order was created.");
    assert_eq!(shape["properties"]["userId"]["description"], "Whose it is.");
}

#[test]
fn a_shape_has_the_fields_under_their_stored_names_and_says_which_must_be_there() {
    let shape = shape::<OrderEvent>("OrderCreated");
    let fields: Vec<&String> = shape["properties"].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["userId", "orderItems", "note", "parcels", "weight"]
    );
    assert_eq!(shape["required"], json!(["userId", "orderItems", "weight"]));
    assert_eq!(type_of(&shape, "note"), json!(["string", "null"]));
    assert_eq!(shape["properties"]["parcels"]["default"], 1);
}

#[test]
fn a_shape_goes_down_into_nested_types_and_their_serde_attributes() {
    let shape = shape::<OrderEvent>("OrderCreated");
    assert_eq!(
        shape["properties"]["orderItems"]["items"]["$ref"],
        "#/$defs/Item"
    );
    assert_eq!(shape["$defs"]["Item"]["required"], json!(["qty", "colour"]));
    assert_eq!(
        shape["$defs"]["Colour"]["enum"],
        json!(["light-blue", "red"])
    );
}

#[test]
fn foreign_types_have_the_shape_that_schemars_knows_or_the_field_states() {
    let shape = shape::<OrderEvent>("OrderCreated");
    assert_eq!(shape["properties"]["userId"]["format"], "uuid");
    assert_eq!(type_of(&shape, "weight"), "string");
}

#[test]
fn a_newtype_has_the_shape_of_what_it_holds() {
    let shape = shape::<OrderEvent>("OrderPaid");
    assert_eq!(shape["title"], "OrderPaid");
    assert_eq!(type_of(&shape, "method"), "string");
}

#[test]
fn a_variant_without_fields_is_an_empty_object() {
    let shape = shape::<OrderEvent>("OrderClosed");
    assert_eq!(shape["type"], "object");
    assert_eq!(shape["properties"], Value::Null);
}

#[test]
fn a_nested_type_with_the_name_of_a_stored_type_is_another_type() {
    let shape = shape::<OrderEvent>("Payment");
    assert_eq!(shape["properties"]["payment"]["$ref"], "#/$defs/Payment");
    assert_eq!(shape["$defs"]["Payment"]["required"], json!(["method"]));
}
