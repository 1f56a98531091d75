//! Stores: a backup of one, and the new epoch that one needs when it was restored or copied.

use axum::{Json, extract::State, http::StatusCode};
use factum::{Broker, Epoch, Error, RunningService, StoreId, TopicPartition, chain::Link};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    page::{NeededReason, Why, needed_reason, reason},
    services::{ServiceView, view},
};
use crate::{
    Admin,
    admin::Sender,
    web::{FromBody, FromBodyOrDefault, FromPath, Problem},
};

/// How many messages at the end of each partition are looked at for the epochs of a store: more than the relay looks at
/// before it publishes.
const TAIL_MESSAGES: u64 = 1_000;

/// The greatest epoch that a person may open, so that there are always greater ones: the number that JavaScript still
/// counts to. In milliseconds it is the year 287396.
const EPOCH_MAX: u64 = (1 << 53) - 1;

/// A new epoch to open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenEpoch {
    /// Which one: greater than every one that the store ever used. Absent: the present time in milliseconds, or one
    /// more than the greatest that is found in the store and at the ends of the topics.
    #[serde(default)]
    #[schemars(range(max = EPOCH_MAX))]
    epoch: Option<u64>,
    /// What was restored or copied, and why.
    #[serde(default)]
    #[schemars(with = "NeededReason", required)]
    reason: Option<String>,
}

pub(crate) async fn open_epoch(
    State(admin): State<Admin>,
    FromPath(name): FromPath<String>,
    sender: Sender,
    FromBody(asked): FromBody<OpenEpoch>,
) -> Result<Json<ServiceView>, Problem> {
    let service = admin.service(&name)?;
    let by = sender.by(Some(needed_reason(asked.reason)?));
    let epoch = match asked.epoch {
        Some(epoch) if epoch > EPOCH_MAX => {
            return Err(Problem::invalid("no epoch is as great as that")
                .field("epoch", format!("must be at most {EPOCH_MAX}")));
        }
        Some(epoch) => Epoch(epoch),
        None => next_epoch(&admin, service).await?,
    };
    // In a task of its own: a client that goes away must not leave the service stopped.
    let (running, name) = (admin.running().clone(), service.name().clone());
    let opened = tokio::spawn(async move {
        let service = running
            .service(name.as_str())
            .expect("it was found above, and services are never removed");
        // Whatever works for the service stands on the former time line: it is stopped in good order, and the relay
        // looks again at what the topics know when it is started.
        let was_running = service.is_running();
        service.stop().await;
        let opened = service.operator().open_epoch(epoch, &by).await;
        if was_running {
            service.start().await;
        }
        opened
    });
    opened.await.map_err(|error| {
        Problem::internal(format!("opening an epoch was not finished: {error}"))
    })??;
    Ok(Json(view(service).await?))
}

/// An epoch that was not used before, as far as can be seen.
async fn next_epoch(admin: &Admin, service: &RunningService) -> Result<Epoch, Error> {
    let identity = service.store().identity();
    let seen = seen_epoch(&**admin.running().broker(), identity.id).await?;
    Ok(Epoch::opened_at(
        admin.env().now(),
        identity.epoch.max(seen),
    ))
}

/// The greatest epoch of a store that the ends of the topics know.
async fn seen_epoch(broker: &dyn Broker, source: StoreId) -> Result<Epoch, Error> {
    let mut seen = Epoch(0);
    for spec in broker.topics().await? {
        for partition in 0..spec.partitions {
            let place = TopicPartition::new(spec.topic.clone(), partition);
            let marks = broker.watermarks(&place).await?;
            let mut next = marks.end.saturating_sub(TAIL_MESSAGES).max(marks.first);
            // A broker gives so many bytes at a time, the oldest first.
            while next < marks.end {
                let limit = usize::try_from(marks.end - next).unwrap_or(usize::MAX);
                let messages = broker.read(&place, next, limit).await?;
                let Some(last) = messages.last() else { break };
                next = last.offset + 1;
                for message in &messages {
                    let link = Link::from_headers(|name| message.headers.get(name));
                    if let Ok(Some(link)) = link
                        && link.source == source
                    {
                        seen = seen.max(link.at.epoch);
                    }
                }
            }
        }
    }
    Ok(seen)
}

/// A backup that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BackupView {
    service: String,
    /// The new file, on the machine that serves. Take it elsewhere: it is lost with the disk that it was made for.
    file: String,
}

pub(crate) async fn backup(
    State(admin): State<Admin>,
    FromPath(name): FromPath<String>,
    sender: Sender,
    FromBodyOrDefault(why): FromBodyOrDefault<Why>,
) -> Result<Json<BackupView>, Problem> {
    let service = admin.service(&name)?;
    let by = sender.by(reason(why.reason)?);
    let Some(backups) = admin.backups() else {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "no-backups",
            "No backups are made here",
            "this app's stores have means of their own: use those of its database",
        ));
    };
    let name = service.name().clone();
    admin
        .record(service, "backup", name.to_string(), by)
        .await?;
    let file = backups(name.clone()).await?;
    Ok(Json(BackupView {
        service: name.to_string(),
        file: file.display().to_string(),
    }))
}
