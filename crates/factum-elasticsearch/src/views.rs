//! The views of one store: the ports over its indexes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    At, CommitError, Error, Fence, LogInput, OutsideViews, Page, ProjectionClaim, ProjectionName,
    ProjectionState, Query, Row, Rows, Store, StoreIdentity, ViewDefinition, ViewName, ViewRef,
    ViewWrite, Views, ViewsCapabilities,
};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bulk::{self, gone},
    document::{Kept, check_id, key},
    index::Index,
    names::{self, Names},
    parts,
    places::Places,
    search::{self, Found, WINDOW_ROWS},
    state::{Plan, Rows as Batch, State, Stored},
};

/// What a search answers that is looked at.
const SEARCH: &str = "_search?allow_partial_search_results=false\
    &filter_path=timed_out,hits.total,hits.hits._version,hits.hits._source,hits.hits.sort";

/// The views of one store.
pub(crate) struct StoreViews {
    pub(crate) places: Places,
    pub(crate) store: Arc<dyn Store>,
}

/// An index and the definition of the view that is read from it.
type Seen = (Arc<Index>, Arc<ViewDefinition>);

impl StoreViews {
    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn names(&self) -> Names {
        self.places.names(&self.identity())
    }

    async fn seen(&self, view: &ViewName, generation: Option<u32>) -> Result<Option<Seen>, Error> {
        self.places.seen(&self.names(), view, generation).await
    }

    /// What an index answered; one that turned out to be gone is looked up afresh by whoever comes next.
    fn noted<T>(&self, index: &Index, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.as_ref().is_err_and(Error::is_conflict) {
            self.places.forget(index);
        }
        answer
    }

    async fn search(&self, (index, _): &Seen, body: &Value) -> Result<Found, Error> {
        let what = format!("a query of {index}");
        let reply = index.ask(Method::POST, SEARCH, Some(body)).await;
        let found = self.noted(index, reply)?.read::<Found>(&what)?;
        found.whole().map_err(|error| error.while_(what))
    }

    /// A page by number. One that is far behind is walked to.
    async fn page(&self, seen: &Seen, query: &Query, number: u32) -> Result<Rows, Error> {
        let (_, definition) = seen;
        let mut body = search::page(query, definition)?;
        let mut skip = u64::from(number - 1) * u64::from(query.limit);
        if skip + u64::from(query.limit) < WINDOW_ROWS {
            body["from"] = skip.into();
            return self.search(seen, &body).await?.rows(query, definition);
        }
        let mut place = None;
        while skip > 0 {
            let step = skip.min(WINDOW_ROWS);
            let places = search::places(query, definition, step, place.as_ref())?;
            let found = self.search(seen, &places).await?;
            if found.len() < step {
                return Ok(Rows {
                    rows: Vec::new(),
                    next: None,
                });
            }
            place = found.last_place().cloned();
            skip -= step;
        }
        body["search_after"] = place.unwrap_or_default();
        self.search(seen, &body).await?.rows(query, definition)
    }

    // What projections write.

    /// The rows that are to be written, and whether readers see the generation afterwards.
    async fn plan(
        &self,
        index: &Index,
        input: &LogInput,
        writes: Vec<ViewWrite>,
    ) -> Result<Option<Plan>, Error> {
        let (mut rows, mut activate, empty) = (Batch::default(), false, writes.is_empty());
        for write in writes {
            match write {
                ViewWrite::Put {
                    view,
                    id,
                    version,
                    document,
                } => rows.put(own(view, input)?, id, version, Some(document))?,
                ViewWrite::Delete { view, id, version } => {
                    rows.put(own(view, input)?, id, version, None)?;
                }
                ViewWrite::Activate {
                    projection,
                    generation,
                } => {
                    if projection != input.projection || generation != input.generation {
                        return Err(foreign(&format!(
                            "generation {generation} of `{projection}`"
                        )));
                    }
                    activate = true;
                }
                ViewWrite::Sql { .. } => {
                    return Err(Error::poison("a search cluster speaks no SQL"));
                }
            }
        }
        let mut definitions = BTreeMap::new();
        for view in rows.views() {
            if !definitions.contains_key(view) {
                let definition = index.known(view).await?;
                if definition.projection != input.projection {
                    return Err(foreign(&format!("view `{view}`")));
                }
                definitions.insert(view.clone(), definition);
            }
        }
        let rows = rows.written(&definitions)?;
        let to = input.to;
        Ok((!empty).then_some(Plan {
            to,
            activate,
            rows,
            parts: None,
        }))
    }

