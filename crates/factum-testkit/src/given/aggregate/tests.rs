//! What the test kit finds in aggregates, and how it says so.

use std::cell::Cell;

use factum_core::{Aggregate, Decision, Event, EventType, Key, Upcast};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{given, given_stored};
use crate::given::failure_of;

/// An account that breaks a rule whenever it is told to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Account {
    balance: u64,
    owner: Option<String>,
    #[serde(skip)]
    forgotten: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Changed {
    Opened {
        owner: Option<String>,
    },
    Paid {
        amount: u64,
    },
    Noted {
        #[serde(skip)]
        secret: String,
    },
}

#[derive(Clone, Debug)]
enum Ask {
    Pay(u64),
    Withdraw(u64),
    Forget,
    Draw,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("only {0} there")]
struct TooLittle(u64);

impl Event for Changed {
    const TOPIC: Option<&'static str> = None;

    fn types() -> Vec<EventType> {
        let shape = || schemars::schema_for!(u64);
        ["Opened", "Paid", "Noted"]
            .map(|name| EventType {
                name,
                version: 1,
                topic: None,
                shape,
            })
            .into()
    }

    fn upcasts() -> Vec<Upcast> {
        Vec::new()
    }

    fn stored_type(&self) -> (&'static str, u32) {
        match self {
            Self::Opened { .. } => ("Opened", 1),
            Self::Paid { .. } => ("Paid", 1),
            Self::Noted { .. } => ("Noted", 1),
        }
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    fn decode(_: &str, data: &[u8]) -> Option<Result<Self, serde_json::Error>> {
        Some(serde_json::from_slice(data))
    }
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Id = String;
    type Command = Ask;
    type Event = Changed;
    type Error = TooLittle;

    fn handle(&self, command: Ask, at: &Decision) -> Result<Vec<Changed>, TooLittle> {
        match command {
            Ask::Pay(0) => Ok(vec![]),
            Ask::Pay(amount) => Ok(vec![Changed::Paid { amount }]),
            Ask::Withdraw(amount) if amount <= self.balance => {
                let left = self.balance - amount;
                Ok(vec![Changed::Paid { amount: left }])
            }
            Ask::Withdraw(_) => Err(TooLittle(self.balance)),
            Ask::Forget => Ok(vec![Changed::Paid {
                amount: self.forgotten,
            }]),
            Ask::Draw => Ok(vec![Changed::Opened {
                owner: Some(at.new_id().to_string()),
            }]),
        }
    }

    fn apply(&mut self, event: &Changed) {
        match event {
            Changed::Opened { owner } => self.owner.clone_from(owner),
            Changed::Paid { amount } => self.balance += amount,
            Changed::Noted { .. } => {}
        }
        self.forgotten += 1;
    }

    fn partition_key(&self) -> Option<Key> {
        self.owner.as_deref().map(Key::from)
    }
}

fn paid(amount: u64) -> Changed {
    Changed::Paid { amount }
}

#[test]
fn other_events_than_expected_are_shown_with_what_led_to_them() {
    let told = failure_of(|| {
        let _ = given::<Account>([paid(3)])
            .when(Ask::Pay(5))
            .then([paid(4)]);
    });
    for part in [
        "account: other events",
        "-         amount: 4",
        "+         amount: 5",
        "given\n    Paid { amount: 3 }\nwhen\n    Pay(5)",
    ] {
        assert!(told.contains(part), "`{part}` is missing in:\n{told}");
    }
}

#[test]
fn each_expectation_is_about_what_came_since_the_last() {
    let asked = Cell::new(0);
    given::<Account>([])
        .when(Ask::Pay(5))
        .and(Ask::Pay(0))
        .then([paid(5)])
        .and(Ask::Withdraw(9))
        .then_error(TooLittle(5))
        .and(Ask::Pay(1))
        .then_state(|account| asked.set(account.balance))
        .then([paid(1)])
        .and(Ask::Pay(0))
        .then_nothing();
    assert_eq!(asked.get(), 6);
}

#[test]
fn a_refusal_that_nobody_expects_is_not_passed_over() {
    let told = failure_of(|| {
        let _ = given::<Account>([]).when(Ask::Withdraw(1)).then_nothing();
    });
    assert!(
        told.contains("refused, and should be accepted: only 0 there (TooLittle(0))"),
        "{told}"
    );
    let told = failure_of(|| {
        drop(given::<Account>([]).when(Ask::Withdraw(1)).and(Ask::Pay(1)));
    });
    assert!(
        told.contains("a command was refused before `Pay(1)` came"),
        "{told}"
    );
    let told = failure_of(|| {
        let _ = given::<Account>([])
            .when(Ask::Pay(1))
            .then_error(TooLittle(0));
    });
    assert!(
        told.contains("accepted, and should be refused: only 0 there"),
        "{told}"
    );
}

#[test]
fn an_event_that_changes_on_its_way_through_the_store_is_found() {
    let told = failure_of(|| drop(given::<Account>([Changed::Noted { secret: "x".into() }])));
    assert!(
        told.contains("`Noted v1` reads back as another event than was written"),
        "{told}"
    );
    assert!(told.contains(r#"-     secret: "x""#), "{told}");
}

#[test]
fn a_stored_event_that_the_code_cannot_read_is_found() {
    let json = serde_json::json!({ "Paid": { "amount": 1 } });
    given_stored::<Account>([("Paid", 1, json.clone())])
        .then_state(|account| assert_eq!(account.balance, 1));
    let told = failure_of(|| drop(given_stored::<Account>([("Paid", 2, json)])));
    assert!(
        told.contains("`Paid v2` at 1-1 is of a type or version that this program doesn't know"),
        "{told}"
    );
}

#[test]
fn a_state_that_loses_something_in_a_snapshot_is_found() {
    let told = failure_of(|| {
        drop(given::<Account>([paid(1)]).when(Ask::Forget));
    });
    assert!(
        told.contains("decides otherwise on the state that comes out of a snapshot"),
        "{told}"
    );
}

#[test]
fn a_partition_key_that_changes_is_found() {
    let opened = |owner: &str| Changed::Opened {
        owner: Some(owner.into()),
    };
    let told = failure_of(|| drop(given::<Account>([opened("ada"), opened("bob")])));
    assert!(
        told.contains("was `ada` after the first event, and is `bob` after the last"),
        "{told}"
    );
}

#[test]
fn each_decision_draws_ids_of_its_own_and_a_test_can_look_at_them() {
    let decided = given::<Account>([]).when(Ask::Draw);
    let [Changed::Opened { owner: Some(first) }] = decided.events() else {
        panic!("{decided:?}")
    };
    let again = given::<Account>([]).when(Ask::Draw);
    assert_eq!(
        again.events(),
        [Changed::Opened {
            owner: Some(first.clone())
        }]
    );
}
