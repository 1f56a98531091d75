//! Which index is whose: the indexes of one store, as they are in the cluster and as this process knows them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{Epoch, Error, ProjectionName, StoreIdentity, ViewDefinition, ViewName};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    bulk::gone,
    client::Client,
    document::MARK,
    index::{Document, INFO, Index, Info, STATE_KEY},
    mapping,
    names::{self, Names},
    options::ElasticsearchOptions,
    state::{State, Stored, missing},
};

/// The indexes of one store.
pub(crate) struct Places {
    pub(crate) client: Client,
    pub(crate) options: Arc<ElasticsearchOptions>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    indexes: BTreeMap<String, Arc<Index>>,
    /// Which projection keeps a view: the same in all generations.
    projections: BTreeMap<ViewName, ProjectionName>,
}

/// What the cluster says of indexes, by name.
type Infos = BTreeMap<String, Info>;

impl Places {
    pub(crate) fn new(client: Client, options: Arc<ElasticsearchOptions>) -> Self {
        Self {
            client,
            options,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known is looked up again when it is not right.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of a store's indexes in its present epoch.
    pub(crate) fn names(&self, store: &StoreIdentity) -> Names {
        Names::new(&self.options.prefix, store.id, store.epoch)
    }

    /// What the cluster says of the indexes that a name, alias or pattern stands for.
    pub(crate) async fn infos(&self, which: &str) -> Result<Infos, Error> {
        let reply = self
            .client
            .ask(Method::GET, &format!("/{which}?{INFO}"), None)
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(Infos::new());
        }
        reply.read("looking up indexes")
    }

    /// Forgets an index that turned out to be gone.
    pub(crate) fn forget(&self, index: &Index) {
        let mut known = self.known();
        if known
            .indexes
            .get(&index.name)
            .is_some_and(|there| there.alias == index.alias)
        {
            known.indexes.remove(&index.name);
        }
    }

    /// The index of a generation of a projection, if there is one.
    pub(crate) async fn find(
        &self,
        names: &Names,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<Option<Arc<Index>>, Error> {
        let name = names.index(projection, generation);
        if let Some(index) = self.known().indexes.get(&name) {
            return Ok(Some(index.clone()));
        }
        match self.infos(&name).await?.remove(&name) {
            Some(info) => self.know(names, name, projection, &info).await.map(Some),
            None => Ok(None),
        }
    }

    /// The index of a generation of a projection, made if there is none.
    pub(crate) async fn make(
        &self,
        names: &Names,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<Arc<Index>, Error> {
        let name = names.index(projection, generation);
        // What is known may be gone, and this is how a generation is begun.
        let mut infos = self.infos(&name).await?;
        if infos.is_empty() {
            let body = mapping::index(&self.options);
            let reply = self
                .client
                .ask(Method::PUT, &format!("/{name}"), Some(&body))
                .await?;
            // Another process may have been faster.
            if reply.refusal().kind != "resource_already_exists_exception" {
                reply.done(&format!(
                    "making generation {generation} of projection `{projection}`"
                ))?;
            }
            infos = self.infos(&name).await?;
        }
        let info = infos.remove(&name).ok_or_else(gone)?;
        self.know(names, name, projection, &info).await
    }

    /// An index that the cluster has, under its own alias.
    async fn know(
        &self,
        names: &Names,
        name: String,
        projection: &ProjectionName,
        info: &Info,
    ) -> Result<Arc<Index>, Error> {
        let alias = names.identity(info.uuid());
        if !info.aliases.contains_key(&alias) {
            self.alias(&[json!({ "add": { "index": name, "alias": alias } })])
                .await?;
        }
        let mut known = self.known();
        if let Some(there) = known.indexes.get(&name)
            && there.alias == alias
        {
            return Ok(there.clone());
        }
        let (client, projection) = (self.client.clone(), projection.clone());
        let index = Arc::new(Index::new(client, name.clone(), alias, projection, info));
        known.indexes.insert(name, index.clone());
        Ok(index)
    }

    /// Changes aliases, all at once.
    pub(crate) async fn alias(&self, actions: &[Value]) -> Result<(), Error> {
        let body = json!({ "actions": actions });
        let reply = self
            .client
            .ask(Method::POST, "/_aliases", Some(&body))
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Err(gone());
        }
        reply.done("changing aliases")
    }

    /// Adds a view to a generation.
    pub(crate) async fn ensure(
        &self,
        names: &Names,
        definition: &ViewDefinition,
        generation: u32,
    ) -> Result<(), Error> {
        let (view, projection) = (&definition.name, &definition.projection);
        let with_view = names.with_view(view);
        let own = names.index(projection, generation);
        let others = self.infos(&with_view).await?;
        let other = others
            .keys()
            .find(|name| **name != own && names::generation(name) == Some(generation));
        if other.is_some() {
            return Err(Error::poison(format!(
                "view `{view}@{generation}` was prepared with another definition: another projection keeps it"
            )));
        }
        let index = self.make(names, projection, generation).await?;
        index.define(definition).await?;
        let body = mapping::view(definition, &self.options.analyzer);
        index
            .ask(Method::PUT, "_mapping", Some(&body))
            .await?
            .done(&format!("preparing view `{view}`"))?;
        if !others.contains_key(&own) {
            self.alias(&[json!({ "add": { "index": own, "alias": with_view } })])
                .await?;
        }
        self.known()
            .projections
            .insert(view.clone(), projection.clone());
        Ok(())
    }

    /// The index of a view in the given generation, or in the one that readers see; `Ok(None)` when they see none yet.
    pub(crate) async fn seen(
        &self,
        names: &Names,
        view: &ViewName,
        generation: Option<u32>,
    ) -> Result<Option<(Arc<Index>, Arc<ViewDefinition>)>, Error> {
        let projection = self.known().projections.get(view).cloned();
        if let (Some(projection), Some(generation)) = (projection, generation)
            && let Some(index) = self.find(names, &projection, generation).await?
        {
            let definition = index.known(view).await?;
            return Ok(Some((index, definition)));
        }
        let infos = self.infos(&names.with_view(view)).await?;
        if infos.is_empty() {
            return Err(missing(view.as_str()));
        }
        let active = names.active_of_any();
        let is_it = |(name, info): &(String, Info)| match generation {
            Some(generation) => names::generation(name) == Some(generation),
            None => info.aliases.keys().any(|alias| alias.starts_with(&active)),
        };
        let last = infos
            .into_iter()
            .filter(is_it)
            .max_by_key(|(name, _)| names::generation(name));
        let Some((name, info)) = last else {
            return match generation {
                Some(generation) => Err(gone().while_(format_args!("view `{view}@{generation}`"))),
                None => Ok(None),
            };
        };
        // Whose it is says the definition.
        let unknown = ProjectionName::of("unknown");
        let alias = names.identity(info.uuid());
        let found = Index::new(self.client.clone(), name.clone(), alias, unknown, &info);
        let projection = found.known(view).await?.projection.clone();
        self.known()
            .projections
            .insert(view.clone(), projection.clone());
        let index = self.know(names, name, &projection, &info).await?;
        let definition = index.known(view).await?;
        Ok(Some((index, definition)))
    }

    /// The generation that readers see, with its index.
    pub(crate) async fn active(
        &self,
        names: &Names,
        projection: &ProjectionName,
    ) -> Result<Option<(u32, String)>, Error> {
        let infos = self.infos(&names.active(projection)).await?;
        // Numbers grow: one that was let see late, by somebody who was stopped in the middle of it, is not the last.
        let names = infos.into_keys();
        let generations = names.filter_map(|name| Some((names::generation(&name)?, name)));
        Ok(generations.max())
    }

    /// The generation that readers see, and its state.
    pub(crate) async fn active_state(
        &self,
        names: &Names,
        projection: &ProjectionName,
    ) -> Result<Option<(u32, Stored)>, Error> {
        let mut at = names.active(projection);
        loop {
            // Not the rows that an apply is about to write, which no reader needs.
            let path = format!("/{at}/_doc/{STATE_KEY}?_source_excludes={MARK}.plan");
            let reply = self.client.ask(Method::GET, &path, None).await?;
            if reply.status == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            if reply.status == StatusCode::BAD_REQUEST && at == names.active(projection) {
                // An alias of two indexes: an activation came late.
                match self.active(names, projection).await? {
                    Some((_, name)) => at = name,
                    None => return Ok(None),
                }
                continue;
            }
            let document: Document = reply.read("reading how far rows have come")?;
            let Some(generation) = names::generation(&document.index) else {
                return Ok(None);
            };
            let (sequence, term) = (document.sequence, document.term);
            let state = document.mark().map(serde_json::from_value::<State>);
            let state = state.transpose().map_err(|error| {
                Error::fatal(format!("the state of `{projection}` is damaged")).caused_by(error)
            })?;
            let stored = state.map(|state| Stored {
                state,
                sequence,
                term,
            });
            return Ok(stored.map(|stored| (generation, stored)));
        }
    }

    /// Lets readers see a generation, and no earlier one, unless they see a later one.
    pub(crate) async fn activate(&self, names: &Names, index: &Index) -> Result<(), Error> {
        let active = names.active(&index.projection);
        let before = self.infos(&active).await?;
        let is_later =
            |name: &String| names::generation(name).is_some_and(|other| other > index.generation);
        if before.keys().any(is_later) {
            return Ok(());
        }
        let add = |alias: &str| json!({ "add": { "index": index.name, "alias": alias } });
        // All of it, or nothing where this very index is gone: one that was made in its place is called the same.
        let this = json!({ "index": index.name, "alias": index.alias, "must_exist": true });
        let mut actions = vec![json!({ "remove": this }), add(&index.alias), add(&active)];
        for view in index.views() {
            let mut action = add(&names.view(&view));
            action["add"]["filter"] = json!({ "term": { crate::document::VIEW: view.as_str() } });
            actions.push(action);
        }
        let earlier =
            |name: &&String| names::generation(name).is_some_and(|other| other < index.generation);
        for (name, info) in before.iter().filter(|(name, _)| earlier(name)) {
            let ours = |alias: &&String| **alias == active || names.is_for_people(alias);
            for alias in info.aliases.keys().filter(ours) {
                // It may have been dropped meanwhile.
                let remove = json!({ "index": name, "alias": alias, "must_exist": false });
                actions.push(json!({ "remove": remove }));
            }
        }
        self.alias(&actions).await?;
        self.drop_lost_epochs(names).await
    }

    /// Drops what is left of earlier epochs of the store: nobody sees it any more.
    async fn drop_lost_epochs(&self, names: &Names) -> Result<(), Error> {
        let infos = self.infos(&names.indexes_of_all_epochs()).await?;
        let lost = |name: &&String| {
            let epoch: Option<Epoch> = names.epoch_of(name);
            epoch.is_some_and(|epoch| epoch < names.epoch())
        };
        for name in infos.keys().filter(lost) {
            self.delete(name).await?;
        }
        Ok(())
    }

    /// Deletes an index.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Error> {
        self.known().indexes.remove(name);
        let path = format!("/{name}?ignore_unavailable=true");
        let reply = self.client.ask(Method::DELETE, &path, None).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        reply.done(&format!("dropping `{name}`"))
    }
}
