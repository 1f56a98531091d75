//! How far the rows of a generation have come, who keeps them up, and what they were about to write.
//!
//! A request writes rows one by one, and may end in the middle. So what is to be written stands here first, on condition
//! of owner and checkpoint, and the checkpoint moves when it is done. Whoever claims the generation finishes what stands
//! here before it reads a row: so rows and checkpoint fit together for it, as if both were one step.

use std::collections::BTreeMap;

use factum_core::{
    At, Epoch, Error, Fence, Json, OwnerEpoch, Position, ProjectionName, ViewDefinition, ViewName,
};
use serde::{Deserialize, Serialize};

use crate::{
    bulk::Written,
    document::{Found, check_id, key, source},
    parts::Parts,
};

/// The state of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) projection: ProjectionName,
    pub(crate) owner: u64,
    pub(crate) fingerprint: String,
    /// All up to here is in the rows.
    pub(crate) checkpoint: At,
    /// What is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
    /// Whether nobody knows the generation any more. The number of its owner is kept.
    #[serde(default)]
    pub(crate) forgotten: bool,
}

/// What is being written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The checkpoint when it is written.
    pub(crate) to: At,
    /// Whether readers see the generation from then on.
    pub(crate) activate: bool,
    /// The rows; in the cluster none where they are put aside.
    pub(crate) rows: Vec<Written>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<Parts>,
}

/// A state as it is stored, with what its next change is on condition of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) state: State,
    pub(crate) sequence: u64,
    pub(crate) term: u64,
}

impl State {
    /// The state of a generation that nobody had before. Its first owner has a number greater than that of any owner of an
    /// index that was lost before this one was made: that of the millisecond of its making, and nobody claims more than
    /// once a millisecond.
    pub(crate) fn new(projection: &ProjectionName, fingerprint: &str, made_millis: u64) -> Self {
        Self {
            projection: projection.clone(),
            owner: made_millis + 1,
            fingerprint: fingerprint.into(),
            checkpoint: At::ZERO,
            plan: None,
            forgotten: false,
        }
    }

    /// The same with a new owner. What was being written is still to be finished, unless it starts over.
    pub(crate) fn claimed(&self, fingerprint: &str) -> Self {
        let owner = self.owner + 1;
        if self.fingerprint == fingerprint && !self.forgotten {
            return Self {
                owner,
                ..self.clone()
            };
        }
        Self {
            owner,
            ..Self::new(&self.projection, fingerprint, 0)
        }
    }

    /// The owner's fence.
    pub(crate) fn fence(&self, store: Epoch) -> Fence {
        Fence {
            store,
            owner: OwnerEpoch(self.owner),
        }
    }

    /// The same when what was being written is there.
    pub(crate) fn done(mut self) -> Self {
        if let Some(plan) = self.plan.take() {
            self.checkpoint = plan.to;
        }
        self
    }
}

/// A row that is to be written: its version, and its document, or none where it is deleted.
type Content = (Position, Option<Json>);

/// Rows that are to be written together, each once.
#[derive(Debug, Default)]
pub(crate) struct Rows(BTreeMap<(ViewName, String), Content>);

impl Rows {
    /// Adds a row, or a tombstone. Of writes to one row the newest counts, and of those at one version the last.
    pub(crate) fn put(
        &mut self,
        view: ViewName,
        id: String,
        version: Position,
        document: Option<Json>,
    ) -> Result<(), Error> {
        check_id(&id)?;
        if i64::try_from(version.0).is_err() {
            return Err(Error::poison(format!(
                "row `{id}`: a search cluster counts versions up to {}",
                i64::MAX
            )));
        }
        let known = self.0.entry((view, id)).or_insert((version, None));
        if known.0 <= version {
            *known = (version, document);
        }
        Ok(())
    }

    /// The views of the rows.
    pub(crate) fn views(&self) -> impl Iterator<Item = &ViewName> {
        self.0.keys().map(|(view, _)| view)
    }

    /// The rows as they are written, with the definitions of their views.
    pub(crate) fn written(
        self,
        definitions: &BTreeMap<ViewName, std::sync::Arc<ViewDefinition>>,
    ) -> Result<Vec<Written>, Error> {
        let row = |((view, id), (version, document)): ((ViewName, String), Content)| {
            let definition = definitions
                .get(&view)
                .ok_or_else(|| missing(view.as_str()))?;
            let found = document
                .as_ref()
                .map(|document| Found::of(definition, document))
                .transpose()?;
            let content = document.as_ref().zip(found.as_ref());
            Ok(Written {
                key: key(&view, &id),
                version: version.0,
                source: source(&id, definition, content),
            })
        };
        self.0.into_iter().map(row).collect()
    }
}

/// There is no such view.
pub(crate) fn missing(view: &str) -> Error {
    Error::poison(format!(
        "view `{view}` does not exist: prepare it with `ensure`"
    ))
}

#[cfg(test)]
mod tests {
    use factum_core::FieldKind;

    use super::*;

    fn state() -> State {
        State::new(&ProjectionName::of("orders"), "f", 1_000)
    }

    #[test]
    fn whoever_claims_for_the_same_rows_goes_on_and_others_start_over() {
        let plan = Plan {
            to: At::new(1, 9),
            activate: true,
            rows: Vec::new(),
            parts: None,
        };
        let old = State {
            checkpoint: At::new(1, 7),
            plan: Some(plan),
            ..state()
        };
        let same = old.claimed("f");
        assert_eq!(
            (same.owner, same.checkpoint, same.plan.is_some()),
            (1_002, At::new(1, 7), true)
        );
        assert_eq!(same.done().checkpoint, At::new(1, 9));
        let other = old.claimed("g");
        assert_eq!(
            (other.owner, other.checkpoint, other.plan),
            (1_002, At::ZERO, None)
        );
        let forgotten = State {
            forgotten: true,
            ..old
        };
        let again = forgotten.claimed("f");
        assert_eq!(
            (again.owner, again.checkpoint, again.forgotten),
            (1_002, At::ZERO, false)
        );
    }

    #[test]
    fn of_writes_to_one_row_the_newest_counts_and_at_one_version_the_last() {
        let view = ViewName::of("orders");
        let definition = ViewDefinition::new(view.clone(), ProjectionName::of("orders"))
            .field("n", FieldKind::Integer);
        let definitions = BTreeMap::from([(view.clone(), definition.into())]);
        let mut rows = Rows::default();
        for (version, number) in [(5, Some(1)), (5, Some(2)), (4, Some(3)), (3, None)] {
            let document = number.map(|n| Json::parse(&format!("{{\"n\":{n}}}")).unwrap());
            rows.put(view.clone(), "1".into(), Position(version), document)
                .unwrap();
        }
        rows.put(view.clone(), "2".into(), Position(9), None)
            .unwrap();
        let written = rows.written(&definitions).unwrap();
        let shown: Vec<_> = written
            .iter()
            .map(|row| (row.version, row.source.get("document").cloned()))
            .collect();
        assert_eq!(shown, [(5, Some("{\"n\":2}".into())), (9, None)]);
    }

    #[test]
    fn versions_that_the_cluster_does_not_count_are_refused() {
        let put =
            |version| Rows::default().put(ViewName::of("v"), "1".into(), Position(version), None);
        assert!(put(u64::MAX / 2).is_ok());
        assert!(put(u64::MAX / 2 + 1).unwrap_err().is_poison());
    }
}
