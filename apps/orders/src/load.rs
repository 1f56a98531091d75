//! The load: orders at a steady rate over HTTP, how long each took, and whether anything broke.
//!
//! Orders are due by the clock and not when the one before was answered, and their times are counted from when they
//! were due: a server that stalls can't hide behind the requests that were never sent.

mod summary;

use std::{sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use self::summary::{Summary, Taken};
use crate::{
    cli::{self, Format},
    client::{Client, Reply},
    failure::Failure,
    screen::Screen,
    server::Server,
    signals::Signals,
};

/// How many requests may be under way at a time: more would measure this program's own sockets.
const UNDER_WAY_MAX: usize = 256;
/// How many users order.
const USERS: usize = 20;
/// How many things are ordered.
const THINGS: usize = 10;
/// How many of each thing are on the shelf: enough for a day of the highest rate.
const STOCK: u64 = 1_000_000_000;
/// One in so many cards is declined.
const DECLINED_EVERY: u64 = 20;
/// How long the platform may take to finish what it accepted, besides the time that the load took.
const DRAIN_MIN: Duration = Duration::from_mins(1);

/// Loads a platform, and shows what came of it. Interrupted, it shows what came of what was sent until then.
pub(crate) async fn run(options: &cli::Options, load: &cli::Load) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    if let Some(target) = &load.target {
        return drive(Client::new(target, &options.tokens)?, load, &mut signals).await;
    }
    let server = signals.or(Server::for_a_run(options)).await?;
    let client = Client::new(&server.url(), &options.tokens)?;
    let driven = drive(client, load, &mut signals).await;
    let stopped = signals.or(server.stop()).await;
    driven.and(stopped)
}

async fn drive(client: Client, load: &cli::Load, signals: &mut Signals) -> Result<(), Failure> {
    let world = Arc::new(signals.or(prepare(&client)).await?);
    let total = (f64::from(load.rate) * load.duration.as_secs_f64()).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 10,000 a second for a day"
    )]
    let total = total as u64;
    let bar = progress(total, load.format)?;
    let (sender, mut taken) = mpsc::channel(UNDER_WAY_MAX);
    let started = Instant::now();
    let sending = tokio::spawn(send(
        client.clone(),
        world,
        total,
        load.rate,
        started,
        sender,
    ));
    let mut all = Vec::new();
    let sent = signals.or(async {
        while let Some(one) = taken.recv().await {
            all.push(one);
            bar.inc(1);
        }
        Ok(())
    });
    let sent = sent.await;
    sending.abort();
    let took = started.elapsed();

    bar.set_message("waiting until all is finished");
    let patience = DRAIN_MIN + took;
    let quiet = client.until("all is quiet", "/invariants", patience, |reply| {
        reply.body["quiet"] == true
    });
    let checked = match sent {
        Ok(()) => signals.or(quiet).await,
        Err(interrupted) => Err(interrupted),
    };
    bar.finish_and_clear();
    let broken = checked.as_ref().map(broken).map_err(ToString::to_string);
    let drain = started.elapsed().saturating_sub(took);
    let summary = Summary::of(&all, load.rate, took, drain, broken);
    match load.format {
        Format::Text => Screen::say(&summary.to_string()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&summary)
                .map_err(|error| Failure::while_("the summary", error))?;
            Screen::say(&json);
        }
    }
    checked?;
    match (summary.broken.len(), summary.failed) {
        (0, 0) => Ok(()),
        (0, failed) => Err(Failure::new(format!(
            "{failed} of {total} orders were not taken"
        ))),
        (broken, _) => Err(Failure::new(format!("{broken} invariants are broken"))),
    }
}

fn broken(found: &Reply) -> Vec<String> {
    let broken = found.body["broken"].as_array().into_iter().flatten();
    broken
        .map(|one| one.as_str().unwrap_or_default().to_owned())
        .collect()
}

fn progress(total: u64, format: Format) -> Result<ProgressBar, Failure> {
    if format == Format::Json {
        return Ok(ProgressBar::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {msg} {elapsed}")
            .map_err(|error| Failure::while_("the progress bar", error))?;
    Ok(ProgressBar::new(total).with_style(style))
}

/// Who orders what.
struct World {
    users: Vec<String>,
    things: Vec<String>,
}

async fn prepare(client: &Client) -> Result<World, Failure> {
    let run = factum::system_env().uuid().simple().to_string();
    let run = &run[run.len() - 6..];
    let (mut users, mut things) = (Vec::new(), Vec::new());
    for number in 0..USERS {
        let body = json!({ "name": format!("User {number}"), "email": format!("user-{number}@example.org") });
        let reply = client.post("/users", &body).await?;
        if reply.status != 201 {
            return Err(Failure::new(format!(
                "registering a user: {}",
                reply.problem()
            )));
        }
        users.push(reply.text("/user_id").to_owned());
    }
    for number in 0..THINGS {
        let thing = format!("load-{run}-{number}");
        let reply = client
            .post(&format!("/stock/{thing}/receive"), &json!({ "qty": STOCK }))
            .await?;
        if reply.status != 202 {
            return Err(Failure::new(format!(
                "filling a shelf: {}",
                reply.problem()
            )));
        }
        things.push(thing);
    }
    Ok(World { users, things })
}

async fn send(
    client: Client,
    world: Arc<World>,
    total: u64,
    rate: u32,
    started: Instant,
    taken: mpsc::Sender<Taken>,
) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    for number in 0..total {
        #[expect(clippy::cast_precision_loss, reason = "a time, and not a count")]
        let due = started + Duration::from_secs_f64(number as f64 / f64::from(rate));
        tokio::time::sleep_until(due).await;
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let (client, world, taken) = (client.clone(), world.clone(), taken.clone());
        tokio::spawn(async move {
            let outcome = order(&client, &world, number).await;
            drop(permit);
            // The receiver lives until all senders are gone.
            taken
                .send(Taken {
                    outcome,
                    took: due.elapsed(),
                })
                .await
                .unwrap_or_default();
        });
    }
}

async fn order(client: &Client, world: &World, number: u64) -> Result<(), String> {
    let pick = |all: &[String]| {
        all[usize::try_from(number % all.len() as u64).unwrap_or_default()].clone()
    };
    let card = if number % DECLINED_EVERY == 7 {
        "card:declined"
    } else {
        "card:ok"
    };
    let body = json!({
        "user_id": pick(&world.users),
        "items": [{ "sku": pick(&world.things), "qty": 1 + number % 3, "price": 500 }],
        "card": card,
    });
    match client.post("/orders", &body).await {
        Ok(reply) if reply.status == 201 => Ok(()),
        Ok(reply) => Err(format!("{} {}", reply.status, reply.text("/title"))),
        Err(failure) => Err(failure.to_string()),
    }
}
