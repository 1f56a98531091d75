//! The story of one seed: users order, lives end anywhere, and in the end all is quiet and adds up.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Once, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use factum::{
    Aggregate, At, Broker as _, By, CommandError, CommandOptions, Commands, Error, FailureClass,
    Headers, Idempotency, Key, LogFilter, Outgoing, ParkedFilter, ParkedState, Topic,
};
use factum_sim::{Ended, Kind, Story};
use factum_testkit::{Faults, Gate, Quiet, faults::Call};
use orders::{
    contracts::{Currency, Item, PaymentMode},
    invariants,
    order::{Order, OrderCommand, PlaceOrder},
    platform::{Platform, Role},
    stock::{Shelf, ShelfCommand},
    users::{RegisterUser, User},
};

use crate::world::World;

/// What became of a story whose invariants held.
pub(crate) struct Told {
    pub(crate) steps: u64,
    pub(crate) trace: u32,
    pub(crate) kinds: BTreeMap<String, Kind>,
}

/// What a user does, once, however often they have to ask.
#[derive(Clone, Debug)]
enum Deed {
    Register {
        user: usize,
    },
    Receive {
        sku: usize,
        qty: u64,
    },
    Place {
        order: usize,
        user: usize,
        items: Vec<(usize, u32)>,
        card: &'static str,
        manual: bool,
    },
    Pay {
        order: usize,
    },
    Cancel {
        order: usize,
    },
    Ship {
        order: usize,
    },
    Poison {
        number: usize,
    },
    Foreign {
        number: usize,
    },
}

pub(crate) fn tell(seed: u64) -> Result<Told, String> {
    tell_with(seed, false)
}

pub(crate) fn tell_with(seed: u64, forgetful: bool) -> Result<Told, String> {
    static QUIETER: Once = Once::new();
    // What panics on purpose need not be told of hundreds of times.
    QUIETER.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let planned = panic.payload().downcast_ref::<String>();
            if !planned.is_some_and(|text| text.contains(crate::outside::PANIC)) {
                before(panic);
            }
        }));
    });
    let mut story = Story::new(seed);
    let world = RefCell::new(World::new(story.clock(), story.points(), forgetful));
    let deeds = deeds(story.choices());
    let lives = 1 + story.choices().usize(0..5);
    for _ in 0..lives {
        let crash_at = story.choices().u64(0..1_200);
        let plan = Plan::draw(story.choices());
        // One that is to end while it stops has to come so far.
        let crash_at = plan.stop.is_none().then_some(crash_at);
        if let Ended::Done(result) = story.live(crash_at, || life(&world, &deeds, plan, false)) {
            result?;
        }
    }
    let last = story.live(None, || life(&world, &deeds, Plan::default(), true));
    let Ended::Done(result) = last else {
        return Err("the last life has no crash point".into());
    };
    result?;
    let (steps, trace) = story.points().trace();
    Ok(Told {
        steps,
        trace,
        kinds: story.points().kinds(),
    })
}

fn deeds(choices: &mut fastrand::Rng) -> Vec<Deed> {
    let users = 1 + choices.usize(0..3);
    let skus = 1 + choices.usize(0..3);
    let mut deeds: Vec<_> = (0..users).map(|user| Deed::Register { user }).collect();
    deeds.extend((0..skus).map(|sku| Deed::Receive {
        sku,
        qty: choices.u64(0..12),
    }));
    let orders = 2 + choices.usize(0..6);
    for order in 0..orders {
        let items = (0..=choices.usize(0..2))
            .map(|_| (choices.usize(0..skus), choices.u32(1..4)))
            .collect();
        let card = *choices
            .choice(&["card:ok", "card:ok", "card:declined", "card:flaky"])
            .unwrap_or(&"card:ok");
        let manual = choices.u8(0..4) == 0;
        deeds.push(Deed::Place {
            order,
            user: choices.usize(0..users),
            items,
            card,
            manual,
        });
        if manual && choices.bool() {
            deeds.push(Deed::Pay { order });
        }
        match choices.u8(0..6) {
            0 => deeds.push(Deed::Cancel { order }),
            1 => deeds.push(Deed::Ship { order }),
            2 => deeds.push(Deed::Poison { number: order }),
            3 => deeds.push(Deed::Foreign { number: order }),
            _ => {}
        }
    }
    // What is left open would never end.
    deeds.extend((0..orders).map(|order| Deed::Cancel { order }));
    deeds
}

