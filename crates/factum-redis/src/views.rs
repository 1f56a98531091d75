//! The views port over one store's views: definitions, generations, checkpoints and rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use factum_core::{
    At, CommitError, Epoch, Error, Fence, LogInput, OutsideViews, ProjectionClaim, ProjectionName,
    ProjectionState, Query, Row, Rows, Store, StoreIdentity, ViewDefinition, ViewName, ViewWrite,
    Views, ViewsCapabilities,
};
use redis::pipe;

use crate::{
    apply::{Applied, Batch},
    error::Doing,
    known::Known,
    link::{Connected, Link},
    query::{Answer, Asker, NoAnswer, Question},
    scripts,
    state::{State, damaged, place, read_fence, read_place},
    sweep,
    table::{Home, Table, registry},
};

/// How often a read is begun anew because what was remembered of the view was out of date, or readers see another
/// generation now.
const SWITCHES_MAX: u32 = 10;

/// How many batches are written before it is noted again which projection keeps which views, in case that the note was
/// evicted. When nothing is to be written, it is noted each time that the owner looks whether it still is the owner.
const REGISTER_EVERY: u64 = 256;

/// The views of one store.
pub(crate) struct RedisStoreViews {
    link: Arc<Link>,
    store: Arc<dyn Store>,
    prefix: String,
    known: Known,
    batches: AtomicU64,
}

impl std::fmt::Debug for RedisStoreViews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStoreViews")
            .field("store", &self.store.identity().id)
            .finish_non_exhaustive()
    }
}

fn missing(view: impl std::fmt::Display) -> Error {
    Error::poison(format!(
        "view `{view}` does not exist: prepare it with `ensure`"
    ))
}

impl RedisStoreViews {
    pub(crate) fn new(link: Arc<Link>, store: Arc<dyn Store>, prefix: String) -> Self {
        Self {
            link,
            store,
            prefix,
            known: Known::default(),
            batches: AtomicU64::new(0),
        }
    }

    fn epoch(&self) -> Epoch {
        self.store.identity().epoch
    }

    /// Where a projection's keys are, in the store's present epoch.
    fn home(&self, projection: &ProjectionName) -> Home {
        let StoreIdentity { id, epoch, .. } = self.store.identity();
        Home::new(&self.prefix, id, epoch, projection)
    }

    fn registry(&self) -> String {
        let StoreIdentity { id, epoch, .. } = self.store.identity();
        registry(&self.prefix, id, epoch)
    }

    /// The state of a projection.
    async fn state(&self, connected: &Connected, home: &Home) -> Result<State, Error> {
        let mut all = pipe();
        all.cmd("HGETALL").arg(home.state());
        let (fields,): (BTreeMap<String, String>,) = self
            .link
            .commands(
                connected,
                Doing::Reading("read the state of a projection"),
                &all,
            )
            .await?;
        State::read(home, &fields)
    }

    /// The projection that keeps a view.
    async fn keeper(
        &self,
        connected: &Connected,
        view: &ViewName,
    ) -> Result<ProjectionName, Error> {
        let known = self.known.of(self.epoch()).projections.get(view).cloned();
        if let Some(projection) = known {
            return Ok(projection);
        }
        let mut get = pipe();
        get.cmd("HGET").arg(self.registry()).arg(view.as_str());
        let (found,): (Option<String>,) = self
            .link
            .commands(connected, Doing::Reading("look for a view"), &get)
            .await?;
        let projection = found.and_then(|name| ProjectionName::new(name).ok());
        let projection = projection.ok_or_else(|| missing(view))?;
        let mut known = self.known.of(self.epoch());
        known.projections.insert(view.clone(), projection.clone());
        Ok(projection)
    }

    /// Notes which projection keeps which views, for those who never prepared them.
    async fn register(
        &self,
        connected: &Connected,
        projection: &ProjectionName,
        tables: &[&Table],
    ) -> Result<(), Error> {
        let mut set = pipe();
        set.cmd("HSET").arg(self.registry());
        // No view is called so.
        set.arg(format!("/{projection}")).arg(projection.as_str());
        for table in tables {
            let definition = &table.definition;
            set.arg(definition.name.as_str())
                .arg(definition.projection.as_str());
        }
        let doing = Doing::Preparing("note what keeps a view");
        let _: (u64,) = self.link.commands(connected, doing, &set).await?;
        Ok(())
    }

