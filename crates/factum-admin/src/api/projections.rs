//! Projections: how far each has come, and building its rows anew.

use axum::{Json, extract::State, http::StatusCode};
use factum::{ProjectionStatus, RunningService};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::{Why, reason};
use crate::{
    Admin,
    admin::Sender,
    web::{FromBodyOrDefault, FromPath, FromQuery, Problem},
};

/// All projections.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProjectionList {
    projections: Vec<ProjectionView>,
}

/// A projection.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProjectionView {
    service: String,
    projection: String,
    /// Its views.
    views: Vec<String>,
    /// The generation of rows that readers see; absent before the first was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    /// The position up to which that one has come.
    reached: u64,
    /// The position of the log's last record.
    head: u64,
    /// How many records it is behind.
    lag: u64,
    /// The generation that is being built.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilding: Option<RebuildView>,
    /// Why it has stopped, or why its last rebuild came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// A generation that is being built.
#[derive(Debug, Serialize, JsonSchema)]
struct RebuildView {
    generation: u32,
    reached: u64,
    head: u64,
}

fn view(service: &RunningService, status: ProjectionStatus) -> ProjectionView {
    let (reached, head) = (status.reached.0, status.head.0);
    ProjectionView {
        service: service.name().to_string(),
        projection: status.projection.to_string(),
        views: status.views.iter().map(ToString::to_string).collect(),
        generation: status.generation,
        reached,
        head,
        lag: head.saturating_sub(reached),
        rebuilding: status.rebuilding.map(|rebuilding| RebuildView {
            generation: rebuilding.generation,
            reached: rebuilding.reached.0,
            head: rebuilding.head.0,
        }),
        failed: status.failed,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Only of this service.
    service: Option<String>,
}

pub(crate) async fn list(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<Asked>,
) -> Result<Json<ProjectionList>, Problem> {
    let mut projections = Vec::new();
    for service in admin.services(asked.service.as_deref())? {
        let found = service.operator().projections().await?;
        projections.extend(found.into_iter().map(|status| view(service, status)));
    }
    Ok(Json(ProjectionList { projections }))
}

async fn one(service: &RunningService, name: &str) -> Result<ProjectionView, Problem> {
    let found = service.operator().projections().await?;
    let known = found
        .iter()
        .map(|status| status.projection.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let found = found
        .into_iter()
        .find(|status| status.projection.as_str() == name);
    found.map(|status| view(service, status)).ok_or_else(|| {
        let (service, name) = (service.name(), crate::admin::shown(name));
        Problem::not_found(format!(
            "service `{service}` has no projection `{name}` (known: {known})"
        ))
    })
}

pub(crate) async fn rebuild(
    State(admin): State<Admin>,
    FromPath((service, name)): FromPath<(String, String)>,
    sender: Sender,
    FromBodyOrDefault(why): FromBodyOrDefault<Why>,
) -> Result<(StatusCode, Json<ProjectionView>), Problem> {
    let service = admin.service(&service)?;
    one(service, &name).await?;
    service
        .operator()
        .rebuild(&name, &sender.by(reason(why.reason)?))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(one(service, &name).await?)))
}

pub(crate) async fn resume(
    State(admin): State<Admin>,
    FromPath((service, name)): FromPath<(String, String)>,
    sender: Sender,
    FromBodyOrDefault(why): FromBodyOrDefault<Why>,
) -> Result<(StatusCode, Json<ProjectionView>), Problem> {
    let service = admin.service(&service)?;
    one(service, &name).await?;
    service
        .operator()
        .resume(&name, &sender.by(reason(why.reason)?))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(one(service, &name).await?)))
}
