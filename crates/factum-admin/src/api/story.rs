//! The story of one correlation id: all its events in all services, causes before their effects, and what of it is
//! stuck.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use factum::{MessageId, ParkedFilter, Position, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    log::EventView,
    page::{each_parked, weight_of_record},
    parked::ParkedView,
};
use crate::{
    Admin,
    web::{FromPath, Problem},
};

/// How many events of a story are read from one service.
const EVENTS_MAX: usize = 1_000;
/// How many parked messages of one service are looked through for those of the story.
const PARKED_MAX: usize = 2_000;

/// A story.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoryView {
    correlation_id: String,
    /// Its events, each behind the one that led to it.
    events: Vec<StoryEvent>,
    /// What of it is parked.
    parked: Vec<ParkedView>,
    /// Whether there is more than is shown.
    cut: bool,
}

/// An event of a story.
#[derive(Debug, Serialize, JsonSchema)]
struct StoryEvent {
    /// How many events led to it, one after another.
    depth: u32,
    #[serde(flatten)]
    event: EventView,
}

pub(crate) async fn story(
    State(admin): State<Admin>,
    FromPath(correlation): FromPath<String>,
) -> Result<Json<StoryView>, Problem> {
    let id = MessageId::from(correlation.as_str());
    let (mut events, mut parked, mut cut) = (Vec::new(), Vec::new(), false);
    let mut room = admin.room(EVENTS_MAX);
    for service in admin.running().services() {
        let store = service.store();
        room = room.for_more(EVENTS_MAX);
        let mut last = Position::ZERO;
        loop {
            let asked = room.to_read();
            let records = store.read_correlated(&id, last, asked.max(1)).await?;
            let taken = records
                .iter()
                .take_while(|record| room.takes(weight_of_record(record)))
                .count();
            let shown = &records[..taken];
            events.extend(shown.iter().map(|record| EventView::of(service, record)));
            last = shown.last().map_or(last, |record| record.at.position);
            cut |= taken < records.len();
            if taken < asked || asked == 0 {
                break;
            }
        }
        let found = each_parked(&**store, ParkedFilter::default(), PARKED_MAX, |one| {
            if one.correlation_id.as_ref() == Some(&id) {
                parked.push(ParkedView::of(service, &one));
            }
            true
        });
        cut |= found.await? == PARKED_MAX;
    }
    if events.is_empty() && parked.is_empty() {
        return Err(Problem::not_found(format!(
            "nothing belongs to the correlation id `{}`",
            crate::admin::shown(&correlation)
        )));
    }
    let events = in_order(events)
        .into_iter()
        .map(|(depth, event)| StoryEvent { depth, event })
        .collect();
    Ok(Json(StoryView {
        correlation_id: correlation,
        events,
        parked,
        cut,
    }))
}

