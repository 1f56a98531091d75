//! Events that change many rows: a batch of them ends before its commit is too large, and one that would change too
//! many stops its projection, which says what to do about it.

use factum::{
    App, Failure, Projection, Query, Recorded, RowSet, Running, Service, Status, Topic, TopicSpec,
    View, ViewDefinition,
};
use factum_testkit::faults::Call;
use serde::{Deserialize, Serialize};

use crate::{
    bank::{Bank, Deposits, accounts, deposit, status},
    world::{Account, until},
};

const COINS: View<Coin> = View::new("coins");

#[derive(Serialize, Deserialize)]
struct Coin {
    polished: u64,
}

/// A row for each coin that is deposited; a single coin polishes all.
struct Coins;

impl Projection for Coins {
    const NAME: &'static str = "coins";
    const REVISION: u32 = 1;
    type Event = Deposits;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![COINS.kept_by::<Self>()]
    }

    async fn project(
        &self,
        event: &Recorded<Deposits>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let Deposits::Deposited { amount } = event.data;
        let account = event.aggregate_id.as_deref().unwrap_or_default();
        if amount == 1 {
            for (id, Coin { polished }) in rows.find(COINS, Query::all()).await? {
                let polished = polished + 1;
                rows.put(COINS, &id, &Coin { polished })?;
            }
        }
        for number in 0..amount {
            rows.put(COINS, &format!("{account}-{number}"), &Coin { polished: 0 })?;
        }
        Ok(())
    }
}

/// Deposits these amounts, and starts the projection behind all of them.
async fn start(bank: &Bank, amounts: &[u64]) -> Running {
    let service = || {
        Service::new("accounts")
            .aggregate::<Account>()
            .topic(TopicSpec::new(Topic::of("accounts"), 2))
    };
    let run = async |service: Service| {
        let (env, broker) = bank.outside();
        let app = App::new(env, broker).service_on(bank.store(), service);
        app.start().await.unwrap()
    };
    let running = run(service()).await;
    for (account, amount) in amounts.iter().enumerate() {
        deposit(&running, &format!("account-{account}"), *amount).await;
    }
    running.stop().await;
    run(service().projection(Coins)).await
}

/// The bound was on one event alone: two hundred of them could come to two million rows in one commit.
#[tokio::test(start_paused = true)]
async fn a_batch_ends_behind_the_event_that_fills_it() {
    let bank = Bank::new(23);
    let running = start(&bank, &[6_000, 5_000, 4_000, 3_000]).await;
    let store = accounts(&running).store().clone();
    let head = store.head().await.unwrap();
    until("all rows", async || {
        let generations = store.projections().await.unwrap();
        generations
            .iter()
            .any(|generation| generation.checkpoint == head)
    })
    .await;
    let log = bank.plan.log().into_iter();
    let commits: Vec<_> = log
        .filter(|entry| entry.operation.call == Call::Commit)
        .map(|entry| entry.operation.subject)
        .filter(|subject| subject.starts_with("projection coins"))
        .collect();
    assert_eq!(
        commits,
        [
            "projection coins from 0 to 1-2",
            "projection coins from 1-2 to 1-4"
        ]
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_finds_too_many_rows_stops_the_projection_and_says_what_to_do() {
    let bank = Bank::new(24);
    let running = start(&bank, &[10_000, 1, 1]).await;
    let health = accounts(&running).health();
    let failed = async || match status(health, "accounts/projection/coins") {
        Some(Status::Failed(reason)) => Some(reason),
        _ => None,
    };
    until("it stops", async || failed().await.is_some()).await;
    let reason = failed().await.unwrap();
    // With 10,000 it goes well, and the 10,001st is one too many.
    for part in [
        "projection `coins` at 1-3",
        "`find` met more than 10000 rows of view `coins`",
        "keep what they have in common in a row of its own",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    running.stop().await;
}

/// Only the engine's rows were counted: the same events stopped the projection or not, as their batches fell.
#[tokio::test(start_paused = true)]
async fn rows_of_the_same_batch_count_among_those_that_are_found() {
    let bank = Bank::new(25);
    let running = start(&bank, &[10_000, 5, 1]).await;
    let health = accounts(&running).health();
    until("it stops", async || {
        let status = status(health, "accounts/projection/coins");
        matches!(status, Some(Status::Failed(reason)) if reason.contains("at 1-3"))
    })
    .await;
    running.stop().await;
}
