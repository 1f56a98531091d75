//! A projection as its owner sees it: what the tests write and read rows with.

use std::{sync::Arc, time::Duration};

use factum_core::{
    At, Commit, CommitError, CommitId, Error, FieldKind, Input, Json, LogInput, Position,
    ProjectionName, Query, Store, Timestamp, ViewDefinition, ViewName, ViewRef, ViewWrite, Views,
};
use uuid::Uuid;

use crate::support::fresh;

/// How long a test waits for what must come, on a machine however busy.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);

/// How often it looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn orders() -> ProjectionName {
    ProjectionName::of("orders")
}

pub(crate) fn view() -> ViewName {
    ViewName::of("orders")
}

pub(crate) fn definition() -> ViewDefinition {
    ViewDefinition::new(view(), orders())
        .field("user", FieldKind::Text)
        .field("count", FieldKind::Integer)
        .field("total", FieldKind::Integer)
        .index(["user", "count"])
}

/// The owner of a generation.
pub(crate) struct Owner {
    pub(crate) store: Arc<dyn Store>,
    /// What it read from, and goes on from.
    pub(crate) input: LogInput,
}

impl Owner {
    /// Prepares the view and claims the generation, as a projector does.
    pub(crate) async fn claim(store: &Arc<dyn Store>, generation: u32) -> Result<Self, Error> {
        let views = store.views().expect("the store has views");
        views.ensure(&definition(), generation).await?;
        let claim = store
            .claim_projection(&orders(), generation, "shape")
            .await?;
        let to = At {
            epoch: store.identity().epoch,
            position: claim.checkpoint.position.next(),
        };
        Ok(Self {
            store: store.clone(),
            input: LogInput {
                projection: orders(),
                generation,
                fence: claim.fence,
                from: claim.checkpoint,
                to,
            },
        })
    }

    pub(crate) fn put(&self, id: &str, document: &str) -> ViewWrite {
        ViewWrite::Put {
            view: ViewRef {
                view: view(),
                generation: self.input.generation,
            },
            id: id.into(),
            version: self.input.to.position,
            document: Json::parse(document).expect("a test writes good JSON"),
        }
    }

    pub(crate) fn activate(&self) -> ViewWrite {
        ViewWrite::Activate {
            projection: orders(),
            generation: self.input.generation,
        }
    }

    /// Commits a batch that takes one more record, and goes on behind it.
    pub(crate) async fn apply(&mut self, views: Vec<ViewWrite>) -> Result<(), CommitError> {
        self.send(self.input.clone(), views).await?;
        self.input.from = self.input.to;
        self.input.to.position = self.input.to.position.next();
        Ok(())
    }

    /// Looks whether it still is the owner.
    pub(crate) async fn look(&self) -> Result<(), CommitError> {
        let mut input = self.input.clone();
        input.to = input.from;
        self.send(input, Vec::new()).await
    }

    pub(crate) async fn send(
        &self,
        input: LogInput,
        views: Vec<ViewWrite>,
    ) -> Result<(), CommitError> {
        let id = CommitId(Uuid::from_u128(u128::from(fresh())));
        let mut commit = Commit::new(id, Timestamp::UNIX_EPOCH);
        commit.input = Input::Log(input);
        commit.views = views;
        self.store.commit(commit).await.map(drop)
    }

    /// Takes the record at the next position as a projection does: reads a row, adds to it, writes it.
    pub(crate) async fn count_one(&mut self, id: &str) -> Result<(), CommitError> {
        let before = count_of(&*self.store, self.input.generation, id).await?;
        let document = format!(r#"{{"user":"u","count":{}}}"#, before + 1);
        self.apply(vec![self.put(id, &document)]).await
    }
}

/// The port over a store's views.
pub(crate) fn views(store: &dyn Store) -> &dyn Views {
    store.views().expect("the store has views")
}

/// The count in a row; 0 without one.
pub(crate) async fn count_of(store: &dyn Store, generation: u32, id: &str) -> Result<i64, Error> {
    let row = views(store).get(&view(), Some(generation), id).await?;
    let count = row.and_then(|row| {
        let values = definition().extract(&row.document).expect("it is ours");
        match values[1] {
            factum_core::Value::Integer(count) => Some(count),
            _ => None,
        }
    });
    Ok(count.unwrap_or(0))
}

/// How far a generation has come, and what it has in all its rows.
pub(crate) async fn standing(store: &dyn Store, generation: u32) -> Result<(Position, i64), Error> {
    let states = store.projections().await?;
    let mut states = states.into_iter();
    let state = states.find(|state| state.generation == generation);
    let query = Query::all().limit(1_000);
    let rows = views(store)
        .query(&view(), Some(generation), &query)
        .await?;
    let mut sum = 0;
    for row in rows.rows {
        sum += count_of(store, generation, &row.id).await?;
    }
    Ok((
        state.map_or(Position(0), |state| state.checkpoint.position),
        sum,
    ))
}

/// Tries until it works: after an outage, whatever is transient passes.
pub(crate) async fn until_it_works<T>(attempt: impl AsyncFn() -> Result<T, Error>) -> T {
    let tried = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => assert!(error.is_transient(), "it would not pass: {error:#}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let in_time = tokio::time::timeout(WAIT_MAX, tried).await;
    in_time.expect("it works again before long")
}
