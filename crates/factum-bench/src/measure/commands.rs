//! Commands a second, by how many clients give them: each is loaded, decided and on the disk before its answer.

use super::Measuring;
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    machine,
    subject::World,
    times::millis,
};

/// Takes the figures. The subjects take turns within each round, so that what else the machine does meets all.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    for &(clients, of_others) in world.aims.commands {
        let measure = if clients == 1 {
            "commands, 1 client".to_owned()
        } else {
            format!("commands, {clients} clients")
        };
        if !run.wants(&measure) {
            continue;
        }
        let subjects = &world.subjects;
        let mut rates = vec![Vec::new(); subjects.len()];
        let mut halves = vec![Vec::new(); subjects.len()];
        let mut tails = vec![Vec::new(); subjects.len()];
        let mut processor = vec![Vec::new(); subjects.len()];
        let mut peaks = Vec::new();
        for round in run.rounds() {
            for (index, subject) in subjects.iter().enumerate() {
                run.say(format!("{measure}: {}, round {round}", subject.name()));
                let directory = run.directory()?;
                let opened = subject.open(&directory).await?;
                machine::forget_peak();
                let loaded = opened.for_a_while(clients, run.window()).await?;
                if index + 1 == subjects.len() {
                    peaks.push(machine::peak_mb());
                }
                opened.close().await;
                drop(opened);
                subject.remove(&directory).await?;
                rates[index].push(loaded.rate);
                halves[index].push(millis(loaded.times.percentile(50)));
                tails[index].push(millis(loaded.times.percentile(99)));
                processor[index].extend(loaded.processor_micros);
            }
        }
        let ours = subjects.len() - 1;
        for (index, subject) in subjects.iter().enumerate() {
            let name = subject.name();
            let mut take = |what: &str, unit, rounds: &mut Vec<Vec<f64>>| {
                let rounds = std::mem::take(&mut rounds[index]);
                run.add(Figure::of(&measure, format!("{name}{what}"), unit, rounds));
            };
            take("", Unit::PerSecond, &mut rates.clone());
            take(", p50", Unit::Millis, &mut halves);
            take(", p99", Unit::Millis, &mut tails);
            take(", processor time", Unit::Micros, &mut processor);
        }
        for (index, aim) in of_others.iter().enumerate() {
            // Of each round by itself: what disturbed a round has disturbed both.
            let pairs = rates[ours].iter().zip(&rates[index]);
            let shares = pairs.map(|(ours, other)| 100.0 * ours / other).collect();
            let name = format!("factum / {}", subjects[index].name());
            let figure = Figure::of(&measure, name, Unit::Percent, shares);
            run.add(match aim {
                Some(aim) => figure.aim(Aim::AtLeast(*aim)),
                None => figure,
            });
        }
        run.add(Figure::of(
            &measure,
            "factum, memory at most",
            Unit::Megabytes,
            peaks,
        ));
    }
    Ok(())
}
