//! What a batch is decided on besides the image: looked up before, all of it in one way there and back.
//!
//! At first most is taken for granted: that streams are where they were seen last, that keys and ids are free, that timers
//! are set as they were. What was not so is found out when the batch is written; then it is looked up here, too, and the
//! batch is decided anew.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{
    Commit, CommitId, Committed, Condition, Disposition, ExpectedVersion, Group, InboxId, Input,
    Lane, MessageId, Parked, ParkedId, Retried, StreamId, Version, ViewRef,
};
use tokio_postgres::Row;

use crate::{
    answers::{self, Remembered},
    call::Call,
    connection::Connection,
    error::{column, damaged},
    image::{Image, LoadError},
    memo,
    message_ids::{self, Taken},
    parked_read, parking,
    queue::Order,
    shared::Shared,
    streams::{self, Head},
    text::unescape,
    timers,
    view_table::RowVersion,
};

/// What was looked up for a batch.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Whether all of it was looked up, and nothing taken for granted.
    pub(crate) fresh: bool,
    pub(crate) heads: BTreeMap<StreamId, Head>,
    pub(crate) lanes: BTreeMap<(InboxId, Lane), u64>,
    pub(crate) parked: BTreeMap<ParkedId, Parked>,
    /// The message that waits behind a parked one in its lane, by the one before it.
    pub(crate) waiting: BTreeMap<ParkedId, Parked>,
    pub(crate) ids: BTreeMap<(Group, MessageId), Taken>,
    pub(crate) answers: BTreeMap<(String, String), Remembered>,
    pub(crate) timers: BTreeMap<String, u64>,
    pub(crate) applied: BTreeMap<CommitId, Committed>,
    pub(crate) rows: BTreeMap<(ViewRef, String), RowVersion>,
}

/// What is to be looked up.
#[derive(Default)]
struct Wanted {
    streams: BTreeSet<StreamId>,
    lanes: BTreeSet<(InboxId, Lane)>,
    parked: BTreeSet<ParkedId>,
    /// Those of them whose lane goes on.
    leaving: BTreeSet<ParkedId>,
    ids: BTreeSet<(Group, MessageId)>,
    answers: BTreeSet<(String, String)>,
    timers: BTreeSet<String>,
    applied: BTreeSet<CommitId>,
    rows: BTreeMap<ViewRef, BTreeSet<String>>,
}

impl Loaded {
    /// Looks up what `orders` are decided on: all of it when it has to be `fresh`.
    pub(crate) async fn load(
        connection: &Connection,
        shared: &Shared,
        image: &Image,
        orders: &[Order],
        fresh: bool,
    ) -> Result<Self, LoadError> {
        let mut loaded = Self {
            fresh,
            ..Self::default()
        };
        let wanted = loaded.want(shared, image, orders);
        loaded.look_up(connection, shared, image, wanted).await?;
        Ok(loaded)
    }

    fn want(&mut self, shared: &Shared, image: &Image, orders: &[Order]) -> Wanted {
        let mut wanted = Wanted::default();
        // How far the batch itself brings each stream, going by what was seen last.
        let mut reached: BTreeMap<&StreamId, Version> = BTreeMap::new();
        let mut known = shared.heads();
        for Order { commit, .. } in orders {
            let conditions = commit
                .conditions
                .iter()
                .filter_map(|condition| match condition {
                    Condition::Stream { stream, expected } => Some((stream, *expected, 0)),
                    Condition::Row { .. } => None,
                });
            let appends = commit
                .appends
                .iter()
                .map(|append| (&append.stream, append.expected, append.drafts.len() as u64));
            for (stream, expected, count) in conditions.chain(appends) {
                if self.fresh {
                    wanted.streams.insert(stream.clone());
                    continue;
                }
                if !self.heads.contains_key(stream) {
                    match known.get(stream) {
                        Some(head) => {
                            self.heads.insert(stream.clone(), head.clone());
                        }
                        // A stream that is said to be new is taken for new.
                        None if matches!(
                            expected,
                            ExpectedVersion::NoStream | ExpectedVersion::Exact(Version::ZERO)
                        ) =>
                        {
                            self.heads.insert(stream.clone(), Head::default());
                        }
                        None => {
                            wanted.streams.insert(stream.clone());
                        }
                    }
                }
                let seen = self
                    .heads
                    .get(stream)
                    .map_or(Version::ZERO, |head| head.version);
                let version = reached.entry(stream).or_insert(seen);
                // Behind what the writer of this commit has seen: somebody else was here.
                let behind = match expected {
                    ExpectedVersion::Exact(expected) => expected > *version,
                    ExpectedVersion::Exists => *version == Version::ZERO,
                    ExpectedVersion::Any | ExpectedVersion::NoStream => false,
                };
                if behind {
                    wanted.streams.insert(stream.clone());
                }
                version.0 += count;
            }
            want_rows(&mut wanted, commit);
            self.want_input(&mut wanted, image, commit);
            if self.fresh && !commit.is_guarded() {
                wanted.applied.insert(commit.id);
            }
        }
        wanted
    }

