//! What a person may do about parked messages. Each act is one commit with its entry in the audit record.

use axum::{Json, extract::State, http::StatusCode};
use factum::{By, DeadLetters, InboxId, Key, Lane, OperatorError, ParkedId, RunningService, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ParkedDetail, find, group};
use crate::{
    Admin,
    admin::Sender,
    api::{
        content,
        page::{Name, NeededReason, Reason, needed_reason, reason},
    },
    web::{FromBody, FromBodyOrDefault, FromPath, Problem},
};

/// A redrive of one message.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RedriveOne {
    /// Only if it is at this revision: as you saw it.
    revision: Option<u64>,
    /// Why, for the audit record.
    #[schemars(with = "Reason")]
    reason: Option<String>,
}

/// A discard.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    /// Only if it is at this revision: as you saw it.
    #[serde(default)]
    revision: Option<u64>,
    /// Why it is right that its effect will be missing.
    #[serde(default)]
    #[schemars(with = "NeededReason", required)]
    reason: Option<String>,
}

/// An edit: `value` or `value_base64` has to be there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = content::one_of_the_values()))]
pub(crate) struct Edit {
    /// Only if it is at this revision: as you saw it.
    #[serde(default)]
    revision: Option<u64>,
    /// Why the original is wrong.
    #[serde(default)]
    #[schemars(with = "NeededReason", required)]
    reason: Option<String>,
    /// The new value, when it is JSON. Kept as it is written.
    #[serde(default, deserialize_with = "content::present")]
    #[schemars(with = "Option<serde_json::Value>")]
    value: Option<Box<RawValue>>,
    /// The new value, whatever it is, in base64.
    #[serde(default)]
    value_base64: Option<String>,
}

/// Which dead letters to redrive: those of a `key`, those of a `group` and a `cause`, or `all`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RedriveMany {
    /// Only of this service.
    service: Option<String>,
    /// Only of this group.
    #[schemars(with = "Option<Name>")]
    group: Option<String>,
    /// Only with this cause, as the counts show it.
    cause: Option<String>,
    /// With `group` and `topic`: the one that this key waits behind.
    key: Option<String>,
    /// The topic of the key.
    #[schemars(with = "Option<Name>")]
    topic: Option<String>,
    /// All, when nothing else says which.
    all: bool,
    /// Why, for the audit record.
    #[schemars(with = "Reason")]
    reason: Option<String>,
}

/// What became of dead letters that were redriven together.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct RedrivenView {
    /// How many are tried again.
    redriven: u64,
    /// How many had changed meanwhile, and were left as they are.
    changed: u64,
}

fn refused(error: OperatorError) -> Problem {
    match error {
        OperatorError::Gone(_) => Problem::not_found(error.to_string()),
        OperatorError::Changed { .. } => Problem::new(
            StatusCode::CONFLICT,
            "parked-changed",
            "The parked message has changed",
            error.to_string(),
        ),
        OperatorError::Failed(error) => error.into(),
    }
}

async fn now(service: &RunningService, id: &ParkedId) -> Result<Json<ParkedDetail>, Problem> {
    let parked = service.operator().parked_one(id).await.map_err(refused)?;
    Ok(Json(ParkedDetail::of(service, &parked).await?))
}

pub(crate) async fn redrive(
    State(admin): State<Admin>,
    FromPath(id): FromPath<String>,
    sender: Sender,
    FromBodyOrDefault(asked): FromBodyOrDefault<RedriveOne>,
) -> Result<Json<ParkedDetail>, Problem> {
    let (service, parked) = find(&admin, &id).await?;
    let by = sender.by(reason(asked.reason)?);
    let revision = asked.revision.unwrap_or(parked.revision);
    service
        .operator()
        .redrive(&parked.id, revision, &by)
        .await
        .map_err(refused)?;
    // It may be handled, and so gone, before it is looked at again: then it is shown as it was.
    match now(service, &parked.id).await {
        Err(problem) if problem.status() == 404 => {
            Ok(Json(ParkedDetail::of(service, &parked).await?))
        }
        shown => shown,
    }
}

