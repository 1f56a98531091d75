//! Views outside of the store, by an engine that loses what it has taken.

use std::{cell::Cell, time::Duration};

use factum::{
    App, Error, Query, QueryError, Running, Service, Stale, Token, Topic, TopicSpec, WithViews,
};
use factum_testkit::{MemoryViewsEngine, faults::Call};

use crate::{
    bank::{BALANCES, Balance, Balances, Bank, accounts, deposit, generations},
    world::{Account, AccountCommand, Receipt, until},
};

/// The bank, with its balances by an engine, and receipts that mean nothing to them.
async fn start(bank: &Bank, engine: &MemoryViewsEngine) -> Running {
    let (env, broker) = bank.outside();
    let store = WithViews::store(bank.store(), engine).await.unwrap();
    let service = Service::new("accounts")
        .aggregate::<Account>()
        .topic(TopicSpec::new(Topic::of("accounts"), 2))
        .aggregate::<Receipt>()
        .topic(TopicSpec::new(Topic::of("receipts"), 2))
        .projection(Balances::<1>(bank.faults.clone()));
    let app = App::new(env, broker).service_on(store, service);
    app.start().await.unwrap()
}

/// Writes a receipt.
async fn receipt(running: &Running, id: &str) -> Token {
    let commands = accounts(running).commands();
    let written = commands.execute::<Receipt>(&id.to_string(), 1).await;
    written.unwrap().token
}

async fn ask(running: &Running, token: Option<&Token>) -> Result<Option<Balance>, QueryError> {
    let queries = accounts(running).queries();
    let fresh = queries.get(BALANCES, "a", token).await?;
    Ok(fresh.value)
}

/// The balance as soon as it shows what the token stands for. What is shown before is nothing, rather than less.
async fn total(running: &Running, token: &Token) -> u64 {
    let found = &Cell::new(0);
    until("the balance", move || async move {
        match ask(running, Some(token)).await {
            Ok(balance) => {
                found.set(balance.map_or(0, |balance| balance.total));
                true
            }
            Err(QueryError::Stale(_)) => false,
            Err(QueryError::Failed(error)) => panic!("nothing of it is an error: {error:#}"),
        }
    })
    .await;
    found.get()
}

#[tokio::test(start_paused = true)]
async fn rows_follow_the_log_and_go_on_after_a_restart() {
    let (bank, engine) = (Bank::new(71), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    running.stop().await;
    bank.faults.tried();
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 7).await.token;
    assert_eq!(total(&running, &token).await, 12);
    assert_eq!(
        bank.faults.tried(),
        [7],
        "what was taken before is not taken again"
    );
    assert_eq!(generations(&running).await, [1]);
    running.stop().await;
}

