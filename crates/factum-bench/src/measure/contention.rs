//! Contention: many tasks give commands to one aggregate.

use tokio::time::Instant;

use super::Measuring;
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    subject::{Running, World},
    times::rate,
    workload::Account,
};

const MEASURE: &str = "one aggregate, 16 tasks";
const TASKS: usize = 16;

/// Takes the figures.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    if !run.wants(MEASURE) {
        return Ok(());
    }
    let commands = run.scaled(2_000);
    let mut rates = Vec::new();
    for round in run.rounds() {
        run.say(format!("{MEASURE}: round {round}"));
        let directory = run.directory()?;
        let running = Running::start(&*world.backend, &directory, false).await?;
        let started = Instant::now();
        move_often(&running, "one", TASKS, commands).await?;
        rates.push(rate(TASKS * commands, started.elapsed()));
        let (account, _) = running
            .service()
            .commands()
            .load::<Account>(&"one".to_owned())
            .await?;
        if account.movements() != (TASKS * commands) as u64 {
            return Err(Failure::new(format!(
                "{} movements were lost or doubled",
                account.movements().abs_diff((TASKS * commands) as u64)
            )));
        }
        running.stop().await;
        world.backend.remove(&directory).await?;
    }
    run.add(Figure::of(MEASURE, "factum", Unit::PerSecond, rates).aim(Aim::AtLeast(25_000.0)));
    Ok(())
}

/// Lets `tasks` tasks give `commands` commands each to the account `id`.
pub(super) async fn move_often(
    running: &Running,
    id: &str,
    tasks: usize,
    commands: usize,
) -> Result<(), Failure> {
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (bus, id) = (running.service().commands(), id.to_owned());
            tokio::spawn(async move {
                for _ in 0..commands {
                    bus.execute::<Account>(&id, 7).await?;
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await
            .map_err(|error| Failure::while_("a task", error))?
            .map_err(|error: factum::CommandError<_>| Failure::while_("a command", error))?;
    }
    Ok(())
}