pub(crate) async fn discard(
    State(admin): State<Admin>,
    FromPath(id): FromPath<String>,
    sender: Sender,
    FromBody(asked): FromBody<Discard>,
) -> Result<Json<ParkedDetail>, Problem> {
    let (service, parked) = find(&admin, &id).await?;
    let by = sender.by(Some(needed_reason(asked.reason)?));
    let revision = asked.revision.unwrap_or(parked.revision);
    service
        .operator()
        .discard(&parked.id, revision, &by)
        .await
        .map_err(refused)?;
    now(service, &parked.id).await
}

pub(crate) async fn edit(
    State(admin): State<Admin>,
    FromPath(id): FromPath<String>,
    sender: Sender,
    FromBody(asked): FromBody<Edit>,
) -> Result<Json<ParkedDetail>, Problem> {
    let (service, parked) = find(&admin, &id).await?;
    let by = sender.by(Some(needed_reason(asked.reason)?));
    let value = content::given(asked.value, asked.value_base64.as_deref())?;
    let revision = asked.revision.unwrap_or(parked.revision);
    service
        .operator()
        .edit(&parked.id, revision, value, &by)
        .await
        .map_err(refused)?;
    now(service, &parked.id).await
}

pub(crate) async fn redrive_many(
    State(admin): State<Admin>,
    sender: Sender,
    FromBody(asked): FromBody<RedriveMany>,
) -> Result<Json<RedrivenView>, Problem> {
    let by = sender.by(reason(asked.reason)?);
    let services = admin.services(asked.service.as_deref())?;
    if let Some(key) = asked.key {
        return redrive_key(&admin, services, asked.group, asked.topic, key, &by).await;
    }
    if asked.group.is_none() && asked.cause.is_none() && !asked.all {
        return Err(
            Problem::invalid("it is not said which dead letters to redrive").field(
                "all",
                "give a `key` (with `group` and `topic`), a `group`, a `cause`, or `\"all\": true`",
            ),
        );
    }
    let which = DeadLetters {
        group: group(&services, asked.group).await?,
        cause: asked.cause,
    };
    let mut done = RedrivenView::default();
    for service in services {
        let redriven = service.operator().redrive_all(&which, &by).await?;
        done.redriven += redriven.redriven;
        done.changed += redriven.changed;
    }
    Ok(Json(done))
}

async fn redrive_key(
    admin: &Admin,
    services: Vec<&RunningService>,
    named_group: Option<String>,
    topic: Option<String>,
    key: String,
    by: &By,
) -> Result<Json<RedrivenView>, Problem> {
    let missing = |field: &str| {
        Problem::invalid("a key waits in a group and a topic")
            .field(field, "is missing: a key belongs to one")
    };
    let group = group(&services, named_group).await?;
    let group = group.ok_or_else(|| missing("group"))?;
    let topic = Topic::new(topic.ok_or_else(|| missing("topic"))?).map_err(|error| {
        Problem::invalid("the topic can't be right").field("topic", error.to_string())
    })?;
    let topics = admin.running().broker().topics().await?;
    let spec = topics
        .iter()
        .find(|spec| spec.topic == topic)
        .ok_or_else(|| {
            Problem::invalid("the topic is not known")
                .field("topic", format!("there is no topic `{topic}`"))
        })?;
    let key = Key::from(key);
    let inbox = InboxId {
        group: group.clone(),
        topic,
        partition: key.partition(spec.partitions),
    };
    let owner = services
        .into_iter()
        .find(|service| service.groups().any(|known| *known == group));
    let owner = owner.ok_or_else(|| {
        Problem::invalid("the group is not known")
            .field("group", format!("no service has a group `{group}`"))
    })?;
    owner
        .operator()
        .redrive_key(&inbox, &Lane::Key(key), by)
        .await
        .map_err(refused)?;
    Ok(Json(RedrivenView {
        redriven: 1,
        changed: 0,
    }))
}