/// Kinds of points that a life seldom comes to before it ends elsewhere.
const RARE: [&str; 6] = [
    "Commit operator before",
    "Commit operator after",
    "Leave  before",
    "Leave  after",
    "Commit nothing before",
    "Commit nothing after",
];

/// What goes wrong in one life besides its end.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// A second node runs beside the first.
    second: bool,
    /// It is stopped in good order, and ends at the first point of this kind, all of which are rare.
    stop: Option<&'static str>,
    /// A node is paused for longer than its session, and wakes up.
    pause: bool,
    faults: Vec<(Call, u64, u8)>,
    /// A handler panics at that entry into a book outside; 0: none does.
    panic: u64,
}

impl Plan {
    fn draw(choices: &mut fastrand::Rng) -> Self {
        let second = choices.u8(0..3) == 0;
        let faults = (0..choices.usize(0..6)).map(|_| {
            let call = *choices
                .choice(&[Call::Commit, Call::Commit, Call::Send, Call::Deliver])
                .unwrap_or(&Call::Commit);
            (call, choices.u64(1..60), choices.u8(0..3))
        });
        Self {
            second,
            faults: faults.collect(),
            panic: choices.u64(0..12),
            pause: second && choices.bool(),
            stop: (choices.u8(0..8) == 0).then(|| RARE[choices.usize(0..RARE.len())]),
        }
    }

    /// Puts the faults into the plan. Partitions that lag behind others do so until their gates are opened.
    fn set(&self, faults: &Faults) -> Vec<Gate> {
        let mut gates = Vec::new();
        for (call, nth, what) in &self.faults {
            let rule = faults.at(*call).nth(*nth);
            match (call, what) {
                (Call::Commit, 0) => rule.loses_the_answer(),
                (Call::Commit, _) => rule.fails(Error::transient("the disk is busy")),
                (Call::Deliver, 0) => gates.push(rule.waits()),
                (Call::Send, 0) | (Call::Deliver, _) => rule.twice(),
                (_, 1) => rule.loses_the_answer(),
                _ => rule.fails(Error::transient("the broker is busy")),
            }
        }
        gates
    }
}

async fn life(
    world: &RefCell<World>,
    deeds: &[Deed],
    plan: Plan,
    last: bool,
) -> Result<(), String> {
    if let Some(kind) = plan.stop {
        world.borrow().points.end_at(kind);
    }
    let faults = Faults::new();
    let gates = plan.set(&faults);
    world.borrow().panics.store(plan.panic, Ordering::SeqCst);
    let (broker, node, second) = {
        // Nothing else borrows the world while a node starts: a life is one thing after another.
        #[expect(
            clippy::await_holding_refcell_ref,
            reason = "only this task borrows the world"
        )]
        async fn start(
            world: &RefCell<World>,
            faults: &Faults,
            second: bool,
        ) -> (
            Arc<factum_testkit::MemoryBroker>,
            Platform,
            Option<Platform>,
        ) {
            let world = world.borrow();
            let broker = world.broker();
            let node = world.node("a", &broker, faults).await;
            let second = if second {
                Some(world.node("b", &broker, faults).await)
            } else {
                None
            };
            (broker, node, second)
        }
        start(world, &faults, plan.second).await
    };
    let gate = plan.pause.then(|| faults.pause("a/payment"));
    for (index, deed) in deeds.iter().enumerate() {
        let name = format!("deed-{index}");
        if world.borrow().answered.contains_key(&name) {
            continue;
        }
        let asked = match &second {
            Some(second) if index % 2 == 1 => second,
            _ => &node,
        };
        // The owner of a commit that stands at a closed gate does not answer: the user gives up for now.
        let done = tokio::time::timeout(
            Duration::from_secs(5),
            ask(asked, &broker, world, &name, deed),
        )
        .await;
        let Ok(done) = done else { continue };
        let points = world.borrow().points.clone();
        points.pass("answer", &name).await;
        if let Some(accepted) = done? {
            world.borrow_mut().answered.insert(name, accepted);
        }
    }
    gates.iter().for_each(Gate::open);
    if let Some(gate) = gate {
        tokio::time::sleep(Duration::from_secs(30)).await;
        gate.open();
    }
    if !last {
        redrive(&node, true).await?;
        if plan.stop.is_some() {
            node.stop().await;
        } else {
            // Time for what goes on by itself, until the life ends.
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        return Ok(());
    }
    let env = world.borrow().env.clone();
    let mut quiet = Quiet::new(&env, broker.clone())
        .retries_too()
        .looking(4_000, Duration::from_millis(100));
    for role in Role::ALL {
        quiet = quiet.store(node.service(role).store().clone());
    }
    loop {
        quiet
            .run_until_quiet()
            .await
            .map_err(|error| format!("{error}"))?;
        // A message that was being tried when one life after another ended is taken for what they died of, and one
        // may have run out of tries. An operator redrives those; what is poison stays dead.
        if redrive(&node, false).await? == 0 {
            break;
        }
    }
    let facts = node.facts().await.map_err(|error| format!("{error:#}"))?;
    let broken = invariants::check(&facts);
    if !broken.is_empty() {
        let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
        return Err(format!("{}\n{}", broken.join("; "), told(&node).await));
    }
    lost(world, deeds, &node).await?;
    node.stop().await;
    Ok(())
}

