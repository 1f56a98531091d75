//! The audit record: who did what, when and why.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::limit;
use crate::{
    Admin,
    web::{FromQuery, Problem},
};

/// The audit record.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditList {
    /// Newest first.
    entries: Vec<EntryView>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    service: Option<String>,
    limit: Option<u64>,
}

pub(crate) async fn list(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<Asked>,
) -> Result<Json<AuditList>, Problem> {
    let limit = limit(asked.limit)?;
    let mut entries = Vec::new();
    for service in admin.services(asked.service.as_deref())? {
        let found = service.operator().audit(limit).await?;
        entries.extend(
            found
                .into_iter()
                .map(|entry| (entry.at, service.name().to_string(), entry)),
        );
    }
    // Stable, so that what a service did in one moment stays in its order.
    entries.sort_by(|(left, ..), (right, ..)| right.cmp(left));
    entries.truncate(limit);
    let view = |(at, service, entry): (factum::Timestamp, String, factum::AuditEntry)| EntryView {
        at: at.to_string(),
        service,
        actor: entry.actor,
        action: entry.action,
        subject: entry.subject,
        reason: entry.reason,
    };
    Ok(Json(AuditList {
        entries: entries.into_iter().map(view).collect(),
    }))
}
