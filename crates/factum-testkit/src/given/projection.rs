//! Projections: given these events, then these rows.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
};

use factum_core::{
    AnyProjection as _, Append, At, Commit, Encoded, Event, ExpectedVersion, Failure, FailureClass,
    Input, Json, LogFilter, LogInput, Metadata, Position, Projecting, Projection, Query, Row,
    RowSet, ServiceName, Store as _, StoreId, Timestamp, View, ViewDefinition, ViewName, ViewRef,
    ViewWrite,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{block_on::block_on, diff::diff, stored};
use crate::{MemoryStore, TestEnv};

/// The generation that a test looks at.
const GENERATION: u32 = 1;

/// How many records are read at a time.
const BATCH_RECORDS_MAX: usize = 1_000;

/// `projection`, which has seen nothing yet.
///
/// ```
/// # extern crate factum_core as factum;
/// # use factum_core::{Failure, Projection, Recorded, RowSet, View, ViewDefinition};
/// # use factum_macros::Event;
/// # use serde::{Deserialize, Serialize};
/// use factum_testkit::project;
///
/// #[derive(Event, Clone, Debug, PartialEq)]
/// enum OrderEvent {
///     #[event(name = "OrderPlaced", version = 1)]
///     Placed { total: u64 },
///     #[event(name = "OrderCancelled", version = 1)]
///     Cancelled,
/// }
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct OrderRow {
///     total: u64,
/// }
///
/// const ORDERS: View<OrderRow> = View::new("orders");
///
/// struct Orders;
///
/// impl Projection for Orders {
///     const NAME: &'static str = "orders";
///     type Event = OrderEvent;
///
///     fn views(&self) -> Vec<ViewDefinition> {
///         vec![ORDERS.kept_by::<Self>().integer("total")]
///     }
///
///     async fn project(&self, event: &Recorded<OrderEvent>, rows: &mut RowSet<'_>) -> Result<(), Failure> {
///         let order = event.aggregate_id.as_deref().unwrap_or_default();
///         match event.data {
///             OrderEvent::Placed { total } => rows.put(ORDERS, order, &OrderRow { total })?,
///             OrderEvent::Cancelled => rows.delete(ORDERS, order),
///         }
///         Ok(())
///     }
/// }
///
/// project(Orders)
///     .events("order/1", [OrderEvent::Placed { total: 1200 }])
///     .events("order/2", [OrderEvent::Placed { total: 7 }, OrderEvent::Cancelled])
///     .then_row(ORDERS, "1", &OrderRow { total: 1200 })
///     .then_no_row(ORDERS, "2")
///     .rebuilt_is_the_same()
///     .applied_twice_is_the_same();
/// ```
#[track_caller]
pub fn project<P: Projection>(projection: P) -> Projected<P> {
    let projection = Projecting::new(projection).unwrap_or_else(|error| panic!("{error:#}"));
    let env = TestEnv::seeded(0);
    let store = MemoryStore::new(
        StoreId(env.env().uuid()),
        ServiceName::of("test"),
        env.clock().now(),
    );
    let projected = Projected {
        projection,
        store,
        env,
        metadata: Metadata::new(),
        given: Vec::new(),
        generations: GENERATION,
        reached: At::ZERO,
        failure: None,
    };
    projected.prepare(GENERATION);
    projected.commit(Input::None, |commit| {
        let projection = projected.projection.name().clone();
        commit.views = vec![ViewWrite::Activate {
            projection,
            generation: GENERATION,
        }];
    });
    projected
}

/// A projection and the rows that it has made. Made by [`project`].
///
/// The events are committed to a [`MemoryStore`], and rows and checkpoint are committed as the runtime does it.
pub struct Projected<P: Projection> {
    projection: Projecting<P>,
    store: MemoryStore,
    env: TestEnv,
    metadata: Metadata,
    /// The rows that no event made.
    given: Vec<(ViewName, String, Json)>,
    /// The last generation that was made.
    generations: u32,
    /// How far the rows have come.
    reached: At,
    /// Why they come no further.
    failure: Option<Failure>,
}

/// All rows, by view and id.
type AllRows = BTreeMap<(ViewName, String), Json>;

impl<P: Projection> Projected<P> {
    /// The events from here on happen at this time.
    #[must_use]
    pub fn at(self, time: Timestamp) -> Self {
        self.env.set(time);
        self
    }

    /// The events from here on have this in their metadata.
    #[track_caller]
    #[must_use]
    pub fn with(mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Self {
        let value = Json::of(value)
            .unwrap_or_else(|error| panic!("metadata `{name}` can't be JSON: {error}"));
        self.metadata.insert(name.into(), value);
        self
    }

    /// A row is there already.
    #[track_caller]
    #[must_use]
    pub fn given_row<T: Serialize>(mut self, view: View<T>, id: &str, row: &T) -> Self {
        let views = self.store.views().expect("the memory store holds views");
        let mut rows = RowSet::new(views, self.projection.views(), GENERATION);
        rows.put(view, id, row)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let document =
            Json::of(row).unwrap_or_else(|error| panic!("row `{id}` can't be JSON: {error}"));
        self.given.push((view.name(), id.into(), document));
        let writes = rows.into_writes();
        self.commit(Input::None, |commit| commit.views = writes);
        self
    }

    /// These events happen to `stream`, such as `order/order-1`, and the rows follow.
    #[track_caller]
    pub fn events<E: Event + PartialEq>(
        self,
        stream: &str,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        let encoded = events
            .into_iter()
            .map(|event| stored::stored(&event))
            .collect();
        self.happened(stream, encoded)
    }

    /// These events stand in `stream` as older programs wrote them, each with its stored name and version, and the
    /// rows follow.
    #[track_caller]
    pub fn stored(
        self,
        stream: &str,
        events: impl IntoIterator<Item = (&'static str, u32, serde_json::Value)>,
    ) -> Self {
        let encoded = events
            .into_iter()
            .map(|(name, version, data)| stored::written(name, version, &data))
            .collect();
        self.happened(stream, encoded)
    }

    /// The row `id` is `expected`.
    #[track_caller]
    pub fn then_row<T: DeserializeOwned + Debug + PartialEq>(
        self,
        view: View<T>,
        id: &str,
        expected: &T,
    ) -> Self {
        let row = self.row(&view.name(), id);
        let Some(row) = row else {
            let rows = self.rows(GENERATION);
            panic!("view `{}` has no row `{id}`\n{}", view.name(), shown(&rows));
        };
        let actual: T = row.document.read().unwrap_or_else(|error| {
            panic!(
                "row `{id}` of view `{}` doesn't have its shape: {error}\n    {}",
                view.name(),
                row.document
            )
        });
        assert!(
            actual == *expected,
            "row `{id}` of view `{}` is another than expected\n{}",
            view.name(),
            diff(expected, &actual)
        );
        self
    }

    /// There is no row `id`.
    #[track_caller]
    pub fn then_no_row<T>(self, view: View<T>, id: &str) -> Self {
        if let Some(row) = self.row(&view.name(), id) {
            panic!(
                "view `{}` has a row `{id}`, and should not\n    {}",
                view.name(),
                row.document
            );
        }
        self
    }

    /// The last events can't be taken, with a failure of this class.
    #[track_caller]
    pub fn then_fails(self, class: FailureClass) -> Self {
        match &self.failure {
            None => panic!("projection `{}` works, and should fail as {class}", P::NAME),
            Some(failure) => assert!(
                failure.class() == class,
                "projection `{}` fails as {}, and should fail as {class}: {failure}",
                P::NAME,
                failure.class()
            ),
        }
        self
    }

    /// Rows that are built anew are the same, whether event by event or all at once.
    ///
    /// That is what a rebuild relies on. It finds rows that depend on a clock, on chance, or on where a batch ends.
    #[track_caller]
    pub fn rebuilt_is_the_same(mut self) -> Self {
        self.worked();
        let first = self.rows(GENERATION);
        for (batch_max, how) in [(1, "event by event"), (BATCH_RECORDS_MAX, "all at once")] {
            self.generations += 1;
            let generation = self.generations;
            self.prepare(generation);
            let view = |view: &ViewName| ViewRef {
                view: view.clone(),
                generation,
            };
            let given = self
                .given
                .iter()
                .map(|(name, id, document)| ViewWrite::Put {
                    view: view(name),
                    id: id.clone(),
                    version: Position::ZERO,
                    document: document.clone(),
                });
            let given: Vec<_> = given.collect();
            self.commit(Input::None, |commit| commit.views = given);
            let result = block_on(self.follow(generation, At::ZERO, batch_max, true));
            result.unwrap_or_else(|failure| {
                panic!(
                    "projection `{}`, built anew {how}, fails: {failure}",
                    P::NAME
                )
            });
            let second = self.rows(generation);
            assert!(
                first == second,
                "the rows of projection `{}` are others when they are built anew {how}\n{}",
                P::NAME,
                diff(&first, &second)
            );
        }
        self
    }

    /// The same events, taken once more into the rows that they made, change nothing.
    ///
    /// Within a store this never happens, since rows and checkpoint are one commit: such a projection may count.
    /// For one whose views may lie elsewhere, or that writes elsewhere itself, it is what keeps the rows right.
    #[track_caller]
    pub fn applied_twice_is_the_same(self) -> Self {
        self.worked();
        let first = self.rows(GENERATION);
        let result = block_on(self.follow(GENERATION, At::ZERO, BATCH_RECORDS_MAX, false));
        result.unwrap_or_else(|failure| {
            panic!("projection `{}` fails the second time: {failure}", P::NAME)
        });
        let second = self.rows(GENERATION);
        assert!(
            first == second,
            "projection `{}` makes other rows when the same events come twice\n{}",
            P::NAME,
            diff(&first, &second)
        );
        self
    }

    /// Makes sure of the views of a generation.
    #[track_caller]
    fn prepare(&self, generation: u32) {
        let views = self.store.views().expect("the memory store holds views");
        for definition in self.projection.views() {
            block_on(views.ensure(definition, generation))
                .unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    #[track_caller]
    fn happened(mut self, stream: &str, events: Vec<Encoded>) -> Self {
        self.worked();
        let stream = stored::stream(stream);
        for encoded in events {
            let (id, now) = (self.env.env().message_id(), self.env.clock().now());
            let draft = stored::draft(encoded, stream.clone(), id, now, self.metadata.clone());
            let append = Append {
                stream: stream.clone(),
                expected: ExpectedVersion::Any,
                drafts: vec![draft],
            };
            self.commit(Input::None, |commit| commit.appends = vec![append]);
        }
        match block_on(self.follow(GENERATION, self.reached, BATCH_RECORDS_MAX, true)) {
            Ok(reached) => self.reached = reached,
            Err(failure) => self.failure = Some(failure),
        }
        self
    }

    /// Takes all records behind `from` into the rows of a generation, and says how far it came.
    async fn follow(
        &self,
        generation: u32,
        from: At,
        batch_max: usize,
        with_checkpoint: bool,
    ) -> Result<At, Failure> {
        let (store, projection) = (&self.store, self.projection.name());
        let views = store.views().expect("the memory store holds views");
        let claim = store
            .claim_projection(projection, generation, self.projection.fingerprint())
            .await?;
        let mut reached = from;
        loop {
            let page = store
                .read_log(reached, &LogFilter::default(), batch_max)
                .await?;
            if page.records.is_empty() {
                return Ok(reached);
            }
            let mut rows = RowSet::new(views, self.projection.views(), generation);
            for record in &page.records {
                rows.at(record.at.position);
                self.projection
                    .project(&record.recorded(), &mut rows)
                    .await?;
            }
            let mut commit = Commit::new(self.env.env().commit_id(), self.env.clock().now());
            if with_checkpoint {
                commit.input = Input::Log(LogInput {
                    projection: projection.clone(),
                    generation,
                    fence: claim.fence,
                    from: reached,
                    to: page.next,
                });
            }
            commit.views = rows.into_writes();
            store
                .commit(commit)
                .await
                .map_err(|error| Failure::poison(error.to_string()))?;
            reached = page.next;
        }
    }

    #[track_caller]
    fn commit(&self, input: Input, fill: impl FnOnce(&mut Commit)) {
        let mut commit = Commit::new(self.env.env().commit_id(), self.env.clock().now());
        commit.input = input;
        fill(&mut commit);
        block_on(self.store.commit(commit)).unwrap_or_else(|error| panic!("{error}"));
    }

    #[track_caller]
    fn row(&self, view: &ViewName, id: &str) -> Option<Row> {
        self.worked();
        let views = self.store.views().expect("the memory store holds views");
        block_on(views.get(view, Some(GENERATION), id)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[track_caller]
    fn rows(&self, generation: u32) -> AllRows {
        let views = self.store.views().expect("the memory store holds views");
        let of_view = |definition: &ViewDefinition| {
            let (name, mut rows) = (definition.name.clone(), Vec::new());
            let mut query = Query::all().limit(factum_core::PAGE_ROWS_MAX);
            loop {
                let page = block_on(views.query(&name, Some(generation), &query));
                let page = page.unwrap_or_else(|error| panic!("{error:#}"));
                rows.extend(
                    page.rows
                        .into_iter()
                        .map(|row| ((name.clone(), row.id), row.document)),
                );
                match page.next {
                    Some(cursor) => query = query.after(cursor),
                    None => return rows,
                }
            }
        };
        self.projection.views().iter().flat_map(of_view).collect()
    }

    #[track_caller]
    fn worked(&self) {
        if let Some(failure) = &self.failure {
            panic!(
                "projection `{}` fails as {}: {failure}",
                P::NAME,
                failure.class()
            );
        }
    }
}

fn shown(rows: &AllRows) -> String {
    let line = |((view, id), document): (&(ViewName, String), &Json)| {
        format!("    {view} `{id}`: {document}\n")
    };
    rows.iter().map(line).collect()
}

impl<P: Projection> Debug for Projected<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projected")
            .field("projection", &P::NAME)
            .field("reached", &self.reached)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