/// What a person wants to know of a world that doesn't add up: what was recorded, and what is parked.
async fn told(node: &Platform) -> String {
    let mut lines = Vec::new();
    for role in Role::ALL {
        let store = node.service(role).store();
        let log = store
            .read_log(At::ZERO, &LogFilter::default(), 10_000)
            .await;
        for record in log.map(|page| page.records).unwrap_or_default() {
            let stream = record.draft.stream.as_ref().map(ToString::to_string);
            let stream = stream.unwrap_or_default();
            lines.push(format!(
                "{role} {} {stream} {}",
                record.at, record.draft.event_type
            ));
        }
        let parked = store.parked(&ParkedFilter::default(), 1_000).await;
        for parked in parked.unwrap_or_default() {
            lines.push(format!(
                "{role} {} is {:?}: {:?}",
                parked.id, parked.state, parked.failure
            ));
        }
    }
    lines.join("\n")
}

/// Redrives what is dead, poison only if that is wanted, and says how many messages that were.
async fn redrive(node: &Platform, poison_too: bool) -> Result<u64, String> {
    use FailureClass::{Crash, Panic, Transient};
    let mut redriven = 0;
    for role in Role::ALL {
        let service = node.service(role);
        let dead = ParkedFilter {
            state: Some(ParkedState::Dead),
            ..ParkedFilter::default()
        };
        let dead = service.store().parked(&dead, 1_000).await;
        for parked in dead.map_err(|error| format!("{error:#}"))? {
            let class = parked.failure.as_ref().map(|failure| failure.class);
            if poison_too || matches!(class, Some(Crash | Panic | Transient)) {
                let by = By::new("the simulation", "it was not its fault");
                let operator = service.operator();
                // Another node's owner, or a fault, may have been faster.
                let result = operator.redrive(&parked.id, parked.revision, &by).await;
                redriven += u64::from(result.is_ok());
            }
        }
    }
    Ok(redriven)
}

/// What was answered is there.
async fn lost(world: &RefCell<World>, deeds: &[Deed], node: &Platform) -> Result<(), String> {
    for (index, deed) in deeds.iter().enumerate() {
        let Deed::Place { order, .. } = deed else {
            continue;
        };
        let accepted = world
            .borrow()
            .answered
            .get(&format!("deed-{index}"))
            .copied();
        let id = format!("order-{order}");
        let (_, version) = node
            .commands(Role::Order)
            .load::<Order>(id.as_str())
            .await
            .map_err(|error| error.to_string())?;
        if accepted == Some(true) && version.0 == 0 {
            return Err(format!("order-{order} was acknowledged and is lost"));
        }
    }
    Ok(())
}

