//! Lag: how long after its answer a command shows in the view, while 64 clients give half of what they could.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Measuring;
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    subject::{Ours, Running, Subject as _, World},
    times::{Times, as_f64, millis},
    workload::{ORDERS, Order, Step, Take},
};

const MEASURE: &str = "append to visible, 64 clients at half load";
const CLIENTS: usize = 64;

/// Every so many commands of a client are looked for in the view.
const LOOK_EVERY: usize = 8;

/// Takes the figures.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    if !run.wants(MEASURE) {
        return Ok(());
    }
    let (mut halves, mut tails, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in run.rounds() {
        run.say(format!("{MEASURE}: full load, round {round}"));
        let directory = run.directory()?;
        let full = Ours(world.backend.clone()).open(&directory).await?;
        let most = full.for_a_while(CLIENTS, run.window()).await?.rate;
        full.close().await;
        drop(full);
        world.backend.remove(&directory).await?;

        run.say(format!("{MEASURE}: round {round}"));
        let directory = run.directory()?;
        let running = Arc::new(Running::start(&*world.backend, &directory, true).await?);
        super::projecting::caught_up(&running).await?;
        let pause = Duration::from_secs_f64(as_f64(CLIENTS) / (most / 2.0));
        let until = Instant::now() + run.window();
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let running = running.clone();
                tokio::spawn(async move { paced(&running, client, pause, until).await })
            })
            .collect();
        let (mut times, mut given) = (Vec::new(), 0);
        for task in tasks {
            let (seen, count) = task
                .await
                .map_err(|error| Failure::while_("a client", error))??;
            times.extend(seen);
            given += count;
        }
        let times = Times::of(times);
        halves.push(millis(times.percentile(50)));
        tails.push(millis(times.percentile(99)));
        rates.push(as_f64(given) / run.window().as_secs_f64());
        running.stop().await;
        world.backend.remove(&directory).await?;
    }
    run.add(Figure::of(
        MEASURE,
        "factum, commands",
        Unit::PerSecond,
        rates,
    ));
    run.add(Figure::of(MEASURE, "factum, p50", Unit::Millis, halves));
    run.add(Figure::of(MEASURE, "factum, p99", Unit::Millis, tails).aim(Aim::Below(5.0)));
    Ok(())
}

/// One client: gives commands by the clock, and waits for some of them to show.
async fn paced(
    running: &Running,
    client: usize,
    pause: Duration,
    until: Instant,
) -> Result<(Vec<Duration>, usize), Failure> {
    let (commands, queries) = (running.service().commands(), running.service().queries());
    let env = factum::system_env();
    let (mut times, mut given) = (Vec::new(), 0);
    // Not all at the same moment.
    let mut due = Instant::now() + pause.mul_f64(as_f64(client) / as_f64(CLIENTS));
    loop {
        let order = env.uuid().to_string();
        for step in Step::ALL {
            tokio::time::sleep_until(due).await;
            due += pause;
            if Instant::now() >= until {
                return Ok((times, given));
            }
            let number = (client << 32 | given) as u64;
            let executed = commands
                .execute::<Order>(&order, Take { step, number })
                .await;
            let executed = executed.map_err(|error| Failure::while_("a command", error))?;
            given += 1;
            if given % LOOK_EVERY == 0 {
                let answered = Instant::now();
                let row = queries.get(ORDERS, &order, Some(&executed.token)).await;
                row.map_err(|error| Failure::while_("a query", error))?;
                times.push(answered.elapsed());
            }
        }
    }
}
