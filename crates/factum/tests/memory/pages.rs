//! A view that is stuck, far behind: what it has read of the log is a page in its hands and the next, of a stated size,
//! however long the log is and whatever its records' sizes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use factum::{
    Aggregate, App, At, Decision, Error, Event, Failure, LogFilter, LogPage, PAGE_BYTES_MAX,
    Projection, RECORD_BYTES_MAX, Recorded, RowSet, Running, Service, Store, Topic, TopicSpec,
    View, ViewDefinition,
};
use factum_testkit::{Layered, StoreLayer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    Heap, MEBIBYTE, alone,
    data::{Data, until},
};

/// How much each event carries, and how many there are: seven pages of them.
const CARRIED: usize = 200 * 1024;
const EVENTS: u64 = 280;

/// The page that is projected and the one behind it, each with one record over the bound at most.
const PAGES_MAX: usize = 2 * (PAGE_BYTES_MAX + RECORD_BYTES_MAX);

/// What the application itself takes: its caches, of which the newest records (2 MB) and messages (8 MB) are the largest,
/// and what is decoded at the moment.
const APPLICATION_MAX: usize = 10 * MEBIBYTE;

/// How long what a start takes for a moment may take to be given back; a relay reads in its topics first.
const MOMENT: Duration = Duration::from_secs(5);

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "films")]
enum Shot {
    #[event(name = "Shot", version = 1)]
    Shot { picture: String },
}

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Film {
    pictures: u64,
}

impl Aggregate for Film {
    const CATEGORY: &'static str = "film";
    type Id = String;
    type Command = ();
    type Event = Shot;
    type Error = std::convert::Infallible;

    fn handle(&self, (): (), _: &Decision) -> Result<Vec<Shot>, Self::Error> {
        let picture = "x".repeat(CARRIED);
        Ok(vec![Shot::Shot { picture }])
    }

    fn apply(&mut self, _: &Shot) {
        self.pictures += 1;
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Length {
    pictures: u64,
}

const LENGTH: View<Length> = View::new("length");

/// Counts pictures, each when the test lets it.
struct Stuck {
    pace: Arc<Semaphore>,
    tried: Arc<AtomicU64>,
}

impl Projection for Stuck {
    const NAME: &'static str = "length";
    type Event = Shot;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![LENGTH.kept_by::<Self>()]
    }

    async fn project(&self, _: &Recorded<Shot>, rows: &mut RowSet<'_>) -> Result<(), Failure> {
        let pictures = self.tried.fetch_add(1, Ordering::SeqCst) + 1;
        self.pace.acquire().await.unwrap().forget();
        rows.put(LENGTH, "film", &Length { pictures })
    }
}

/// A store that counts the pages which projections have in their hands, and may give more than a page has.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Store>,
    /// Whether a page has all that there is.
    generous: bool,
    pages: Arc<AtomicU64>,
}

#[async_trait]
impl StoreLayer for Counted {
    fn below(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        let mut page = self.inner.read_log(after, filter, limit).await?;
        while self.generous && page.next < page.head {
            let more = self.inner.read_log(page.next, filter, limit).await?;
            page.records.extend(more.records);
            page.next = more.next;
        }
        // Relays ask for what is sent.
        if !filter.sent && !page.records.is_empty() {
            self.pages.fetch_add(1, Ordering::SeqCst);
        }
        Ok(page)
    }
}

async fn start(data: &Data, store: Arc<dyn Store>, stuck: Option<Stuck>) -> Running {
    let mut films = Service::new("films")
        .aggregate::<Film>()
        .topic(TopicSpec::new(Topic::of("films"), 2));
    if let Some(stuck) = stuck {
        films = films.projection(stuck);
    }
    App::new(data.env.clone(), data.broker().await)
        .service_on(store, films)
        .start()
        .await
        .unwrap()
}

/// What a view takes that is stuck at the first of many events.
async fn stuck(generous: bool) -> usize {
    let data = Data::new();
    let store = data.store("films").await;
    let running = start(&data, store.clone(), None).await;
    let commands = running.service("films").unwrap().commands();
    for _ in 0..EVENTS {
        commands
            .execute::<Film>(&"a".to_string(), ())
            .await
            .unwrap();
    }
    until("all is published", async || {
        store.relay().await.unwrap().checkpoint == store.head().await.unwrap()
    })
    .await;
    running.stop().await;

    let (pages, tried, pace) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(0)));
    let counted: Arc<dyn Store> = Arc::new(Layered(Counted {
        inner: store,
        generous,
        pages: Arc::clone(&pages),
    }));
    let heap = Heap::now();
    let levels = Stuck {
        pace: pace.clone(),
        tried: Arc::clone(&tried),
    };
    let running = start(&data, counted, Some(levels)).await;
    // A page that has all has no next one.
    let expected = if generous { 1 } else { 2 };
    until("it is stuck, and has read ahead", async || {
        tried.load(Ordering::SeqCst) == 1 && pages.load(Ordering::SeqCst) == expected
    })
    .await;
    let settles = until("a start has given back what it took", async || {
        heap.grown() <= PAGES_MAX + APPLICATION_MAX
    });
    drop(timeout(MOMENT, settles).await);
    let held = heap.grown();
    assert_eq!(pages.load(Ordering::SeqCst), expected);

    // It catches up by itself as soon as it can.
    // More than it needs: a batch may be made again.
    pace.add_permits(10 * usize::try_from(EVENTS).unwrap());
    let queries = running.service("films").unwrap().queries();
    until("the view has all", async || {
        let row = queries.get(LENGTH, "film", None).await;
        row.is_ok_and(|row| row.value.is_some_and(|length| length.pictures >= EVENTS))
    })
    .await;
    running.stop().await;
    held
}

#[test]
fn a_stuck_view_holds_two_pages_of_a_stated_size_and_no_more() {
    let held = alone(stuck(false));
    let max = PAGES_MAX + APPLICATION_MAX;
    eprintln!("a stuck view holds {held} bytes");
    assert!(held <= max, "{held} bytes are held, {max} at most");
    // Both are there, or it was not they that were measured.
    assert!(held >= 2 * PAGE_BYTES_MAX, "{held} bytes are too few");
}

#[test]
fn a_store_whose_pages_have_no_bound_exceeds_the_bytes_of_a_stuck_view() {
    let held = alone(stuck(true));
    let max = PAGES_MAX + APPLICATION_MAX;
    assert!(held > max, "{held} bytes were not noticed");
}