    /// Writes what a state says is being written, and then that it is there. `Ok(None)`: somebody else has claimed the
    /// generation, and does the same.
    async fn finish(
        &self,
        names: &Names,
        index: &Index,
        mut stored: Stored,
    ) -> Result<Option<Stored>, Error> {
        let Some(mut plan) = stored.state.plan.take() else {
            return Ok(Some(stored));
        };
        parts::fetch(index, &mut plan).await?;
        index.wrote();
        let patience = self.places.options.patience;
        bulk::write(&self.places.client, &index.alias, &plan.rows, patience)
            .await
            .map_err(|error| error.while_(index))?;
        index.wrote();
        if plan.activate {
            // Readers are shown all of it, and not what the cluster happens to show.
            index.show_all().await?;
            self.places.activate(names, index).await?;
        }
        let done = State {
            checkpoint: plan.to,
            ..stored.state.clone()
        };
        let written = index.set_state(Some(&stored), done).await?;
        if written.is_some() {
            parts::drop_parts(index, &plan).await;
        }
        Ok(written)
    }

    /// Why a write on condition of a state was refused: what speaks against it now.
    async fn refused(&self, index: &Index, input: &LogInput) -> CommitError {
        match index.state().await {
            Err(error) => error.into(),
            Ok(stored) => match self.allowed(stored.as_ref(), input) {
                Err(error) => error,
                Ok(()) => {
                    Error::conflict(format!("{index}: somebody else wrote at the same time")).into()
                }
            },
        }
    }

    /// Whether fence and checkpoint are as they should be.
    fn allowed(&self, stored: Option<&Stored>, input: &LogInput) -> Result<(), CommitError> {
        let epoch = self.identity().epoch;
        let fenced = |stored| CommitError::Fenced {
            role: format!(
                "generation {} of projection `{}`",
                input.generation, input.projection
            ),
            stored,
        };
        let Some(Stored { state, .. }) = stored else {
            // Nobody has claimed it: neither has the caller.
            return Err(fenced(Fence {
                store: epoch,
                ..Fence::default()
            }));
        };
        let fence = state.fence(epoch);
        if fence != input.fence || state.forgotten {
            return Err(fenced(fence));
        }
        let actual = state.plan.as_ref().map_or(state.checkpoint, |plan| plan.to);
        if actual != input.from {
            let projection = input.projection.clone();
            return Err(CommitError::CheckpointMoved { projection, actual });
        }
        Ok(())
    }

    async fn apply_to(
        &self,
        names: &Names,
        index: &Index,
        input: &LogInput,
        writes: Vec<ViewWrite>,
    ) -> Result<(), CommitError> {
        let plan = self.plan(index, input, writes).await?;
        let moves = plan.is_some() || input.from != input.to;
        // Who asks whether all is as it was, is told what is, and not what was.
        let held = index.take_held().filter(|_| moves);
        let stored = match held {
            Some(held) => Some(held),
            None => index.state().await?,
        };
        if let Err(error) = self.allowed(stored.as_ref(), input) {
            // What this process remembers may be old.
            let now = index.state().await?;
            self.allowed(now.as_ref(), input).map_err(|_| error)?;
            return Err(Error::conflict(format!("{index}: its state is in motion")).into());
        }
        if !moves {
            return Ok(());
        }
        let stored = stored.ok_or_else(gone)?;
        let mut state = stored.state.clone();
        match plan {
            Some(mut plan) => {
                parts::put_aside(index, state.owner, &mut plan).await?;
                state.plan = Some(plan);
            }
            None => state.checkpoint = input.to,
        }
        let Some(stored) = index.set_state(Some(&stored), state).await? else {
            return Err(self.refused(index, input).await);
        };
        match self.finish(names, index, stored).await? {
            Some(_) => Ok(()),
            None => Err(self.refused(index, input).await),
        }
    }
}

/// The view that a write names, which must be of the input's generation.
fn own(view: ViewRef, input: &LogInput) -> Result<ViewName, Error> {
    if view.generation == input.generation {
        return Ok(view.view);
    }
    Err(foreign(&format!("view `{view}`")))
}