/// It went wrong: an engine that took rows was believed to say that the store can be written to again.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_is_told_of_though_its_rows_are_taken_elsewhere() {
    let (bank, engine) = (Bank::new(77), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    let rule = bank.plan.at(Call::Commit).on("accounts");
    rule.times(u64::MAX)
        .fails(Error::transient("the disk is full"));
    let accounts = accounts(&running);
    let deposit = AccountCommand::Deposit(7);
    let refused = accounts.commands().execute::<Account>("a", deposit).await;
    refused.expect_err("nothing is taken");
    // The projection asks its engine all along whether it has lost anything.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(accounts.unwritable().await.is_some());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn last_writes_that_an_engine_lost_are_missed_by_no_query_and_come_again() {
    let (bank, engine) = (Bank::new(72), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let before = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &before).await, 5);
    let backup = engine.backup();
    let token = deposit(&running, "a", 7).await.token;
    assert_eq!(total(&running, &token).await, 12);
    engine.go_back(&backup);
    // The projection believes that it has come to the end, and the log doesn't grow.
    let asked = ask(&running, Some(&token)).await;
    assert!(
        matches!(asked, Err(QueryError::Stale(Stale::Pending))),
        "{asked:?}"
    );
    let asked = accounts(&running)
        .queries()
        .get(BALANCES, "a", None)
        .await
        .unwrap();
    assert_eq!(asked.value.unwrap().total, 5);
    assert!(
        asked.at.position < token.position(),
        "it says how old it is: {}",
        asked.at
    );
    assert_eq!(total(&running, &token).await, 12);
    let query = Query::all().compare("total", factum::Operator::AtLeast, 12);
    let found = accounts(&running)
        .queries()
        .query(BALANCES, &query, Some(&token))
        .await;
    assert_eq!(found.unwrap().value.rows.len(), 1);
    assert_eq!(
        generations(&running).await,
        [1],
        "it went on from where it stood"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lost_everything_is_filled_anew() {
    let (bank, engine) = (Bank::new(73), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    for round in 1..=3 {
        let token = deposit(&running, "a", 5).await.token;
        assert_eq!(total(&running, &token).await, round * 5);
        engine.lose_all();
        assert_eq!(total(&running, &token).await, round * 5);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_is_seen_when_it_is_complete() {
    let (bank, engine) = (Bank::new(74), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    let by = factum::By::new("local", "a test");
    accounts(&running)
        .operator()
        .rebuild("balances", &by)
        .await
        .unwrap();
    until("the new rows", async || {
        assert_eq!(total(&running, &token).await, 5);
        generations(&running).await == [2]
    })
    .await;
    running.stop().await;
}

/// A token of a command that means nothing to the projection was answered with `Pending`, as long as the checkpoint was not
/// stored behind it: with a steady stream of such commands, nearly always.
#[tokio::test(start_paused = true)]
async fn who_wrote_what_means_nothing_to_the_view_is_answered_at_once() {
    let (bank, engine) = (Bank::new(75), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    for number in 0..50 {
        let token = receipt(&running, &number.to_string()).await;
        let asked = ask(&running, Some(&token)).await;
        let balance = asked.unwrap_or_else(|error| panic!("receipt {number}: {error}"));
        assert_eq!(balance.map(|balance| balance.total), Some(5));
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_were_lost_are_missed_behind_what_means_nothing_to_the_view_too() {
    let (bank, engine) = (Bank::new(76), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    let backup = engine.backup();
    let deposited = deposit(&running, "a", 7).await.token;
    assert_eq!(total(&running, &deposited).await, 12);
    let written = receipt(&running, "r").await;
    assert_eq!(
        ask(&running, Some(&written)).await.unwrap().unwrap().total,
        12
    );
    engine.go_back(&backup);
    for token in [&deposited, &written] {
        let asked = ask(&running, Some(token)).await;
        assert!(
            matches!(asked, Err(QueryError::Stale(Stale::Pending))),
            "{asked:?}"
        );
    }
    assert_eq!(total(&running, &written).await, 12);
    running.stop().await;
}

/// The engine was asked again and again while its checkpoint was behind what the projection had reached: as fast as it
/// answered.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_row_asks_now_and_then_while_the_checkpoint_is_behind() {
    let (bank, engine) = (Bank::new(77), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    let token = receipt(&running, "r").await;
    ask(&running, Some(&token)).await.unwrap();
    let before = engine.asked();
    let queries = accounts(&running).queries();
    let waiting = tokio::spawn(async move {
        let waited = queries.wait_for(BALANCES, "a", |balance| balance.total == 12);
        waited.await.map(|fresh| fresh.value.total)
    });
    // No time passes as long as anybody has something to do.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let asked = engine.asked() - before;
    assert!((1..=3).contains(&asked), "asked {asked} times in no time");
    deposit(&running, "a", 7).await;
    assert_eq!(waiting.await.unwrap().unwrap(), 12);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_row_goes_on_waiting_when_the_engine_went_back() {
    let (bank, engine) = (Bank::new(78), MemoryViewsEngine::default());
    let running = start(&bank, &engine).await;
    let token = deposit(&running, "a", 5).await.token;
    assert_eq!(total(&running, &token).await, 5);
    let queries = accounts(&running).queries();
    let waiting = tokio::spawn(async move {
        let queries = queries.with_timeout(std::time::Duration::from_mins(1));
        let waited = queries.wait_for(BALANCES, "a", |balance| balance.total == 12);
        waited.await.map(|fresh| fresh.value.total)
    });
    let before = engine.asked();
    while engine.asked() == before {
        tokio::task::yield_now().await;
    }
    // It has asked, and has no answer yet.
    engine.go_back(&engine.backup());
    deposit(&running, "a", 7).await;
    assert_eq!(waiting.await.unwrap().unwrap(), 12);
    running.stop().await;
}