    /// Begins a generation, if it has not begun, and gives its stamp.
    async fn begin(
        &self,
        connected: &Connected,
        home: &Home,
        generation: u32,
    ) -> Result<String, Error> {
        let mut script = scripts::MADE.prepare_invoke();
        script.key(home.state()).arg(generation);
        let doing = Doing::Preparing("begin a generation of a view");
        let (stamp, fresh): (String, u8) = self.link.script(connected, doing, &script).await?;
        if fresh == 1 {
            sweep::begin(self.link.clone(), home.clone());
        }
        Ok(stamp)
    }

    /// One generation of a view.
    async fn table(
        &self,
        connected: &Connected,
        view: &ViewName,
        generation: u32,
    ) -> Result<Arc<Table>, Error> {
        let epoch = self.epoch();
        let known = self
            .known
            .of(epoch)
            .tables
            .get(&(view.clone(), generation))
            .cloned();
        if let Some(table) = known {
            return Ok(table);
        }
        let home = self.home(&self.keeper(connected, view).await?);
        let tables = self
            .state(connected, &home)
            .await?
            .tables(&home, generation);
        let mut memory = self.known.of(epoch);
        let mut wanted = None;
        for table in tables {
            let is_it = table.definition.name == *view;
            let table = memory.learn(table);
            if is_it {
                wanted = Some(table);
            }
        }
        wanted.ok_or_else(|| missing(format_args!("{view}@{generation}")))
    }

    /// What is remembered of a generation did not hold: it was made anew, or something of it was lost. In the latter case
    /// what is left is dropped, so that nobody takes it for the whole.
    async fn look_again(&self, connected: &Connected, table: &Table) -> Result<(), Error> {
        let (home, generation) = (&table.home, table.generation);
        self.known
            .of(home.epoch)
            .unlearn(&home.projection, generation);
        let tables = self.state(connected, home).await?.tables(home, generation);
        let Some(stamp) = tables.first().map(|table| table.stamp.clone()) else {
            return Ok(());
        };
        let mut script = scripts::DISCARD.prepare_invoke();
        script.key(home.state());
        for key in tables.iter().flat_map(Table::keys) {
            script.key(key);
        }
        script.arg(generation).arg(stamp);
        let doing = Doing::Preparing("drop what is left of a generation");
        let discarded: u8 = self.link.script(connected, doing, &script).await?;
        if discarded == 1 {
            tracing::warn!(
                "a part of generation {generation} of projection `{}` was lost by Redis, and is built anew",
                home.projection
            );
        }
        Ok(())
    }

    /// Asks one generation of a view, or the one that readers see; `Ok(None)` when they see none yet.
    async fn ask(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        question: Question<'_>,
    ) -> Result<Option<Answer>, Error> {
        let connected = self.link.connected().await?;
        for attempt in 0..SWITCHES_MAX {
            let number = match generation {
                Some(generation) => generation,
                None => match self.seen(&connected, view).await? {
                    Some(generation) => generation,
                    None => return Ok(None),
                },
            };
            let table = match self.table(&connected, view, number).await {
                // It was there when it was asked for first, or readers were told that it is.
                Err(error) if error.is_poison() && (attempt > 0 || generation.is_none()) => {
                    return Err(gone(view, number));
                }
                table => table?,
            };
            let asker = Asker {
                link: &self.link,
                connected: &connected,
                table: &table,
            };
            match asker.answer(question).await {
                Ok(answer) => {
                    // Another one may have been activated before the question came to the server.
                    if generation.is_none() && self.seen(&connected, view).await? != Some(number) {
                        continue;
                    }
                    return Ok(Some(answer));
                }
                Err(NoAnswer::Failed(error)) => return Err(error),
                Err(NoAnswer::Gone) => self.look_again(&connected, &table).await?,
            }
        }
        Err(Error::transient(format!(
            "view `{view}` is being switched all the time; try again"
        )))
    }