/// Asks for a deed. `Some(true)`: it was done; `Some(false)`: it was refused; `None`: ask again in the next life.
async fn ask(
    node: &Platform,
    broker: &Arc<factum_testkit::MemoryBroker>,
    world: &RefCell<World>,
    name: &str,
    deed: &Deed,
) -> Result<Option<bool>, String> {
    let sku = |sku: &usize| format!("sku-{sku}").as_str().into();
    let id = |order: &usize| format!("order-{order}").as_str().into();
    match deed {
        Deed::Register { user } => {
            let user_id = format!("user-{user}");
            let command = RegisterUser {
                user_id: user_id.as_str().into(),
                name: "Kim".into(),
                email: "kim@example.org".into(),
            };
            execute::<User>(
                &node.commands(Role::Users),
                &user_id.as_str().into(),
                command,
                name,
            )
            .await
        }
        Deed::Receive { sku: thing, qty } => {
            let command = ShelfCommand::Receive {
                sku: sku(thing),
                qty: *qty,
            };
            execute::<Shelf>(&node.commands(Role::Stock), &sku(thing), command, name).await
        }
        Deed::Place {
            order,
            user,
            items,
            card,
            manual,
        } => {
            let item = |(thing, qty): &(usize, u32)| Item {
                sku: sku(thing),
                name: "thing".into(),
                qty: *qty,
                price: 500,
            };
            let command = OrderCommand::Place(PlaceOrder {
                order_id: id(order),
                user_id: format!("user-{user}").as_str().into(),
                items: items.iter().map(item).collect(),
                currency: Currency::won(),
                payment: if *manual {
                    PaymentMode::Manual
                } else {
                    PaymentMode::Auto
                },
                card: Some((*card).to_string()),
            });
            execute::<Order>(&node.commands(Role::Order), &id(order), command, name).await
        }
        Deed::Pay { order } => {
            execute::<Order>(
                &node.commands(Role::Order),
                &id(order),
                OrderCommand::Pay { card: None },
                name,
            )
            .await
        }
        Deed::Cancel { order } => {
            let command = OrderCommand::Cancel {
                reason: "changed my mind".into(),
            };
            execute::<Order>(&node.commands(Role::Order), &id(order), command, name).await
        }
        Deed::Ship { order } => {
            let command = OrderCommand::Ship {
                tracking: "T-1".into(),
            };
            execute::<Order>(&node.commands(Role::Order), &id(order), command, name).await
        }
        Deed::Poison { number } => {
            publish(
                broker,
                world,
                &format!("poison-{number}"),
                "{\"event_type\":7}",
            )
            .await?;
            Ok(Some(true))
        }
        Deed::Foreign { number } => {
            // What a service in another language writes: an order that ours has never seen, in version 1.
            let value = format!(
                r#"{{"event_type":"OrderCreated","event_id":"foreign-{number}","timestamp":"2026-03-02T10:00:00","data":{{"order_id":"foreign-{number}","user_id":"user-0","items":[{{"name":"sku-0","qty":1,"price":100}}],"total":100}}}}"#
            );
            publish(broker, world, "user-0", &value).await?;
            Ok(Some(true))
        }
    }
}

async fn execute<A: Aggregate>(
    commands: &Commands,
    id: &A::Id,
    command: A::Command,
    key: &str,
) -> Result<Option<bool>, String> {
    let idempotency = Idempotency {
        scope: "simulation".into(),
        key: key.into(),
        request: 1,
        answer: Bytes::from_static(b"ok"),
        remember: Duration::from_hours(24),
    };
    let options = CommandOptions {
        idempotency: Some(idempotency),
        ..CommandOptions::default()
    };
    match commands.execute_with::<A>(id, command, options).await {
        Ok(_) => Ok(Some(true)),
        Err(CommandError::Rejected(_)) => Ok(Some(false)),
        Err(CommandError::Failed(error))
            if error.is_transient() || error.is_unknown() || error.is_conflict() =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("command `{key}` failed: {error}")),
    }
}

/// Publishes as a foreign producer does: once or, when it doesn't know better, twice.
async fn publish(
    broker: &Arc<factum_testkit::MemoryBroker>,
    world: &RefCell<World>,
    key: &str,
    value: &str,
) -> Result<(), String> {
    let key = Key::from(key);
    let message = Outgoing {
        topic: Topic::of("orders"),
        partition: key.partition(8),
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
    Ok(())
}