/// The events of several stories of one correlation id as one story: by time, but never before the one that led to it.
/// For who asks several processes. Each is an object as `GET /admin/stories/{correlation}` has it, and `depth` is written
/// anew; what is no object is told first, as it is.
pub fn causes_first(events: Vec<Value>) -> Vec<Value> {
    let events = events.into_iter().map(|event| Read {
        time: event["timestamp"]
            .as_str()
            .and_then(|time| time.parse().ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
        event,
    });
    let told = in_order(events.collect());
    let event = |(depth, mut read): (u32, Read)| {
        if let Value::Object(event) = &mut read.event {
            event.insert("depth".into(), depth.into());
        }
        read.event
    };
    told.into_iter().map(event).collect()
}

/// An event that another process has told.
struct Read {
    event: Value,
    time: Timestamp,
}

impl Told for Read {
    fn id(&self) -> &str {
        self.event["event_id"].as_str().unwrap_or_default()
    }

    fn cause(&self) -> Option<&str> {
        self.event["causation_id"].as_str()
    }

    fn when(&self) -> (Timestamp, &str, u64) {
        let service = self.event["service"].as_str().unwrap_or_default();
        let position = self.event["position"].as_u64().unwrap_or(0);
        (self.time, service, position)
    }
}

/// What an event is to its story.
trait Told {
    fn id(&self) -> &str;
    fn cause(&self) -> Option<&str>;
    /// When it happened, as its service's clock had it; the rest makes the order whole.
    fn when(&self) -> (Timestamp, &str, u64);
}

impl Told for EventView {
    fn id(&self) -> &str {
        &self.event_id
    }

    fn cause(&self) -> Option<&str> {
        self.causation_id.as_deref()
    }

    fn when(&self) -> (Timestamp, &str, u64) {
        (self.time, &self.service, self.position)
    }
}

/// The events by time, but never before the one that led to them: clocks differ. With each, how many led to it.
fn in_order<E: Told>(mut events: Vec<E>) -> Vec<(u32, E)> {
    events.sort_by(|left, right| left.when().cmp(&right.when()));
    let known: BTreeSet<String> = events.iter().map(|event| event.id().to_owned()).collect();
    let mut depths: BTreeMap<String, u32> = BTreeMap::new();
    let mut told = Vec::with_capacity(events.len());
    while !events.is_empty() {
        let mut waiting = Vec::new();
        let before = told.len();
        for event in events {
            let cause = event
                .cause()
                .filter(|cause| known.contains(*cause) && *cause != event.id());
            let depth = match cause.map(|cause| depths.get(cause)) {
                None => 0,
                Some(Some(depth)) => depth + 1,
                Some(None) => {
                    waiting.push(event);
                    continue;
                }
            };
            depths.entry(event.id().to_owned()).or_insert(depth);
            told.push((depth, event));
        }
        if told.len() == before {
            // Foreign events may name each other as their causes: they are told by time alone.
            told.extend(waiting.into_iter().map(|event| (0, event)));
            break;
        }
        events = waiting;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Step(&'static str, Option<&'static str>, &'static str);

    impl Told for Step {
        fn id(&self) -> &str {
            self.0
        }
        fn cause(&self) -> Option<&str> {
            self.1
        }
        fn when(&self) -> (Timestamp, &str, u64) {
            let time = format!("2026-03-02T{}Z", self.2);
            (time.parse().unwrap(), "", 0)
        }
    }

    fn told(steps: Vec<Step>) -> Vec<(u32, &'static str)> {
        in_order(steps)
            .into_iter()
            .map(|(depth, step)| (depth, step.0))
            .collect()
    }

    #[test]
    fn causes_come_first_though_clocks_differ() {
        let steps = vec![
            Step("shipped", Some("paid"), "10:00:01"),
            Step("paid", Some("created"), "10:00:03"),
            Step("created", None, "10:00:02"),
            Step("mailed", Some("created"), "10:00:04"),
        ];
        assert_eq!(
            told(steps),
            [(0, "created"), (1, "paid"), (1, "mailed"), (2, "shipped")]
        );
    }

    /// Written, `00Z` comes behind `00.5Z`: stories were once told in that order.
    #[test]
    fn whole_seconds_come_before_their_fractions() {
        let steps = vec![
            Step("later", None, "10:00:00.5"),
            Step("latest", None, "10:00:01"),
            Step("first", None, "10:00:00"),
            Step("between", None, "10:00:00.05"),
        ];
        let told: Vec<_> = told(steps).into_iter().map(|(_, id)| id).collect();
        assert_eq!(told, ["first", "between", "later", "latest"]);
    }

    #[test]
    fn stories_of_several_processes_are_one() {
        let event = |id: &str, cause: Option<&str>, service: &str, time: &str| {
            serde_json::json!({
                "event_id": id, "causation_id": cause, "service": service, "position": 1, "depth": 9,
                "timestamp": format!("2026-03-02T{time}Z"),
            })
        };
        let told = causes_first(vec![
            event("paid", Some("created"), "payment", "10:00:00"),
            event("created", None, "order", "10:00:01"),
        ]);
        let told: Vec<_> = told
            .iter()
            .map(|event| (event["event_id"].as_str().unwrap(), &event["depth"]))
            .collect();
        assert_eq!(told, [("created", &0.into()), ("paid", &1.into())]);
    }

    /// What is no event panicked whoever put the stories together.
    #[test]
    fn what_another_process_tells_need_not_be_an_event() {
        let told = causes_first(vec![
            "nonsense".into(),
            serde_json::json!({ "event_id": "1" }),
        ]);
        assert_eq!(told.len(), 2);
        assert!(told.contains(&"nonsense".into()));
    }

    #[test]
    fn circles_and_unknown_causes_are_told_all_the_same() {
        let steps = vec![
            Step("a", Some("b"), "10:00:01"),
            Step("b", Some("a"), "10:00:02"),
            Step("self", Some("self"), "10:00:03"),
            Step("lost", Some("gone"), "10:00:04"),
        ];
        assert_eq!(told(steps), [(0, "self"), (0, "lost"), (0, "a"), (0, "b")]);
    }
}
