//! The logs of the services: streams, events, and the state of an aggregate at any version.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use factum::{
    At, Category, LogFilter, Record, RecordKind, RecordState, RunningService, StreamId, Timestamp,
    Version,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    content::key_text,
    page::{Cursor, Limit, Name, Place, limit, weight_of_record},
};
use crate::{
    Admin,
    web::{FromPath, FromQuery, Problem},
};

/// A page of streams.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StreamList {
    streams: Vec<StreamLine>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A stream in a list.
#[derive(Debug, Serialize, JsonSchema)]
struct StreamLine {
    service: String,
    category: String,
    id: String,
    /// The version of its last event.
    version: u64,
    /// The position of its last event.
    position: u64,
}

/// An event, or another record of a log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EventView {
    /// The service whose log it is in.
    pub(crate) service: String,
    /// Its place: `<epoch>-<position>`.
    pub(crate) at: String,
    /// Its position in the log.
    pub(crate) position: u64,
    /// `event`, `message` or `import`.
    pub(crate) kind: &'static str,
    /// The category of its stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<String>,
    /// The id of its stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    /// Its version in its stream.
    pub(crate) version: u64,
    pub(crate) event_id: String,
    /// The stored name of its type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// The version of its type's schema.
    pub(crate) schema_version: u32,
    pub(crate) timestamp: String,
    /// The same, to sort by: as text, whole seconds come behind those with a fraction.
    #[serde(skip)]
    pub(crate) time: Timestamp,
    pub(crate) correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) causation_id: Option<String>,
    /// The topic that it is published to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) metadata: BTreeMap<String, factum::Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    /// `live`, `archived` or `erased`: only live ones have data.
    pub(crate) state: &'static str,
    /// The data, as it was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) data: Option<factum::Json>,
}

