//! Parked messages: what is stuck and why, and what a person may do about it.

mod act;
pub(crate) use act::{
    Discard, Edit, RedriveMany, RedriveOne, RedrivenView, discard, edit, redrive, redrive_many,
};
mod view;
pub(crate) use view::{ParkedDetail, ParkedView};

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use factum::{Group, Parked, ParkedCount, ParkedFilter, ParkedId, ParkedState, RunningService};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    log::{bad_cursor, cursor},
    page::{Cursor, Limit, Name, each_parked, limit},
};
use crate::{
    Admin,
    web::{FromPath, FromQuery, Problem},
};

/// The state of a parked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateView {
    /// Tried again when due.
    Retrying,
    /// Until a person redrives or discards it.
    Dead,
    /// Behind one of its key.
    Waiting,
    /// Given up by a person.
    Discarded,
}

impl From<ParkedState> for StateView {
    fn from(state: ParkedState) -> Self {
        match state {
            ParkedState::Retrying => Self::Retrying,
            ParkedState::Dead => Self::Dead,
            ParkedState::Waiting => Self::Waiting,
            ParkedState::Discarded => Self::Discarded,
        }
    }
}

impl From<StateView> for ParkedState {
    fn from(state: StateView) -> Self {
        match state {
            StateView::Retrying => Self::Retrying,
            StateView::Dead => Self::Dead,
            StateView::Waiting => Self::Waiting,
            StateView::Discarded => Self::Discarded,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Only of this service.
    service: Option<String>,
    /// Only of this group.
    #[schemars(with = "Option<Name>")]
    group: Option<String>,
    /// Only in this state.
    state: Option<StateView>,
    /// Only with this cause, as the counts show it.
    cause: Option<String>,
    /// Go on behind this: `next` of the page before.
    #[schemars(with = "Option<Cursor>")]
    after: Option<String>,
    /// How many at most.
    #[schemars(with = "Option<Limit>")]
    limit: Option<u64>,
}

/// A page of parked messages.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ParkedList {
    /// How many there are in all, by service, group, state and cause.
    counts: Vec<CountView>,
    parked: Vec<ParkedView>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many messages of one cause are parked.
#[derive(Debug, Serialize, JsonSchema)]
struct CountView {
    service: String,
    group: String,
    state: StateView,
    /// The cause of their last failure; absent for those that only wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    count: u64,
    /// When the oldest of them was parked.
    oldest: String,
}

impl CountView {
    fn of(service: &RunningService, count: ParkedCount) -> Self {
        Self {
            service: service.name().to_string(),
            group: count.group.to_string(),
            state: count.state.into(),
            cause: count.cause,
            count: count.count,
            oldest: count.oldest.to_string(),
        }
    }
}

/// A group that a query or body names: one of these services', or one of before of which something is still parked.
async fn group(
    services: &[&RunningService],
    name: Option<String>,
) -> Result<Option<Group>, Problem> {
    let Some(name) = name else {
        return Ok(None);
    };
    let group = Group::new(name).map_err(|error| {
        Problem::invalid("the group can't be right").field("group", error.to_string())
    })?;
    let mut known = BTreeSet::new();
    for service in services {
        known.extend(service.groups().cloned());
        let parked = service.operator().parked_counts().await?;
        known.extend(parked.into_iter().map(|count| count.group));
    }
    if known.contains(&group) {
        return Ok(Some(group));
    }
    let known: Vec<_> = known.iter().map(Group::as_str).collect();
    Err(Problem::invalid("the group is not known").field(
        "group",
        format!("there is no group `{group}` (known: {})", known.join(", ")),
    ))
}

pub(crate) async fn list(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<Asked>,
) -> Result<Json<ParkedList>, Problem> {
    let limit = limit(asked.limit)?;
    let services = admin.services(asked.service.as_deref())?;
    let group = group(&services, asked.group).await?;
    let after = cursor(asked.after.as_deref())?;
    let (mut counts, mut parked, mut next) = (Vec::new(), Vec::new(), None);
    for service in services {
        let found = service.operator().parked_counts().await?;
        counts.extend(found.into_iter().map(|count| CountView::of(service, count)));
        let after = match after {
            Some((name, _)) if service.name().as_str() < name => continue,
            Some((name, id)) if service.name().as_str() == name => {
                Some(id.parse::<ParkedId>().map_err(bad_cursor)?)
            }
            _ => None,
        };
        if next.is_some() {
            continue;
        }
        let filter = ParkedFilter {
            group: group.clone(),
            state: asked.state.map(ParkedState::from),
            cause: asked.cause.clone(),
            after,
            ..ParkedFilter::default()
        };
        // One more than fits tells whether there is another page.
        let most = limit - parked.len() + 1;
        each_parked(&**service.store(), filter, most, |found| {
            if parked.len() == limit {
                next = parked.last().map(ParkedView::cursor);
            } else {
                parked.push(ParkedView::of(service, &found));
            }
            next.is_none()
        })
        .await?;
    }
    Ok(Json(ParkedList {
        counts,
        parked,
        next,
    }))
}

/// The service that has the parked message which a path names, and the message.
async fn find<'a>(admin: &'a Admin, id: &str) -> Result<(&'a RunningService, Parked), Problem> {
    let id: ParkedId = id
        .parse()
        .map_err(|error: factum::InvalidParkedId| Problem::not_found(error.to_string()))?;
    for service in admin.running().services() {
        if let Some(parked) = service.store().parked_one(&id).await? {
            return Ok((service, parked));
        }
    }
    Err(Problem::not_found(format!(
        "no message is parked as `{id}`: it was handled or given up, or never was"
    )))
}

pub(crate) async fn one(
    State(admin): State<Admin>,
    FromPath(id): FromPath<String>,
) -> Result<Json<ParkedDetail>, Problem> {
    let (service, parked) = find(&admin, &id).await?;
    Ok(Json(ParkedDetail::of(service, &parked).await?))
}
