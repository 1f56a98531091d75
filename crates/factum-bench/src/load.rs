//! The load: clients that take orders through their steps, each waiting for its answer before it goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use factum::Env;
use tokio::time::Instant;

use crate::{
    failure::Failure,
    machine,
    subject::CarriesOut,
    times::{Times, as_f64, rate},
    workload::Step,
};

/// What a load came to.
pub(crate) struct Loaded {
    /// Commands a second.
    pub(crate) rate: f64,
    /// How long each took.
    pub(crate) times: Times,
    /// Microseconds of processor time for each, on all cores together. It hardly depends on what else the machine
    /// does.
    pub(crate) processor_micros: Option<f64>,
}

/// How long clients run before they are counted.
const WARM_UP: Duration = Duration::from_millis(150);

/// Lets `clients` clients run for a while behind a warm-up, and counts what was answered within it.
pub(crate) async fn for_a_while<T: CarriesOut>(
    subject: &Arc<T>,
    clients: usize,
    window: Duration,
) -> Result<Loaded, Failure> {
    let (counting, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let env = factum::system_env();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let client = Client {
                subject: subject.clone(),
                env: env.clone(),
                number: client as u64,
                counting: counting.clone(),
                stop: stop.clone(),
            };
            tokio::spawn(client.run())
        })
        .collect();
    tokio::time::sleep(WARM_UP).await;
    counting.store(true, Ordering::Relaxed);
    let (started, used_before) = (Instant::now(), machine::processor_time());
    tokio::time::sleep(window).await;
    counting.store(false, Ordering::Relaxed);
    let (took, used) = (started.elapsed(), machine::processor_time());
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(
            task.await
                .map_err(|error| Failure::while_("a client", error))??,
        );
    }
    let used = used
        .zip(used_before)
        .map(|(used, before)| used.saturating_sub(before));
    Ok(Loaded {
        rate: rate(times.len(), took),
        processor_micros: used.map(|used| 1e6 * used.as_secs_f64() / as_f64(times.len().max(1))),
        times: Times::of(times),
    })
}

struct Client<T> {
    subject: Arc<T>,
    env: Env,
    number: u64,
    counting: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl<T: CarriesOut> Client<T> {
    async fn run(self) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        let mut number = self.number << 32;
        loop {
            let order = random_id(&self.env);
            number += 1;
            for step in Step::ALL {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(times);
                }
                let started = Instant::now();
                self.subject.carry_out(&order, step, number).await?;
                if self.counting.load(Ordering::Relaxed) {
                    times.push(started.elapsed());
                }
            }
        }
    }
}

/// An id of an order, as long as a UUID and wholly random: no index finds it beside the one before, which is the most that
/// an application can ask of it. Those of version 7 grow with time.
fn random_id(env: &Env) -> String {
    let (high, low) = (env.random(), env.random());
    format!("{high:018x}{low:018x}")
}

/// Takes `orders` orders through all their steps with `clients` clients, and says how many commands a second that
/// were.
pub(crate) async fn orders<T: CarriesOut>(
    subject: &Arc<T>,
    clients: usize,
    orders: usize,
) -> Result<f64, Failure> {
    let env = factum::system_env();
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(orders));
    let started = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (subject, env, left) = (subject.clone(), env.clone(), left.clone());
            tokio::spawn(async move {
                let take = |left: usize| left.checked_sub(1);
                while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                {
                    let order = random_id(&env);
                    for step in Step::ALL {
                        subject.carry_out(&order, step, number as u64).await?;
                    }
                }
                Ok::<(), Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await
            .map_err(|error| Failure::while_("a client", error))??;
    }
    Ok(rate(orders * Step::ALL.len(), started.elapsed()))
}
