//! Catch-up: a projection that is added to a log builds its view, with its indexes, from the start.

use tokio::time::Instant;

use super::Measuring;
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    machine::PATIENCE,
    subject::{Ours, Running, Subject as _, World},
    times::rate,
    workload::Step,
};

const MEASURE: &str = "projection catch-up";

/// Takes the figures.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    if !run.wants(MEASURE) {
        return Ok(());
    }
    let orders = run.scaled(60_000);
    let events = orders * Step::ALL.len();
    let mut rates = Vec::new();
    for round in run.rounds() {
        run.say(format!("{MEASURE}: writing, round {round}"));
        let directory = run.directory()?;
        let writing = Ours(world.backend.clone()).open(&directory).await?;
        writing.take_orders(256, orders).await?;
        writing.close().await;
        drop(writing);
        run.say(format!("{MEASURE}: round {round}"));
        let started = Instant::now();
        let running = Running::start(&*world.backend, &directory, true).await?;
        caught_up(&running).await?;
        rates.push(rate(events, started.elapsed()));
        running.stop().await;
        world.backend.remove(&directory).await?;
    }
    run.add(
        Figure::of(MEASURE, "factum, events", Unit::PerSecond, rates)
            .aim(Aim::AtLeast(world.aims.catch_up)),
    );
    Ok(())
}

/// Waits until the projection shows the whole log.
pub(super) async fn caught_up(running: &Running) -> Result<(), Failure> {
    let waiting = async {
        let mut looking = tokio::time::interval(std::time::Duration::from_millis(2));
        let head = running.store.head().await?.position;
        loop {
            let projections = running.service().operator().projections().await?;
            if projections.iter().all(|one| one.reached >= head) {
                return Ok(());
            }
            looking.tick().await;
        }
    };
    let late = |_| Failure::new("the projection did not catch up in time");
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .map_err(late)?
}
