//! What the cases of the views suite are written with: a view with rows in it.

use factum_core::{
    At, Commit, CommitError, FieldKind, Input, Json, LogInput, Position, ProjectionName, Query,
    Row, Rows, ViewDefinition, ViewName, ViewRef, ViewWrite, Views,
};

use crate::conformance::store::{StoreHarness, world::World};

/// A view named `name`, with a field of each kind.
pub(crate) fn definition(name: &str) -> ViewDefinition {
    let name = ViewName::new(name).expect("a case names its views well");
    ViewDefinition::new(name, ProjectionName::of("orders"))
        .field("text", FieldKind::Text)
        .field("number", FieldKind::Integer)
        .field("flag", FieldKind::Boolean)
        .index(["flag", "number"])
        .index(["text"])
        .searched(["text", "note"])
}

/// The projection that keeps a view of this suite.
fn keeper(view: &ViewName) -> ProjectionName {
    ProjectionName::of(if view.as_str() == "stock" {
        "stock"
    } else {
        "orders"
    })
}

/// The document whose text is `text`.
pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).expect("a case writes good JSON")
}

/// A store with one view, in generation 1, which readers see.
pub(crate) struct Shelf {
    pub(crate) world: World,
    pub(crate) view: ViewRef,
}

impl Shelf {
    /// A fresh one.
    pub(crate) async fn create(harness: &dyn StoreHarness) -> Self {
        let shelf = Self::unseen(harness).await;
        shelf.write(vec![Shelf::activate(1)]).await;
        shelf
    }

    /// A fresh one whose generation is not activated.
    pub(crate) async fn unseen(harness: &dyn StoreHarness) -> Self {
        let world = World::create(harness).await;
        let definition = definition("orders");
        let view = ViewRef {
            view: definition.name.clone(),
            generation: 1,
        };
        let shelf = Self { world, view };
        shelf
            .views()
            .ensure(&definition, 1)
            .await
            .expect("a view can be prepared");
        shelf
    }

    /// The same after a restart.
    pub(crate) async fn reopen(self, harness: &dyn StoreHarness) -> Self {
        Self {
            world: self.world.reopen(harness).await,
            view: self.view,
        }
    }

    /// The port.
    pub(crate) fn views(&self) -> &dyn Views {
        self.world
            .store
            .views()
            .expect("this suite is for stores that hold views")
    }

    /// A write of a row.
    pub(crate) fn put(&self, id: &str, version: u64, document: &str) -> ViewWrite {
        let (view, id, version) = (self.view.clone(), id.into(), Position(version));
        ViewWrite::Put {
            view,
            id,
            version,
            document: json(document),
        }
    }

    /// A delete of a row.
    pub(crate) fn delete(&self, id: &str, version: u64) -> ViewWrite {
        ViewWrite::Delete {
            view: self.view.clone(),
            id: id.into(),
            version: Position(version),
        }
    }

    /// Lets readers see a generation.
    pub(crate) fn activate(generation: u32) -> ViewWrite {
        ViewWrite::Activate {
            projection: ProjectionName::of("orders"),
            generation,
        }
    }

    /// Commits writes.
    pub(crate) async fn write(&self, views: Vec<ViewWrite>) {
        for commit in self.commits(views).await {
            self.world.apply(commit).await;
        }
    }

    /// Commits writes that must be refused.
    pub(crate) async fn refuse(&self, views: Vec<ViewWrite>) -> CommitError {
        let mut commits = self.commits(views).await;
        let commit = commits.pop().expect("a case writes something");
        assert!(commits.is_empty(), "a case is refused one commit");
        self.world.refuse(commit).await
    }

    /// The commits that write something. Views in the store take it in any; those outside take it from the owner of a
    /// projection, one for each generation.
    async fn commits(&self, views: Vec<ViewWrite>) -> Vec<Commit> {
        if self.views().capabilities().atomic {
            return vec![Commit {
                views,
                ..self.world.commit()
            }];
        }
        let mut groups: Vec<((ProjectionName, u32), Vec<ViewWrite>)> = Vec::new();
        for write in views {
            let owner = match &write {
                ViewWrite::Put { view, .. } | ViewWrite::Delete { view, .. } => {
                    (keeper(&view.view), view.generation)
                }
                ViewWrite::Activate {
                    projection,
                    generation,
                } => (projection.clone(), *generation),
                ViewWrite::Sql { .. } => panic!("no case writes own SQL"),
            };
            match groups.iter_mut().find(|(known, _)| *known == owner) {
                Some((_, writes)) => writes.push(write),
                None => groups.push((owner, vec![write])),
            }
        }
        let mut commits = Vec::new();
        for ((projection, generation), views) in groups {
            let input = self.claim(&projection, generation).await;
            commits.push(Commit {
                input: Input::Log(input),
                views,
                ..self.world.commit()
            });
        }
        commits
    }

    /// Becomes the owner of a generation, which has taken one more record of the log.
    pub(crate) async fn claim(&self, projection: &ProjectionName, generation: u32) -> LogInput {
        let store = &self.world.store;
        let claim = store.claim_projection(projection, generation, "shelf");
        let claim = claim.await.expect("a projection can be claimed");
        let to = At {
            epoch: store.identity().epoch,
            position: claim.checkpoint.position.next(),
        };
        LogInput {
            projection: projection.clone(),
            generation,
            fence: claim.fence,
            from: claim.checkpoint,
            to,
        }
    }

    /// Writes rows at version 1: an id and a document each.
    pub(crate) async fn fill<I: AsRef<str>, D: AsRef<str>>(
        &self,
        rows: impl IntoIterator<Item = (I, D)>,
    ) {
        let puts = rows
            .into_iter()
            .map(|(id, document)| self.put(id.as_ref(), 1, document.as_ref()));
        self.write(puts.collect()).await;
    }

    /// One row, as readers see it.
    pub(crate) async fn get(&self, id: &str) -> Option<Row> {
        self.views()
            .get(&self.view.view, None, id)
            .await
            .expect("a row can be read")
    }

    /// The version and document of one row, as readers see it.
    pub(crate) async fn text(&self, id: &str) -> Option<(u64, String)> {
        self.get(id)
            .await
            .map(|row| (row.version.0, row.document.to_string()))
    }

    /// A page of rows, as readers see them.
    pub(crate) async fn query(&self, query: &Query) -> Rows {
        let rows = self.views().query(&self.view.view, None, query).await;
        rows.unwrap_or_else(|error| panic!("{query:?} was refused: {error}"))
    }

    /// The ids of a page of rows.
    pub(crate) async fn ids(&self, query: &Query) -> Vec<String> {
        self.query(query)
            .await
            .rows
            .into_iter()
            .map(|row| row.id)
            .collect()
    }

    /// The ids of all rows of a query, page by page.
    pub(crate) async fn all(&self, query: &Query) -> Vec<String> {
        let (mut ids, mut query) = (Vec::new(), query.clone());
        loop {
            let page = self.query(&query).await;
            let full = page.rows.len() == query.limit as usize;
            ids.extend(page.rows.into_iter().map(|row| row.id));
            assert!(
                ids.len() <= 10_000,
                "the pages never end: no case has as many rows"
            );
            let Some(next) = page.next else { return ids };
            assert!(full, "only the last page has fewer rows than asked for");
            query = query.after(next);
        }
    }
}
