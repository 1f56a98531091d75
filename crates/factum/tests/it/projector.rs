//! Projections: rows follow the log, are built anew beside the old ones, and stop rather than skip.

use factum::{
    Append, At, By, Category, Codec, Destination, Draft, Epoch, Error, ExpectedVersion, Failure,
    Input, LogInput, Metadata, OwnerEpoch, ProjectionName, RecordKind, Running, Status, StreamId,
    Token, Topic, TypeName,
};

use factum_testkit::faults::Call;

use crate::{
    bank::{BALANCES, Balance, Bank, Fault, accounts, close, commit, deposit, generations, status},
    world::{follow_time, until},
};

const PART: &str = "accounts/projection/balances";

fn by() -> By {
    By::new("local", "a test")
}

/// The row of an account as readers see it at this moment.
async fn row(running: &Running, account: &str) -> Option<Balance> {
    accounts(running)
        .queries()
        .get(BALANCES, account, None)
        .await
        .unwrap()
        .value
}

/// The row of an account as soon as it shows all that the token stands for.
async fn fresh(running: &Running, account: &str, token: &Token) -> Option<Balance> {
    let queries = accounts(running).queries();
    let fresh = queries.get(BALANCES, account, Some(token)).await;
    fresh.unwrap().value
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is compared with rows, which may be missing"
)]
fn balance(total: u64, deposits: u64, revision: u32) -> Option<Balance> {
    Some(Balance {
        total,
        deposits,
        revision,
    })
}

async fn until_status(running: &Running, is_it: impl Fn(&Status) -> bool) {
    let health = accounts(running).health();
    until("the status", async || {
        status(health, PART).is_some_and(|status| is_it(&status))
    })
    .await;
}