fn foreign(what: &str) -> Error {
    Error::poison(format!(
        "a projection writes to its own views and the generation that it keeps up, and not to {what}"
    ))
}

#[async_trait]
impl Views for StoreViews {
    fn capabilities(&self) -> ViewsCapabilities {
        ViewsCapabilities {
            atomic: false,
            full_text: true,
        }
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        definition.validate()?;
        self.places
            .ensure(&self.names(), definition, generation)
            .await
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        let active = self.places.active(&self.names(), projection).await?;
        Ok(active.map(|(generation, _)| generation))
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let names = self.names();
        let active = self.places.active(&names, projection).await?;
        if active.is_some_and(|(active, _)| active == generation) {
            return Err(Error::conflict(format!(
                "generation {generation} of projection `{projection}` is what readers see"
            )));
        }
        self.places
            .delete(&names.index(projection, generation))
            .await
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        check_id(id)?;
        let Some((index, _)) = self.seen(view, generation).await? else {
            return Ok(None);
        };
        let body = json!({ "ids": [key(view, id)] });
        let reply = index.ask(Method::POST, "_mget", Some(&body)).await;
        let what = format!("reading row `{id}` of view `{view}`");
        let found: Looked = self.noted(&index, reply)?.read(&what)?;
        let Some(one) = found.docs.into_iter().next() else {
            return Ok(None);
        };
        if let Some(error) = one.error {
            // Each of them has a status of its own, which is not told.
            let refusal = crate::client::Refusal::read(&error);
            let error = if refusal.kind == "index_not_found_exception" {
                gone().while_(what)
            } else {
                Error::transient(format!("{what}: {}", refusal.reason))
            };
            return self.noted(&index, Err(error));
        }
        let kept = one.source.filter(|_| one.found);
        kept.map_or(Ok(None), |kept| kept.row(one.version))
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        let Some(seen) = self.seen(view, generation).await? else {
            return Ok(Rows {
                rows: Vec::new(),
                next: None,
            });
        };
        let (index, definition) = &seen;
        query.validate_with_words(definition)?;
        let shown = index.show_wanted().await;
        self.noted(index, shown)?;
        match &query.page {
            Page::Number(number) => self.page(&seen, query, *number).await,
            Page::After(_) => {
                let body = search::page(query, definition)?;
                self.search(&seen, &body).await?.rows(query, definition)
            }
        }
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        let Some(seen) = self.seen(view, generation).await? else {
            return Ok(0);
        };
        let (index, definition) = &seen;
        query.validate_with_words(definition)?;
        if cap == 0 {
            return Ok(0);
        }
        let shown = index.show_wanted().await;
        self.noted(index, shown)?;
        let body = search::count(query, definition, cap)?;
        let found = self.search(&seen, &body).await?;
        Ok(found.total().min(cap))
    }

    async fn settle(&self, view: &ViewName, generation: Option<u32>) -> Result<(), Error> {
        let Some((index, _)) = self.seen(view, generation).await? else {
            return Ok(());
        };
        let shown = index.show_all().await;
        self.noted(&index, shown)
    }

    async fn shown(
        &self,
        projection: &ProjectionName,
        generation: u32,
        reached: At,
        wanted: Option<At>,
    ) -> Result<At, Error> {
        let names = self.names();
        let unseen = || {
            Error::conflict(format!(
                "readers of projection `{projection}` don't see generation {generation} any more"
            ))
        };
        let index = self.places.find(&names, projection, generation).await?;
        let index = index.ok_or_else(unseen)?;
        // Before the cluster is asked: what is written meanwhile makes its answer no loss.
        let applied = index.applied();
        let (_, stored) = self
            .places
            .active_state(&names, projection)
            .await?
            .filter(|(seen, _)| *seen == generation)
            .ok_or_else(unseen)?;
        let checkpoint = stored.state.checkpoint;
        index.note(&stored);
        // Less than was seen before: it went back to an earlier state, and what the projection said holds no more.
        if applied > checkpoint {
            return Ok(checkpoint.min(reached));
        }
        let Some(wanted) = wanted else {
            return Ok(checkpoint.min(reached));
        };
        // Where the projection has come further than the checkpoint, there was nothing to write.
        index.want(wanted.min(reached));
        Ok(reached)
    }
}