    fn want_input(&self, wanted: &mut Wanted, image: &Image, commit: &Commit) {
        match &commit.input {
            Input::None | Input::Void(_) | Input::Log(_) | Input::Relay(_) => {}
            Input::Command(command) => {
                if self.fresh {
                    wanted
                        .answers
                        .insert((command.scope.clone(), command.key.clone()));
                }
            }
            Input::Message(message) => {
                if image
                    .inboxes
                    .get(&message.inbox)
                    .is_some_and(|inbox| inbox.parked > 0)
                {
                    wanted
                        .lanes
                        .insert((message.inbox.clone(), message.lane.clone()));
                }
                let is_told = matches!(message.disposition, Disposition::Duplicate);
                if let Some((id, _)) = &message.event_id
                    && (self.fresh || is_told)
                {
                    wanted.ids.insert((message.inbox.group.clone(), id.clone()));
                }
            }
            Input::Parked(parked) => {
                wanted.parked.insert(parked.id.clone());
                if matches!(parked.outcome, Retried::Settled) {
                    wanted.leaving.insert(parked.id.clone());
                }
            }
            Input::Operator(operator) => {
                wanted.parked.insert(operator.id.clone());
                if matches!(operator.action, factum_core::OperatorAction::Discard) {
                    wanted.leaving.insert(operator.id.clone());
                }
            }
            Input::Timer(timer) => {
                if self.fresh {
                    wanted.timers.insert(timer.id.clone());
                }
            }
        }
    }

