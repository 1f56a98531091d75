//! What operators do: each thing compared with what they saw, and recorded.

use factum::{
    By, DeadLetters, Epoch, Error, Failure, Group, OperatorError, Parked, ParkedFilter,
    ParkedState, Running, RunningService, Version,
};
use factum_testkit::faults::Call;

use crate::{
    bank::{Bank, Fault, accounts, close, deposit},
    world::{follow_time, until},
};

fn statements(running: &Running) -> &RunningService {
    running.service("statements").unwrap()
}

fn by() -> By {
    By::new("kim", "a test")
}

async fn dead(running: &Running) -> Vec<Parked> {
    let filter = ParkedFilter {
        state: Some(ParkedState::Dead),
        ..ParkedFilter::default()
    };
    statements(running)
        .operator()
        .parked(&filter, 1_000)
        .await
        .unwrap()
}

/// A bank whose statements have a dead letter for each of these accounts.
async fn with_dead(bank: &Bank, accounts: usize) -> Running {
    bank.import_faults
        .set(13, Fault::Fails(Failure::poison("an odd amount")));
    let running = bank.start_with_statements().await;
    for account in 0..accounts {
        deposit(&running, &format!("account-{account}"), 13).await;
    }
    until("all are dead", async || {
        dead(&running).await.len() == accounts
    })
    .await;
    running
}

