//! The saga: the order platform from `POST /orders` to the user's notification, through four services and topics.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use factum::{At, LogFilter, Position, Signal, Store};
use factum_admin::{Admin, web};
use orders::{
    http as api,
    platform::{Platform, PlatformOptions, Role},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Measuring, http::Connection};
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    machine::PATIENCE,
    subject::remove,
    times::{Times, as_f64, millis, rate},
};

const FULL: &str = "saga, POST to notified";
const STEADY: &str = "saga, POST to notified at 500 orders/s";

/// How many connections orders come in by.
const CONNECTIONS: usize = 64;
/// How many orders may be on their way at full load.
const UNDER_WAY_MAX: usize = 1_024;
/// Orders a second, for the steady load.
const STEADY_RATE: usize = 500;
const USERS: usize = 50;
const THINGS: usize = 10;

/// Takes the figures.
pub(super) async fn measure(run: &mut Measuring<'_>) -> Result<(), Failure> {
    if run.wants(FULL) {
        let orders = run.scaled(8_000);
        let (mut rates, mut syncs) = (Vec::new(), Vec::new());
        for round in run.rounds() {
            run.say(format!("{FULL}: round {round}"));
            let directory = run.directory()?;
            let told = drive(&directory, orders, None).await?;
            rates.push(rate(orders, told.took));
            syncs.push(as_f64(told.transactions) / as_f64(orders));
            remove(&directory)?;
        }
        run.add(
            Figure::of(FULL, "factum, orders", Unit::PerSecond, rates).aim(Aim::AtLeast(3_000.0)),
        );
        // Each is one sync of the disk; an order is some dozen commits, which share them with those of other orders.
        let name = "factum, transactions an order";
        run.add(Figure::of(FULL, name, Unit::Count, syncs));
    }
    if run.wants(STEADY) {
        let orders = STEADY_RATE * run.scaled(8);
        let (mut halves, mut tails) = (Vec::new(), Vec::new());
        for round in run.rounds() {
            run.say(format!("{STEADY}: round {round}"));
            let directory = run.directory()?;
            let told = drive(&directory, orders, Some(STEADY_RATE)).await?;
            halves.push(millis(told.times.percentile(50)));
            tails.push(millis(told.times.percentile(99)));
            remove(&directory)?;
        }
        run.add(Figure::of(STEADY, "factum, p50", Unit::Millis, halves));
        run.add(Figure::of(STEADY, "factum, p99", Unit::Millis, tails).aim(Aim::Below(25.0)));
    }
    Ok(())
}

/// What became of all orders.
struct Told {
    took: Duration,
    /// From when each was due to its notification.
    times: Times,
    /// How many transactions the data directory's writer made meanwhile.
    transactions: usize,
}

/// Runs the platform in `directory`, places `orders` orders, as fast as it takes them or at `rate` a second, and
/// waits until all users were told.
async fn drive(directory: &Path, orders: usize, rate: Option<usize>) -> Result<Told, Failure> {
    let served = Served::start(directory).await?;
    let world = World::prepare(served.address).await?;
    let told: Arc<Mutex<BTreeMap<String, Instant>>> = Arc::default();
    let room = Arc::new(Semaphore::new(if rate.is_some() {
        Semaphore::MAX_PERMITS
    } else {
        UNDER_WAY_MAX
    }));
    let store = served.platform.service(Role::Notification).store().clone();
    let watching = tokio::spawn(watch(store, orders, told.clone(), room.clone()));
    let writer = served.platform.service(Role::Order).store().clone();
    let before = writer.transactions().unwrap_or(0);
    let started = Instant::now();
    let (give, take) = mpsc::channel(UNDER_WAY_MAX);
    let take = Arc::new(tokio::sync::Mutex::new(take));
    let placing: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(place(served.address, world.clone(), take.clone())))
        .collect();
    for number in 0..orders {
        let due = match rate {
            Some(rate) => started + Duration::from_secs_f64(as_f64(number) / as_f64(rate)),
            None => Instant::now(),
        };
        tokio::time::sleep_until(due).await;
        if let Ok(permit) = room.acquire().await {
            permit.forget();
        }
        let due = if rate.is_some() { due } else { Instant::now() };
        if give.send((number, due)).await.is_err() {
            break;
        }
    }
    drop(give);
    let mut placed = Vec::with_capacity(orders);
    for task in placing {
        placed.extend(
            task.await
                .map_err(|error| Failure::while_("a client", error))??,
        );
    }
    let last = tokio::time::timeout(PATIENCE, watching).await;
    last.map_err(|_| Failure::new("not all orders were finished in time"))?
        .map_err(|error| Failure::while_("watching", error))??;
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let times: Vec<_> = placed
        .iter()
        .filter_map(|(order, due)| Some(told.get(order)?.duration_since(*due)))
        .collect();
    if times.len() != orders {
        return Err(Failure::new(format!(
            "{} of {orders} orders were never heard of again",
            orders - times.len()
        )));
    }
    let took = started.elapsed();
    let transactions = writer.transactions().unwrap_or(0) - before;
    served.stop().await?;
    Ok(Told {
        took,
        times: Times::of(times),
        transactions: usize::try_from(transactions).unwrap_or(usize::MAX),
    })
}

