//! A projection whose store fails and whose process dies at any point, through rebuilds and changes of program: in
//! the end its rows are what the log says, and nothing is left of older ones.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use factum::{At, By, Error, LogFilter, Query, Running, Store};
use factum_testkit::{
    MemoryStore,
    faults::{Call, Moment, Operation},
};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    bank::{BALANCES, Bank, STORIES, Story, accounts, close, deposit, generations, looks_around},
    world::{Account, AccountCommand, follow_time, until},
};

const SEEDS: u64 = 150;

/// What is known of an account: total, number of deposits, story.
type Known = (u64, u64, Story);

/// What the log says of each account.
async fn by_the_log(bank: &Bank) -> BTreeMap<String, Known> {
    #[derive(Deserialize)]
    struct Deposited {
        amount: u64,
    }
    let store = MemoryStore::open(bank.accounts.clone());
    let page = store
        .read_log(At::ZERO, &LogFilter::default(), 100_000)
        .await
        .unwrap();
    let mut totals: BTreeMap<String, Known> = BTreeMap::new();
    for record in page
        .records
        .iter()
        .filter(|record| &*record.draft.event_type.name == "Deposited")
    {
        let event: Deposited = serde_json::from_slice(&record.draft.data).unwrap();
        let account = record.draft.stream.as_ref().unwrap().id().to_string();
        let seen = if looks_around(event.amount) {
            Story::looking(event.amount, totals.values().map(|(_, _, story)| *story))
        } else {
            event.amount
        };
        let (total, deposits, story) = totals.entry(account).or_default();
        *total += event.amount;
        *deposits += 1;
        *story = story.with(seen);
    }
    totals
}

/// What readers see, all of it written by the last program.
async fn by_the_view(running: &Running) -> BTreeMap<String, Known> {
    let (queries, all) = (accounts(running).queries(), Query::all().limit(1_000));
    let found = queries.query(BALANCES, &all, None).await.unwrap();
    let stories = queries.query(STORIES, &all, None).await.unwrap();
    let stories: BTreeMap<_, _> = stories.value.rows.into_iter().collect();
    assert!(found.value.rows.iter().all(|(_, row)| row.revision == 2));
    found
        .value
        .rows
        .into_iter()
        .map(|(account, row)| {
            let story = stories[&account];
            (account, (row.total, row.deposits, story))
        })
        .collect()
}

fn is_the_projections(operation: &Operation) -> bool {
    matches!(
        operation.call,
        Call::ClaimProjection | Call::ForgetProjection | Call::EnsureView | Call::DropGeneration
    ) || operation.call == Call::Commit && operation.subject.starts_with("projection")
}

/// Plans what goes wrong in one life of the process. A hang stands for a crash at that point: whoever waits for it
/// is dropped with the process.
fn plan_faults(bank: &Bank, random: &mut fastrand::Rng) {
    bank.plan.clear();
    for _ in 0..random.u32(0..4) {
        let (call, about) = random
            .choice([
                (Call::Commit, "projection"),
                (Call::ClaimProjection, ""),
                (Call::ForgetProjection, ""),
                (Call::DropGeneration, ""),
                (Call::EnsureView, ""),
                (Call::Read, "projections"),
                (Call::Read, "balances"),
                (Call::Read, "log"),
            ])
            .unwrap();
        let rule = bank
            .plan
            .at(call)
            .about(about)
            .nth(random.u64(1..6))
            .times(random.u64(1..4));
        if call.is_write() && random.bool() {
            rule.loses_the_answer();
        } else {
            rule.fails(Error::transient("the disk is busy"));
        }
    }
    if random.u32(0..3) > 0 {
        let crash_at = random.u32(1..12);
        let moment = if random.bool() {
            Moment::Before
        } else {
            Moment::After
        };
        let writes = Arc::new(AtomicU32::new(0));
        bank.plan.on_write(move |operation, now| {
            let hangs = is_the_projections(operation)
                && now == moment
                && writes.fetch_add(1, Ordering::SeqCst) + 1 >= crash_at;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
            }
        });
    }
}

/// One life of the process, as program `R`, which ends as a crash or in good order.
async fn live<const R: u32>(bank: &Bank, random: &mut fastrand::Rng) {
    plan_faults(bank, random);
    let running = bank.start::<R>().await;
    for _ in 0..random.u32(0..40) {
        let account = format!("account-{}", random.u32(0..5));
        let command = match random.u32(0..20) {
            0 => AccountCommand::Close,
            _ => AccountCommand::Deposit(random.u64(1..100)),
        };
        // What became of it, if it hangs behind a crashed commit, is looked up in the log.
        let commands = accounts(&running).commands();
        let executed = timeout(
            Duration::from_millis(100),
            commands.execute::<Account>(&account, command),
        )
        .await;
        drop(executed);
        match random.u32(0..20) {
            0 => {
                let operator = accounts(&running).operator();
                let by = By::new("local", "a test");
                let asked = timeout(
                    Duration::from_millis(100),
                    operator.rebuild("balances", &by),
                )
                .await;
                drop(asked);
            }
            1 => tokio::time::sleep(Duration::from_millis(random.u64(1..800))).await,
            _ => {}
        }
    }
    if random.bool() {
        running.stop().await;
    }
}

/// By row, if `by_row`; with times that differ from row to row then.
async fn play(seed: u64, by_row: bool) {
    let bank = Bank::new(seed);
    if by_row {
        bank.faults.by_row(seed);
    }
    let time = follow_time(&bank.env);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..4 {
        if random.bool() {
            live::<1>(&bank, &mut random).await;
        } else {
            live::<2>(&bank, &mut random).await;
        }
    }
    bank.plan.clear();
    let running = bank.start::<2>().await;
    let token = deposit(&running, "the-last", 1).await.token;
    close(&running, "the-last").await;
    let queries = accounts(&running)
        .queries()
        .with_timeout(Duration::from_mins(1));
    let last = queries
        .get(BALANCES, "the-last", Some(&token))
        .await
        .unwrap();
    assert_eq!(last.value.unwrap().revision, 2);
    assert_eq!(by_the_view(&running).await, by_the_log(&bank).await);
    until("one generation is left", async || {
        generations(&running).await.len() == 1
    })
    .await;
    running.stop().await;
    time.abort();
}

fn play_all(by_row: bool) {
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(play(seed, by_row));
        }));
        assert!(played.is_ok(), "seed {seed}");
    }
}

#[test]
fn whatever_happens_the_rows_are_what_the_log_says() {
    play_all(false);
}

#[test]
fn whatever_happens_rows_that_are_taken_at_the_same_time_are_what_the_log_says() {
    play_all(true);
}
