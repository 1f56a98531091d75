//! Queries: a walk along an index where one has the wanted order, and otherwise the least of all rows that meet the
//! filter, found in bounded memory.
//!
//! The server looks at so many entries at a time and then lets others have their turn, so a long walk is not one moment:
//! when rows were written meanwhile it is begun anew, a few times. After that, which is only where rows are written all
//! the time and no index serves, a row that moved while it was looked for may be missing or old, as in a walk by cursor.

use std::{cmp::Ordering, collections::BTreeSet};

use factum_core::{Cursor, Error, Operator, Page, Query, Row, Rows};
use redis::{Value as Told, pipe};

use crate::{
    error::Doing,
    link::{Connected, Link},
    plan::{Plan, Stretch},
    scripts,
    table::Table,
    value::{Found, NULL, decode, digits_of, encode, read},
};

/// How many entries the server looks at before it lets others have their turn: some milliseconds.
const ENTRIES_MAX: usize = 2_000;

/// How many bytes of rows it gives at a time, but for the last row.
const BYTES_MAX: usize = 4 << 20;

/// How many rows are kept in memory to find those that come first where no index has the order: their ids and the values
/// that they are sorted by. For pages further behind, all are looked through again.
const SORTED_MAX: usize = 10_000;

/// How often a long walk is begun anew because rows were written meanwhile.
const ANEW_MAX: u32 = 3;

/// How many rows are fetched by their ids at a time.
const FETCHED_MAX: usize = 100;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The table is not there, or not whole.
    Gone,
    Failed(Error),
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is asked of a view.
#[derive(Clone, Copy)]
pub(crate) enum Question<'a> {
    /// The row with this id.
    Row(&'a str),
    /// A page of rows.
    Rows(&'a Query),
    /// How many rows, up to so many.
    Count(&'a Query, u64),
}

/// The answer to a [`Question`].
pub(crate) enum Answer {
    Row(Option<Row>),
    Rows(Rows),
    Count(u64),
}

/// Asks one table.
pub(crate) struct Asker<'a> {
    pub(crate) link: &'a Link,
    pub(crate) connected: &'a Connected,
    pub(crate) table: &'a Table,
}

/// What a walk gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Rows,
    Count,
    /// The value of a field, and the id.
    Keys(usize),
}

/// A walk under way.
struct Walk<'a> {
    plan: &'a Plan,
    wanted: Wanted,
    skip: u64,
    take: u64,
    stretches: Vec<Stretch>,
    /// The checkpoint at which it began.
    began: Option<String>,
    /// Whether rows were written since.
    torn: bool,
    given: Vec<(Vec<u8>, Vec<u8>)>,
    taken: u64,
}

const WHAT: &str = "query a view";