/// Places orders as they come due, over one connection.
async fn place(
    address: SocketAddr,
    world: Arc<World>,
    take: Arc<tokio::sync::Mutex<mpsc::Receiver<(usize, Instant)>>>,
) -> Result<Vec<(String, Instant)>, Failure> {
    let mut connection = Connection::open(address).await?;
    let mut placed = Vec::new();
    loop {
        let next = take.lock().await.recv().await;
        let Some((number, due)) = next else {
            return Ok(placed);
        };
        let body = json!({
            "user_id": world.users[number % USERS],
            "items": [{ "sku": world.things[number % THINGS], "qty": 1 + number % 3, "price": 500 }],
            "card": "card:ok",
        });
        let answer = connection.post("/orders", &body, 201).await?;
        placed.push((text(&answer, "order_id")?, due));
    }
}

/// Notes when the notification of each order is committed, until there were `orders` of them.
async fn watch(
    store: Arc<dyn Store>,
    orders: usize,
    told: Arc<Mutex<BTreeMap<String, Instant>>>,
    room: Arc<Semaphore>,
) -> Result<(), Failure> {
    let (mut after, mut seen) = (At::ZERO, 0);
    while seen < orders {
        store.wait(Signal::Head, after.position.0).await?;
        let page = store.read_log(after, &LogFilter::default(), 1_000).await?;
        let now = Instant::now();
        after = if page.next.position == Position::ZERO {
            after
        } else {
            page.next
        };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        for record in page.records {
            let data: Value = serde_json::from_slice(&record.draft.data).unwrap_or_default();
            let order = data
                .pointer("/order_id")
                .or_else(|| data.pointer("/notice/order_id"))
                .and_then(Value::as_str);
            if let Some(order) = order
                && told.insert(order.to_owned(), now).is_none()
            {
                seen += 1;
                room.add_permits(1);
            }
        }
    }
    Ok(())
}

/// The platform, served over HTTP.
struct Served {
    address: SocketAddr,
    platform: Arc<Platform>,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start(directory: &Path) -> Result<Self, Failure> {
        let io = |error| Failure::while_("listening", error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        let platform = Arc::new(Platform::open(PlatformOptions::new(directory)).await?);
        let access = web::Access::new(address, Vec::new(), Vec::new(), Admin::open_paths());
        let router = web::guarded(api::router(platform.clone(), factum::system_env()), access);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(web::serve(listener, router, stop.clone()));
        Ok(Self {
            address,
            platform,
            stop,
            serving,
        })
    }

    async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        let served = self.serving.await;
        self.platform.stop().await;
        served
            .map_err(|error| Failure::while_("serving", error))?
            .map_err(|error| Failure::while_("serving", error))
    }
}

/// Who orders what.
struct World {
    users: Vec<String>,
    things: Vec<String>,
}

impl World {
    async fn prepare(address: SocketAddr) -> Result<Arc<Self>, Failure> {
        let mut connection = Connection::open(address).await?;
        let (mut users, mut things) = (Vec::new(), Vec::new());
        for number in 0..USERS {
            let body = json!({ "name": format!("User {number}"), "email": format!("user-{number}@example.org") });
            let answer = connection.post("/users", &body, 201).await?;
            users.push(text(&answer, "user_id")?);
        }
        for number in 0..THINGS {
            let thing = format!("thing-{number}");
            let path = format!("/stock/{thing}/receive");
            connection
                .post(&path, &json!({ "qty": 1_000_000_000 }), 202)
                .await?;
            things.push(thing);
        }
        Ok(Arc::new(Self { users, things }))
    }
}

fn text(answer: &Value, member: &str) -> Result<String, Failure> {
    let text = answer.get(member).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("`{member}` is missing in {answer}")))
}