impl EventView {
    pub(crate) fn of(service: &RunningService, record: &Record) -> Self {
        let draft = &*record.draft;
        let to = draft.destination.as_ref();
        let live = record.state == RecordState::Live;
        let data = live.then(|| {
            str::from_utf8(&draft.data)
                .ok()
                .and_then(|text| factum::Json::parse(text).ok())
        });
        Self {
            service: service.name().to_string(),
            at: record.at.to_string(),
            position: record.at.position.0,
            kind: match draft.kind {
                RecordKind::Event => "event",
                RecordKind::Message => "message",
                RecordKind::Import => "import",
            },
            category: draft
                .stream
                .as_ref()
                .map(|stream| stream.category().to_string()),
            stream: draft.stream.as_ref().map(|stream| stream.id().to_owned()),
            version: record.version.0,
            event_id: draft.event_id.to_string(),
            event_type: draft.event_type.name.to_string(),
            schema_version: draft.event_type.version,
            timestamp: draft.timestamp.to_string(),
            time: draft.timestamp,
            correlation_id: draft.correlation_id.to_string(),
            causation_id: draft.causation_id.as_ref().map(ToString::to_string),
            topic: to.map(|to| to.topic.to_string()),
            partition: to.map(|to| to.partition),
            key: key_text(to.and_then(|to| to.key.as_ref())),
            metadata: draft.metadata.clone(),
            tags: draft.tags.iter().map(ToString::to_string).collect(),
            state: match record.state {
                RecordState::Live => "live",
                RecordState::Archived => "archived",
                RecordState::Erased => "erased",
            },
            data: data.flatten(),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamsAsked {
    /// Only of this service.
    service: Option<String>,
    /// Only of this category.
    #[schemars(with = "Option<Name>")]
    category: Option<String>,
    /// Go on behind this: `next` of the page before.
    #[schemars(with = "Option<Cursor>")]
    after: Option<String>,
    /// How many at most.
    #[schemars(with = "Option<Limit>")]
    limit: Option<u64>,
}

/// A category that a query names.
fn category(name: Option<String>) -> Result<Option<Category>, Problem> {
    let category = name.map(Category::new).transpose();
    category.map_err(|error| {
        Problem::invalid("the category can't be right").field("category", error.to_string())
    })
}

/// The cursor of a list over several services: the service, and where to go on in it.
pub(crate) fn cursor(after: Option<&str>) -> Result<Option<(&str, &str)>, Problem> {
    let Some(after) = after else { return Ok(None) };
    let parts = after
        .split_once('/')
        .filter(|(service, rest)| !service.is_empty() && !rest.is_empty());
    parts
        .map(Some)
        .ok_or_else(|| bad_cursor("pass on `next` of the page before, as it is"))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "an error, as `map_err` gives it"
)]
pub(crate) fn bad_cursor(what: impl ToString) -> Problem {
    Problem::invalid("the place to go on from can't be right").field("after", what.to_string())
}

pub(crate) async fn streams(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<StreamsAsked>,
) -> Result<Json<StreamList>, Problem> {
    let limit = limit(asked.limit)?;
    let category = category(asked.category)?;
    let after = cursor(asked.after.as_deref())?;
    let mut streams: Vec<StreamLine> = Vec::new();
    let mut more = false;
    for service in admin.services(asked.service.as_deref())? {
        let after = match after {
            Some((name, _)) if service.name().as_str() < name => continue,
            Some((name, stream)) if service.name().as_str() == name => {
                Some(stream.parse::<StreamId>().map_err(bad_cursor)?)
            }
            _ => None,
        };
        // One more than fits tells whether there is another page.
        let room = limit - streams.len() + 1;
        for found in service
            .store()
            .streams(category.as_ref(), after.as_ref(), room)
            .await?
        {
            if streams.len() == limit {
                more = true;
                break;
            }
            streams.push(StreamLine {
                service: service.name().to_string(),
                category: found.stream.category().to_string(),
                id: found.stream.id().to_owned(),
                version: found.version.0,
                position: found.last.0,
            });
        }
        if more {
            break;
        }
    }
    let last = streams.last().filter(|_| more);
    let next = last.map(|last| format!("{}/{}/{}", last.service, last.category, last.id));
    Ok(Json(StreamList { streams, next }))
}

/// The stream that a path names.
fn stream_id(category: &str, id: &str) -> Result<StreamId, Problem> {
    let category =
        Category::new(category).map_err(|error| Problem::not_found(error.to_string()))?;
    StreamId::new(category, id).map_err(|error| Problem::not_found(error.to_string()))
}

fn no_stream(stream: &StreamId) -> Problem {
    Problem::not_found(format!("stream `{stream}` has no events"))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamAsked {
    /// Only events behind this version.
    after: Option<u64>,
    /// How many at most.
    #[schemars(with = "Option<Limit>")]
    limit: Option<u64>,
}

/// A page of a stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StreamView {
    service: String,
    category: String,
    id: String,
    /// The version of its last event.
    version: u64,
    events: Vec<EventView>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

pub(crate) async fn stream(
    State(admin): State<Admin>,
    FromPath((service, category, id)): FromPath<(String, String, String)>,
    FromQuery(asked): FromQuery<StreamAsked>,
) -> Result<Json<StreamView>, Problem> {
    let service = admin.service(&service)?;
    let stream = stream_id(&category, &id)?;
    let mut room = admin.room(limit(asked.limit)?);
    let mut last = Version(asked.after.unwrap_or(0));
    let mut events = Vec::new();
    let version = loop {
        let from = Version(last.0.saturating_add(1));
        let asked = room.to_read();
        let page = service.store().read_stream(&stream, from, asked).await?;
        let taken = page
            .records
            .iter()
            .take_while(|record| room.takes(weight_of_record(record)));
        let before = events.len();
        events.extend(taken.map(|record| EventView::of(service, record)));
        let taken = events.len() - before;
        if let Some(record) = page.records[..taken].last() {
            last = record.version;
        }
        if taken < asked || room.to_read() == 0 {
            break page.version;
        }
    };
    if version == Version::ZERO {
        return Err(no_stream(&stream));
    }
    Ok(Json(StreamView {
        service: service.name().to_string(),
        category: stream.category().to_string(),
        id: stream.id().to_owned(),
        version: version.0,
        next: (last < version && !events.is_empty()).then_some(last.0),
        events,
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateAsked {
    /// The version; by default the last.
    version: Option<u64>,
}

/// The state of an aggregate.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StateView {
    service: String,
    category: String,
    id: String,
    /// The version that the state is of.
    version: u64,
    #[schemars(with = "serde_json::Value")]
    state: factum::Json,
}

pub(crate) async fn state(
    State(admin): State<Admin>,
    FromPath((service, category, id)): FromPath<(String, String, String)>,
    FromQuery(asked): FromQuery<StateAsked>,
) -> Result<Json<StateView>, Problem> {
    let service = admin.service(&service)?;
    let stream = stream_id(&category, &id)?;
    if !service.categories().any(|known| known == stream.category()) {
        let known: Vec<_> = service.categories().map(Category::as_str).collect();
        return Err(Problem::not_found(format!(
            "service `{}` has no aggregate `{}` (known: {})",
            service.name(),
            stream.category(),
            known.join(", ")
        )));
    }
    let last = service
        .store()
        .read_stream(&stream, Version(1), 1)
        .await?
        .version;
    if last == Version::ZERO {
        return Err(no_stream(&stream));
    }
    let version = asked.version.map(Version);
    if let Some(version) = version.filter(|version| *version > last) {
        return Err(Problem::not_found(format!(
            "stream `{stream}` has no version {version}: its last is {last}"
        )));
    }
    let (state, version) = service.state_at(&stream, version).await?;
    Ok(Json(StateView {
        service: service.name().to_string(),
        category: stream.category().to_string(),
        id: stream.id().to_owned(),
        version: version.0,
        state,
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsAsked {
    /// The service. Needed when there are several: their logs have no order between them.
    service: Option<String>,
    /// Only of this category.
    #[schemars(with = "Option<Name>")]
    category: Option<String>,
    /// Only of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Go on behind this place, `<epoch>-<position>`: `next` of the page before.
    #[schemars(with = "Option<Place>")]
    after: Option<String>,
    /// How many at most.
    #[schemars(with = "Option<Limit>")]
    limit: Option<u64>,
}

/// A page of a log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EventList {
    events: Vec<EventView>,
    /// Where to go on. At the end of the log it is where new events will come.
    next: String,
    /// Whether the end of the log was reached.
    end: bool,
}

pub(crate) async fn events(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<EventsAsked>,
) -> Result<Json<EventList>, Problem> {
    let services = admin.services(asked.service.as_deref())?;
    let [service] = services[..] else {
        let known: Vec<_> = services
            .iter()
            .map(|service| service.name().as_str())
            .collect();
        return Err(Problem::invalid("each service has a log of its own").field(
            "service",
            format!("is missing: one of {}", known.join(", ")),
        ));
    };
    let after: At = asked
        .after
        .map_or(Ok(At::ZERO), |after| after.parse().map_err(bad_cursor))?;
    let filter = LogFilter {
        categories: category(asked.category)?.into_iter().collect(),
        types: asked.event_type.into_iter().collect(),
        sent: false,
    };
    let (mut events, mut next) = (Vec::new(), after);
    let mut to_look_at = limit(asked.limit)?;
    let mut room = admin.room(to_look_at);
    let end = loop {
        let asked = to_look_at.min(room.to_read());
        let page = service.store().read_log(next, &filter, asked).await?;
        to_look_at -= asked;
        let before = events.len();
        let fitting = page
            .records
            .iter()
            .take_while(|record| room.takes(weight_of_record(record)));
        events.extend(fitting.map(|record| EventView::of(service, record)));
        let taken = events.len() - before;
        if taken < page.records.len() {
            // What did not fit begins the next page.
            next = page.records[..taken]
                .last()
                .map_or(next, |record| record.at);
            break false;
        }
        next = page.next;
        let end = next.position >= page.head.position;
        if end || to_look_at == 0 {
            break end;
        }
    };
    Ok(Json(EventList {
        events,
        next: next.to_string(),
        end,
    }))
}
