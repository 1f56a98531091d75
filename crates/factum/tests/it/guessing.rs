//! Guesses that an aggregate is new: right ones spare a read, wrong ones cost a second decision and nothing else.

use factum::{
    Aggregate, App, CommandError, Decision, Event, Running, Service, ServiceName, StoreId,
};
use factum_testkit::{
    MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv,
    faults::{Call, Faults, FaultyStore},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Event, Clone, Debug, PartialEq)]
enum SeatEvent {
    #[event(name = "Taken", version = 1)]
    Taken,
    #[event(name = "Left", version = 1)]
    Left,
}

#[derive(Clone, Debug)]
enum SeatCommand {
    Take,
    /// Rejected by a seat that nobody has, as a new one.
    Leave,
    /// Leads to nothing at a seat that nobody has, as at a new one.
    LeaveIfTaken,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum SeatError {
    #[error("the seat is taken")]
    Taken,
    #[error("nobody has the seat")]
    Free,
}

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Seat {
    taken: bool,
}

impl Aggregate for Seat {
    const CATEGORY: &'static str = "seat";
    type Id = String;
    type Command = SeatCommand;
    type Event = SeatEvent;
    type Error = SeatError;

    fn handle(&self, command: SeatCommand, _: &Decision) -> Result<Vec<SeatEvent>, SeatError> {
        match (command, self.taken) {
            (SeatCommand::Take, false) => Ok(vec![SeatEvent::Taken]),
            (SeatCommand::Take, true) => Err(SeatError::Taken),
            (SeatCommand::Leave | SeatCommand::LeaveIfTaken, true) => Ok(vec![SeatEvent::Left]),
            (SeatCommand::Leave, false) => Err(SeatError::Free),
            (SeatCommand::LeaveIfTaken, false) => Ok(vec![]),
        }
    }

    fn apply(&mut self, event: &SeatEvent) {
        self.taken = *event == SeatEvent::Taken;
    }
}

struct Theatre {
    env: TestEnv,
    disk: MemoryDisk,
    faults: Faults,
}

impl Theatre {
    fn new() -> Self {
        let env = TestEnv::seeded(61);
        let (id, now) = (StoreId(env.env().uuid()), env.env().now());
        Self {
            disk: MemoryDisk::new(id, ServiceName::of("theatre"), now),
            faults: Faults::new(),
            env,
        }
    }

    /// A process that has loaded nothing yet.
    async fn start(&self) -> Running {
        let broker = Arc::new(MemoryTopicsDisk::new().open(self.env.env()));
        let store = Arc::new(MemoryStore::open(self.disk.clone()));
        let store = Arc::new(FaultyStore::new("theatre", store, &self.faults));
        let service = Service::new("theatre").aggregate::<Seat>();
        let app = App::new(self.env.env(), broker).service_on(store, service);
        app.start().await.unwrap()
    }

    /// From now on no stream can be read.
    fn forbid_reads(&self) {
        let rule = self.faults.at(Call::Read).about("stream ").times(1_000);
        rule.fails(factum::Error::fatal("nobody should read this"));
    }
}

async fn give(running: &Running, seat: &str, command: SeatCommand) -> Result<u64, String> {
    let commands = running.service("theatre").unwrap().commands();
    match commands.execute::<Seat>(&seat.to_string(), command).await {
        Ok(executed) => Ok(executed.version.unwrap().0),
        Err(CommandError::Rejected(error)) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_first_event_of_an_aggregate_costs_no_read() {
    let theatre = Theatre::new();
    let running = theatre.start().await;
    theatre.forbid_reads();
    for seat in ["1", "2", "3"] {
        assert_eq!(give(&running, seat, SeatCommand::Take).await, Ok(1));
    }
    assert_eq!(theatre.faults.unmet().len(), 1, "it was read all the same");
    running.stop().await;
}

/// Whatever was decided on a new one is decided again on what is stored: an event, a rejection, and nothing at all.
#[tokio::test]
async fn what_was_decided_on_a_wrong_guess_is_decided_again_on_what_is_stored() {
    let taken = || Err("the seat is taken".to_string());
    for (command, expected) in [
        (SeatCommand::Take, taken()),
        (SeatCommand::Leave, Ok(2)),
        (SeatCommand::LeaveIfTaken, Ok(2)),
    ] {
        let theatre = Theatre::new();
        let running = theatre.start().await;
        assert_eq!(give(&running, "1", SeatCommand::Take).await, Ok(1));
        running.stop().await;
        let running = theatre.start().await;
        let given = format!("{command:?}");
        assert_eq!(give(&running, "1", command).await, expected, "{given}");
        running.stop().await;
    }
}

/// A rejection by a new aggregate, and that nothing is to be done with one, are true only when there is none.
#[tokio::test]
async fn what_a_right_guess_leads_to_without_an_event_is_confirmed() {
    let theatre = Theatre::new();
    let running = theatre.start().await;
    let free = || Err("nobody has the seat".to_string());
    assert_eq!(give(&running, "1", SeatCommand::Leave).await, free());
    assert_eq!(give(&running, "2", SeatCommand::LeaveIfTaken).await, Ok(0));
    running.stop().await;
}

#[tokio::test]
async fn behind_a_wrong_guess_aggregates_of_its_kind_are_read_for_a_while() {
    let theatre = Theatre::new();
    let running = theatre.start().await;
    for seat in 0..80 {
        let seat = seat.to_string();
        assert_eq!(give(&running, &seat, SeatCommand::Take).await, Ok(1));
    }
    running.stop().await;
    let running = theatre.start().await;
    let before = theatre.faults.log().len();
    for seat in 0..80 {
        let taken = Err("the seat is taken".to_string());
        let seat = seat.to_string();
        assert_eq!(give(&running, &seat, SeatCommand::Take).await, taken);
    }
    // Each rejection is confirmed by a commit. Two guesses were tried as well: the first, and one behind 64 loads.
    let log = theatre.faults.log();
    let commits = log[before..]
        .iter()
        .filter(|entry| entry.operation.call == Call::Commit);
    assert_eq!(commits.count(), 82);
    running.stop().await;
}
