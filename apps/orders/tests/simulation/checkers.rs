//! What must hold at the end of a story, by rules that know nothing of the platform's code.
//!
//! The [laws of every history](factum_sim::checks) come first: logs, topics, effects, projections. Then what the
//! platform means: each aggregate is folded again by a [small model](models), each view by a [table](rows) of its own,
//! what users were answered is [compared](answers) with what is recorded. The platform's own invariants, which the
//! demo shows too, come last.

mod answers;
mod models;
mod raw;
mod rows;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, collections::BTreeMap};

use factum::{Error, Query, Store, ViewName};
use factum_sim::{
    Book, History,
    checks::{self, Broken, Expected},
};
use factum_testkit::MemoryBroker;
use orders::{
    invariants::{self, Facts},
    platform::{Platform, Role},
};

use crate::{
    script::{Deed, Script},
    world::{Reading, World},
};

/// All that is looked at when a story has come to rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Logs, topics and commits.
    pub(crate) history: History,
    /// The rows of all views, by service, view and id.
    pub(crate) rows: BTreeMap<Place, serde_json::Value>,
    /// What was read with the tokens of commands.
    pub(crate) readings: Vec<Reading>,
    /// The deeds, each with what was answered.
    pub(crate) deeds: Vec<(usize, Deed, Option<bool>)>,
    /// The facts that the platform gathers of itself.
    pub(crate) facts: Facts,
}

/// A row's place: the service, the view, the id.
pub(crate) type Place = (Role, String, String);

/// The views, with their services.
const VIEWS: [(Role, &str); 7] = [
    (Role::Users, "users"),
    (Role::Order, "orders"),
    (Role::Order, "order-users"),
    (Role::Order, "levels"),
    (Role::Payment, "payments"),
    (Role::Stock, "shelves"),
    (Role::Notification, "notifications"),
];

/// Topics, with the types of events that are read there.
type Reads = &'static [(&'static str, &'static [&'static str])];

/// The groups, with their services and the types of events that they are for, topic by topic: written down here once
/// more, since what the code says of it is what is checked.
const GROUPS: [(Role, &str, Reads); 8] = [
    (
        Role::Order,
        "order-service",
        &[
            ("payments", &["PaymentCompleted", "PaymentFailed"]),
            ("stock", &["StockReserved", "StockRejected"]),
        ],
    ),
    (
        Role::Order,
        "order-imports",
        &[
            ("users", &["UserRegistered"]),
            (
                "stock",
                &["ItemReceived", "ItemReserved", "ItemReleased", "ItemTaken"],
            ),
        ],
    ),
    (
        Role::Payment,
        "payment-service",
        &[
            (
                "orders",
                &["OrderCreated", "OrderPaymentRequested", "OrderCancelled"],
            ),
            ("stock", &["StockRejected"]),
        ],
    ),
    (
        Role::Payment,
        "payment-refunds",
        &[("payments", &["RefundRequested"])],
    ),
    (
        Role::Stock,
        "stock-service",
        &[
            ("payments", &["PaymentCompleted"]),
            ("orders", &["OrderCancelled", "OrderShipped"]),
        ],
    ),
    (
        Role::Stock,
        "stock-imports",
        &[("orders", &["OrderCreated"])],
    ),
    (
        Role::Stock,
        "stock-shelves",
        &[("stock", &["StockReleased", "StockTaken"])],
    ),
    (
        Role::Notification,
        "notification-service",
        &[
            ("stock", &["StockReserved", "StockRejected"]),
            ("payments", &["PaymentFailed", "PaymentRefunded"]),
            ("orders", &["OrderShipped", "OrderCancelled"]),
        ],
    ),
];

impl Evidence {
    /// Gathers it, from the disks and not through a node where that is possible.
    // The story is over: nothing else borrows the world.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "only this task borrows the world"
    )]
    pub(crate) async fn gather(
        script: &Script,
        world: &RefCell<World>,
        broker: &MemoryBroker,
        node: &Platform,
    ) -> Result<Self, Error> {
        let world = world.borrow();
        let history = world.history(broker).await?;
        let mut rows = BTreeMap::new();
        for (role, view) in VIEWS {
            read_rows(&*world.store(role), role, view, &mut rows).await?;
        }
        let deed = |(number, deed): &(usize, Deed)| {
            (*number, deed.clone(), world.answered.get(number).copied())
        };
        Ok(Self {
            history,
            rows,
            readings: world.readings.clone(),
            deeds: script.deeds.iter().map(deed).collect(),
            facts: node.facts().await?,
        })
    }

    /// The book of a service.
    pub(crate) fn book(&self, role: Role) -> &Book {
        let book = |book: &&Book| book.service.as_str() == role.name();
        let book = self.history.books.iter().find(book);
        book.expect("there is a book of each service")
    }
}

async fn read_rows(
    store: &dyn Store,
    role: Role,
    view: &str,
    rows: &mut BTreeMap<Place, serde_json::Value>,
) -> Result<(), Error> {
    let views = store.views();
    let views = views.ok_or_else(|| Error::fatal("a memory store holds views"))?;
    let name = ViewName::new(view).map_err(|error| Error::fatal(error.to_string()))?;
    let mut query = Query::all().limit(1_000);
    loop {
        let page = views.query(&name, None, &query).await?;
        for row in page.rows {
            let document = row.document.read::<serde_json::Value>();
            let document = document.map_err(|error| Error::fatal(error.to_string()))?;
            rows.insert((role, view.into(), row.id), document);
        }
        let Some(next) = page.next else {
            return Ok(());
        };
        query = query.after(next);
    }
}

/// All that is wrong.
pub(crate) fn check(evidence: &Evidence) -> Vec<Broken> {
    let Evidence { history, .. } = evidence;
    let mut broken = Vec::new();
    for book in &history.books {
        broken.extend(checks::log(book));
        broken.extend(checks::publishing(book, history));
        broken.extend(checks::projections(book));
        let groups: Vec<_> = GROUPS
            .iter()
            .filter(|(role, ..)| role.name() == book.service.as_str())
            .map(|(_, group, reads)| {
                let topics = reads.iter().map(|(topic, _)| factum::Topic::of(topic));
                (factum::Group::of(group), topics.collect())
            })
            .collect();
        broken.extend(checks::effects(book, history, &groups, expected));
        broken.extend(models::check(book));
    }
    broken.extend(rows::check(evidence));
    broken.extend(answers::check(evidence));
    let invariants = invariants::check(&evidence.facts);
    broken.extend(
        invariants
            .iter()
            .map(|what| Broken::new("invariants", what.to_string())),
    );
    broken
}

/// What should become of a message in a group.
fn expected(group: &factum::Group, message: &factum::Message) -> Expected {
    let value: Option<serde_json::Value> = message
        .value
        .as_deref()
        .and_then(|value| serde_json::from_slice(value).ok());
    let text = |name| value.as_ref()?.get(name)?.as_str();
    let (Some(id), Some(event_type)) = (text("event_id"), text("event_type")) else {
        return Expected::GivenUp;
    };
    let read = GROUPS
        .iter()
        .filter(|(_, name, _)| *name == group.as_str())
        .flat_map(|(_, _, reads)| *reads)
        .filter(|(topic, _)| *topic == message.topic.as_str())
        .any(|(_, types)| types.contains(&event_type));
    match read {
        false => Expected::Nothing,
        true if id.starts_with("poison") => Expected::GivenUp,
        true => Expected::Handled(id.into()),
    }
}
