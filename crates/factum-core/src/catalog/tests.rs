//! Chains of upcasters: what they read, and which mistakes are found at start-up.

use serde_json::{Value, json};

use super::*;

/// A family whose types and upcasters are given by a test.
trait Chain: Send + Sync + 'static {
    fn types() -> Vec<(&'static str, u32)>;
    fn upcasts() -> Vec<Upcast>;
}

#[derive(Debug, PartialEq)]
struct Of<C>(String, Value, PhantomData<fn() -> C>);

impl<C> Clone for Of<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone(), PhantomData)
    }
}

impl<C: Chain> Event for Of<C>
where
    C: std::fmt::Debug,
{
    const TOPIC: Option<&'static str> = None;
    fn types() -> Vec<EventType> {
        let shape = || schemars::json_schema!(true);
        C::types()
            .into_iter()
            .map(|(name, version)| EventType {
                name,
                version,
                topic: None,
                shape,
            })
            .collect()
    }
    fn upcasts() -> Vec<Upcast> {
        C::upcasts()
    }
    fn stored_type(&self) -> (&'static str, u32) {
        C::types()[0]
    }
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.1)
    }
    fn decode(name: &str, data: &[u8]) -> Option<Result<Self, serde_json::Error>> {
        let known = C::types().iter().any(|(known, _)| *known == name);
        known.then(|| {
            Ok(Self(
                name.into(),
                serde_json::from_slice(data)?,
                PhantomData,
            ))
        })
    }
}

fn one(
    from: (&'static str, u32),
    to: (&'static str, u32),
    with: fn(Value) -> Result<Value, UpcastError>,
) -> Upcast {
    Upcast {
        name: from.0,
        version: from.1,
        step: UpcastStep::One {
            name: to.0,
            version: to.1,
            with,
        },
    }
}

use crate::UpcastError;

macro_rules! chain {
    ($name:ident, $types:expr, $upcasts:expr) => {
        #[derive(Debug, PartialEq)]
        struct $name;
        impl Chain for $name {
            fn types() -> Vec<(&'static str, u32)> {
                $types.to_vec()
            }
            fn upcasts() -> Vec<Upcast> {
                $upcasts.to_vec()
            }
        }
    };
}

chain!(
    Whole,
    [("Created", 3), ("Paid", 1)],
    [
        one(("Created", 1), ("Created", 2), |mut value| {
            value["currency"] = json!("KRW");
            Ok(value)
        }),
        one(("Created", 2), ("Created", 3), |mut value| {
            let object = value.as_object_mut().ok_or("not an object")?;
            let total = object.remove("total").ok_or("`total` is missing")?;
            object.insert("total_amount".into(), total);
            Ok(value)
        }),
        one(("Placed", 1), ("Created", 2), Ok),
        Upcast {
            name: "CreatedAndPaid",
            version: 1,
            step: UpcastStep::Many {
                into: &[("Created", 1), ("Paid", 1)],
                with: |value| Ok(vec![("Created", value), ("Paid", json!({}))]),
            },
        },
        Upcast {
            name: "Noted",
            version: 1,
            step: UpcastStep::Drop
        },
    ]
);

fn read(name: &str, version: u32, data: &Value) -> Result<Vec<(String, Value, Part)>, String> {
    let data = serde_json::to_vec(data).unwrap();
    match Catalog::<Of<Whole>>::new()
        .unwrap()
        .read(&TypeName::new(name, version), &data)
    {
        Ok(Read::Events(events)) => Ok(events
            .into_iter()
            .map(|(e, part)| (e.0, e.1, part))
            .collect()),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_chain_leads_from_the_oldest_version_to_the_present_one() {
    let created = json!({"total_amount": 7, "currency": "KRW"});
    assert_eq!(
        read("Created", 1, &json!({"total": 7})),
        Ok(vec![("Created".into(), created, Part::WHOLE)])
    );
}

#[test]
fn a_renamed_type_joins_the_chain_in_the_middle() {
    let events = read("Placed", 1, &json!({"total": 7})).unwrap();
    assert_eq!(
        events,
        [("Created".into(), json!({"total_amount": 7}), Part::WHOLE)]
    );
}

#[test]
fn the_parts_of_a_split_event_come_in_order_and_are_upcast_further() {
    let events = read("CreatedAndPaid", 1, &json!({"total": 7})).unwrap();
    assert_eq!(
        events,
        [
            (
                "Created".into(),
                json!({"total_amount": 7, "currency": "KRW"}),
                Part { index: 1, of: 2 }
            ),
            ("Paid".into(), json!({}), Part { index: 2, of: 2 }),
        ]
    );
}

#[test]
fn a_dropped_type_is_no_event_and_no_error() {
    assert_eq!(read("Noted", 1, &json!({})), Ok(vec![]));
}

#[test]
fn unknown_types_and_versions_are_told_apart() {
    assert_eq!(read("Odd", 1, &json!({})), Err("Foreign".into()));
    assert_eq!(read("Created", 4, &json!({})), Err("UnknownVersion".into()));
    assert_eq!(read("Placed", 2, &json!({})), Err("UnknownVersion".into()));
}

#[test]
fn an_upcaster_that_refuses_is_poison_with_the_way_it_went() {
    assert_eq!(
        read("Created", 1, &json!({})),
        Err("`Created v1` can't be upcast from Created v2: `total` is missing".into())
    );
}

chain!(
    Gap,
    [("Created", 3)],
    [one(("Created", 2), ("Created", 3), Ok)]
);
chain!(
    Nowhere,
    [("Created", 1)],
    [one(("Placed", 1), ("Created", 2), Ok)]
);
chain!(
    Circle,
    [("Created", 1)],
    [one(("A", 1), ("B", 1), Ok), one(("B", 1), ("A", 1), Ok)]
);
chain!(
    Backwards,
    [("Created", 1)],
    [one(("Created", 1), ("Created", 2), Ok)]
);

#[test]
fn mistakes_in_a_chain_are_found_at_start_up() {
    fn error<C: Chain + std::fmt::Debug>() -> String {
        Catalog::<Of<C>>::new().unwrap_err().to_string()
    }
    assert_eq!(
        error::<Gap>(),
        "event `Created`: stored version 1 can't be read; add `upcast(1 => ..)` to reach version 3"
    );
    assert!(
        error::<Nowhere>().contains("neither the present version"),
        "{}",
        error::<Nowhere>()
    );
    assert!(
        error::<Circle>().contains("doesn't end"),
        "{}",
        error::<Circle>()
    );
    assert!(
        error::<Backwards>().contains("not older"),
        "{}",
        error::<Backwards>()
    );
}
