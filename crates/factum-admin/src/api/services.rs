//! Services: where each stands, and stopping and starting its background work.

use axum::{Json, extract::State};
use factum::RunningService;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    health::{PartView, parts},
    page::{Why, reason},
};
use crate::{
    Admin,
    admin::Sender,
    web::{FromBodyOrDefault, FromPath, Problem},
};

/// All services.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServiceList {
    services: Vec<ServiceView>,
}

/// A service.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServiceView {
    /// Its name.
    name: String,
    /// Whether its background work runs.
    running: bool,
    /// Its store.
    store: StoreView,
    /// What is published of its log.
    relay: RelayView,
    /// The categories of its aggregates.
    categories: Vec<String>,
    /// Its consumer groups.
    groups: Vec<String>,
    /// How its parts are doing.
    parts: Vec<PartView>,
}

/// A store.
#[derive(Debug, Serialize, JsonSchema)]
struct StoreView {
    id: String,
    /// Its time line: each restore opens a new one.
    epoch: u64,
    /// The position of its last record.
    position: u64,
    /// Whether what is committed outlives the process.
    durable: bool,
}

/// A relay.
#[derive(Debug, Serialize, JsonSchema)]
struct RelayView {
    /// All records up to here are published.
    published: u64,
    /// How many records are not looked at yet.
    pending: u64,
}

pub(super) async fn view(service: &RunningService) -> Result<ServiceView, Problem> {
    let store = service.store();
    let (identity, head, relay) = (store.identity(), store.head().await?, store.relay().await?);
    let (position, published) = (head.position.0, relay.checkpoint.position.0);
    Ok(ServiceView {
        name: service.name().to_string(),
        running: service.is_running(),
        store: StoreView {
            id: identity.id.to_string(),
            epoch: identity.epoch.0,
            position,
            durable: store.capabilities().durable,
        },
        relay: RelayView {
            published,
            pending: position.saturating_sub(published),
        },
        categories: service.categories().map(ToString::to_string).collect(),
        groups: service.groups().map(ToString::to_string).collect(),
        parts: parts(service),
    })
}

pub(crate) async fn list(State(admin): State<Admin>) -> Result<Json<ServiceList>, Problem> {
    let mut services = Vec::new();
    for service in admin.running().services() {
        services.push(view(service).await?);
    }
    Ok(Json(ServiceList { services }))
}

pub(crate) async fn stop(
    State(admin): State<Admin>,
    FromPath(name): FromPath<String>,
    sender: Sender,
    FromBodyOrDefault(why): FromBodyOrDefault<Why>,
) -> Result<Json<ServiceView>, Problem> {
    let service = admin.service(&name)?;
    let by = sender.by(reason(why.reason)?);
    admin
        .record(service, "stop", service.name().to_string(), by)
        .await?;
    service.stop().await;
    Ok(Json(view(service).await?))
}

pub(crate) async fn start(
    State(admin): State<Admin>,
    FromPath(name): FromPath<String>,
    sender: Sender,
    FromBodyOrDefault(why): FromBodyOrDefault<Why>,
) -> Result<Json<ServiceView>, Problem> {
    let service = admin.service(&name)?;
    let by = sender.by(reason(why.reason)?);
    admin
        .record(service, "start", service.name().to_string(), by)
        .await?;
    // In a task of its own: it may have to wait until a stop has ended, and a client that goes away wanted it all the
    // same.
    let (running, name) = (admin.running().clone(), service.name().clone());
    let started = tokio::spawn(async move {
        if let Some(service) = running.service(name.as_str()) {
            service.start().await;
        }
    });
    started
        .await
        .map_err(|error| Problem::internal(format!("starting failed: {error}")))?;
    Ok(Json(view(service).await?))
}