impl Asker<'_> {
    /// Answers a question.
    pub(crate) async fn answer(&self, question: Question<'_>) -> Result<Answer, NoAnswer> {
        match question {
            Question::Row(id) => self.row(id).await.map(Answer::Row),
            Question::Rows(query) => {
                query.validate(&self.table.definition)?;
                self.rows(query).await.map(Answer::Rows)
            }
            Question::Count(query, cap) => {
                query.validate(&self.table.definition)?;
                self.count(query, cap).await.map(Answer::Count)
            }
        }
    }

    async fn row(&self, id: &str) -> Result<Option<Row>, NoAnswer> {
        let table = self.table;
        let mut get = pipe();
        get.cmd("HMGET").arg(table.rows()).arg("m");
        get.arg(field_of(id.as_bytes()));
        let ((marker, kept),): ((Option<String>, Option<Vec<u8>>),) = self
            .link
            .commands(self.connected, Doing::Reading("read a row"), &get)
            .await?;
        if marker.is_none() {
            return Err(NoAnswer::Gone);
        }
        let Some(kept) = kept else { return Ok(None) };
        let row = read(id.as_bytes(), &kept, table.definition.fields.len())?;
        Ok(row.map(|(_, row)| row))
    }

    /// How many rows meet the query's filter, up to `cap`.
    async fn count(&self, query: &Query, cap: u64) -> Result<u64, NoAnswer> {
        if cap == 0 {
            return Ok(0);
        }
        let plan = Plan::any(self.table, query);
        let walk = self.walk(&plan, Wanted::Count, 0, cap).await?;
        Ok(walk.taken)
    }

    /// A page of rows.
    async fn rows(&self, query: &Query) -> Result<Rows, NoAnswer> {
        let limit = u64::from(query.limit);
        let (skip, after) = match &query.page {
            Page::Number(number) => (u64::from(*number - 1) * limit, None),
            Page::After(cursor) => (0, Some((cursor.value.as_ref(), cursor.id.as_str()))),
        };
        let plan = Plan::rows(self.table, query, after);
        // One more than wanted, to know whether there is more.
        let mut found = if plan.sorted {
            let walk = self.walk(&plan, Wanted::Rows, skip, limit + 1).await?;
            let fields = self.table.definition.fields.len();
            let read = |(id, kept): &(Vec<u8>, Vec<u8>)| {
                read(id, kept, fields)?.ok_or_else(|| self.table.home.strange())
            };
            walk.given.iter().map(read).collect::<Result<_, Error>>()?
        } else {
            self.sorted(query, &plan, skip, limit + 1).await?
        };
        let more = found.len() as u64 > limit;
        found.truncate(query.limit as usize);
        let next = found.last().filter(|_| more);
        let next = next.map(|row| self.cursor(query, row)).transpose()?;
        let rows = found.into_iter().map(|(_, row)| row).collect();
        Ok(Rows { rows, next })
    }

    fn cursor(&self, query: &Query, (values, row): &Found) -> Result<Cursor, Error> {
        let value = query.sort.as_ref().map(|(field, _)| {
            let column = self.table.column(field);
            decode(&values[column], self.table.kind(column))
                .ok_or_else(|| self.table.home.strange())
        });
        Ok(Cursor {
            value: value.transpose()?,
            id: row.id.clone(),
        })
    }

    /// Walks along the stretches of a plan.
    async fn walk<'p>(
        &self,
        plan: &'p Plan,
        wanted: Wanted,
        skip: u64,
        take: u64,
    ) -> Result<Walk<'p>, NoAnswer> {
        for _ in 0..ANEW_MAX {
            let mut walk = Walk::new(plan, wanted, skip, take);
            while !walk.torn && self.step(&mut walk).await? {}
            if !walk.torn {
                return Ok(walk);
            }
        }
        let mut walk = Walk::new(plan, wanted, skip, take);
        while self.step(&mut walk).await? {}
        Ok(walk)
    }

    /// Goes as far as the server lets it. `false`: it has come to the end.
    async fn step(&self, walk: &mut Walk<'_>) -> Result<bool, NoAnswer> {
        if walk.stretches.is_empty() || walk.taken >= walk.take {
            return Ok(false);
        }
        let (table, plan) = (self.table, walk.plan);
        let mut script = scripts::WALK.prepare_invoke();
        script.key(table.home.state()).key(table.rows());
        script.key(table.index(plan.index));
        script.arg(table.generation).arg(&table.stamp);
        match walk.wanted {
            Wanted::Rows => script.arg("rows").arg(0),
            Wanted::Count => script.arg("count").arg(0),
            Wanted::Keys(column) => script.arg("keys").arg(column + 1),
        };
        script.arg(u8::from(plan.backwards));
        script.arg(walk.skip).arg(digits_of(walk.take - walk.taken));
        script.arg(ENTRIES_MAX).arg(BYTES_MAX);
        script.arg(table.definition.fields.len());
        script.arg(table.kinds(plan.index));
        script.arg(plan.filter.len());
        for (column, operator, value) in &plan.filter {
            let operator = match operator {
                Operator::Equal => "=",
                Operator::Less => "<",
                Operator::AtMost => "<=",
                Operator::Greater => ">",
                Operator::AtLeast => ">=",
            };
            script.arg(column + 1).arg(operator).arg(value.as_slice());
        }
        for stretch in &walk.stretches {
            script.arg(stretch.low.as_slice());
            script.arg(stretch.high.as_slice());
        }
        let answer: Vec<Told> = self
            .link
            .script(self.connected, Doing::Reading(WHAT), &script)
            .await?;
        walk.go_on(answer)
            .ok_or_else(|| NoAnswer::from(table.home.strange()))?
    }

    /// The rows of a query in its order, where no index has it.
    async fn sorted(
        &self,
        query: &Query,
        plan: &Plan,
        skip: u64,
        take: u64,
    ) -> Result<Vec<Found>, NoAnswer> {
        let (field, backwards) = query.sort.as_ref().map_or_else(
            || Err(self.table.home.strange()),
            |(field, backwards)| Ok((field, *backwards)),
        )?;
        let column = self.table.column(field);
        let mut after = match &query.page {
            Page::After(Cursor {
                value: Some(value),
                id,
            }) => Some(Key::new(encode(value), id.clone().into_bytes(), backwards)),
            _ => None,
        };
        let mut skip = skip;
        while skip + take > SORTED_MAX as u64 {
            let step = skip.min(SORTED_MAX as u64);
            let most = usize::try_from(step).unwrap_or(SORTED_MAX);
            let keys = self.least(plan, column, backwards, after.as_ref(), most);
            let keys = keys.await?;
            if keys.len() < most {
                return Ok(Vec::new());
            }
            skip -= step;
            after = keys.into_iter().next_back();
        }
        let most = usize::try_from(skip + take).unwrap_or(SORTED_MAX);
        let keys = self.least(plan, column, backwards, after.as_ref(), most);
        let skipped = usize::try_from(skip).unwrap_or(SORTED_MAX);
        let wanted: Vec<_> = keys.await?.into_iter().skip(skipped).collect();
        self.fetch(plan, column, &wanted).await
    }

    /// The first rows behind `after` among those of a plan, in the order of a field.
    async fn least(
        &self,
        plan: &Plan,
        column: usize,
        backwards: bool,
        after: Option<&Key>,
        most: usize,
    ) -> Result<BTreeSet<Key>, NoAnswer> {
        let mut least = BTreeSet::new();
        for attempt in 0..=ANEW_MAX {
            least = BTreeSet::new();
            let mut walk = Walk::new(plan, Wanted::Keys(column), 0, u64::MAX);
            loop {
                let more = self.step(&mut walk).await?;
                for (value, id) in walk.given.drain(..) {
                    let key = Key::new(value, id, backwards);
                    if after.is_none_or(|after| key > *after) {
                        least.insert(key);
                    }
                    if least.len() > most {
                        least.pop_last();
                    }
                }
                if !more || (walk.torn && attempt < ANEW_MAX) {
                    break;
                }
            }
            if !walk.torn {
                break;
            }
        }
        Ok(least)
    }

    /// The rows with these ids that are still where they were found.
    async fn fetch(
        &self,
        plan: &Plan,
        column: usize,
        keys: &[Key],
    ) -> Result<Vec<Found>, NoAnswer> {
        let fields = self.table.definition.fields.len();
        let mut found = Vec::with_capacity(keys.len());
        for slice in keys.chunks(FETCHED_MAX) {
            let mut get = pipe();
            get.cmd("HMGET").arg(self.table.rows()).arg("m");
            for key in slice {
                get.arg(field_of(&key.id));
            }
            let (kept,): (Vec<Option<Vec<u8>>>,) = self
                .link
                .commands(self.connected, Doing::Reading(WHAT), &get)
                .await?;
            let mut kept = kept.into_iter();
            if kept.next().flatten().is_none() {
                return Err(NoAnswer::Gone);
            }
            for (key, kept) in slice.iter().zip(kept) {
                let Some(kept) = kept else { continue };
                let row = read(&key.id, &kept, fields)?;
                let still = |(values, _): &Found| {
                    values[column] == key.value
                        && plan.filter.iter().all(|held| holds(held, values))
                };
                found.extend(row.filter(still));
            }
        }
        Ok(found)
    }
}