    /// The generation of a view that readers see.
    async fn seen(&self, connected: &Connected, view: &ViewName) -> Result<Option<u32>, Error> {
        let projection = self.keeper(connected, view).await?;
        self.active_of(connected, &self.home(&projection)).await
    }

    async fn active_of(&self, connected: &Connected, home: &Home) -> Result<Option<u32>, Error> {
        let mut get = pipe();
        get.cmd("HGET").arg(home.state()).arg("active");
        let doing = Doing::Reading("read the active generation");
        let (active,): (Option<String>,) = self.link.commands(connected, doing, &get).await?;
        let active = active.map(|text| text.parse().map_err(|_| damaged(home)));
        active.transpose()
    }

    /// The projections of this store that are known of, here or on the server.
    async fn keepers(&self, connected: &Connected) -> Result<BTreeSet<ProjectionName>, Error> {
        let mut all = pipe();
        all.cmd("HVALS").arg(self.registry());
        let doing = Doing::Reading("look for projections");
        let (names,): (Vec<String>,) = self.link.commands(connected, doing, &all).await?;
        let mut keepers = self.known.of(self.epoch()).keepers();
        keepers.extend(
            names
                .into_iter()
                .filter_map(|name| ProjectionName::new(name).ok()),
        );
        Ok(keepers)
    }

    /// The views of a generation, as they are remembered, or else as the server has them.
    async fn tables(
        &self,
        connected: &Connected,
        home: &Home,
        generation: u32,
    ) -> Result<Vec<Arc<Table>>, Error> {
        let of_it = |table: &&Arc<Table>| {
            table.generation == generation && table.home.projection == home.projection
        };
        let known: Vec<_> = self
            .known
            .of(home.epoch)
            .tables
            .values()
            .filter(of_it)
            .cloned()
            .collect();
        if !known.is_empty() {
            return Ok(known);
        }
        let tables = self.state(connected, home).await?.tables(home, generation);
        let mut memory = self.known.of(home.epoch);
        Ok(tables
            .into_iter()
            .map(|table| memory.learn(table))
            .collect())
    }
}

fn gone(view: &ViewName, generation: u32) -> Error {
    Error::conflict(format!(
        "generation {generation} of view `{view}` is gone: Redis has lost it, or a part of it"
    ))
}

