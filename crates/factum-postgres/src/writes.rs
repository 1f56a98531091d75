//! What a decided batch sends: its statements, in their order.
//!
//! ```text
//! own SQL                                     first, since it may wait for anybody's locks
//! rows of inboxes, projections, relay, …      each compares what was decided on, and takes its own row's lock
//! append                                      the section begins: head, records, the batch's own row
//! conditions on streams, answers, …           what needs the section, or names places in it
//! COMMIT                                      the section ends
//! ```
//!
//! All of it is sent at once, so that the section lasts as long as the server takes, however slow this process is. A batch
//! of records and nothing else is one statement.

use std::collections::BTreeMap;

use factum_core::{At, Error, Version};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    answers,
    call::Call,
    desk::Desk,
    error::{column, damaged},
    inbox, memo, message_ids,
    number::{micros, place, signed},
    own_sql, parking, projections, relay,
    schema::Schema,
    streams::Head,
    text::escape,
    timers, views,
};

/// The statements of a batch.
pub(crate) struct Writes {
    pub(crate) calls: Vec<Call>,
    /// How many of the first are a user's own.
    pub(crate) own: usize,
    /// Which one says where the log ended before the batch.
    pub(crate) head: usize,
    /// Whether they make a transaction of several statements.
    pub(crate) is_many: bool,
    /// What the streams of the batch will be.
    pub(crate) streams: BTreeMap<factum_core::StreamId, Head>,
}

/// Who writes which batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) writer: Uuid,
    pub(crate) number: i64,
}

