//! The torture: servers are killed under load, services with them, and one service is paused through all of it. After each
//! round all that was acknowledged is there, nothing was done twice, and everything does its work again.
//!
//! The servers are this test's own, which `cargo xtask torture --engines` starts for it.

use std::time::Duration;

use factum_testkit::engines;
use fastrand::Rng;
use orders::platform::Role;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    customers::Customers,
    killer::Killer,
    logs::Logs,
    process::{Engines, Platform},
};

/// What is killed in each round, in any order.
const SERVERS: [&str; 4] = ["postgres", "kafka", "redis", "opensearch"];

/// How long each customer waits between two orders: so long that a hundred rounds leave logs that can be read whole at
/// their end.
const EVERY: Duration = Duration::from_secs(1);

/// How many orders are taken before a blow, at most, and how many milliseconds pass then.
const ORDERS_BEFORE_MAX: usize = 30;
const BEFORE_MS_MAX: u64 = 1_000;

/// How many milliseconds a server is gone that is killed, besides the time that its start takes: everybody finds out, and
/// tries again.
const GONE_MS: std::ops::Range<u64> = 200..4_000;

/// How many milliseconds a server is paused: not long enough for a group's session to end (6 s), or just.
const PAUSED_MS: std::ops::Range<u64> = 1_000..10_000;

/// How long a process is paused, at least: longer than every time within which somebody expects a sign of life from it. Those
/// are 3 s for the server within a transaction, 5 s for a lease, 6 s for a group, 30 s for a statement.
const PROCESS_PAUSED_MIN: Duration = Duration::from_secs(35);

/// How many orders are taken after a blow before the next.
const ORDERS_AFTER: usize = 10;

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Paused,
}

/// A server's fate, and the death of a process.
#[derive(Debug)]
struct Blow {
    server: &'static str,
    fate: Fate,
    orders_before: usize,
    before: Duration,
    gone: Duration,
    /// The process that dies, and when: within the time in which the server is gone.
    process: usize,
    dies_after: Duration,
    /// Whether it is started again before the server is, which it then waits for.
    comes_first: bool,
}

/// The blows of a round, and the process that is paused from its beginning to its end.
fn round(rng: &mut Rng, processes: usize) -> (Vec<Blow>, usize) {
    // The last is the one that customers talk to: paused, it would leave nothing to see.
    let paused = rng.usize(..processes - 1);
    let mut fates = SERVERS.map(|server| (server, Fate::Killed)).to_vec();
    fates.push((SERVERS[rng.usize(..SERVERS.len())], Fate::Paused));
    rng.shuffle(&mut fates);
    let blow = |(server, fate)| {
        let gone = rng.u64(if fate == Fate::Killed {
            GONE_MS
        } else {
            PAUSED_MS
        });
        let process = rng.usize(..processes - 1);
        Blow {
            server,
            fate,
            orders_before: rng.usize(1..=ORDERS_BEFORE_MAX),
            before: Duration::from_millis(rng.u64(..BEFORE_MS_MAX)),
            gone: Duration::from_millis(gone),
            process: process + usize::from(process >= paused),
            dies_after: Duration::from_millis(rng.u64(..gone)),
            comes_first: rng.bool(),
        }
    };
    (fates.into_iter().map(blow).collect(), paused)
}

/// A platform, its servers and its customers.
struct Torture {
    killer: Killer,
    platform: Platform,
    customers: Customers,
    logs: Logs,
    rng: Rng,
}

impl Torture {
    /// A platform that has rows in Redis, and those that queries read in OpenSearch.
    async fn begin(killer: Killer, seed: u64) -> Self {
        let server = |variable| engines::server(variable).unwrap();
        let engines = Engines::of_the_tests().unwrap();
        let opensearch = server("FACTUM_TEST_OPENSEARCH");
        let platform = Platform::start(&Engines {
            views: Some(server("FACTUM_TEST_REDIS")),
            front_views: Some(opensearch.replacen("http://", "elasticsearch://", 1)),
            ..engines
        });
        let customers = Customers::of(&platform).await.every(EVERY);
        Self {
            killer,
            platform,
            customers,
            logs: Logs::default(),
            rng: Rng::with_seed(seed),
        }
    }