#[derive(Debug, Deserialize)]
struct Looked {
    docs: Vec<One>,
}

#[derive(Debug, Deserialize)]
struct One {
    #[serde(default)]
    found: bool,
    #[serde(default, rename = "_version")]
    version: u64,
    #[serde(default, rename = "_source")]
    source: Option<Kept>,
    #[serde(default)]
    error: Option<Value>,
}

#[async_trait]
impl OutsideViews for StoreViews {
    async fn claim(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        let identity = self.identity();
        let names = self.places.names(&identity);
        let index = self.places.make(&names, projection, generation).await?;
        loop {
            let before = index.state().await;
            let before = self.noted(&index, before)?;
            let state = match &before {
                None => State::new(projection, fingerprint, index.made_millis),
                Some(stored) => stored.state.claimed(fingerprint),
            };
            let claimed = index.set_state(before.as_ref(), state).await;
            let Some(stored) = self.noted(&index, claimed)? else {
                continue;
            };
            // What the owner before wrote may not be shown to queries yet.
            index.wrote();
            let done = stored.state.clone().done();
            let claim = ProjectionClaim {
                fence: done.fence(identity.epoch),
                checkpoint: done.checkpoint,
            };
            // Whoever claimed it meanwhile finishes it too, and we are fenced.
            let finished = self.finish(&names, &index, stored).await;
            self.noted(&index, finished)?;
            return Ok(claim);
        }
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        let names = self.names();
        let infos = self.places.infos(&names.indexes()).await?;
        let mut states = Vec::new();
        for (name, info) in infos {
            let Some(generation) = names::generation(&name) else {
                continue;
            };
            let alias = names.identity(info.uuid());
            if !info.aliases.contains_key(&alias) {
                continue; // it is just being made
            }
            let unknown = ProjectionName::of("unknown");
            let index = Index::new(self.places.client.clone(), name, alias, unknown, &info);
            let stored = match index.state().await {
                Ok(Some(stored)) => stored,
                Ok(None) => continue,
                // It was dropped meanwhile.
                Err(error) if error.is_conflict() => continue,
                Err(error) => return Err(error),
            };
            // Whoever reads this takes the rows to have come so far.
            if let Some(known) = self
                .places
                .find(&names, &stored.state.projection, generation)
                .await?
            {
                known.note(&stored);
            }
            let state = stored.state;
            if !state.forgotten {
                states.push(ProjectionState {
                    projection: state.projection,
                    generation,
                    fingerprint: state.fingerprint,
                    checkpoint: state.checkpoint,
                });
            }
        }
        Ok(states)
    }

    async fn forget(&self, projection: &ProjectionName, generation: u32) -> Result<(), Error> {
        let names = self.names();
        // What is known here may be gone with its rows, as it should.
        let name = names.index(projection, generation);
        if self.places.infos(&name).await?.is_empty() {
            return Ok(());
        }
        let index = self.places.make(&names, projection, generation).await?;
        while let Some(stored) = index.state().await? {
            let state = State {
                forgotten: true,
                plan: None,
                ..stored.state.claimed("")
            };
            if index.set_state(Some(&stored), state).await?.is_some() {
                break;
            }
        }
        Ok(())
    }

    async fn apply(&self, input: &LogInput, writes: Vec<ViewWrite>) -> Result<(), CommitError> {
        let identity = self.identity();
        let names = self.places.names(&identity);
        if input.fence.store != identity.epoch {
            self.allowed(None, input)?;
        }
        let found = self
            .places
            .find(&names, &input.projection, input.generation)
            .await?;
        let Some(index) = found else {
            // Nobody has claimed it, or it is gone.
            if input.fence.owner.0 == 0 {
                self.allowed(None, input)?;
            }
            return Err(gone().into());
        };
        let applied = self.apply_to(&names, &index, input, writes).await;
        if let Err(CommitError::Failed(error)) = &applied
            && error.is_conflict()
        {
            self.places.forget(&index);
        }
        applied
    }
}

impl fmt::Debug for StoreViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreViews")
            .field("service", &self.identity().service)
            .field("client", &self.places.client)
            .finish_non_exhaustive()
    }
}
