//! Growth: the append rate of a log that was empty again behind 0.1, 1 and 10 million events, the memory of the
//! process, and how long a restart takes until the first command is answered.

use tokio::time::Instant;

use super::Measuring;
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    machine,
    subject::{Ours, Subject as _, World},
    times::millis,
    workload::Step,
};

const MEASURE: &str = "a long log, 64 clients";
const CLIENTS: usize = 64;

/// How many events the log has when it is measured, and their name in the table.
const SIZES: [(usize, &str); 4] = [
    (0, "an empty log"),
    (100_000, "100,000 events"),
    (1_000_000, "1,000,000 events"),
    (10_000_000, "10,000,000 events"),
];

/// Takes the figures.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    if !run.wants(MEASURE) {
        return Ok(());
    }
    let directory = run.directory()?;
    let ours = Ours(world.backend.clone());
    let mut opened = ours.open(&directory).await?;
    machine::forget_peak();
    let mut first = Vec::new();
    let mut written = 0;
    for (events, name) in SIZES {
        run.say(format!("{MEASURE}: writing {name}"));
        opened
            .take_orders(256, (events - written) / Step::ALL.len())
            .await?;
        written = events;
        let (mut rates, mut ready) = (Vec::new(), Vec::new());
        for round in run.rounds() {
            run.say(format!("{MEASURE}: {name}, round {round}"));
            rates.push(opened.for_a_while(CLIENTS, run.window()).await?.rate);
        }
        let resident = machine::resident_mb();
        for _ in run.rounds() {
            opened.close().await;
            drop(opened);
            let started = Instant::now();
            opened = ours.open(&directory).await?;
            opened.take_orders(1, 1).await?;
            ready.push(millis(started.elapsed()));
        }
        let rate = Figure::of(MEASURE, format!("{name}, commands"), Unit::PerSecond, rates);
        if first.is_empty() {
            first.push(rate.value);
        } else {
            let share = vec![100.0 * rate.value / first[0]];
            let name = format!("{name} / {}", SIZES[0].1);
            run.add(Figure::of(MEASURE, name, Unit::Percent, share).aim(Aim::AtLeast(90.0)));
        }
        run.add(rate);
        run.add(
            Figure::of(
                MEASURE,
                format!("{name}, resident"),
                Unit::Megabytes,
                vec![resident],
            )
            .aim(Aim::Below(200.0)),
        );
        run.add(
            Figure::of(
                MEASURE,
                format!("{name}, start to answer"),
                Unit::Millis,
                ready,
            )
            .aim(Aim::Below(1_000.0)),
        );
    }
    let peak = vec![machine::peak_mb()];
    run.add(Figure::of(MEASURE, "memory at most", Unit::Megabytes, peak));
    opened.close().await;
    drop(opened);
    world.backend.remove(&directory).await
}
