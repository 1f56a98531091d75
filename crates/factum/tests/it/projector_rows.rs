//! Projections that name the rows of their events: rows are taken at the same time, and one batch is what one event
//! after another would have made.

use std::time::Duration;

use factum::{Failure, Running, Status};

use crate::{
    bank::{BALANCES, Bank, Fault, STORIES, Story, accounts, deposit, status},
    world::until,
};

const PART: &str = "accounts/projection/balances";

/// A bank with these deposits, whose rows the next program builds anew in one batch.
async fn bank_with(seed: u64, deposits: &[(&str, u64)]) -> Bank {
    let bank = Bank::new(seed);
    let running = bank.start::<1>().await;
    for (account, amount) in deposits {
        let token = deposit(&running, account, *amount).await.token;
        let queries = accounts(&running).queries();
        queries.get(BALANCES, account, Some(&token)).await.unwrap();
    }
    running.stop().await;
    bank.faults.tried();
    bank
}

/// The total of an account in the rows of program 2.
async fn total(running: &Running, account: &str) -> Option<u64> {
    let queries = accounts(running).queries();
    let row = queries.get(BALANCES, account, None).await.unwrap().value;
    row.filter(|row| row.revision == 2).map(|row| row.total)
}

/// Whether an event of account `b` is taken while one of account `a`, before it, waits.
async fn overtakes(bank: &Bank) -> bool {
    bank.faults.set(1, Fault::Waits);
    let running = bank.start::<2>().await;
    until("the first event is waiting", async || {
        bank.faults.has_tried(1)
    })
    .await;
    // Whatever can be done beside it is done before the clock of the test, which is paused, goes on.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let overtaken = bank.faults.has_tried(2);
    bank.faults.clear();
    until("the rows", async || total(&running, "b").await == Some(2)).await;
    assert_eq!(total(&running, "a").await, Some(4));
    running.stop().await;
    overtaken
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_those_of_its_row_and_not_for_others() {
    let deposits = [("a", 1), ("a", 3), ("b", 2)];
    let bank = bank_with(1, &deposits).await;
    assert!(!overtakes(&bank).await, "one after another by default");
    let bank = bank_with(2, &deposits).await;
    bank.faults.by_row(2);
    assert!(overtakes(&bank).await);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_may_touch_any_row_sees_all_before_it_and_nothing_behind() {
    // Deposits of 10 look at the stories of all accounts.
    let deposits = [("a", 1), ("b", 2), ("c", 10), ("a", 3), ("c", 10), ("b", 4)];
    let bank = bank_with(3, &deposits).await;
    bank.faults.by_row(3);
    let running = bank.start::<2>().await;
    until("the rows", async || total(&running, "c").await == Some(20)).await;

    let (none, a, b) = (
        Story::default(),
        Story::default().with(1),
        Story::default().with(2),
    );
    let c = none.with(Story::looking(10, [a, b]));
    let a = a.with(3);
    let c = c.with(Story::looking(10, [a, b, c]));
    let queries = accounts(&running).queries();
    for (account, story) in [("a", a), ("b", b.with(4)), ("c", c)] {
        let row = queries.get(STORIES, account, None).await.unwrap().value;
        assert_eq!(row, Some(story), "account `{account}`");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_several_that_fail_the_first_stops_the_projection_and_leaves_no_trace_of_those_behind_it()
 {
    let deposits = [("a", 1), ("b", 2), ("c", 13), ("a", 3), ("b", 15), ("d", 4)];
    let bank = bank_with(4, &deposits).await;
    bank.faults.by_row(4);
    for amount in [13, 15] {
        let failure = Failure::poison(format!("not {amount}"));
        bank.faults.set(amount, Fault::Fails(failure));
    }
    // Readers see the old rows: the failure is the new generation's, and its rows come up to the failed event.
    let running = bank.start::<2>().await;
    let health = accounts(&running).health();
    let failed = async |amount: u64| {
        until("it fails", async || match status(health, PART) {
            Some(Status::Failed(reason)) => reason.contains(&format!("not {amount}")),
            _ => false,
        })
        .await;
    };
    failed(13).await;
    let store = accounts(&running).store().clone();
    let checkpoint = async || {
        let states = store.projections().await.unwrap();
        let state = states.into_iter().find(|state| state.generation == 2);
        state.unwrap().checkpoint.position.0
    };
    let (before, views) = (checkpoint().await, store.views().unwrap());
    let stored = async |account: &str| {
        let row = views.get(&BALANCES.name(), Some(2), account).await.unwrap();
        row.is_some()
    };
    assert!(stored("a").await && stored("b").await);
    assert!(!stored("c").await && !stored("d").await);

    bank.faults.set(13, Fault::Fails(Failure::skip("a test")));
    let by = factum::By::new("local", "a test");
    accounts(&running)
        .operator()
        .resume("balances", &by)
        .await
        .unwrap();
    failed(15).await;
    assert_eq!(
        checkpoint().await,
        before + 2,
        "13 was skipped and 3 was taken"
    );
    assert!(!stored("d").await);

    bank.faults.clear();
    accounts(&running)
        .operator()
        .resume("balances", &by)
        .await
        .unwrap();
    until("the rows", async || total(&running, "d").await == Some(4)).await;
    for (account, sum) in [("a", 4), ("b", 17)] {
        assert_eq!(
            total(&running, account).await,
            Some(sum),
            "account `{account}`"
        );
    }
    assert_eq!(total(&running, "c").await, None);
    running.stop().await;
}
