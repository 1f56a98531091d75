//! The index of one generation of a projection: found, made, asked and written to by an alias of its own, so that one
//! that was lost and made anew is never taken for it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{At, Error, ProjectionName, ViewDefinition, ViewName};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bulk::gone,
    client::{Client, Reply},
    document::MARK,
    marks::Marks,
    names::{self, hash},
    state::{State, Stored, missing},
};

/// What the state of a generation is known by.
pub(crate) const STATE_KEY: &str = "state";

/// An index, as long as it is this very one.
pub(crate) struct Index {
    client: Client,
    /// What it is called; one that is made in its place is called the same.
    pub(crate) name: String,
    /// What it alone is called.
    pub(crate) alias: String,
    pub(crate) projection: ProjectionName,
    pub(crate) generation: u32,
    /// When it was made, by the cluster's clock.
    pub(crate) made_millis: u64,
    definitions: Mutex<BTreeMap<ViewName, Arc<ViewDefinition>>>,
    /// The state as this process left it, if it did so last as far as it knows.
    held: Mutex<Option<Stored>>,
    marks: Mutex<Marks>,
    /// Whoever lets the cluster show its rows: one at a time, and those who waited find it done.
    refreshing: tokio::sync::Mutex<()>,
}

/// What the cluster says of an index.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Info {
    #[serde(default)]
    pub(crate) aliases: BTreeMap<String, Value>,
    settings: Settings,
}

#[derive(Clone, Debug, Deserialize)]
struct Settings {
    index: IndexSettings,
}

#[derive(Clone, Debug, Deserialize)]
struct IndexSettings {
    uuid: String,
    creation_date: String,
}

/// What is asked of an index to know it.
pub(crate) const INFO: &str = "filter_path=*.aliases,*.settings.index.uuid,*.settings.index.creation_date&expand_wildcards=open";

impl Info {
    /// What the cluster knows this very index by.
    pub(crate) fn uuid(&self) -> &str {
        &self.settings.index.uuid
    }

    fn made_millis(&self) -> u64 {
        self.settings.index.creation_date.parse().unwrap_or(0)
    }
}

/// What is said of one document.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    #[serde(default, rename = "_index")]
    pub(crate) index: String,
    #[serde(default)]
    found: bool,
    #[serde(default, rename = "_seq_no")]
    pub(crate) sequence: u64,
    #[serde(default, rename = "_primary_term")]
    pub(crate) term: u64,
    #[serde(default, rename = "_source")]
    source: Option<Marked>,
}

#[derive(Debug, Deserialize)]
struct Marked {
    mark: Value,
}