    async fn round(&mut self, number: usize) {
        let processes = self.platform.processes().len();
        let (blows, paused) = round(&mut self.rng, processes);
        let began = Instant::now();
        self.customers.begin();
        self.customers.more(1).await;
        let name = self.platform.processes()[paused].name.clone();
        eprintln!("round {number}: {name} is paused");
        self.platform.processes()[paused].signal("-STOP");
        for blow in &blows {
            self.strike(blow).await;
        }
        sleep(PROCESS_PAUSED_MIN.saturating_sub(began.elapsed())).await;
        self.platform.processes()[paused].signal("-CONT");
        self.customers.more(ORDERS_AFTER).await;
        let struck = began.elapsed();
        self.customers.rest(&self.platform).await;
        self.look().await;
        eprintln!(
            "round {number}: whole, {} orders are taken and {} records written; {:.0} s, and {:.0} s until all was seen",
            self.customers.taken(),
            self.logs.records(),
            struck.as_secs_f64(),
            began.elapsed().saturating_sub(struck).as_secs_f64()
        );
    }

    async fn strike(&mut self, blow: &Blow) {
        self.customers.more(blow.orders_before).await;
        sleep(blow.before).await;
        match blow.fate {
            Fate::Killed => self.killer.kill(blow.server).await,
            Fate::Paused => self.killer.pause(blow.server).await,
        }
        sleep(blow.dies_after).await;
        self.platform.processes()[blow.process].kill();
        sleep(blow.gone.saturating_sub(blow.dies_after)).await;
        if blow.comes_first {
            self.platform.processes()[blow.process].begin_again();
        }
        match blow.fate {
            Fate::Killed => self.killer.start(blow.server).await,
            Fate::Paused => self.killer.resume(blow.server).await,
        }
        let back = Instant::now();
        let process = self.platform.processes().swap_remove(blow.process);
        if !blow.comes_first {
            process.begin_again();
        }
        process.ready();
        let name = process.name.clone();
        self.customers.more(ORDERS_AFTER).await;
        eprintln!(
            "  {} was {:?} for {:.1} s, and {name} has died: {ORDERS_AFTER} orders are taken {:.1} s after it was back",
            blow.server,
            blow.fate,
            blow.gone.as_secs_f64(),
            back.elapsed().as_secs_f64()
        );
    }

    /// Looks at everything, over HTTP.
    async fn look(&mut self) {
        self.customers.look(&self.platform).await;
        let client = &self.platform.client;
        self.logs.read(client).await;
        assert_eq!(
            self.logs.orders(),
            self.customers.orders(),
            "orders in the log, and orders that were acknowledged"
        );
        let shown = client.get("/admin/projections").await;
        let projections = shown.is(200)["projections"].as_array().unwrap();
        for one in projections {
            assert_eq!((&one["lag"], &one["failed"]), (&json!(0), &json!(null)));
        }
        // One of each service at least, and the query service's three.
        assert!(projections.len() >= Role::ALL.len() + 3, "{shown:?}");
        let reserved = json!(self.customers.taken());
        assert_eq!(client.get("/stock/tea").await.is(200)["reserved"], reserved);
        let services = self.platform.services.iter().map(|(_, process)| process);
        for process in services.chain([&self.platform.front]) {
            let client = process.client();
            client
                .until("/health", |health| health["status"] == "ok")
                .await;
            client.get("/ready").await.is(200);
        }
    }

    /// Reads the logs from their beginning, which are as they were when they were read bit by bit.
    async fn end(self) {
        let mut again = Logs::default();
        again.read(&self.platform.client).await;
        assert!(again == self.logs, "a log has changed behind its readers");
        self.platform.terminate();
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{variable} is not a number: {text:?}");
    number
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "the seed itself, which is printed"
)]
async fn what_is_acknowledged_outlives_servers_and_services_that_are_killed_under_load() {
    let Some(killer) = Killer::found() else {
        return;
    };
    let seed = number("FACTUM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut torture = Torture::begin(killer, seed).await;
    for round in 1..=number("FACTUM_TORTURE_ROUNDS").unwrap_or(1) {
        torture.round(round).await;
    }
    torture.end().await;
}
