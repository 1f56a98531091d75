//! A parked message, as it is shown.

use factum::{Parked, ParkedFilter, ParkedState, RunningService};
use schemars::JsonSchema;
use serde::Serialize;

use super::StateView;
use crate::{
    api::{
        content::{Content, HeaderView, key_text},
        page::each_parked,
    },
    web::Problem,
};

/// How many messages that wait behind one are counted.
const BEHIND_MAX: usize = 1_000;

/// A parked message in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ParkedView {
    service: String,
    /// `<group>:<topic>:<partition>:<offset>`.
    id: String,
    state: StateView,
    /// Grows with each change: give it back, and you act on what you saw or not at all.
    revision: u64,
    group: String,
    topic: String,
    partition: u32,
    offset: u64,
    /// What waits behind it, or what it waits in; absent without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// How often it was tried since it was parked or redriven.
    tries: u32,
    /// How often an operator redrove it.
    redrives: u32,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    parked_at: String,
    /// Whether an operator put another value in place of the original.
    edited: bool,
    /// Its last failure; absent while it only waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
}

/// Why a message failed.
#[derive(Debug, Serialize, JsonSchema)]
struct FailureView {
    /// What kind of failure it was, such as `poison`.
    class: String,
    message: String,
    /// What failures of one cause have in common.
    cause: String,
    /// The handler that failed; absent when the message could not be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<String>,
    at: String,
}

impl ParkedView {
    pub(crate) fn of(service: &RunningService, parked: &Parked) -> Self {
        let failure = parked.failure.as_ref().map(|failure| FailureView {
            class: failure.class.to_string(),
            message: failure.message.clone(),
            cause: failure.cause.clone(),
            handler: failure.handler.as_ref().map(ToString::to_string),
            at: failure.at.to_string(),
        });
        let inbox = &parked.id.inbox;
        Self {
            service: service.name().to_string(),
            id: parked.id.to_string(),
            state: parked.state.into(),
            revision: parked.revision,
            group: inbox.group.to_string(),
            topic: inbox.topic.to_string(),
            partition: inbox.partition,
            offset: parked.id.offset,
            key: key_text(parked.message.key.as_ref()),
            event_id: parked.event_id.as_ref().map(ToString::to_string),
            event_type: parked
                .event_type
                .as_ref()
                .map(|event_type| event_type.name.to_string()),
            schema_version: parked
                .event_type
                .as_ref()
                .map(|event_type| event_type.version),
            correlation_id: parked.correlation_id.as_ref().map(ToString::to_string),
            tries: parked.tries,
            redrives: parked.redrives,
            due: parked.due.map(|due| due.to_string()),
            parked_at: parked.parked_at.to_string(),
            edited: parked.edited.is_some(),
            failure,
        }
    }

    /// Where a page that ends with it is gone on from.
    pub(super) fn cursor(&self) -> String {
        format!("{}/{}", self.service, self.id)
    }
}

/// A parked message, with what it holds.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ParkedDetail {
    #[serde(flatten)]
    parked: ParkedView,
    /// How many wait behind it, counted up to 1,000.
    behind: usize,
    headers: Vec<HeaderView>,
    /// The value as it came.
    value: Content,
    /// The value that an operator put in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_value: Option<Content>,
}

impl ParkedDetail {
    pub(super) async fn of(service: &RunningService, parked: &Parked) -> Result<Self, Problem> {
        let filter = ParkedFilter {
            inbox: Some(parked.id.inbox.clone()),
            lane: Some(parked.lane.clone()),
            state: Some(ParkedState::Waiting),
            ..ParkedFilter::default()
        };
        let behind = if parked.state.is_head() {
            each_parked(&**service.store(), filter, BEHIND_MAX, |_| true).await?
        } else {
            0
        };
        Ok(Self {
            parked: ParkedView::of(service, parked),
            behind,
            headers: HeaderView::all(&parked.message.headers),
            value: Content::of(parked.message.value.as_ref()),
            edited_value: parked
                .edited
                .as_ref()
                .map(|edited| Content::of(Some(edited))),
        })
    }
}
