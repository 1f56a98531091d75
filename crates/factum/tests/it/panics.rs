//! Panics of user code where nobody looks for them: in a partition key, a snapshot, an answer to a rejection. Each
//! fails its own command or message, and nothing else.

use std::sync::Arc;

use factum::{
    Aggregate, App, CommandError, Decision, Event, Failure, FailureClass, GroupSpec, Key, Parked,
    ParkedState, Reaction, Reactor, Recorded, RetryPolicy, Running, Service, ServiceName, StoreId,
    Topic, TopicSpec,
};
use factum_testkit::{MemoryStore, MemoryTopicsDisk, TestEnv};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::world::{Account, AccountCommand, AccountEvent, follow_time, until};

/// The amount after which a till has no partition key.
const KEYLESS: u64 = 404;
/// The amount after which a till can't be written down.
const UNWRITABLE: u64 = 405;
/// The amount that a till refuses, to a handler that doesn't bear it.
const REFUSED: u64 = 406;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "tills")]
enum TillEvent {
    #[event(name = "Taken", version = 1)]
    Taken { amount: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the till refuses {0}")]
struct Refused(u64);

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Till {
    taken: Vec<u64>,
    #[serde(serialize_with = "write_last")]
    last: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn write_last<S: Serializer>(last: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    assert_ne!(*last, UNWRITABLE, "the pen is dry");
    serializer.serialize_u64(*last)
}

impl Aggregate for Till {
    const CATEGORY: &'static str = "till";
    const SNAPSHOT_EVERY: u64 = 1;
    type Id = String;
    type Command = u64;
    type Event = TillEvent;
    type Error = Refused;

    fn handle(&self, amount: u64, _: &Decision) -> Result<Vec<TillEvent>, Refused> {
        match amount {
            REFUSED => Err(Refused(amount)),
            _ => Ok(vec![TillEvent::Taken { amount }]),
        }
    }

    fn apply(&mut self, TillEvent::Taken { amount }: &TillEvent) {
        self.taken.push(*amount);
        self.last = *amount;
    }

    fn partition_key(&self) -> Option<Key> {
        assert_ne!(self.last, KEYLESS, "the key is lost");
        None
    }
}

/// Puts into a till what is deposited.
struct Take;

impl Reactor for Take {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "take"
    }

    async fn react(
        &self,
        event: &Recorded<AccountEvent>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let AccountEvent::Deposited { amount } = event.data else {
            return Ok(());
        };
        let till = event.aggregate_id.as_deref().unwrap_or_default();
        cx.execute::<Till>(&till.to_owned(), amount)?
            .on_rejected::<Refused>(|error, _| panic!("nobody bears that {error}"));
        Ok(())
    }
}

async fn start(env: &TestEnv) -> Running {
    let env = env.env();
    let store = |name| {
        let (id, name) = (StoreId(env.uuid()), ServiceName::of(name));
        Arc::new(MemoryStore::new(id, name, env.now()))
    };
    let topic = |name| TopicSpec::new(Topic::of(name), 3);
    let accounts = Service::new("accounts")
        .aggregate::<Account>()
        .topic(topic("accounts"));
    let tills = Service::new("tills")
        .aggregate::<Till>()
        .topic(topic("accounts"))
        .topic(topic("tills"))
        .group(
            GroupSpec::new("till-service")
                .on(Take)
                .retry(RetryPolicy::never()),
        );
    let broker = Arc::new(MemoryTopicsDisk::new().open(env.clone()));
    App::new(env.clone(), broker)
        .service_on(store("accounts"), accounts)
        .service_on(store("tills"), tills)
        .start()
        .await
        .unwrap()
}

async fn taken(running: &Running, till: &str) -> Vec<u64> {
    let commands = running.service("tills").unwrap().commands();
    commands.load::<Till>(till).await.unwrap().0.taken
}

#[tokio::test]
async fn a_panic_in_a_partition_key_or_a_snapshot_fails_that_command_alone() {
    let running = start(&TestEnv::seeded(1)).await;
    let commands = running.service("tills").unwrap().commands();
    let id = "t-1".to_string();
    commands.execute::<Till>(&id, 1).await.unwrap();
    for (amount, words) in [
        (KEYLESS, "a partition key panicked: "),
        (UNWRITABLE, "a snapshot panicked: "),
    ] {
        let error = commands.execute::<Till>(&id, amount).await.unwrap_err();
        let CommandError::Failed(error) = error else {
            panic!("{error}")
        };
        assert!(error.is_poison(), "{error:#}");
        assert!(error.to_string().contains(words), "{error:#}");
        // What was decided before the panic is not what the next command is decided on.
        assert_eq!(taken(&running, &id).await.last(), Some(&1));
        commands.execute::<Till>(&id, 1).await.unwrap();
    }
    assert_eq!(taken(&running, &id).await, [1, 1, 1]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_leads_to_such_a_panic_is_a_dead_letter_and_others_flow() {
    for (amount, words) in [
        (KEYLESS, "a partition key panicked: "),
        (UNWRITABLE, "a snapshot panicked: "),
        (REFUSED, "a handler's `on_rejected` panicked: "),
    ] {
        let env = TestEnv::seeded(amount);
        let time = follow_time(&env);
        let running = start(&env).await;
        let accounts = running.service("accounts").unwrap().commands();
        for (account, amount) in [("a", 1), ("a", amount), ("a", 2), ("b", 3), ("b", 4)] {
            let deposit = AccountCommand::Deposit(amount);
            let account = account.to_string();
            accounts
                .execute::<Account>(&account, deposit)
                .await
                .unwrap();
        }
        until("b's till", async || taken(&running, "b").await == [3, 4]).await;
        let tills = running.service("tills").unwrap().store();
        let parked = async || -> Vec<Parked> {
            let all = factum::ParkedFilter::default();
            tills.parked(&all, 10).await.unwrap()
        };
        until("two parked", async || parked().await.len() == 2).await;
        let rows = parked().await;
        let states: Vec<_> = rows.iter().map(|row| row.state).collect();
        assert_eq!(states, [ParkedState::Dead, ParkedState::Waiting]);
        let failure = rows[0].failure.as_ref().unwrap();
        assert_eq!(failure.class, FailureClass::Poison);
        assert!(failure.message.contains(words), "{failure:?}");
        // Nothing of it was stored, and its till is as it was.
        assert_eq!(taken(&running, "a").await, [1]);
        running.stop().await;
        time.abort();
    }
}
