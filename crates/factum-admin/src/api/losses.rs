//! What a person may do when messages are missing: have them published again, or let a group go on without them, or
//! where a partition begins now.

use axum::{Json, extract::State};
use factum::{Accepted, At, Group, InboxId, Position, StoreId, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::{NeededReason, Place, Reason, Source, needed_reason, reason};
use crate::{
    Admin,
    admin::Sender,
    web::{FromBody, FromPath, Problem},
};

/// Where a relay shall publish from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rewind {
    /// All records behind this position are published again. Where a group misses messages: the position of the last
    /// that it has taken.
    to: u64,
    /// Why, for the audit record.
    #[serde(default)]
    #[schemars(with = "Reason")]
    reason: Option<String>,
}

/// Where a relay stands now.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Rewound {
    service: String,
    /// `<epoch>-<position>`: what lies behind it is published again.
    checkpoint: String,
}

pub(crate) async fn rewind(
    State(admin): State<Admin>,
    FromPath(service): FromPath<String>,
    sender: Sender,
    FromBody(asked): FromBody<Rewind>,
) -> Result<Json<Rewound>, Problem> {
    let service = admin.service(&service)?;
    let by = sender.by(reason(asked.reason)?);
    let checkpoint = service
        .operator()
        .rewind_relay(Position(asked.to), &by)
        .await?;
    Ok(Json(Rewound {
        service: service.name().to_string(),
        checkpoint: checkpoint.to_string(),
    }))
}

/// A loss that is accepted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    /// The service that has the group.
    service: String,
    /// The id of the store whose messages are missing.
    #[schemars(with = "Source")]
    source: String,
    /// `<epoch>-<position>`: what comes up to this place is left out for good, and the group goes on behind it.
    #[schemars(with = "Place")]
    from: String,
    /// Why it is right that the effects of what is missing will be missing.
    #[serde(default)]
    #[schemars(with = "NeededReason", required)]
    reason: Option<String>,
}

/// From where on a group takes the messages of a source.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AcceptedView {
    service: String,
    group: String,
    topic: String,
    partition: u32,
    source: String,
    /// `<epoch>-<position>`: it goes on behind this place.
    from: String,
}

pub(crate) async fn accept(
    State(admin): State<Admin>,
    FromPath((group, topic, partition)): FromPath<(String, String, u32)>,
    sender: Sender,
    FromBody(asked): FromBody<Accept>,
) -> Result<Json<AcceptedView>, Problem> {
    let service = admin.service(&asked.service)?;
    let inbox = inbox(group, topic, partition)?;
    let wrong = |field: &'static str, error: &dyn std::fmt::Display| {
        Problem::invalid("the place can't be right").field(field, error.to_string())
    };
    let source: StoreId = asked
        .source
        .parse()
        .map_err(|error| wrong("source", &error))?;
    let from: At = asked.from.parse().map_err(|error| wrong("from", &error))?;
    let by = sender.by(Some(needed_reason(asked.reason)?));
    let accepted = Accepted {
        inbox,
        source,
        from,
    };
    service.operator().accept_loss(&accepted, &by).await?;
    Ok(Json(AcceptedView {
        service: service.name().to_string(),
        group: accepted.inbox.group.to_string(),
        topic: accepted.inbox.topic.to_string(),
        partition,
        source: source.to_string(),
        from: from.to_string(),
    }))
}

/// Where a group goes on in a partition.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoOn {
    /// The service that has the group.
    service: String,
    /// The offset: where the partition begins now, as a rule. What the group has not finished before it is missing.
    at: u64,
    /// Why it is right to go on there.
    #[serde(default)]
    #[schemars(with = "NeededReason", required)]
    reason: Option<String>,
}

/// Where a group has gone on.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GoneOnView {
    service: String,
    group: String,
    topic: String,
    partition: u32,
    /// The offset at which it stood: all before it was finished.
    stood: u64,
    /// The offset at which it goes on.
    at: u64,
}

pub(crate) async fn go_on(
    State(admin): State<Admin>,
    FromPath((group, topic, partition)): FromPath<(String, String, u32)>,
    sender: Sender,
    FromBody(asked): FromBody<GoOn>,
) -> Result<Json<GoneOnView>, Problem> {
    let service = admin.service(&asked.service)?;
    let inbox = inbox(group, topic, partition)?;
    let by = sender.by(Some(needed_reason(asked.reason)?));
    let stood = service.operator().go_on(&inbox, asked.at, &by).await?;
    Ok(Json(GoneOnView {
        service: service.name().to_string(),
        group: inbox.group.to_string(),
        topic: inbox.topic.to_string(),
        partition,
        stood,
        at: asked.at,
    }))
}

fn inbox(group: String, topic: String, partition: u32) -> Result<InboxId, Problem> {
    let unknown = |error: &dyn std::fmt::Display| Problem::not_found(error.to_string());
    Ok(InboxId {
        group: Group::new(group).map_err(|error| unknown(&error))?,
        topic: Topic::new(topic).map_err(|error| unknown(&error))?,
        partition,
    })
}

/// A source that publishes to a partition no more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retire {
    /// The service that has the group.
    service: String,
    /// The id of the store that publishes there no more.
    #[schemars(with = "Source")]
    source: String,
    /// How it is known that nothing of it will come.
    #[serde(default)]
    #[schemars(with = "NeededReason", required)]
    reason: Option<String>,
}

/// A source that was retired.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RetiredView {
    service: String,
    group: String,
    topic: String,
    partition: u32,
    source: String,
    /// `<epoch>-<position>`: the last that was taken from it.
    last: String,
}

pub(crate) async fn retire(
    State(admin): State<Admin>,
    FromPath((group, topic, partition)): FromPath<(String, String, u32)>,
    sender: Sender,
    FromBody(asked): FromBody<Retire>,
) -> Result<Json<RetiredView>, Problem> {
    let service = admin.service(&asked.service)?;
    let inbox = inbox(group, topic, partition)?;
    let source: StoreId = asked.source.parse().map_err(|error| {
        let problem = Problem::invalid("the source can't be right");
        problem.field("source", format!("{error}"))
    })?;
    let by = sender.by(Some(needed_reason(asked.reason)?));
    let last = service
        .operator()
        .retire_source(&inbox, source, &by)
        .await?;
    Ok(Json(RetiredView {
        service: service.name().to_string(),
        group: inbox.group.to_string(),
        topic: inbox.topic.to_string(),
        partition,
        source: source.to_string(),
        last: last.to_string(),
    }))
}