/// Why the projection has stopped, when it has.
async fn until_failed(running: &Running) -> String {
    until_status(running, |status| matches!(status, Status::Failed(_))).await;
    match status(accounts(running).health(), PART) {
        Some(Status::Failed(reason)) => reason,
        other => panic!("it goes on by itself: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn rows_follow_the_log_and_go_on_after_a_crash() {
    let bank = Bank::new(1);
    let running = bank.start::<1>().await;
    for amount in 1..=10 {
        deposit(&running, "a", amount).await;
    }
    let token = deposit(&running, "b", 5).await.token;
    assert_eq!(fresh(&running, "b", &token).await, balance(5, 1, 1));
    assert_eq!(row(&running, "a").await, balance(55, 10, 1));
    drop(running);

    bank.faults.tried();
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 45).await.token;
    assert_eq!(fresh(&running, "a", &token).await, balance(100, 11, 1));
    assert_eq!(
        bank.faults.tried(),
        [45],
        "what was taken before the crash is not taken again"
    );
    assert_eq!(generations(&running).await, [1]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_follows_over_events_that_are_void_for_the_projection() {
    let bank = Bank::new(2);
    let running = bank.start::<1>().await;
    deposit(&running, "a", 1).await;
    let token = close(&running, "a").await.token;
    fresh(&running, "a", &token).await;
    let store = accounts(&running).store().clone();
    until("the stored checkpoint", async || {
        store.projections().await.unwrap()[0].checkpoint.position == token.position()
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_new_program_are_built_while_the_old_ones_are_served() {
    let bank = Bank::new(3);
    let running = bank.start::<1>().await;
    deposit(&running, "a", 1).await;
    let token = deposit(&running, "a", 2).await.token;
    fresh(&running, "a", &token).await;
    running.stop().await;
    drop(running);

    bank.faults.set(1, Fault::Waits);
    let running = bank.start::<2>().await;
    until("two generations", async || {
        generations(&running).await == [1, 2]
    })
    .await;
    assert_eq!(row(&running, "a").await, balance(3, 2, 1));
    let token = deposit(&running, "a", 4).await.token;
    let queries = accounts(&running).queries();
    let error = queries.get(BALANCES, "a", Some(&token)).await.unwrap_err();
    assert!(
        matches!(error, factum::QueryError::Stale(factum::Stale::Rebuilding)),
        "{error}"
    );
    bank.faults.clear();
    assert_eq!(fresh(&running, "a", &token).await, balance(7, 3, 2));
    until("one generation", async || {
        generations(&running).await == [2]
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_goes_on_where_a_crash_left_it() {
    let bank = Bank::new(4);
    let running = bank.start::<1>().await;
    for amount in 0..2_500 {
        deposit(&running, &format!("account-{}", amount % 10), amount).await;
    }
    running.stop().await;
    drop(running);

    bank.faults.set(1_700, Fault::Waits);
    let running = bank.start::<2>().await;
    let checkpoint = async |running: &Running| {
        let states = accounts(running).store().projections().await.unwrap();
        states
            .iter()
            .find(|state| state.generation == 2)
            .map_or(0, |state| state.checkpoint.position.0)
    };
    until("one batch", async || checkpoint(&running).await == 1_000).await;
    drop(running);

    bank.faults.clear();
    bank.faults.tried();
    let running = bank.start::<2>().await;
    until("the new rows", async || {
        row(&running, "account-3")
            .await
            .is_some_and(|row| row.revision == 2)
    })
    .await;
    assert_eq!(bank.faults.tried().first(), Some(&1_000));
    let sum = (0..2_500).filter(|amount| amount % 10 == 3).sum();
    assert_eq!(row(&running, "account-3").await, balance(sum, 250, 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operators_rebuild_keeps_the_old_rows_up_to_date_until_the_new_ones_have_caught_up() {
    let bank = Bank::new(5);
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &token).await;

    // Only the new generation takes this event now.
    bank.faults.set(1, Fault::Waits);
    accounts(&running)
        .operator()
        .rebuild("balances", &by())
        .await
        .unwrap();
    until("two generations", async || {
        generations(&running).await == [1, 2]
    })
    .await;
    let token = deposit(&running, "a", 2).await.token;
    assert_eq!(fresh(&running, "a", &token).await, balance(3, 2, 1));
    bank.faults.clear();
    until("one generation", async || {
        generations(&running).await == [2]
    })
    .await;
    let token = deposit(&running, "a", 4).await.token;
    assert_eq!(fresh(&running, "a", &token).await, balance(7, 3, 1));

    let error = accounts(&running)
        .operator()
        .rebuild("totals", &by())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown projection `totals` (known: balances)"
    );
    let audit = accounts(&running).operator().audit(None, 10).await.unwrap();
    assert_eq!(
        (&*audit[0].entry.action, &*audit[0].entry.subject),
        ("rebuild", "balances")
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_was_asked_for_survives_a_crash() {
    let bank = Bank::new(6);
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &token).await;
    bank.faults.set(1, Fault::Waits);
    accounts(&running)
        .operator()
        .rebuild("balances", &by())
        .await
        .unwrap();
    until("two generations", async || {
        generations(&running).await == [1, 2]
    })
    .await;
    drop(running);
    bank.faults.clear();
    let running = bank.start::<1>().await;
    until("the new generation", async || {
        generations(&running).await == [2]
    })
    .await;
    assert_eq!(row(&running, "a").await, balance(1, 1, 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_tried_again_and_counted_once() {
    let bank = Bank::new(7);
    bank.faults.set(13, Fault::FailsTimes(2));
    let running = bank.start::<1>().await;
    for amount in [1, 2, 13, 4] {
        deposit(&running, "a", amount).await;
    }
    until("all taken", async || {
        row(&running, "a").await == balance(20, 4, 1)
    })
    .await;
    let tried = bank.faults.tried();
    assert_eq!(tried.iter().filter(|amount| **amount == 13).count(), 3);
    until_status(&running, |status| *status == Status::Running).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_goes_on_failing_stops_the_projection_until_it_is_told_to_go_on() {
    let bank = Bank::new(8);
    bank.faults
        .set(13, Fault::Fails(Failure::transient("no such currency")));
    let running = bank.start::<1>().await;
    let queries = accounts(&running).queries();
    let before = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &before).await;
    let after = deposit(&running, "a", 13).await.token;
    let reason = until_failed(&running).await;
    assert!(
        reason.contains("no such currency") && reason.contains("`Deposited v1`"),
        "{reason}"
    );
    assert_eq!(
        bank.faults
            .tried()
            .iter()
            .filter(|amount| **amount == 13)
            .count(),
        4,
        "once, and the three retries of the default policy"
    );

    // What was taken before it is fresh; what comes behind it says why it isn't.
    assert_eq!(fresh(&running, "a", &before).await, balance(1, 1, 1));
    let error = queries.get(BALANCES, "a", Some(&after)).await.unwrap_err();
    assert!(error.to_string().contains("no such currency"), "{error}");

    bank.faults.clear();
    accounts(&running)
        .operator()
        .resume("balances", &by())
        .await
        .unwrap();
    until("it goes on", async || {
        row(&running, "a").await == balance(14, 2, 1)
    })
    .await;
    until_status(&running, |status| *status == Status::Running).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_named() {
    let bank = Bank::new(9);
    bank.faults.set(13, Fault::Panics);
    let running = bank.start::<1>().await;
    deposit(&running, "a", 13).await;
    let reason = until_failed(&running).await;
    assert!(
        reason.contains("projection `balances` panicked: amount 13 is too much"),
        "{reason}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_in_the_audit_record_and_leaves_no_trace_in_the_rows() {
    let bank = Bank::new(10);
    bank.faults
        .set(13, Fault::Fails(Failure::skip("a test deposit")));
    let running = bank.start::<1>().await;
    for amount in [1, 13, 4] {
        deposit(&running, "a", amount).await;
    }
    until("the others", async || {
        row(&running, "a").await == balance(5, 2, 1)
    })
    .await;
    let audit = accounts(&running).operator().audit(None, 10).await.unwrap();
    let entry = &audit[0].entry;
    assert_eq!(
        (&*entry.actor, &*entry.action, &*entry.reason),
        ("balances", "skip", "a test deposit")
    );
    running.stop().await;
}

/// A record of a type that no program knows.
fn unknown(bank: &Bank, kind: RecordKind) -> Draft {
    let env = bank.env.env();
    let stream = StreamId::new(Category::of("account"), "z").unwrap();
    let destination = Destination {
        topic: Topic::of("accounts"),
        partition: 0,
        key: Some("z".into()),
    };
    Draft {
        kind,
        stream: (kind != RecordKind::Message).then_some(stream),
        event_id: env.message_id(),
        event_type: TypeName::new("FromTheFuture", 1),
        destination: (kind == RecordKind::Message).then_some(destination),
        timestamp: env.now(),
        correlation_id: env.message_id(),
        causation_id: None,
        metadata: Metadata::new(),
        tags: Vec::new(),
        codec: Codec::Json,
        protection: None,
        data: "{}".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_type_that_no_code_of_the_service_knows_stops_the_projection_and_a_message_does_not()
 {
    let bank = Bank::new(11);
    let running = bank.start::<1>().await;
    let (store, env) = (accounts(&running).store().clone(), bank.env.env());
    let message = unknown(&bank, RecordKind::Message);
    commit(&*store, &env, |commit| commit.outbox.push(message))
        .await
        .unwrap();
    let token = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &token).await;

    let event = unknown(&bank, RecordKind::Event);
    let append = |drafts: Vec<Draft>| Append {
        stream: drafts[0].stream.clone().unwrap(),
        expected: ExpectedVersion::Any,
        drafts,
    };
    commit(&*store, &env, |commit| {
        commit.appends.push(append(vec![event]));
    })
    .await
    .unwrap();
    let reason = until_failed(&running).await;
    assert!(
        reason.contains("`FromTheFuture v1`") && reason.contains("update this one"),
        "{reason}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_one_keeps_the_rows_and_the_other_takes_over() {
    let mut bank = Bank::new(12);
    bank.shared = true;
    let _time = follow_time(&bank.env);
    let first = bank.start::<1>().await;
    let token = deposit(&first, "a", 1).await.token;
    fresh(&first, "a", &token).await;
    let second = bank.start::<1>().await;
    // Both answer for what was written anywhere, whichever owns the projection.
    for amount in [2, 3] {
        let token = deposit(&second, "a", amount).await.token;
        for running in [&first, &second] {
            fresh(running, "a", &token).await;
        }
    }
    drop(first);
    deposit(&second, "a", 4).await;
    until("the second has taken over", async || {
        row(&second, "a").await == balance(10, 4, 1)
    })
    .await;
    // Nobody else ever asked for it.
    let (name, print) = (ProjectionName::of("balances"), "");
    let claim = bank
        .store()
        .claim_projection(&name, 1, print)
        .await
        .unwrap();
    assert_eq!(claim.fence.owner, OwnerEpoch(4));
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_rolling_deploy_the_old_program_stands_aside_and_builds_nothing_back() {
    let mut bank = Bank::new(13);
    bank.shared = true;
    let _time = follow_time(&bank.env);
    let old = bank.start::<1>().await;
    let token = deposit(&old, "a", 1).await.token;
    fresh(&old, "a", &token).await;
    let new = bank.start::<2>().await;
    until("the new rows", async || {
        row(&new, "a").await == balance(1, 1, 2)
    })
    .await;
    until("the old program knows", async || {
        deposit(&new, "b", 1).await;
        matches!(status(accounts(&old).health(), PART), Some(Status::Degraded(why)) if why.contains("another program"))
    })
    .await;
    assert_eq!(generations(&new).await, [2]);
    // It still answers, from the new rows.
    let token = deposit(&new, "a", 2).await.token;
    assert_eq!(fresh(&old, "a", &token).await, balance(3, 2, 2));
    new.stop().await;
    old.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restore_the_rows_are_those_of_the_new_time_line() {
    let bank = Bank::new(14);
    let _time = follow_time(&bank.env);
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &token).await;
    until("it is stored", async || {
        accounts(&running).store().projections().await.unwrap()[0]
            .checkpoint
            .position
            == token.position()
    })
    .await;
    let backup = bank.accounts.backup();
    let lost = deposit(&running, "a", 100).await.token;
    fresh(&running, "a", &lost).await;
    running.stop().await;
    drop(running);
    bank.accounts
        .restore(&backup, Epoch(0), bank.env.env().now(), "a test")
        .unwrap();

    let running = bank.start::<1>().await;
    let queries = accounts(&running).queries();
    let token = deposit(&running, "a", 2).await.token;
    assert_eq!(fresh(&running, "a", &token).await, balance(3, 2, 1));
    let error = queries.get(BALANCES, "a", Some(&lost)).await.unwrap_err();
    assert!(
        matches!(error, factum::QueryError::Stale(factum::Stale::Lost)),
        "{error}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_stand_on_a_lost_time_line_are_built_anew() {
    let bank = Bank::new(15);
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &token).await;
    running.stop().await;
    drop(running);
    // As after a restore that brought back an older log than the rows.
    let store = bank.store();
    let name = ProjectionName::of("balances");
    let state = store.projections().await.unwrap().remove(0);
    let claim = store
        .claim_projection(&name, state.generation, &state.fingerprint)
        .await
        .unwrap();
    let input = LogInput {
        projection: name,
        generation: state.generation,
        fence: claim.fence,
        from: claim.checkpoint,
        to: At::new(1, 1_000),
    };
    commit(&*store, &bank.env.env(), |commit| {
        commit.input = Input::Log(input);
    })
    .await
    .unwrap();

    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 2).await.token;
    let queries = accounts(&running).queries();
    until("the rows are right", async || {
        queries
            .get(BALANCES, "a", Some(&token))
            .await
            .is_ok_and(|fresh| fresh.value == balance(3, 2, 1))
    })
    .await;
    until("one generation", async || {
        generations(&running).await == [2]
    })
    .await;
    running.stop().await;
}

/// An engine that writes rows in several steps finishes them for whoever claims the generation, and one of them may be refused
/// for good. That ended the projection, whatever an operator asked for and whichever program came.
#[tokio::test(start_paused = true)]
async fn rows_that_nobody_can_claim_any_more_are_built_anew() {
    let bank = Bank::new(18);
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 1).await.token;
    fresh(&running, "a", &token).await;
    running.stop().await;
    let claim = bank.plan.at(Call::ClaimProjection).about("balances@1");
    claim.fails(Error::poison("row `a` is refused"));
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 2).await.token;
    assert_eq!(fresh(&running, "a", &token).await, balance(3, 2, 1));
    until("one generation", async || {
        generations(&running).await == [2]
    })
    .await;
    assert!(bank.plan.unmet().is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_nobody_can_claim_any_more_makes_way_for_the_next_that_is_asked_for() {
    let bank = Bank::new(19);
    let running = bank.start::<1>().await;
    deposit(&running, "a", 1).await;
    let token = deposit(&running, "a", 13).await.token;
    fresh(&running, "a", &token).await;
    running.stop().await;
    let refused = || Error::poison("row `a` is refused");
    for generation in ["balances@1", "balances@2"] {
        // The second of these is claimed twice: when it is made, and when it is asked for again.
        let nth = if generation.ends_with('2') { 2 } else { 1 };
        let claim = bank.plan.at(Call::ClaimProjection).about(generation);
        claim.nth(nth).fails(refused());
    }
    bank.faults
        .set(13, Fault::Fails(Failure::transient("no such currency")));
    let running = bank.start::<1>().await;
    let reason = until_failed(&running).await;
    assert!(reason.contains("no such currency"), "{reason}");
    assert_eq!(
        row(&running, "a").await,
        balance(14, 2, 1),
        "the old rows are served"
    );
    bank.faults.clear();
    let operator = accounts(&running).operator();
    operator.rebuild("balances", &by()).await.unwrap();
    until("the third generation", async || {
        generations(&running).await == [3]
    })
    .await;
    until_status(&running, |status| *status == Status::Running).await;
    assert_eq!(row(&running, "a").await, balance(14, 2, 1));
    assert!(bank.plan.unmet().is_empty());
    running.stop().await;
}

/// One that nobody has had before is refused for another reason, and so would be all that follow.
#[tokio::test(start_paused = true)]
async fn a_new_generation_that_is_refused_ends_the_projection_and_no_other_is_tried() {
    let bank = Bank::new(20);
    let claim = bank.plan.at(Call::ClaimProjection).times(u64::MAX);
    claim.fails(Error::poison("a projection can't be called so"));
    let running = bank.start::<1>().await;
    let reason = until_failed(&running).await;
    assert!(reason.contains("called so"), "{reason}");
    let log = bank.plan.log();
    let claims = log
        .iter()
        .filter(|entry| entry.operation.call == Call::ClaimProjection);
    assert_eq!(claims.count(), 1);
    running.stop().await;
}
