//! Commands before a writer that is busy: the queue is full, more wait before it, and each costs what it carries and a
//! stated number of bytes besides.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use factum::{
    Aggregate, App, Commit, CommitError, Committed, Decision, Event, Service, Store, Topic,
    TopicSpec,
};
use factum_testkit::{Layered, StoreLayer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Heap, KIBIBYTE, MEBIBYTE, alone, data::Data};

/// How many commits may wait for the writer.
const QUEUE_MAX: u64 = 1_024;

/// How many commands are given: more than the queue holds and the writer may have taken up to do next. The rest waits
/// before the queue, each at its caller.
const CROWD: u64 = 3_000;

/// What each command carries.
const CARRIED: usize = 4 * KIBIBYTE;

/// How often what a command carries may be on the heap while it waits: in the command, in its event, as a record.
const COPIES_MAX: usize = 3;

/// What a command that waits may take besides: its task, its aggregate, its commit, its place in the queue.
const BESIDES_MAX: usize = 12 * KIBIBYTE;

/// What each that waits may take in all, so that a full queue has at most 24 MiB of this size, and 12 MiB of small ones.
const WAITING_MAX: usize = COPIES_MAX * CARRIED + BESIDES_MAX;

/// What the process may take meanwhile that is not a command's: batches, caches, threads.
const PROCESS_MAX: usize = 4 * MEBIBYTE;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "notes")]
enum Noted {
    #[event(name = "Written", version = 1)]
    Written { text: String },
}

/// Takes notes, and remembers only how many.
#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Diary {
    notes: u64,
}

impl Aggregate for Diary {
    const CATEGORY: &'static str = "diary";
    type Id = String;
    type Command = String;
    type Event = Noted;
    type Error = std::convert::Infallible;

    fn handle(&self, text: String, _: &Decision) -> Result<Vec<Noted>, Self::Error> {
        Ok(vec![Noted::Written { text }])
    }

    fn apply(&mut self, _: &Noted) {
        self.notes += 1;
    }
}

/// A store that keeps more for each commit that waits than it has any use for.
#[derive(Debug)]
struct Hoard(Arc<dyn Store>);

#[async_trait]
impl StoreLayer for Hoard {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let hoard = black_box(vec![1_u8; 2 * WAITING_MAX]);
        let committed = self.0.commit(commit).await;
        drop(hoard);
        committed
    }
}

/// What [`CROWD`] commands take while they wait for the writer, and the process with them.
async fn crowd(hoards: bool) -> usize {
    let data = Data::new();
    let plain = data.store("diaries").await;
    let store: Arc<dyn Store> = if hoards {
        Arc::new(Layered(Hoard(plain.clone())))
    } else {
        plain.clone()
    };
    let diaries = Service::new("diaries")
        .aggregate::<Diary>()
        .topic(TopicSpec::new(Topic::of("notes"), 2));
    let running = App::new(data.env.clone(), data.broker().await)
        .service_on(store, diaries)
        .start()
        .await
        .unwrap();
    let mut rows = 5_000_000;
    for round in 0..8 {
        let writing = tokio::spawn({
            let (plain, commit) = (plain.clone(), data.busy("diaries", rows));
            async move { plain.commit(commit).await }
        });
        let heap = Heap::now();
        let answered = Arc::new(AtomicU64::default());
        let mut waiting = Vec::new();
        for number in 0..CROWD {
            let commands = running.service("diaries").unwrap().commands();
            let answered = answered.clone();
            waiting.push(tokio::spawn(async move {
                let (diary, text) = (format!("{round}-{number}"), "x".repeat(CARRIED));
                commands.execute::<Diary>(&diary, text).await.unwrap();
                answered.fetch_add(1, Ordering::SeqCst);
            }));
        }
        let (mut deepest, mut held, mut early) = (0, 0, 0);
        while !writing.is_finished() {
            deepest = deepest.max(plain.commits_waiting().expect("the store counts"));
            // Before the writer is asked whether it is still busy: so what is counted is what waits.
            let (grown, done) = (heap.grown(), answered.load(Ordering::SeqCst));
            if !writing.is_finished() {
                (held, early) = (held.max(grown), done);
            }
            tokio::task::yield_now().await;
        }
        writing.await.unwrap().unwrap();
        for command in waiting {
            command.await.unwrap();
        }
        // What was before the writer when it became busy may be answered; not what came behind.
        if deepest == QUEUE_MAX && early < CROWD / 10 {
            running.stop().await;
            return held;
        }
        rows *= 2;
    }
    panic!("the writer was never busy for long enough");
}

fn waiting_max() -> usize {
    usize::try_from(CROWD).unwrap() * WAITING_MAX + PROCESS_MAX
}

#[test]
fn commands_before_a_busy_writer_take_what_they_carry_and_a_stated_number_of_bytes_each() {
    let held = alone(crowd(false));
    let (crowd, max) = (usize::try_from(CROWD).unwrap(), waiting_max());
    eprintln!(
        "{CROWD} commands that wait take {} bytes each",
        held / crowd
    );
    assert!(held <= max, "{held} bytes are held, {max} at most");
    // Each is there at least once, or it was not what waits that was measured.
    assert!(held >= crowd * CARRIED, "{held} bytes are too few");
}

#[test]
fn a_store_that_hoards_for_each_commit_that_waits_exceeds_the_bytes() {
    let held = alone(crowd(true));
    assert!(held > waiting_max(), "{held} bytes were not noticed");
}
