//! Enums: each variant is a stored type.

use factum_core::{Event, EventType, Read, TypeName};
use factum_macros::Event;
use serde_json::json;

use super::support::{read, stored};

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core", topic = "orders")]
enum OrderEvent {
    #[event(name = "OrderCreated", version = 1)]
    Created { order_id: String, total: u64 },
    #[event(name = "OrderPaid", version = 1)]
    Paid(Payment),
    #[event(name = "OrderClosed", version = 1)]
    Closed,
    #[event(name = "OrderReopenedByHand", version = 1)]
    ReopenedByHand {},
}

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq)]
struct Payment {
    method: String,
}

#[test]
fn named_fields_are_stored_as_an_object() {
    let event = OrderEvent::Created {
        order_id: "order-1".into(),
        total: 1200,
    };
    assert_eq!(
        stored(&event),
        json!({"order_id": "order-1", "total": 1200})
    );
}

#[test]
fn a_newtype_is_stored_as_what_it_holds() {
    let event = OrderEvent::Paid(Payment {
        method: "card".into(),
    });
    assert_eq!(stored(&event), json!({"method": "card"}));
}

#[test]
fn a_variant_without_fields_is_stored_as_an_empty_object() {
    assert_eq!(stored(&OrderEvent::Closed), json!({}));
    assert_eq!(stored(&OrderEvent::ReopenedByHand {}), json!({}));
}

#[test]
fn data_without_fields_must_still_be_an_object() {
    assert!(OrderEvent::decode("OrderClosed", b"17").unwrap().is_err());
}

#[test]
fn fields_that_a_newer_writer_added_are_ignored() {
    let data = json!({"order_id": "order-1", "total": 1200, "channel": "web"});
    let expected = OrderEvent::Created {
        order_id: "order-1".into(),
        total: 1200,
    };
    assert_eq!(read::<OrderEvent>("OrderCreated", 1, &data), [expected]);
    assert_eq!(
        read::<OrderEvent>("OrderClosed", 1, &json!({"by": "kim"})),
        [OrderEvent::Closed]
    );
}

#[test]
fn data_of_another_shape_is_refused_and_names_the_field() {
    let error = OrderEvent::decode("OrderCreated", br#"{"order_id":"order-1"}"#)
        .unwrap()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing field `total` at line 1 column 22"
    );
}

#[test]
fn a_type_of_another_family_is_foreign() {
    assert!(OrderEvent::decode("StockReserved", b"{}").is_none());
    let catalog = factum_core::Catalog::<OrderEvent>::new().unwrap();
    assert_eq!(
        catalog
            .read(&TypeName::new("StockReserved", 1), b"{}")
            .unwrap(),
        Read::Foreign
    );
    assert_eq!(
        catalog.read(&TypeName::new("OrderPaid", 2), b"{}").unwrap(),
        Read::UnknownVersion
    );
}

#[test]
fn the_types_say_name_version_and_topic_in_the_order_of_the_variants() {
    let types = OrderEvent::types();
    let said: Vec<_> = types
        .iter()
        .map(
            |EventType {
                 name,
                 version,
                 topic,
                 ..
             }| (*name, *version, *topic),
        )
        .collect();
    let expected = [
        "OrderCreated",
        "OrderPaid",
        "OrderClosed",
        "OrderReopenedByHand",
    ];
    assert_eq!(said, expected.map(|name| (name, 1, Some("orders"))));
    assert_eq!(OrderEvent::TOPIC, Some("orders"));
}

#[test]
fn each_variant_has_a_constant_with_its_stored_name() {
    assert_eq!(OrderEvent::CREATED, "OrderCreated");
    assert_eq!(OrderEvent::REOPENED_BY_HAND, "OrderReopenedByHand");
    assert_eq!(OrderEvent::Closed.stored_type(), ("OrderClosed", 1));
}

mod private {
    //! A family without a topic.

    #[derive(factum_macros::Event, Clone, Debug)]
    #[event(crate = "factum_core")]
    pub(super) enum Note {
        #[event(name = "Noted", version = 1)]
        Noted,
    }
}

#[test]
fn a_family_without_a_topic_stays_in_its_store() {
    assert_eq!(private::Note::TOPIC, None);
    assert_eq!(private::Note::types()[0].topic, None);
    assert_eq!(
        private::Note::Noted.stored_type(),
        (private::Note::NOTED, 1)
    );
}

#[test]
fn a_family_can_be_local_to_a_function() {
    #[derive(Event, Clone, Debug, PartialEq)]
    #[event(crate = "factum_core")]
    enum Local {
        #[event(name = "r#Local", version = 1)]
        #[cfg(any())]
        Never,
        #[event(name = "Local", version = 1)]
        Happened { r#type: Kind },
    }
    #[derive(
        serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq,
    )]
    struct Kind(u8);
    assert_eq!(
        stored(&Local::Happened { r#type: Kind(7) }),
        json!({"type": 7})
    );
}