impl Document {
    /// What is in one of our own documents.
    pub(crate) fn mark(self) -> Option<Value> {
        let mark = self.source.filter(|_| self.found);
        mark.map(|marked| marked.mark)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is replaced whole, so it is right whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    pub(crate) fn new(
        client: Client,
        name: String,
        alias: String,
        projection: ProjectionName,
        info: &Info,
    ) -> Self {
        Self {
            client,
            generation: names::generation(&name).unwrap_or_default(),
            name,
            alias,
            projection,
            made_millis: info.made_millis(),
            definitions: Mutex::default(),
            held: Mutex::default(),
            marks: Mutex::new(Marks::new()),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// What was asked of an index that may be gone.
    fn answered(&self, reply: Reply) -> Result<Reply, Error> {
        if reply.status == StatusCode::NOT_FOUND
            && reply.refusal().kind == "index_not_found_exception"
        {
            return Err(gone().while_(self));
        }
        Ok(reply)
    }

    /// Asks the index for something.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, Error> {
        let path = format!("/{}/{path}", self.alias);
        self.answered(self.client.ask(method, &path, body).await?)
    }

    // Definitions.

    /// The definition of a view, if the generation has it.
    pub(crate) async fn definition(
        &self,
        view: &ViewName,
    ) -> Result<Option<Arc<ViewDefinition>>, Error> {
        if let Some(known) = lock(&self.definitions).get(view) {
            return Ok(Some(known.clone()));
        }
        let Some((_, mark)) = self.document(&definition_key(view)).await? else {
            return Ok(None);
        };
        let definition: ViewDefinition = serde_json::from_value(mark).map_err(|error| {
            Error::fatal(format!("the definition of view `{view}` is damaged")).caused_by(error)
        })?;
        let definition = Arc::new(definition);
        lock(&self.definitions).insert(view.clone(), definition.clone());
        Ok(Some(definition))
    }

    /// The definition of a view, which must be there.
    pub(crate) async fn known(&self, view: &ViewName) -> Result<Arc<ViewDefinition>, Error> {
        let definition = self.definition(view).await?;
        definition.ok_or_else(|| missing(&format!("{view}@{}", self.generation)))
    }

    /// The views that this process knows the generation to have.
    pub(crate) fn views(&self) -> Vec<ViewName> {
        lock(&self.definitions).keys().cloned().collect()
    }

    /// Notes the definition of a view, unless there is another one.
    pub(crate) async fn define(&self, definition: &ViewDefinition) -> Result<(), Error> {
        let view = &definition.name;
        let body = json!({ MARK: definition });
        let path = format!("_create/{}?require_alias=true", definition_key(view));
        let reply = self.ask(Method::PUT, &path, Some(&body)).await?;
        if reply.status != StatusCode::CONFLICT {
            reply.done(&format!("preparing view `{view}`"))?;
        }
        let there = self.known(view).await?;
        if *there == *definition {
            return Ok(());
        }
        Err(Error::poison(format!(
            "view `{view}@{}` was prepared with another definition: a new generation may differ",
            self.generation
        )))
    }

    // The state.

    /// The state as it is now.
    pub(crate) async fn state(&self) -> Result<Option<Stored>, Error> {
        let Some((document, mark)) = self.document(STATE_KEY).await? else {
            return Ok(None);
        };
        let state: State = serde_json::from_value(mark).map_err(|error| {
            Error::fatal(format!("{self}: the state is damaged")).caused_by(error)
        })?;
        let stored = Stored {
            state,
            sequence: document.sequence,
            term: document.term,
        };
        self.note(&stored);
        Ok(Some(stored))
    }

    /// The state as this process left it, if it is known; whoever takes it may not be the only one.
    pub(crate) fn take_held(&self) -> Option<Stored> {
        lock(&self.held).take()
    }

    /// Changes the state, if it is still `before`; `None`: somebody else has changed it.
    pub(crate) async fn set_state(
        &self,
        before: Option<&Stored>,
        mut state: State,
    ) -> Result<Option<Stored>, Error> {
        let condition = match before {
            None => "op_type=create".into(),
            Some(Stored { sequence, term, .. }) => {
                format!("if_seq_no={sequence}&if_primary_term={term}")
            }
        };
        let path = format!("_doc/{STATE_KEY}?{condition}&require_alias=true");
        // Rows that are put aside don't stand in it as well.
        let mut aside = Vec::new();
        if let Some(plan) = state.plan.as_mut().filter(|plan| plan.parts.is_some()) {
            aside = std::mem::take(&mut plan.rows);
        }
        let body = json!({ MARK: state });
        if let Some(plan) = &mut state.plan {
            plan.rows.append(&mut aside);
        }
        lock(&self.held).take();
        let reply = self.ask(Method::PUT, &path, Some(&body)).await?;
        if reply.status == StatusCode::CONFLICT {
            return Ok(None);
        }
        let written: Document = reply.read(&format!("{self}: writing the state"))?;
        let stored = Stored {
            state,
            sequence: written.sequence,
            term: written.term,
        };
        // One with a plan is changed at once by whoever has written it.
        if stored.state.plan.is_none() {
            *lock(&self.held) = Some(stored.clone());
        }
        self.note(&stored);
        Ok(Some(stored))
    }

    /// One of our own documents, and what is in it.
    pub(crate) async fn document(&self, key: &str) -> Result<Option<(Document, Value)>, Error> {
        let reply = self.ask(Method::GET, &format!("_doc/{key}"), None).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut document: Document = reply.read(&format!("{self}: reading `{key}`"))?;
        let mark = document.source.take().filter(|_| document.found);
        Ok(mark.map(|marked| (document, marked.mark)))
    }

    // What queries show.

    /// Notes that rows may have been written which queries don't show.
    pub(crate) fn wrote(&self) {
        lock(&self.marks).wrote();
    }

    /// Notes how far the rows have come: somebody is about to be told.
    pub(crate) fn note(&self, stored: &Stored) {
        lock(&self.marks).note(stored.state.checkpoint, stored.term);
    }

    /// The furthest checkpoint that this process has seen.
    pub(crate) fn applied(&self) -> At {
        lock(&self.marks).applied()
    }

    /// Notes that queries have to show all up to `at`, which is written.
    pub(crate) fn want(&self, at: At) {
        lock(&self.marks).want(at);
    }

    /// Lets queries show what they have to: by one request at most, for all who ask at the time.
    pub(crate) async fn show_wanted(&self) -> Result<(), Error> {
        self.show(Marks::show_wanted).await
    }

    /// Lets queries show all that was written.
    pub(crate) async fn show_all(&self) -> Result<(), Error> {
        let now = *lock(&self.marks);
        self.show(|marks| marks.show_all_of(&now)).await
    }

    async fn show(&self, is_shown: impl Fn(&Marks) -> bool) -> Result<(), Error> {
        if is_shown(&lock(&self.marks)) {
            return Ok(());
        }
        let _one_at_a_time = self.refreshing.lock().await;
        let before = *lock(&self.marks);
        if is_shown(&before) {
            return Ok(());
        }
        let what = format!("{self}: making rows searchable");
        self.ask(Method::POST, "_refresh", None)
            .await?
            .done(&what)?;
        lock(&self.marks).shown(&before);
        Ok(())
    }
}

fn definition_key(view: &ViewName) -> String {
    format!("definition-{}", hash(view.as_str().as_bytes(), 12))
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            projection,
            generation,
            ..
        } = self;
        write!(f, "generation {generation} of projection `{projection}`")
    }
}
