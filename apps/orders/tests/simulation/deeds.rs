//! What users do: each deed is asked for until it is answered, and then its view is looked at once.

use std::{cell::RefCell, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use factum::{
    Aggregate, Broker as _, CommandError, CommandOptions, Commands, Error, Headers, Idempotency,
    Key, Outgoing, QueryError, Token, Topic, View,
};
use factum_testkit::MemoryBroker;
use orders::{
    contracts::{Currency, Item, OrderId, PaymentMode, Sku, UserId},
    order::{Order, OrderCommand, PlaceOrder},
    platform::{Platform, Role},
    stock::{Shelf, ShelfCommand},
    users::{RegisterUser, User},
};

use crate::{
    script::Deed,
    world::{Reading, World},
};

/// How many partitions the topics have.
const PARTITIONS: u32 = 8;

/// How long an answer is remembered: longer than any story's clock jumps.
const REMEMBER: Duration = Duration::from_hours(10 * 24);

/// What came of asking.
pub(crate) enum Answer {
    /// It was done, and this token was given, if it was a command's.
    Done(Option<Token>),
    /// It was refused.
    Refused,
    /// Nobody knows: ask again in the next life.
    Unknown,
}

impl Deed {
    /// Whether it is a command, which may be given again: the key tells.
    pub(crate) fn has_a_key(&self) -> bool {
        !matches!(self, Self::Poison { .. } | Self::Foreign { .. })
    }
}

/// By what a deed is known: its idempotency key, and the story of its events.
pub(crate) fn name(number: usize) -> String {
    format!("deed-{number}")
}

/// By what the n-th part of a deed is known.
pub(crate) fn part(number: usize, part: usize) -> String {
    format!("deed-{number}-{part}")
}

fn user_id(user: usize) -> String {
    format!("user-{user}")
}

fn sku_id(sku: usize) -> String {
    format!("sku-{sku}")
}

fn order_id(order: usize) -> String {
    format!("order-{order}")
}

/// Asks for a deed.
pub(crate) async fn ask(
    node: &Platform,
    broker: &Arc<MemoryBroker>,
    world: &RefCell<World>,
    number: usize,
    deed: &Deed,
) -> Result<Answer, String> {
    let key = name(number);
    let order = |order: usize, command: OrderCommand| {
        let (commands, key) = (node.commands(Role::Order), key.clone());
        async move {
            let id = OrderId::of(&order_id(order));
            execute::<Order>(&commands, &id, command, &key).await
        }
    };
    match deed {
        Deed::Register { user } => {
            let command = RegisterUser {
                user_id: UserId::of(&user_id(*user)),
                name: "Kim".into(),
                email: "kim@example.org".into(),
            };
            let id = UserId::of(&user_id(*user));
            execute::<User>(&node.commands(Role::Users), &id, command, &key).await
        }
        Deed::Receive { sku, qty } => receive(node, *sku, *qty, &key).await,
        Deed::Flood { sku, times } => flood(node, *sku, *times, number).await,
        Deed::Place {
            order: number,
            user,
            items,
            card,
            manual,
        } => {
            let item = |(thing, qty): &(usize, u32)| Item {
                sku: Sku::of(&sku_id(*thing)),
                name: "thing".into(),
                qty: *qty,
                price: 500,
            };
            let command = OrderCommand::Place(PlaceOrder {
                order_id: OrderId::of(&order_id(*number)),
                user_id: UserId::of(&user_id(*user)),
                items: items.iter().map(item).collect(),
                currency: Currency::won(),
                payment: if *manual {
                    PaymentMode::Manual
                } else {
                    PaymentMode::Auto
                },
                card: Some((*card).to_string()),
            });
            order(*number, command).await
        }
        Deed::Pay { order: number } => order(*number, OrderCommand::Pay { card: None }).await,
        Deed::Cancel { order: number } => {
            let reason = "changed my mind".into();
            order(*number, OrderCommand::Cancel { reason }).await
        }
        Deed::Ship { order: number } => {
            let tracking = "T-1".into();
            order(*number, OrderCommand::Ship { tracking }).await
        }
        Deed::Poison {
            number,
            user,
            readable,
        } => {
            let lane = user.map_or(format!("poison-{number}"), user_id);
            let value = if *readable {
                // An envelope that can be read, around an order that can't.
                format!(
                    r#"{{"event_type":"OrderCreated","event_id":"poison-{number}","timestamp":"2026-03-02T10:00:00","data":{{"order_id":7}}}}"#
                )
            } else {
                r#"{"event_type":7}"#.into()
            };
            publish(broker, world, &lane, &value).await
        }
        Deed::Foreign { number } => {
            // What a service in another language writes: an order that ours has never seen, in version 1.
            let value = format!(
                r#"{{"event_type":"OrderCreated","event_id":"foreign-{number}","timestamp":"2026-03-02T10:00:00","data":{{"order_id":"foreign-{number}","user_id":"user-0","items":[{{"name":"sku-0","qty":1,"price":100}}],"total":100}}}}"#
            );
            publish(broker, world, "user-0", &value).await
        }
    }
}

async fn receive(node: &Platform, sku: usize, qty: u64, key: &str) -> Result<Answer, String> {
    let id = Sku::of(&sku_id(sku));
    let command = ShelfCommand::Receive {
        sku: Sku::of(&sku_id(sku)),
        qty,
    };
    execute::<Shelf>(&node.commands(Role::Stock), &id, command, key).await
}

/// All deliveries at a time; what of them was not answered is asked for again with the rest.
async fn flood(node: &Platform, sku: usize, times: usize, number: usize) -> Result<Answer, String> {
    let mut token = None;
    let mut unknown = false;
    let keys: Vec<_> = (0..times).map(|time| part(number, time)).collect();
    let asked = keys.iter().map(|key| receive(node, sku, 1, key));
    for answer in futures_util::future::join_all(asked).await {
        match answer? {
            Answer::Done(done) => token = done.or(token),
            Answer::Refused => return Err(format!("`{}` was refused in part", name(number))),
            Answer::Unknown => unknown = true,
        }
    }
    Ok(if unknown {
        Answer::Unknown
    } else {
        Answer::Done(token)
    })
}

async fn execute<A: Aggregate>(
    commands: &Commands,
    id: &A::Id,
    command: A::Command,
    key: &str,
) -> Result<Answer, String> {
    let idempotency = Idempotency {
        scope: "simulation".into(),
        key: key.into(),
        request: 1,
        answer: Bytes::from_static(b"ok"),
        remember: REMEMBER,
    };
    let options = CommandOptions {
        idempotency: Some(idempotency),
        // By this its events are known.
        correlation_id: Some(key.into()),
        ..CommandOptions::default()
    };
    match commands.execute_with::<A>(id, command, options).await {
        Ok(executed) => Ok(Answer::Done(Some(executed.token))),
        Err(CommandError::Rejected(_)) => Ok(Answer::Refused),
        Err(CommandError::Failed(error))
            if error.is_transient() || error.is_unknown() || error.is_conflict() =>
        {
            Ok(Answer::Unknown)
        }
        Err(error) => Err(format!("command `{key}` failed: {error}")),
    }
}

/// Publishes as a foreign producer does: once or, when it doesn't know better, twice.
async fn publish(
    broker: &Arc<MemoryBroker>,
    world: &RefCell<World>,
    key: &str,
    value: &str,
) -> Result<Answer, String> {
    let key = Key::from(key);
    let message = Outgoing {
        topic: Topic::of("orders"),
        partition: key.partition(PARTITIONS),
        key: Some(key),
        headers: Headers::new(),
        value: Some(Bytes::from(value.to_string())),
        timestamp: world.borrow().env.now(),
    };
    let text = |error: Error| format!("{error:#}");
    let mut producer = broker.producer().await.map_err(text)?;
    producer
        .send(vec![(1, message.clone()), (2, message)])
        .await
        .map_err(text)?;
    producer.reports().await.map_err(text)?;
    Ok(Answer::Done(None))
}

/// Looks at the views that show a deed, with its token.
pub(crate) async fn read(
    node: &Platform,
    number: usize,
    deed: &Deed,
    token: &Token,
) -> Result<Vec<Reading>, String> {
    let places: Vec<(Role, &'static str, String)> = match deed {
        Deed::Register { user } => vec![(Role::Users, "users", user_id(*user))],
        Deed::Receive { sku, .. } | Deed::Flood { sku, .. } => vec![
            (Role::Stock, "shelves", sku_id(*sku)),
            (Role::Order, "levels", sku_id(*sku)),
        ],
        Deed::Place { order, .. }
        | Deed::Pay { order }
        | Deed::Cancel { order }
        | Deed::Ship { order } => vec![(Role::Order, "orders", order_id(*order))],
        Deed::Poison { .. } | Deed::Foreign { .. } => Vec::new(),
    };
    let mut readings = Vec::new();
    for (role, view, id) in places {
        // Some readers don't want to wait.
        let patience = Duration::from_secs(u64::from(number % 4 != 3));
        let queries = node.queries(role).with_timeout(patience);
        let name: View<serde_json::Value> = View::new(view);
        match queries.get(name, &id, Some(token)).await {
            Ok(fresh) => {
                let own = node.service(role).store().identity().id == token.store();
                readings.push(Reading {
                    deed: number,
                    role,
                    view,
                    id,
                    token: own.then_some(token.position().0),
                    at: fresh.at.position.0,
                    row: fresh.value,
                });
            }
            Err(QueryError::Stale(_)) => {}
            Err(QueryError::Failed(error)) if error.is_transient() || error.is_unknown() => {}
            Err(error) => return Err(format!("row `{id}` of `{view}` was not read: {error}")),
        }
    }
    Ok(readings)
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { user } => write!(f, "user-{user} registers"),
            Self::Receive { sku, qty } => write!(f, "{qty} of sku-{sku} come in"),
            Self::Flood { sku, times } => write!(f, "{times} times one of sku-{sku} comes in"),
            Self::Place {
                order,
                user,
                items,
                card,
                manual,
            } => {
                write!(f, "user-{user} places order-{order} with {card}")?;
                for (sku, qty) in items {
                    write!(f, ", {qty} of sku-{sku}")?;
                }
                f.write_str(if *manual { ", to be paid by hand" } else { "" })
            }
            Self::Pay { order } => write!(f, "order-{order} is to be paid"),
            Self::Cancel { order } => write!(f, "order-{order} is cancelled"),
            Self::Ship { order } => write!(f, "order-{order} is shipped"),
            Self::Poison { number, user, .. } => match user {
                Some(user) => write!(
                    f,
                    "poison-{number} is published with the key of user-{user}"
                ),
                None => write!(f, "poison-{number} is published with a key of its own"),
            },
            Self::Foreign { number } => write!(f, "another program publishes foreign-{number}"),
        }
    }
}
