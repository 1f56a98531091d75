//! Lists over several services: each says its part, and the parts are one list with one place to go on from.

use std::collections::BTreeMap;

use axum::response::{IntoResponse as _, Response};
use factum::Timestamp;
use factum_admin::web::Problem;
use serde_json::{Value, json};

use super::admin::{Gathering, lacks_group, parameter};
use crate::{peers::Asked, platform::Role};

/// How many a page has, unless asked for otherwise, and at most: as the admin API has it.
const LIMIT: (usize, usize) = (100, 500);

/// Behind this a list begins with its newest entry.
const NEWEST: i64 = i64::MAX;

/// The path of a request, and what it asks of a list besides the service.
struct List {
    path: String,
    rest: Vec<String>,
    limit: usize,
    place: Option<String>,
}

impl List {
    /// What `asked` asks, where it says in `cursor` where to go on.
    fn of(asked: &Asked, cursor: &str) -> Self {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let own = ["service", "limit", cursor];
        let is_rest = |one: &&str| {
            let name = one.split('=').next().unwrap_or_default();
            !one.is_empty() && !own.contains(&name)
        };
        let limit = parameter(query, "limit").map(|limit| limit.parse().unwrap_or(0));
        Self {
            path: path.to_owned(),
            rest: query
                .split('&')
                .filter(is_rest)
                .map(str::to_owned)
                .collect(),
            limit: limit.unwrap_or(LIMIT.0),
            place: parameter(query, cursor),
        }
    }

    /// The part of one service.
    fn part(&self, role: Role, limit: usize, place: Option<String>) -> String {
        let mut query = self.rest.clone();
        query.push(format!("service={role}"));
        query.push(format!("limit={limit}"));
        query.extend(place);
        format!("{}?{}", self.path, query.join("&"))
    }

    /// What is wrong with the size of the page, in the words of whoever checks it.
    fn is_odd(&self) -> bool {
        !(1..=LIMIT.1).contains(&self.limit)
    }
}

/// The lists of all services, one behind the other.
pub(super) async fn lists(gathering: &Gathering<'_>) -> Result<Response, Problem> {
    // Where a process has several services, each is asked about by itself; a list of services tells which it is of.
    let of_services = gathering.asked.target.ends_with("/services");
    let of = |role: Role| {
        let target = &gathering.asked.target;
        let all = of_services.then(|| target.clone());
        Some(gathering.asked.get(all.unwrap_or_else(|| {
            let mark = if target.contains('?') { '&' } else { '?' };
            format!("{target}{mark}service={role}")
        })))
    };
    let told = match gathering.each(of).await? {
        Ok(told) => told,
        Err(refused) => return Ok(refused.into()),
    };
    let mut whole = json!({});
    for (role, part) in told {
        for (name, list) in part.as_object().into_iter().flatten() {
            let rows = list.as_array().into_iter().flatten();
            let of_role = |row: &&Value| !of_services || row["name"] == role.name();
            let rows = rows.filter(of_role).cloned();
            extend(&mut whole[name], rows);
        }
    }
    Ok(axum::Json(whole).into_response())
}

fn extend(list: &mut Value, rows: impl Iterator<Item = Value>) {
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.extend(rows);
    }
}

/// The pages of all services, in the order of their names. The cursor is `<service>/<place in it>`.
pub(super) async fn pages(gathering: &Gathering<'_>) -> Result<Response, Problem> {
    let list = List::of(gathering.asked, "after");
    let is_parked = list.path.ends_with("/parked");
    let rows_are = if is_parked { "parked" } else { "streams" };
    let decoded = list
        .place
        .as_deref()
        .map(|place| place.replace("%2F", "/").replace("%2f", "/"));
    let from = decoded.as_deref().and_then(|place| place.split_once('/'));
    if list.is_odd() || (list.place.is_some() && from.is_none()) {
        // This process says what is wrong with it.
        return Ok(gathering.ask(Role::Query, gathering.asked).await?.into());
    }
    let mut whole = json!({ rows_are: [] });
    let (mut left, mut next) = (list.limit, None);
    let (mut known, mut without) = (false, None);
    for role in Gathering::roles() {
        let place = match from {
            Some((name, _)) if role.name() == name => list.place.as_ref(),
            _ => None,
        };
        let passed = from.is_some_and(|(name, _)| role.name() < name);
        let shows = !passed && next.is_none();
        if !shows && !is_parked {
            continue;
        }
        // Where there is no room any more, one row tells that there is more; what is counted is told in any case.
        let limit = if shows { left.max(1) } else { 1 };
        let target = list.part(role, limit, place.map(|place| format!("after={place}")));
        let answered = gathering.ask(role, &gathering.asked.get(target)).await?;
        if lacks_group(&answered) {
            without = Some(answered);
            continue;
        }
        if !answered.status.is_success() {
            return Ok(answered.into());
        }
        known = true;
        let part = answered.json();
        if is_parked {
            let counts = part["counts"].as_array().cloned();
            extend(&mut whole["counts"], counts.into_iter().flatten());
        }
        if !shows {
            continue;
        }
        let rows = part[rows_are].as_array().cloned().unwrap_or_default();
        if left == 0 {
            let shown = whole[rows_are].as_array().and_then(|shown| shown.last());
            next = shown
                .filter(|_| !rows.is_empty())
                .map(|last| cursor(last, is_parked));
            continue;
        }
        left -= rows.len().min(left);
        extend(&mut whole[rows_are], rows.into_iter());
        next = part["next"].as_str().map(str::to_owned);
    }
    if let Some(refused) = without.filter(|_| !known) {
        return Ok(refused.into());
    }
    if let Some(next) = next {
        whole["next"] = next.into();
    }
    Ok(axum::Json(whole).into_response())
}