#[tokio::test(start_paused = true)]
async fn all_dead_letters_of_a_cause_are_redriven_page_by_page_and_counted() {
    let bank = Bank::new(51);
    let _time = follow_time(&bank.env);
    let running = with_dead(&bank, 450).await;
    let operator = statements(&running).operator();
    let other = DeadLetters {
        cause: Some("poison: another".into()),
        ..DeadLetters::default()
    };
    assert_eq!(
        operator.redrive_all(&other, &by()).await.unwrap().redriven,
        0
    );
    bank.import_faults.clear();
    let cause = dead(&running).await[0].failure.clone().unwrap().cause;
    let these = DeadLetters {
        group: Some(Group::of("statements")),
        cause: Some(cause),
    };
    assert_eq!(
        operator.redrive_all(&these, &by()).await.unwrap().redriven,
        450
    );
    until("none is parked", async || {
        operator.parked_counts().await.unwrap().is_empty()
    })
    .await;
    let audit = operator.audit(None, 1_000).await.unwrap();
    assert_eq!(
        audit
            .iter()
            .filter(|audited| audited.entry.action == "redrive" && audited.entry.actor == "kim")
            .count(),
        450
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_since_it_was_looked_at_is_left_as_it_is() {
    let bank = Bank::new(52);
    let _time = follow_time(&bank.env);
    let running = with_dead(&bank, 1).await;
    let operator = statements(&running).operator();
    let seen = &dead(&running).await[0];
    operator
        .edit(&seen.id, seen.revision, "{}".into(), &by())
        .await
        .unwrap();
    let error = operator
        .redrive(&seen.id, seen.revision, &by())
        .await
        .unwrap_err();
    let OperatorError::Changed {
        id,
        state,
        revision,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (id, state, revision),
        (seen.id.clone(), ParkedState::Dead, seen.revision + 1)
    );
    assert_eq!(operator.parked_one(&seen.id).await.unwrap().redrives, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_edited_is_handled_as_it_was_edited() {
    let bank = Bank::new(53);
    let _time = follow_time(&bank.env);
    let running = with_dead(&bank, 1).await;
    let operator = statements(&running).operator();
    let parked = dead(&running).await.remove(0);
    let value = std::str::from_utf8(parked.value().unwrap())
        .unwrap()
        .replace("\"amount\":13", "\"amount\":12");
    operator
        .edit(&parked.id, parked.revision, value.into(), &by())
        .await
        .unwrap();
    let id = operator
        .redrive_key(&parked.id.inbox, &parked.lane, &by())
        .await
        .unwrap();
    assert_eq!(id, parked.id);
    until("it is handled", async || {
        operator.parked_counts().await.unwrap().is_empty()
    })
    .await;
    assert!(bank.import_faults.tried().contains(&12));
    let error = operator
        .redrive_key(&parked.id.inbox, &parked.lane, &by())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has no dead letter"), "{error}");
    let error = operator
        .redrive(&parked.id, parked.revision, &by())
        .await
        .unwrap_err();
    assert!(matches!(error, OperatorError::Gone(_)), "{error}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_is_shown_as_it_was_at_any_version() {
    let bank = Bank::new(54);
    let running = bank.start::<1>().await;
    for amount in 1..=30 {
        deposit(&running, "a", amount).await;
    }
    close(&running, "a").await;
    let service = accounts(&running);
    let stream = "account/a".parse().unwrap();
    for (version, state) in [
        (0, r#"{"balance":0,"deposits":0,"closed":false}"#),
        (7, r#"{"balance":28,"deposits":7,"closed":false}"#),
        (31, r#"{"balance":465,"deposits":30,"closed":true}"#),
    ] {
        let (json, reached) = service
            .state_at(&stream, Some(Version(version)))
            .await
            .unwrap();
        assert_eq!((json.as_str(), reached), (state, Version(version)));
    }
    assert_eq!(
        service.state_at(&stream, None).await.unwrap().1,
        Version(31)
    );
    let error = service
        .state_at(&stream, Some(Version(32)))
        .await
        .unwrap_err();
    assert!(error.is_poison());
    assert_eq!(
        error.to_string(),
        "stream `account/a` has no version 32: its last is 31"
    );
    running.stop().await;
}

/// A crash behind the opening left an epoch that nobody had opened, as far as the audit record knew.
#[tokio::test(start_paused = true)]
async fn no_epoch_is_opened_without_a_record_of_it_whenever_the_process_dies() {
    let bank = Bank::new(17);
    let running = bank.start::<1>().await;
    let accounts = accounts(&running);
    accounts.stop().await;
    let store = accounts.store().clone();
    let died = || Error::unknown("the process died");
    let open = async |epoch: u64| {
        let by = By::new("ada", "restored from Monday");
        let opened = accounts.operator().open_epoch(Epoch(epoch), &by).await;
        let audit = accounts.operator().audit(None, 10).await.unwrap();
        let actions: Vec<_> = audit
            .into_iter()
            .rev()
            .map(|audited| format!("{} {}", audited.entry.action, audited.entry.subject))
            .collect();
        (opened, store.identity().epoch, actions)
    };

    // Before anything, between the record and the epoch, and between the epoch and the second record.
    bank.plan.at(Call::Commit).fails(died());
    let (opened, epoch, actions) = open(7).await;
    assert!(opened.is_err());
    assert_eq!((epoch, actions), (Epoch(1), vec![]));
    bank.plan.at(Call::OpenEpoch).fails(died());
    let (opened, epoch, actions) = open(7).await;
    assert!(opened.is_err());
    assert_eq!((epoch, actions), (Epoch(1), vec!["opening-epoch 7".into()]));
    bank.plan.at(Call::OpenEpoch).loses_the_answer();
    let (opened, epoch, actions) = open(8).await;
    assert!(opened.is_err());
    let expected = ["opening-epoch 7", "opening-epoch 8"].map(String::from);
    assert_eq!((epoch, actions), (Epoch(8), expected.to_vec()));

    // Whoever tries again is told, and the whole is recorded as a whole.
    let (opened, ..) = open(8).await;
    assert!(opened.unwrap_err().is_conflict());
    let (opened, epoch, actions) = open(9).await;
    opened.unwrap();
    let more = ["opening-epoch 9", "open-epoch 9"].map(String::from);
    assert_eq!((epoch, actions), (Epoch(9), [expected, more].concat()));
    running.stop().await;
}