#[async_trait]
impl Views for RedisStoreViews {
    fn capabilities(&self) -> ViewsCapabilities {
        ViewsCapabilities {
            atomic: false,
            full_text: false,
        }
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        definition.validate()?;
        let name = &definition.name;
        let json = serde_json::to_string(definition).map_err(|error| {
            Error::poison(format!("view `{name}` can't be defined")).caused_by(error)
        })?;
        let connected = self.link.connected().await?;
        let home = self.home(&definition.projection);
        if let Ok(keeper) = self.keeper(&connected, name).await
            && keeper != definition.projection
        {
            return Err(another_definition(name, generation));
        }
        for _ in 0..SWITCHES_MAX {
            let stamp = self.begin(&connected, &home, generation).await?;
            let table = Table::new(definition.clone(), home.clone(), generation, stamp);
            let mut script = scripts::ENSURE.prepare_invoke();
            script.key(home.state());
            for key in table.keys() {
                script.key(key);
            }
            script.arg(generation).arg(&table.stamp);
            script.arg(name.as_str()).arg(&json);
            let doing = Doing::Preparing("prepare a view");
            let ensured: String = self.link.script(&connected, doing, &script).await?;
            match ensured.as_str() {
                "made" | "kept" => {
                    self.register(&connected, &home.projection, &[&table])
                        .await?;
                    self.known.of(home.epoch).learn(table);
                    return Ok(());
                }
                "differs" => return Err(another_definition(name, generation)),
                "gone" => {
                    self.look_again(&connected, &table).await?;
                    return Err(gone(name, generation));
                }
                // Somebody dropped it in between.
                _ => {}
            }
        }
        Err(Error::transient(format!(
            "view `{name}@{generation}` is dropped as often as it is prepared; try again"
        )))
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        let connected = self.link.connected().await?;
        self.active_of(&connected, &self.home(projection)).await
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let home = self.home(projection);
        let connected = self.link.connected().await?;
        for _ in 0..SWITCHES_MAX {
            let state = self.state(&connected, &home).await?;
            let tables = state.tables(&home, generation);
            let stamp = state.generations.get(&generation);
            let stamp = stamp.and_then(|known| known.stamp.clone());
            let mut script = scripts::DROP.prepare_invoke();
            script.key(home.state());
            for key in tables.iter().flat_map(Table::keys) {
                script.key(key);
            }
            script.arg(generation).arg(stamp.as_deref().unwrap_or("-"));
            for table in &tables {
                script.arg(table.definition.name.as_str());
            }
            let doing = Doing::Preparing("drop a generation of a view");
            let dropped: String = self.link.script(&connected, doing, &script).await?;
            self.known.of(home.epoch).unlearn(projection, generation);
            match dropped.as_str() {
                "seen" => {
                    return Err(Error::conflict(format!(
                        "generation {generation} of projection `{projection}` can't be dropped: readers see it"
                    )));
                }
                "other" if stamp.is_some() => {}
                _ => return Ok(()),
            }
        }
        Err(Error::transient(format!(
            "generation {generation} of projection `{projection}` is made as often as it is dropped; try again"
        )))
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        match self.ask(view, generation, Question::Row(id)).await? {
            Some(Answer::Row(row)) => Ok(row),
            _ => Ok(None),
        }
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        match self.ask(view, generation, Question::Rows(query)).await? {
            Some(Answer::Rows(rows)) => Ok(rows),
            _ => Ok(Rows {
                rows: Vec::new(),
                next: None,
            }),
        }
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        let question = Question::Count(query, cap);
        match self.ask(view, generation, question).await? {
            Some(Answer::Count(count)) => Ok(count),
            _ => Ok(0),
        }
    }

    async fn shown(
        &self,
        projection: &ProjectionName,
        generation: u32,
        reached: At,
        wanted: Option<At>,
    ) -> Result<At, Error> {
        let home = self.home(projection);
        // Before the server is asked: what is written meanwhile makes its answer no loss.
        let furthest = self.known.of(home.epoch).furthest(projection, generation);
        let connected = self.link.connected().await?;
        let mut get = pipe();
        get.cmd("HMGET").arg(home.state()).arg("active");
        get.arg(format!("{generation}/at"));
        let doing = Doing::Reading("read how far a view has come");
        let ((active, at),): ((Option<String>, Option<String>),) =
            self.link.commands(&connected, doing, &get).await?;
        if active != Some(generation.to_string()) {
            return Err(Error::conflict(format!(
                "readers of projection `{projection}` don't see generation {generation} any more"
            )));
        }
        let at = at.as_deref().and_then(read_place);
        let at = at.ok_or_else(|| damaged(&home))?;
        // Where the projection has come further than the checkpoint, there was nothing to write. A checkpoint that is
        // behind one that was seen before is another matter: rows were lost, and it says how many are left.
        Ok(if wanted.is_some() && at >= furthest {
            reached.max(at)
        } else {
            at
        })
    }

    fn lineage(&self) -> u64 {
        self.link.lineage()
    }
}

fn another_definition(view: &ViewName, generation: u32) -> Error {
    Error::poison(format!(
        "view `{view}@{generation}` was made with another definition: a changed view needs a new generation"
    ))
}