/// Where a page that ends with `row` is gone on from.
fn cursor(row: &Value, is_parked: bool) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let (service, id) = (text("service"), text("id"));
    if is_parked {
        format!("{service}/{id}")
    } else {
        format!("{service}/{}/{id}", text("category"))
    }
}

/// What one service still has to say on a page by time.
struct Source {
    role: Role,
    entries: Vec<Value>,
    taken: usize,
    /// Whether it has more than it said.
    more: bool,
}

impl Source {
    fn first(&self) -> Option<Timestamp> {
        let entry = self.entries.get(self.taken)?;
        entry["at"].as_str()?.parse().ok()
    }
}

/// The pages of all services as one by time, newest first. The cursor has a place in each service's list.
pub(super) async fn newest(gathering: &Gathering<'_>) -> Result<Response, Problem> {
    let list = List::of(gathering.asked, "before");
    if list.is_odd() {
        return Ok(gathering.ask(Role::Query, gathering.asked).await?.into());
    }
    let before = list.place.as_ref().map(|place| format!("before={place}"));
    let of = |role| {
        Some(
            gathering
                .asked
                .get(list.part(role, list.limit, before.clone())),
        )
    };
    let told = match gathering.each(of).await? {
        Ok(told) => told,
        Err(refused) => return Ok(refused.into()),
    };
    let mut nexts = BTreeMap::new();
    let mut sources: Vec<Source> = Vec::new();
    for (role, part) in told {
        let next = part["next"].as_str().map(str::to_owned);
        sources.push(Source {
            role,
            entries: part["entries"].as_array().cloned().unwrap_or_default(),
            taken: 0,
            more: next.is_some(),
        });
        nexts.insert(role, next);
    }
    let mut entries = Vec::new();
    while entries.len() < list.limit
        && let Some(source) = sources
            .iter_mut()
            .filter(|source| source.taken < source.entries.len())
            .max_by_key(|source| source.first())
    {
        entries.push(source.entries[source.taken].clone());
        source.taken += 1;
    }
    let is_left = |source: &Source| source.more || source.taken < source.entries.len();
    let mut whole = json!({ "entries": entries });
    if sources.iter().any(is_left) {
        let mut places = Vec::new();
        for source in &sources {
            places.push(
                place(
                    gathering,
                    &list,
                    source,
                    nexts.remove(&source.role).flatten(),
                )
                .await?,
            );
        }
        whole["next"] = places.join(",").into();
    }
    Ok(axum::Json(whole).into_response())
}

/// Where a service's entries go on behind those that were taken.
async fn place(
    gathering: &Gathering<'_>,
    list: &List,
    source: &Source,
    next: Option<String>,
) -> Result<String, Problem> {
    let role = source.role;
    if source.taken == source.entries.len() {
        return Ok(next.unwrap_or_else(|| format!("{role}:0")));
    }
    let before = list.place.as_deref().unwrap_or_default();
    let before = before.replace("%3A", ":").replace("%2C", ",");
    let own = before
        .split(',')
        .find(|place| place.split(':').next() == Some(role.name()));
    if source.taken == 0 {
        return Ok(own.map_or_else(|| format!("{role}:{NEWEST}"), str::to_owned));
    }
    // A page of just so many says where it ends.
    let place = list.place.as_ref().map(|place| format!("before={place}"));
    let asked = gathering.asked.get(list.part(role, source.taken, place));
    let answered = gathering.ask(role, &asked).await?;
    if !answered.status.is_success() {
        // Without its place, all that is older would be left out of the next pages.
        return Err(Problem::unavailable(
            format!("role `{role}` does not say where its record goes on: try again"),
            1,
        ));
    }
    Ok(answered.json()["next"]
        .as_str()
        .map_or_else(|| format!("{role}:0"), str::to_owned))
}

/// What all services did together: the numbers of their answers, added.
pub(super) async fn sum(gathering: &Gathering<'_>) -> Result<Response, Problem> {
    let body = gathering.asked.json();
    if !body.is_object() {
        return Ok(gathering.ask(Role::Query, gathering.asked).await?.into());
    }
    let of = |role: Role| {
        let mut part = body.clone();
        part["service"] = role.name().into();
        Some(gathering.asked.post(gathering.asked.target.clone(), &part))
    };
    let told = match gathering.each(of).await? {
        Ok(told) => told,
        Err(refused) => return Ok(refused.into()),
    };
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (name, number) in told
        .iter()
        .filter_map(|(_, part)| part.as_object())
        .flatten()
    {
        *sums.entry(name.clone()).or_default() += number.as_u64().unwrap_or(0);
    }
    Ok(axum::Json(sums).into_response())
}