impl Desk<'_> {
    /// What is to be sent so that the batch is written. What it appends is taken from the desk.
    pub(crate) fn writes_as(&mut self, schema: &Schema, name: Name) -> Result<Writes, Error> {
        let mut calls = self.own_calls(schema);
        let own = calls.len();
        if !self.compared_rows.is_empty() {
            // A row that is not there can't be locked: the section sees to it that it does not come meanwhile.
            calls.push(schema.call("SELECT factum.lock_section()"));
            for (view, rows) in &self.compared_rows {
                let table = self.image.catalog.table(&view.view, view.generation)?;
                calls.push(table.compare(schema, rows.iter()));
            }
        }
        self.role_calls(schema, &mut calls)?;
        self.view_calls(schema, &mut calls);
        if !self.audit.is_empty() {
            // Numbers are given in the order of commits, so that no page of the record ever changes.
            calls.push(schema.call("SELECT factum.lock_section()"));
        }
        for entry in &self.audit {
            calls.push(
                schema
                    .call("INSERT INTO factum.audit (at, actor, action, subject, reason) VALUES ($1, $2, $3, $4, $5)")
                    .with(micros(entry.at))
                    .with(escape(&entry.actor).into_owned())
                    .with(escape(&entry.action).into_owned())
                    .with(escape(&entry.subject).into_owned())
                    .with(escape(&entry.reason).into_owned()),
            );
        }
        let head = calls.len();
        let epoch = self.image.epoch;
        calls.push(if self.drafts.len() > 0 {
            std::mem::take(&mut self.drafts).append(schema, name.writer, name.number, epoch)
        } else {
            schema
                .call("SELECT head_epoch, head_position FROM factum.enter($1, $2, $3)")
                .with(name.writer)
                .with(name.number)
                .with(signed(epoch.0))
        });
        calls.extend(self.condition_call(schema));
        let (epoch, latest) = (signed(epoch.0), self.times);
        if !self.answers.is_empty() {
            let (earliest, latest) = latest.unwrap_or_default();
            let now = if self.loaded.fresh { latest } else { earliest };
            let answers = self.answers.iter().map(|(command, span)| (command, *span));
            calls.push(answers::put(
                schema,
                name.writer,
                name.number,
                epoch,
                now,
                answers,
            ));
        }
        for (id, span, versions) in &self.applied {
            calls.push(memo::put(
                schema,
                name.writer,
                name.number,
                epoch,
                (*id, *span, versions),
            ));
        }
        Ok(Writes {
            own,
            head,
            is_many: calls.len() > 1,
            calls,
            streams: std::mem::take(&mut self.streams),
        })
    }

    /// What verifies a batch that writes nothing, and says where the log ends.
    pub(crate) fn confirms_as(&self, schema: &Schema) -> Vec<Call> {
        let head = schema.call(
            "SELECT coalesce(max(epoch), 0), coalesce(max(position), 0) FROM \
             (SELECT epoch, position FROM factum.records ORDER BY position DESC LIMIT 1) head",
        );
        let mut calls = vec![head];
        calls.extend(self.condition_call(schema));
        for (view, rows) in &self.compared_rows {
            if let Ok(table) = self.image.catalog.table(&view.view, view.generation) {
                calls.push(table.compare(schema, rows.iter()));
            }
        }
        calls
    }

    fn own_calls(&self, schema: &Schema) -> Vec<Call> {
        if self.own_sql.is_empty() {
            return Vec::new();
        }
        let mut calls = vec![own_sql::confine(schema)];
        for (statement, parameters) in &self.own_sql {
            calls.push(own_sql::call(statement, parameters));
        }
        calls
    }

    fn role_calls(&self, schema: &Schema, calls: &mut Vec<Call>) -> Result<(), Error> {
        if !self.fired.is_empty() {
            calls.push(timers::compare_owner(schema, self.image.timers));
        }
        if !self.inboxes.is_empty() {
            calls.push(inbox::update(schema, self.inboxes.values())?);
        }
        for (id, to) in &self.projections {
            let before = self.image.projection(id);
            let before = before
                .ok_or_else(|| Error::poison(format!("projection `{}` was never claimed", id.0)))?;
            calls.push(projections::advance(schema, id, before, *to));
        }
        if let Some(checkpoint) = self.relay {
            calls.push(relay::advance(schema, self.image.relay.fence, checkpoint));
        }
        if !self.relay_lasts.is_empty() {
            let lasts = self.relay_lasts.iter();
            let lasts = lasts.map(|((topic, partition), at)| (topic, *partition, *at));
            calls.push(relay::put_lasts(schema, lasts));
        }
        if !self.ids.is_empty() {
            let (earliest, latest) = self.times.unwrap_or_default();
            let now = if self.loaded.fresh { latest } else { earliest };
            calls.push(message_ids::take(schema, self.ids.iter(), now));
        }
        for (id, left) in &self.parked {
            let number = self.inbox(&id.inbox).map(|inbox| inbox.number);
            let number = number
                .ok_or_else(|| Error::poison(format!("inbox {} was never claimed", id.inbox)))?;
            match left {
                None if self.newly_parked.contains(id) => {}
                None => calls.push(parking::remove(schema, number, id.offset)),
                Some(parked) if self.newly_parked.contains(id) => {
                    calls.push(parking::insert(schema, number, parked));
                }
                Some(parked) => calls.push(parking::update(schema, number, parked)),
            }
        }
        if !self.fired.is_empty() {
            calls.push(timers::fire(schema, &self.fired));
        }
        calls.extend(
            timers::write(schema, self.timers.iter())
                .into_iter()
                .flatten(),
        );
        Ok(())
    }

    fn view_calls(&mut self, schema: &Schema, calls: &mut Vec<Call>) {
        for (_, (table, rows)) in std::mem::take(&mut self.rows) {
            calls.push(table.write(rows));
        }
        for (projection, generation) in &self.active {
            calls.push(views::activate(schema, projection, *generation));
        }
    }

    /// Compares streams that the batch does not append to: the unique index does that for the others.
    fn condition_call(&self, schema: &Schema) -> Option<Call> {
        let (mut categories, mut streams, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for (stream, Version(version)) in &self.compared_streams {
            if self.streams.contains_key(stream) {
                continue;
            }
            categories.push(stream.category().as_str().to_string());
            streams.push(stream.id().to_string());
            next.push(signed(version + 1));
        }
        (!streams.is_empty()).then(|| {
            schema
                .call(
                    "SELECT factum.must(NOT EXISTS (SELECT 1 FROM unnest($1, $2, $3) AS given (category, stream, version) \
                     JOIN factum.records r ON r.category = given.category AND r.stream = given.stream \
                     AND r.version = given.version), 'stream')",
                )
                .with(categories)
                .with(streams)
                .with(next)
        })
    }
}

/// Where the log ended before a batch, as the statement for it says.
pub(crate) fn head_of(rows: &[Row]) -> Result<At, Error> {
    let row = rows.first().ok_or_else(|| damaged("the head of the log"))?;
    Ok(place(column(row, 0)?, column(row, 1)?))
}
