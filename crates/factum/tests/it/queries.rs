//! Queries with tokens: fresh, in the same service and across one hop, or an answer that says why not.

use std::time::Duration;

use factum::{
    By, Comparison, DeadLetters, Failure, Query, QueryError, Running, RunningService, Stale,
    StoreId, Token, TopicWrite, View,
};

use crate::{
    bank::{BALANCES, Balance, Bank, Fault, accounts, close, deposit},
    world::{follow_time, until},
};

fn statements(running: &Running) -> &RunningService {
    running.service("statements").unwrap()
}

async fn total(
    service: &RunningService,
    account: &str,
    token: &Token,
) -> Result<Option<u64>, Stale> {
    match service.queries().get(BALANCES, account, Some(token)).await {
        Ok(fresh) => Ok(fresh.value.map(|row| row.total)),
        Err(QueryError::Stale(stale)) => Err(stale),
        Err(QueryError::Failed(error)) => panic!("{error:#}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_command_is_seen_by_the_query_that_carries_its_token() {
    let bank = Bank::new(21);
    let running = bank.start::<1>().await;
    for amount in 1..=50_u64 {
        let token = deposit(&running, "a", 1).await.token;
        assert_eq!(
            total(accounts(&running), "a", &token).await,
            Ok(Some(amount))
        );
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_another_service_waits_for_its_import_and_then_for_its_view() {
    let bank = Bank::new(22);
    let _time = follow_time(&bank.env);
    let running = bank.start_with_statements().await;
    for amount in 1..=20_u64 {
        let token = deposit(&running, "a", 1).await.token;
        // As it travels: through a client, as text.
        let token = token.to_string().parse().unwrap();
        assert_eq!(
            total(statements(&running), "a", &token).await,
            Ok(Some(amount))
        );
    }
    // A message that leads to nothing here is waited for all the same.
    let token = close(&running, "a").await.token;
    assert_eq!(total(statements(&running), "a", &token).await, Ok(Some(20)));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_row_is_waited_for_until_it_is_as_wanted() {
    let bank = Bank::new(31);
    let _time = follow_time(&bank.env);
    let running = bank.start_with_statements().await;
    for _ in 1..=20 {
        deposit(&running, "a", 1).await;
    }
    let queries = statements(&running).queries();
    let row = queries.wait_for(BALANCES, "a", |row| row.total == 20).await;
    assert_eq!(row.unwrap().value.total, 20);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_never_becomes_as_wanted_is_not_waited_for_without_end() {
    let bank = Bank::new(32);
    let running = bank.start::<1>().await;
    deposit(&running, "a", 1).await;
    let queries = accounts(&running).queries();
    let row = queries.wait_for(BALANCES, "a", |row| row.total == 2).await;
    assert!(
        matches!(row, Err(QueryError::Stale(Stale::Timeout))),
        "{row:?}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_named_by_whoever_waits_for_it_or_behind_it_and_nobody_else() {
    let bank = Bank::new(23);
    let _time = follow_time(&bank.env);
    bank.import_faults
        .set(13, Fault::Fails(Failure::poison("an odd amount")));
    let running = bank.start_with_statements().await;
    let dead = deposit(&running, "a", 13).await.token;
    let stale = total(statements(&running), "a", &dead).await.unwrap_err();
    let operator = statements(&running).operator();
    let parked = operator
        .parked(&factum::ParkedFilter::default(), 10)
        .await
        .unwrap();
    assert_eq!(stale, Stale::Failed(parked[0].id.to_string()));
    let behind = deposit(&running, "a", 1).await.token;
    assert_eq!(total(statements(&running), "a", &behind).await, Err(stale));
    let other = deposit(&running, "b", 1).await.token;
    assert_eq!(total(statements(&running), "b", &other).await, Ok(Some(1)));

    bank.import_faults.clear();
    let by = By::new("local", "mended");
    let done = operator
        .redrive_all(&DeadLetters::default(), &by)
        .await
        .unwrap();
    assert_eq!((done.redriven, done.changed), (1, 0));
    until("both are there", async || {
        total(statements(&running), "a", &behind).await == Ok(Some(14))
    })
    .await;
    assert_eq!(total(statements(&running), "a", &dead).await, Ok(Some(14)));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_said_to_be_missing_and_what_follows_it_is_fresh() {
    let bank = Bank::new(24);
    let _time = follow_time(&bank.env);
    bank.import_faults
        .set(13, Fault::Fails(Failure::poison("an odd amount")));
    let running = bank.start_with_statements().await;
    let given_up = deposit(&running, "a", 13).await.token;
    let next = deposit(&running, "a", 1).await.token;
    let Err(Stale::Failed(id)) = total(statements(&running), "a", &given_up).await else {
        panic!("a dead letter was expected")
    };
    let operator = statements(&running).operator();
    let id = id.parse().unwrap();
    let parked = operator.parked_one(&id).await.unwrap();
    let error = operator
        .discard(&id, parked.revision, &By::new("local", " "))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("needs a reason"), "{error}");
    operator
        .discard(&id, parked.revision, &By::new("local", "booked by hand"))
        .await
        .unwrap();
    until("the next one", async || {
        total(statements(&running), "a", &next).await == Ok(Some(1))
    })
    .await;
    assert_eq!(
        total(statements(&running), "a", &given_up).await,
        Err(Stale::Failed(id.to_string()))
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_being_retried_is_waited_for() {
    let bank = Bank::new(25);
    let _time = follow_time(&bank.env);
    bank.import_faults.set(13, Fault::FailsTimes(1));
    let running = bank.start_with_statements().await;
    let token = deposit(&running, "a", 13).await.token;
    let queries = statements(&running)
        .queries()
        .with_timeout(Duration::from_secs(20));
    let fresh = queries.get(BALANCES, "a", Some(&token)).await.unwrap();
    assert_eq!(fresh.value.unwrap().total, 13);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_in_time_is_a_timeout_and_pending_for_those_who_do_not_wait() {
    let bank = Bank::new(26);
    let _time = follow_time(&bank.env);
    let running = bank.start_with_statements().await;
    let token = deposit(&running, "a", 1).await.token;
    assert_eq!(total(statements(&running), "a", &token).await, Ok(Some(1)));
    statements(&running).stop().await;
    let token = deposit(&running, "a", 1).await.token;
    assert_eq!(
        total(statements(&running), "a", &token).await,
        Err(Stale::Timeout)
    );
    let hasty = statements(&running).queries().with_timeout(Duration::ZERO);
    let error = hasty.get(BALANCES, "a", Some(&token)).await.unwrap_err();
    assert!(
        matches!(error, QueryError::Stale(Stale::Pending)),
        "{error}"
    );
    // Without the token there is an answer.
    assert_eq!(
        hasty
            .get(BALANCES, "a", None)
            .await
            .unwrap()
            .value
            .unwrap()
            .total,
        1
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_name_all_writes_is_never_said_to_be_fresh_by_others() {
    let bank = Bank::new(27);
    let _time = follow_time(&bank.env);
    let running = bank.start_with_statements().await;
    let token = deposit(&running, "a", 1).await.token;
    let one = &token.writes()[0];
    let many = (0..20).map(|index| TopicWrite {
        topic: factum::Topic::new(format!("t{index}")).unwrap(),
        ..one.clone()
    });
    let at = factum::At {
        epoch: token.epoch(),
        position: token.position(),
    };
    let partial = Token::new(token.store(), at, many);
    assert!(!partial.is_whole());
    assert_eq!(
        total(statements(&running), "a", &partial).await,
        Err(Stale::Pending)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_store_that_nobody_reads_here_asks_for_nothing() {
    let bank = Bank::new(28);
    let running = bank.start::<1>().await;
    deposit(&running, "a", 1).await;
    let foreign = Token::new(
        StoreId(bank.env.env().uuid()),
        factum::At::new(1, 1_000),
        [],
    );
    assert_eq!(total(accounts(&running), "a", &foreign).await, Ok(Some(1)));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rows_are_found_sorted_and_paged_by_cursor_and_counted() {
    let bank = Bank::new(29);
    let running = bank.start::<1>().await;
    let mut last = None;
    for amount in 1..=25_u64 {
        last = Some(
            deposit(&running, &format!("account-{amount}"), amount)
                .await
                .token,
        );
    }
    let (queries, token) = (accounts(&running).queries(), last.as_ref());
    let query = Query::all()
        .compare("total", factum::Operator::AtLeast, 6)
        .sort_descending("total")
        .limit(8);
    let (mut page, mut totals) = (query.clone(), Vec::new());
    loop {
        let found = queries.query(BALANCES, &page, token).await.unwrap().value;
        totals.extend(found.rows.iter().map(|(_, row)| row.total));
        match found.next {
            Some(cursor) => page = query.clone().after(cursor),
            None => break,
        }
    }
    assert_eq!(totals, (6..=25).rev().collect::<Vec<_>>());
    assert_eq!(
        queries
            .count(BALANCES, &query, 1_000, token)
            .await
            .unwrap()
            .value,
        20
    );
    assert_eq!(
        queries
            .count(BALANCES, &query, 10, token)
            .await
            .unwrap()
            .value,
        10
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_query_that_can_not_be_answered_says_what_could() {
    let bank = Bank::new(30);
    let running = bank.start::<1>().await;
    let queries = accounts(&running).queries();
    let unknown: View<Balance> = View::new("totals");
    let error = queries.get(unknown, "a", None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "service `accounts` has no view `totals` (known: balances, stories)"
    );
    let by_name = Query {
        filter: vec![Comparison {
            field: "name".into(),
            ..comparison()
        }],
        ..Query::all()
    };
    let error = queries.query(BALANCES, &by_name, None).await.unwrap_err();
    assert!(error.to_string().contains("declared: total"), "{error}");
    running.stop().await;
}

fn comparison() -> Comparison {
    let query = Query::all().equal("total", 1);
    query.filter.into_iter().next().unwrap()
}

#[tokio::test]
async fn queries_can_be_asked_from_any_task() {
    let bank = Bank::new(31);
    let running = bank.start::<1>().await;
    let token = deposit(&running, "a", 1).await.token;
    let queries = accounts(&running).queries();
    let asked = tokio::spawn(async move {
        let row = queries.get(BALANCES, "a", Some(&token)).await.unwrap();
        let found = queries
            .query(BALANCES, &Query::all(), Some(&token))
            .await
            .unwrap();
        let count = queries
            .count(BALANCES, &Query::all(), 10, Some(&token))
            .await
            .unwrap();
        (
            row.value.unwrap().total,
            found.value.rows.len(),
            count.value,
        )
    });
    assert_eq!(asked.await.unwrap(), (1, 1, 1));
    running.stop().await;
}