    async fn look_up(
        &mut self,
        connection: &Connection,
        shared: &Shared,
        image: &Image,
        wanted: Wanted,
    ) -> Result<(), LoadError> {
        type Take = fn(&mut Loaded, &[Row], &Wanted) -> Result<(), factum_core::Error>;
        let schema = &shared.schema;
        let mut calls: Vec<Call> = Vec::new();
        let mut takes: Vec<Take> = Vec::new();
        let mut ask = |asked: bool, call: &dyn Fn() -> Call, take: Take| {
            if asked {
                calls.push(call());
                takes.push(take);
            }
        };
        ask(
            !wanted.streams.is_empty(),
            &|| streams::heads(schema, wanted.streams.iter()),
            |loaded, rows, wanted| {
                let found = streams::heads_of(rows)?;
                for (number, stream) in wanted.streams.iter().enumerate() {
                    let head = found.get(&number).cloned().unwrap_or_default();
                    loaded.heads.insert(stream.clone(), head);
                }
                Ok(())
            },
        );
        ask(
            !wanted.lanes.is_empty(),
            &|| parking::counts(schema, wanted.lanes.iter()),
            |loaded, rows, wanted| {
                let lanes: Vec<_> = wanted.lanes.iter().collect();
                for row in rows {
                    let number = usize::try_from(column::<i64>(row, 0)?).unwrap_or(usize::MAX);
                    let lane = *lanes.get(number).ok_or_else(|| damaged("a parked lane"))?;
                    loaded
                        .lanes
                        .insert(lane.clone(), column::<i64>(row, 1)?.cast_unsigned());
                }
                Ok(())
            },
        );
        ask(
            !wanted.parked.is_empty(),
            &|| parked_read::some(schema, wanted.parked.iter()),
            |loaded, rows, _| {
                for row in rows {
                    let parked = parked_read::decode(row)?;
                    loaded.parked.insert(parked.id.clone(), parked);
                }
                Ok(())
            },
        );
        ask(
            !wanted.ids.is_empty(),
            &|| message_ids::known(schema, wanted.ids.iter()),
            |loaded, rows, _| {
                loaded.ids = rows
                    .iter()
                    .map(message_ids::decode)
                    .collect::<Result<_, _>>()?;
                Ok(())
            },
        );
        ask(
            !wanted.answers.is_empty(),
            &|| {
                answers::known(
                    schema,
                    wanted.answers.iter().map(|(scope, key)| (&**scope, &**key)),
                )
            },
            |loaded, rows, _| {
                loaded.answers = rows.iter().map(answers::decode).collect::<Result<_, _>>()?;
                Ok(())
            },
        );
        ask(
            !wanted.timers.is_empty(),
            &|| timers::generations(schema, wanted.timers.iter()),
            |loaded, rows, _| {
                loaded.timers = rows
                    .iter()
                    .map(timers::generation_of)
                    .collect::<Result<_, _>>()?;
                Ok(())
            },
        );
        ask(
            !wanted.applied.is_empty(),
            &|| memo::known(schema, wanted.applied.iter().map(|id| id.0).collect()),
            |loaded, rows, _| {
                loaded.applied = rows.iter().map(memo::decode).collect::<Result<_, _>>()?;
                Ok(())
            },
        );
        let mut views = Vec::new();
        for (view, ids) in &wanted.rows {
            // Of a view that nobody knows there is nothing to look up: the check says so.
            if let Ok(table) = image.catalog.table(&view.view, view.generation) {
                calls.push(table.versions(ids.iter()));
                views.push(view);
            }
        }
        if calls.is_empty() {
            return Ok(());
        }
        let mut answers = connection.rows_of_all(&calls).await?.into_iter();
        for take in takes {
            let rows = answers.next().unwrap_or_else(|| Ok(Vec::new()))?;
            take(self, &rows, &wanted)?;
        }
        for (view, rows) in views.into_iter().zip(answers) {
            for row in rows? {
                let version = factum_core::Position(column::<i64>(&row, 1)?.cast_unsigned());
                let id = unescape(column(&row, 0)?);
                self.rows
                    .insert((view.clone(), id), (version, column(&row, 2)?));
            }
        }
        self.look_up_waiting(connection, shared, &wanted).await
    }

    /// Who comes next in the lanes of those that may leave: their lanes are known only now.
    async fn look_up_waiting(
        &mut self,
        connection: &Connection,
        shared: &Shared,
        wanted: &Wanted,
    ) -> Result<(), LoadError> {
        let leaving = wanted.leaving.iter().filter_map(|id| self.parked.get(id));
        let (ids, calls): (Vec<_>, Vec<_>) = leaving
            .filter_map(|parked| {
                Some((parked.id.clone(), parking::waiting(&shared.schema, parked)?))
            })
            .unzip();
        if calls.is_empty() {
            return Ok(());
        }
        let answers = connection.rows_of_all(&calls).await?;
        for (id, rows) in ids.into_iter().zip(answers) {
            if let Some(row) = rows?.first() {
                self.waiting.insert(id, parked_read::decode(row)?);
            }
        }
        Ok(())
    }
}

fn want_rows(wanted: &mut Wanted, commit: &Commit) {
    for condition in &commit.conditions {
        if let Condition::Row { view, id, .. } = condition {
            let rows = wanted.rows.entry(view.clone()).or_default();
            rows.insert(id.clone());
        }
    }
}
