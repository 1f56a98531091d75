//! The audit record: who did what, when and why.

use std::collections::VecDeque;

use axum::{Json, extract::State};
use factum::Audited;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::{Limit, limit};
use crate::{
    Admin,
    web::{FromQuery, Problem},
};

/// The audit record.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditList {
    /// Newest first.
    entries: Vec<EntryView>,
    /// Where older ones begin, to be given as `before`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Something that was done.
#[derive(Debug, Serialize, JsonSchema)]
struct EntryView {
    at: String,
    service: String,
    /// A token's name, `local` without tokens, or a group that skipped a message.
    actor: String,
    /// What was done, such as `redrive`.
    action: String,
    /// To what, such as a parked message's id.
    subject: String,
    /// Why.
    reason: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Only of this service.
    service: Option<String>,
    /// `next` of the page before: only what is older than its last entries.
    before: Option<String>,
    /// How many at most.
    #[schemars(with = "Option<Limit>")]
    limit: Option<u64>,
}

/// What one service still has to say on this page.
struct Source {
    service: String,
    /// Newest first, one more than fits on the page where there is more.
    entries: VecDeque<Audited>,
    /// All that are older than the entry with this number are still to be read.
    before: u64,
}

pub(crate) async fn list(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<Asked>,
) -> Result<Json<AuditList>, Problem> {
    let limit = limit(asked.limit)?;
    let mut sources = Vec::new();
    for service in admin.services(asked.service.as_deref())? {
        let service_name = service.name().to_string();
        let before = match &asked.before {
            Some(cursor) => Some(place_in(cursor, &service_name)?),
            None => None,
        };
        let entries = service.operator().audit(before, limit + 1).await?;
        // What comes from now on is no part of the pages behind this one, in a service that has nothing on it either.
        let newest = entries.first().map_or(0, |audited| audited.number + 1);
        sources.push(Source {
            service: service_name,
            entries: entries.into(),
            before: newest,
        });
    }
    let mut entries = Vec::new();
    while entries.len() < limit
        && let Some(source) = newest(&mut sources)
        && let Some(Audited { number, entry }) = source.entries.pop_front()
    {
        source.before = number;
        entries.push(EntryView {
            at: entry.at.to_string(),
            service: source.service.clone(),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            reason: entry.reason,
        });
    }
    let more = sources.iter().any(|source| !source.entries.is_empty());
    let places = sources
        .iter()
        .map(|source| format!("{}:{}", source.service, source.before));
    let next = more.then(|| places.collect::<Vec<_>>().join(","));
    Ok(Json(AuditList { entries, next }))
}

/// The service whose next entry is the newest. A service's own entries stay in the order of its commits, even where
/// its clock went back: so a page ends at one place in each, and the next page begins there.
fn newest(sources: &mut [Source]) -> Option<&mut Source> {
    sources
        .iter_mut()
        .filter(|source| !source.entries.is_empty())
        // Of those that are equal the last is taken: in the order of the names, whatever the page.
        .max_by_key(|source| source.entries.front().map(|audited| audited.entry.at))
}

/// Where the page behind `cursor` begins in `service`.
fn place_in(cursor: &str, service: &str) -> Result<u64, Problem> {
    let place = cursor.split(',').find_map(|place| {
        let (name, number) = place.split_once(':')?;
        (name == service).then(|| number.parse().ok())?
    });
    place.ok_or_else(|| {
        Problem::invalid("the place to go on from can't be right").field(
            "before",
            "pass on `next` of the page before, as it is, and ask for the same services",
        )
    })
}