#[async_trait]
impl OutsideViews for RedisStoreViews {
    async fn claim(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        let home = self.home(projection);
        let connected = self.link.connected().await?;
        let mut script = scripts::CLAIM.prepare_invoke();
        script.key(home.state()).arg(generation);
        script.arg(fingerprint).arg(place(At::ZERO));
        let doing = Doing::Preparing("claim a projection");
        let (fence, at): (String, String) = self.link.script(&connected, doing, &script).await?;
        let fence = read_fence(home.epoch, &fence).ok_or_else(|| damaged(&home))?;
        let checkpoint = read_place(&at).ok_or_else(|| damaged(&home))?;
        self.register(&connected, projection, &[]).await?;
        let mut memory = self.known.of(home.epoch);
        // On another life of the server it would be a claim of something else: rows may have been read before that are
        // not there any more.
        memory
            .claims
            .insert((projection.clone(), generation), connected.lineage);
        memory.note(projection, generation, checkpoint);
        Ok(ProjectionClaim { fence, checkpoint })
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        let connected = self.link.connected().await?;
        let mut found = Vec::new();
        for projection in self.keepers(&connected).await? {
            let home = self.home(&projection);
            let state = self.state(&connected, &home).await?;
            let first = found.len();
            found.extend(state.projections(&home));
            let mut memory = self.known.of(home.epoch);
            for ProjectionState {
                generation,
                checkpoint,
                ..
            } in &found[first..]
            {
                // Whoever reads this takes the rows to have come so far.
                memory.note(&projection, *generation, *checkpoint);
            }
        }
        Ok(found)
    }

    async fn forget(&self, projection: &ProjectionName, generation: u32) -> Result<(), Error> {
        let home = self.home(projection);
        let connected = self.link.connected().await?;
        let mut script = scripts::FORGET.prepare_invoke();
        script.key(home.state()).arg(generation);
        let doing = Doing::Preparing("forget a generation of a projection");
        self.link.script::<u8>(&connected, doing, &script).await?;
        Ok(())
    }

    async fn apply(&self, input: &LogInput, writes: Vec<ViewWrite>) -> Result<(), CommitError> {
        let home = self.home(&input.projection);
        let connected = self.link.connected().await?;
        let fenced = |stored: Fence| CommitError::Fenced {
            role: factum_core::Input::Log(input.clone()).to_string(),
            stored,
        };
        let claim = (input.projection.clone(), input.generation);
        let claimed = self.known.of(home.epoch).claims.get(&claim).copied();
        if input.fence.store != home.epoch || claimed != Some(connected.lineage) {
            return Err(fenced(Fence {
                store: home.epoch,
                ..Fence::default()
            }));
        }
        let mut tables = self.tables(&connected, &home, input.generation).await?;
        if !Batch::knows(&tables, &writes) {
            // Another process may have prepared them.
            self.known
                .of(home.epoch)
                .unlearn(&input.projection, input.generation);
            tables = self.tables(&connected, &home, input.generation).await?;
        }
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let registers = writes.is_empty() || number.is_multiple_of(REGISTER_EVERY);
        let batch = Batch::new(input, &tables, writes)?;
        let doing = Doing::Writing("write rows");
        let script = batch.script(&home);
        let answer: Vec<String> = self.link.script(&connected, doing, &script).await?;
        match Applied::read(answer) {
            Some(Applied::Done) => {
                self.known
                    .of(home.epoch)
                    .note(&input.projection, input.generation, input.to);
                if registers {
                    let tables: Vec<_> = tables.iter().map(AsRef::as_ref).collect();
                    self.register(&connected, &home.projection, &tables).await?;
                }
                Ok(())
            }
            Some(Applied::Fenced(stored)) => {
                Err(fenced(read_fence(home.epoch, &stored).unwrap_or(Fence {
                    store: home.epoch,
                    ..Fence::default()
                })))
            }
            Some(Applied::Moved(actual)) => Err(CommitError::CheckpointMoved {
                projection: input.projection.clone(),
                actual: read_place(&actual).unwrap_or(At::ZERO),
            }),
            Some(Applied::Gone) => {
                if let Some(table) = tables.first() {
                    self.look_again(&connected, table).await?;
                }
                Err(Error::conflict(format!(
                    "generation {} of projection `{}` is gone: Redis has lost it, or a part of it",
                    input.generation, input.projection
                ))
                .into())
            }
            None => Err(home.strange().into()),
        }
    }
}