/// Whether a row's values meet a comparison, as the server finds out too.
fn holds((column, operator, value): &(usize, Operator, Vec<u8>), values: &[Vec<u8>]) -> bool {
    let actual = &values[*column];
    if *operator == Operator::Equal {
        return actual == value;
    }
    if *actual == [NULL] || *value == [NULL] {
        return false;
    }
    match operator {
        Operator::Equal => true,
        Operator::Less => actual < value,
        Operator::AtMost => actual <= value,
        Operator::Greater => actual > value,
        Operator::AtLeast => actual >= value,
    }
}

/// The field of the rows' hash that a row is kept in: none is that of the marker.
fn field_of(id: &[u8]) -> Vec<u8> {
    [b"r", id].concat()
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan, wanted: Wanted, skip: u64, take: u64) -> Self {
        Self {
            plan,
            wanted,
            skip,
            take,
            stretches: plan.stretches.clone(),
            began: None,
            torn: false,
            given: Vec::new(),
            taken: 0,
        }
    }

    /// Takes the server's answer. `None`: it is none.
    fn go_on(&mut self, answer: Vec<Told>) -> Option<Result<bool, NoAnswer>> {
        let mut answer = answer.into_iter();
        let kind = bytes(answer.next()?)?;
        if kind == b"gone" {
            return Some(Err(NoAnswer::Gone));
        }
        let at = String::from_utf8(bytes(answer.next()?)?).ok()?;
        self.torn |= *self.began.get_or_insert_with(|| at.clone()) != at;
        self.taken += number(&answer.next()?)?;
        let Told::Array(given) = answer.next()? else {
            return None;
        };
        let mut given = given.into_iter();
        while let (Some(first), Some(second)) = (given.next(), given.next()) {
            self.given.push((bytes(first)?, bytes(second)?));
        }
        if kind == b"done" {
            return Some(Ok(false));
        }
        self.skip = number(&answer.next()?)?;
        let stretch = usize::try_from(number(&answer.next()?)?)
            .ok()?
            .checked_sub(1)?;
        self.stretches.drain(..stretch);
        let first = self.stretches.first_mut()?;
        first.low = bytes(answer.next()?)?;
        first.high = bytes(answer.next()?)?;
        Some(Ok(true))
    }
}

fn bytes(answer: Told) -> Option<Vec<u8>> {
    match answer {
        Told::BulkString(bytes) => Some(bytes),
        Told::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn number(answer: &Told) -> Option<u64> {
    match answer {
        Told::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Where a row stands in a query's order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    value: Vec<u8>,
    id: Vec<u8>,
    backwards: bool,
}

impl Key {
    fn new(value: Vec<u8>, id: Vec<u8>, backwards: bool) -> Self {
        Self {
            value,
            id,
            backwards,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let nulls = (self.value == [NULL]).cmp(&(other.value == [NULL]));
        let rest = self
            .value
            .cmp(&other.value)
            .then_with(|| self.id.cmp(&other.id));
        nulls.then(if self.backwards { rest.reverse() } else { rest })
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
