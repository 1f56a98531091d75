//! The derives of Factum.
//!
//! Applications get them from the facade crate `factum`. What a derive promises stands with it; what it makes is
//! the code that a careful author would have written by hand, and nothing of it runs before `main`.

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod attributes;
mod container;
mod copies;
mod derived;
mod family;
mod faults;
mod name;
mod versions;

/// Makes an enum or a struct a family of events: each variant, or the struct, is one *stored type*, with a name, a
/// version and a shape that outlive the Rust code.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::Event;
/// # use factum_macros::Event;
/// #[derive(Event, Clone, Debug, PartialEq)]
/// #[event(topic = "orders")]
/// enum OrderEvent {
///     #[event(name = "OrderCreated", version = 1)]
///     Created { order_id: String, total_amount: u64 },
///     #[event(name = "OrderClosed", version = 1)]
///     Closed,
/// }
///
/// let event = OrderEvent::Created { order_id: "order-1".into(), total_amount: 1200 };
/// assert_eq!(event.stored_type(), (OrderEvent::CREATED, 1));
/// assert_eq!(event.encode().unwrap(), br#"{"order_id":"order-1","total_amount":1200}"#);
/// assert_eq!(OrderEvent::decode("OrderClosed", b"{}").unwrap().unwrap(), OrderEvent::Closed);
/// ```
///
/// A stored name and a version are always written out: renaming a Rust type or variant changes nothing that is
/// stored. Without them the code doesn't compile.
///
/// Beside the implementation, each variant gets a constant with its stored name (`OrderEvent::CREATED` above), and
/// a struct gets `NAME`.
///
/// # What a variant may hold
///
/// | variant | its data |
/// |---|---|
/// | `Created { order_id: .., total: .. }` | an object of the fields |
/// | `Created(OrderCreated)` | what the inner type is in JSON |
/// | `Closed` | `{}` |
/// | `Order(OrderEvent)` with `#[event(family)]` | an event of another family, as it is stored there |
///
/// What a `family` variant holds also becomes the enum by `From`.
///
/// Field types are `Serialize`, `Deserialize` and `JsonSchema`; the event itself need not be. So every stored type
/// knows its whole shape, nested types and serde attributes included. A foreign type has a shape by a feature of
/// schemars (such as `uuid1`), or because the field says what it looks like: `#[schemars(with = "String")]`.
///
/// serde's and schemars' attributes on fields mean what they always mean, and so do `rename_all` on a variant or
/// struct, `rename_all_fields` on an enum, `default` and `transparent` on a struct. Others on the enum and its
/// variants (`tag`, `rename`, ..) name variants, which are not stored: they are for a `Serialize` that you derive
/// for another purpose. Fields that the reader doesn't know are ignored, and can't be denied: a newer writer may
/// have added them.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::Event;
/// # use factum_macros::Event;
/// #[derive(Event, Clone, Debug)]
/// #[event(name = "StockReceived", version = 1, topic = "stock")]
/// #[serde(rename_all = "camelCase")]
/// struct StockReceived {
///     sku_code: String,
///     #[serde(default, skip_serializing_if = "Option::is_none")]
///     supplier: Option<String>,
/// }
///
/// let event = StockReceived { sku_code: "tea".into(), supplier: None };
/// assert_eq!(event.encode().unwrap(), br#"{"skuCode":"tea"}"#);
/// ```
///
/// # When a shape changes
///
/// Count the version up and say how older data becomes newer data. What is stored is never rewritten; it is upcast
/// whenever it is read. An upcaster is an ordinary function between types that serde knows (`serde_json::Value` is
/// one of them), and may return a `Result` whose error can be displayed.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::{Catalog, Event, Part, Read, TypeName};
/// # use factum_macros::Event;
/// use serde_json::{Value, json};
///
/// #[derive(Event, Clone, Debug, PartialEq)]
/// enum OrderEvent {
///     #[event(name = "OrderCreated", version = 2, upcast(1 => with_currency))]
///     Created { total_amount: u64, currency: String },
/// }
///
/// fn with_currency(mut old: Value) -> Value {
///     old["currency"] = json!("KRW");
///     old
/// }
///
/// let catalog = Catalog::<OrderEvent>::new()?;
/// let read = catalog.read(&TypeName::new("OrderCreated", 1), br#"{"total_amount":1200}"#)?;
/// let created = OrderEvent::Created { total_amount: 1200, currency: "KRW".into() };
/// assert_eq!(read, Read::Events(vec![(created, Part::WHOLE)]));
/// # Ok::<(), factum_core::Error>(())
/// ```
///
/// On a variant or a struct:
///
/// - `upcast(1 => f, 2 => g)`: `f` leads from version 1 to 2, `g` from 2 to 3. Every older version needs its step.
/// - `renamed_from("OrderPlaced", 1 => 2, with = f)`: version 1 of a type that was called `OrderPlaced` becomes
///   version 2 of this one, and goes on from there. Without `with` its data stays as it is.
///
/// On the enum or the struct, for types that are no longer written:
///
/// - `split("OrderPlacedAndPaid", 1 => [("OrderCreated", 2), ("OrderPaid", 1)], with = f)`: one event becomes
///   several, none included. `f` returns them in order, each with its name: a list of `(&'static str, data)`.
/// - `drop("OrderNoted", 1)`: such events no longer mean anything, and are passed over.
///
/// A step from a version that isn't older, into a type that doesn't exist, or a version that nothing reads don't
/// compile. What only several families together can tell is found at start-up, when their catalog is made.
///
/// # On the enum or the struct
///
/// - `topic = "orders"`: where its events are published. Without it they stay in their store.
/// - `crate = "path"`: where Factum is found, if not at `::factum`.
///
/// An enum of families is what a projection or reactor takes that handles several:
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::Event;
/// # use factum_macros::Event;
/// # #[derive(Event, Clone, Debug)]
/// # #[event(topic = "orders")]
/// # enum OrderEvent {
/// #     #[event(name = "OrderClosed", version = 1)]
/// #     Closed,
/// # }
/// # #[derive(Event, Clone, Debug)]
/// # #[event(name = "StockReceived", version = 1)]
/// # struct StockReceived {
/// #     sku: String,
/// # }
/// #[derive(Event, Clone, Debug)]
/// enum Handled {
///     #[event(family)]
///     Order(OrderEvent),
///     #[event(family)]
///     Stock(StockReceived),
/// }
///
/// let names: Vec<_> = Handled::types().iter().map(|stored| stored.name).collect();
/// assert_eq!(names, ["OrderClosed", "StockReceived"]);
/// ```
///
/// # What doesn't compile
///
/// ```compile_fail
/// # extern crate factum_core as factum;
/// # use factum_macros::Event;
/// #[derive(Event, Clone, Debug)]
/// enum OrderEvent {
///     Created { order_id: String }, // no stored name and no version
/// }
/// ```
#[proc_macro_derive(Event, attributes(event, serde, schemars))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    match family::Family::read(input.clone()) {
        Ok(family) => family.derived().into(),
        Err(error) => {
            let mut tokens = error.into_compile_error();
            tokens.extend(derived::stand_in(&input));
            tokens.into()
        }
    }
}
