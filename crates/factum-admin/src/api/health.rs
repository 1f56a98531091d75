//! How the process is doing: for load balancers, for people, and for Prometheus.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use factum::{RunningService, Status};
use futures_util::future;
use schemars::JsonSchema;
use serde::Serialize;

use super::OPEN_METRICS;
use crate::{
    Admin,
    admin::Sender,
    web::{Problem, Refused},
};

/// How well something does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wellness {
    /// All of it does its work.
    Ok,
    /// Some of it was stopped by a person.
    Stopped,
    /// Some of it is in trouble, and tries again by itself.
    Degraded,
    /// Some of it has stopped by itself, and waits for a person.
    Failed,
}

/// How a part of a service is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PartView {
    /// The part, such as `order/relay`.
    pub(crate) part: String,
    /// How it is doing.
    pub(crate) status: Wellness,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Since when.
    pub(crate) since: String,
}

pub(crate) fn parts(service: &RunningService) -> Vec<PartView> {
    let view = |(part, (status, since)): (String, (Status, factum::Timestamp))| {
        let (status, reason) = match status {
            Status::Running => (Wellness::Ok, None),
            Status::Stopped => (Wellness::Stopped, None),
            Status::Degraded(reason) => (Wellness::Degraded, Some(reason)),
            Status::Failed(reason) => (Wellness::Failed, Some(reason)),
        };
        PartView {
            part,
            status,
            reason,
            since: since.to_string(),
        }
    };
    service.health().parts().into_iter().map(view).collect()
}

/// How the process is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HealthView {
    /// The worst of all parts.
    status: Wellness,
    /// The parts of each service; absent for those who show no token where one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<BTreeMap<String, Vec<PartView>>>,
}

pub(crate) async fn health(State(admin): State<Admin>, sender: Sender) -> Json<HealthView> {
    // Each says in health what it finds.
    let looks = admin.running().services().map(RunningService::unwritable);
    future::join_all(looks).await;
    let services: BTreeMap<_, _> = admin
        .running()
        .services()
        .map(|service| (service.name().to_string(), parts(service)))
        .collect();
    let status = services
        .values()
        .flatten()
        .map(|part| part.status)
        .max()
        .unwrap_or(Wellness::Ok);
    Json(HealthView {
        status,
        services: sender.0.is_known().then_some(services),
    })
}

/// That the process is ready.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReadyView {
    /// Always true: if it were not, the answer would be a problem.
    ready: bool,
}

pub(crate) async fn ready(
    State(admin): State<Admin>,
    sender: Sender,
) -> Result<Json<ReadyView>, Problem> {
    // All at once: one whose store is slow to say what is wrong must not add its time to that of the others.
    let troubles = admin.running().services().map(troubles);
    let troubles = future::join_all(troubles).await.concat();
    if troubles.is_empty() {
        return Ok(Json(ReadyView { ready: true }));
    }
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "Not every service can do its work",
        format!(
            "{} parts have stopped by themselves, or can't be written to",
            troubles.len()
        ),
    );
    if !sender.0.is_known() {
        return Err(problem);
    }
    Err(troubles
        .into_iter()
        .fold(problem, |problem, (part, reason)| {
            problem.field(part, reason)
        }))
}

/// The parts of a service that have stopped by themselves or can't be written to, and why.
async fn troubles(service: &RunningService) -> Vec<(String, String)> {
    let failed = parts(service)
        .into_iter()
        .filter(|part| part.status == Wellness::Failed);
    let mut troubles: Vec<_> = failed
        .map(|part| (part.part, part.reason.unwrap_or_default()))
        .collect();
    let unwell = match service.unwritable().await {
        Some(error) => Err(error),
        None => service.store().head().await.map(drop),
    };
    if let Err(error) = unwell {
        troubles.push((format!("{}/store", service.name()), format!("{error:#}")));
    }
    troubles
}

/// How the text of all metrics ends.
const END: &str = "# EOF\n";

pub(crate) async fn metrics(
    State(admin): State<Admin>,
    refused: Option<Extension<Refused>>,
) -> impl IntoResponse {
    let mut text = admin.running().metrics().await;
    // Counted by the server and not by the app, which knows of no requests.
    if let Some(Extension(refused)) = refused
        && text.ends_with(END)
    {
        let name = "factum_http_tokens_refused";
        let count = refused.count();
        text.truncate(text.len() - END.len());
        // Writing to a String doesn't fail.
        write!(
            text,
            "# HELP {name} Requests refused for want of a token that is known.\n# TYPE {name} counter\n\
             {name}_total {count}\n{END}"
        )
        .unwrap_or_default();
    }
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text)
}
