//! Cold replay: an aggregate is loaded from all of its events, by a process that has just started.

use std::time::Duration;

use tokio::time::Instant;

use super::{Measuring, contention::move_often};
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    subject::{Running, World},
    times::rate,
    workload::Account,
};

/// How many tasks write to each aggregate: their events lie between those of the others, as they do in a real log.
const TASKS: usize = 8;

/// Takes the figures.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    for &(events, count, aim) in world.aims.replay {
        let measure = format!("cold replay, {events} events");
        if !run.wants(&measure) {
            continue;
        }
        run.say(format!("{measure}: writing"));
        let directory = run.directory()?;
        let running = Running::start(&*world.backend, &directory, false).await?;
        let ids: Vec<_> = (0..count)
            .map(|number| format!("account-{number}"))
            .collect();
        let writing = ids
            .iter()
            .map(|id| move_often(&running, id, TASKS, events / TASKS));
        for written in join_all(writing).await {
            written?;
        }
        running.stop().await;
        drop(running);
        let mut rates = Vec::new();
        let mut firsts = Vec::new();
        for round in run.rounds() {
            run.say(format!("{measure}: round {round}"));
            let running = Running::start(&*world.backend, &directory, false).await?;
            let commands = running.service().commands();
            let mut took = Duration::ZERO;
            for id in &ids {
                let started = Instant::now();
                let (account, _) = commands.load::<Account>(id).await?;
                took += started.elapsed();
                if account.movements() != events as u64 {
                    return Err(Failure::new(format!("`{id}` has lost events")));
                }
                if firsts.len() < usize::try_from(round).unwrap_or(usize::MAX) {
                    firsts.push(rate(events, took));
                }
            }
            rates.push(rate(events * count, took));
            running.stop().await;
        }
        world.backend.remove(&directory).await?;
        run.add(
            Figure::of(&measure, "factum, events", Unit::PerSecond, rates).aim(Aim::AtLeast(aim)),
        );
        run.add(Figure::of(
            &measure,
            "the process's first",
            Unit::PerSecond,
            firsts,
        ));
    }
    Ok(())
}

/// Drives all of them at the same time.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut all = true;
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
