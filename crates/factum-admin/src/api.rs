//! The routes of the admin API, in one table; the modules hold their handlers and the types on the wire.

use crate::{
    Admin,
    web::{Api, Route},
};

mod audit;
mod consumers;
mod content;
mod health;
mod log;
mod losses;
pub(crate) mod page;
mod parked;
mod projections;
mod services;
mod stores;
mod story;
pub use story::causes_first;
mod topics;

const NO_SERVICE: &str = "There is no such service.";
const NO_PARKED: &str = "No such message is parked: it was handled or given up, or never was.";
const NO_TOPIC: &str = "There is no such topic.";
const CHANGED: &str = "It has changed since it was seen.";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn table() -> Api<Admin> {
    let routes = vec![
        Route::get("/health", "health", "How the process and its parts are doing", health::health)
            .answers::<health::HealthView>(200, "It lives. `status` says how well."),
        Route::get("/ready", "ready", "Whether every service can do its work", health::ready)
            .answers::<health::ReadyView>(200, "It is ready.")
            .refuses(503, "Not every service can do its work: `errors` names the parts."),
        Route::get("/metrics", "metrics", "All metrics, for Prometheus", health::metrics).answers_text(
            200,
            OPEN_METRICS,
            "The metrics, as OpenMetrics text.",
        ),
        Route::get("/admin/services", "services", "All services, and where each stands", services::list)
            .answers::<services::ServiceList>(200, "The services."),
        Route::post("/admin/services/{name}/stop", "stop_service", "Stop a service's background work in good order: its relay, consumers, projections and timers. Commands and queries are answered on", services::stop)
            .path("name", "The service.")
            .body_or_none::<page::Why>()
            .answers::<services::ServiceView>(200, "It has stopped.")
            .refuses(404, NO_SERVICE),
        Route::post("/admin/services/{name}/start", "start_service", "Start a service's background work again", services::start)
            .path("name", "The service.")
            .body_or_none::<page::Why>()
            .answers::<services::ServiceView>(200, "It runs.")
            .refuses(404, NO_SERVICE),
        Route::post("/admin/services/{name}/epoch", "open_epoch", "Open a new epoch in a service's store that was restored or copied, so that nobody takes new facts for old ones. Its background work is stopped for it, and started again", stores::open_epoch)
            .path("name", "The service.")
            .body::<stores::OpenEpoch>()
            .answers::<services::ServiceView>(200, "It is opened.")
            .refuses(404, NO_SERVICE)
            .refuses(409, "The epoch is not greater than every one that the store knows, or another process has the store."),
        Route::post("/admin/services/{name}/backup", "backup", "Write all that a service's store holds, as of one moment, into a new file, while it goes on", stores::backup)
            .path("name", "The service.")
            .body_or_none::<page::Why>()
            .answers::<stores::BackupView>(200, "It is written.")
            .refuses(404, NO_SERVICE)
            .refuses(501, "This app makes no backups: its stores have means of their own."),
        Route::get("/admin/streams", "streams", "Streams, by service, category and id", log::streams)
            .query::<log::StreamsAsked>()
            .answers::<log::StreamList>(200, "The streams."),
        Route::get("/admin/streams/{service}/{category}/{id}", "stream", "The events of one stream", log::stream)
            .path("service", "The service.")
            .path("category", "The category.")
            .path("id", "The id, percent-encoded.")
            .query::<log::StreamAsked>()
            .answers::<log::StreamView>(200, "The events, oldest first.")
            .refuses(404, "There is no such service, or no such stream in it."),
        Route::get("/admin/streams/{service}/{category}/{id}/state", "state", "The state of an aggregate, as it is or was", log::state)
            .path("service", "The service.")
            .path("category", "The category.")
            .path("id", "The id, percent-encoded.")
            .query::<log::StateAsked>()
            .answers::<log::StateView>(200, "The state.")
            .refuses(404, "There is no such service, aggregate, stream or version."),
        Route::get("/admin/events", "events", "The log of one service, in the order of commits", log::events)
            .query::<log::EventsAsked>()
            .answers::<log::EventList>(200, "The events. A page with few or none may still have a `next`.")
            .refuses(409, "`after` is on no time line of the log: a restore went back before it."),
        Route::get("/admin/stories/{correlation}", "story", "All that belongs to one correlation id, in all services, causes before their effects", story::story)
            .path("correlation", "The correlation id, percent-encoded.")
            .answers::<story::StoryView>(200, "The story.")
            .refuses(404, "Nothing belongs to that id."),
        Route::get("/admin/consumers", "consumers", "Consumer groups: how far each has come, who works for it, what is parked", consumers::list)
            .query::<consumers::Asked>()
            .answers::<consumers::ConsumerList>(200, "The groups."),
        Route::post("/admin/consumers/{group}/{topic}/{partition}/accept", "accept_loss", "Let a group go on behind a place of a source, though messages before it are missing for good", losses::accept)
            .path("group", "The group.")
            .path("topic", "The topic.")
            .path_as::<u32>("partition", "The partition.")
            .body::<losses::Accept>()
            .answers::<losses::AcceptedView>(200, "It goes on behind that place, as soon as its owner has noticed.")
            .refuses(404, "There is no such service, group or topic.")
            .refuses(409, "It contradicts how the group stands."),
        Route::post("/admin/consumers/{group}/{topic}/{partition}/go-on", "go_on", "Let a group go on at an offset, where retention has passed what it reads next", losses::go_on)
            .path("group", "The group.")
            .path("topic", "The topic.")
            .path_as::<u32>("partition", "The partition.")
            .body::<losses::GoOn>()
            .answers::<losses::GoneOnView>(200, "It goes on there, as soon as its owner has noticed.")
            .refuses(404, "There is no such service, group or topic.")
            .refuses(409, "It contradicts how the group stands."),
        Route::post("/admin/consumers/{group}/{topic}/{partition}/retire", "retire_source", "Forget a source that publishes to a partition no more, which makes room for another", losses::retire)
            .path("group", "The group.")
            .path("topic", "The topic.")
            .path_as::<u32>("partition", "The partition.")
            .body::<losses::Retire>()
            .answers::<losses::RetiredView>(200, "It is forgotten, as soon as its owner has noticed.")
            .refuses(404, "There is no such service, group or topic.")
            .refuses(409, "It contradicts how the group stands."),
        Route::post("/admin/services/{service}/relay/rewind", "rewind_relay", "Publish all records behind a position again; whoever has them knows them as duplicates", losses::rewind)
            .path("service", "The service whose log is published.")
            .body::<losses::Rewind>()
            .answers::<losses::Rewound>(200, "They will be published by the relay.")
            .refuses(404, NO_SERVICE)
            .refuses(409, "It contradicts how the relay stands."),
        Route::get("/admin/projections", "projections", "Projections: how far each has come", projections::list)
            .query::<projections::Asked>()
            .answers::<projections::ProjectionList>(200, "The projections."),
        Route::post("/admin/projections/{service}/{name}/rebuild", "rebuild", "Build a projection's rows anew, while the old ones are served", projections::rebuild)
            .path("service", "The service.")
            .path("name", "The projection.")
            .body_or_none::<page::Why>()
            .answers::<projections::ProjectionView>(202, "It has been asked for.")
            .refuses(404, "There is no such service, or no such projection in it.")
            .refuses(409, "It contradicts how the projection stands."),
        Route::post("/admin/projections/{service}/{name}/resume", "resume", "Let a projection that has stopped try its event again", projections::resume)
            .path("service", "The service.")
            .path("name", "The projection.")
            .body_or_none::<page::Why>()
            .answers::<projections::ProjectionView>(202, "It has been asked for.")
            .refuses(404, "There is no such service, or no such projection in it.")
            .refuses(409, "It contradicts how the projection stands."),
        Route::get("/admin/parked", "parked", "Parked messages: retrying, dead, waiting behind one of these, discarded", parked::list)
            .query::<parked::Asked>()
            .answers::<parked::ParkedList>(200, "The messages, and how many there are of each cause."),
        Route::post("/admin/parked/redrive", "redrive_many", "Let dead letters be tried again: those of a key, of a group, of a cause, or all", parked::redrive_many)
            .body::<parked::RedriveMany>()
            .answers::<parked::RedrivenView>(200, "They will be tried by the owners of their partitions.")
            .refuses(409, CHANGED),
        Route::get("/admin/parked/{id}", "parked_one", "One parked message, with what it holds", parked::one)
            .path("id", "`<group>:<topic>:<partition>:<offset>`.")
            .answers::<parked::ParkedDetail>(200, "The message.")
            .refuses(404, NO_PARKED),
        Route::post("/admin/parked/{id}/redrive", "redrive", "Let a dead letter be tried again", parked::redrive)
            .path("id", "`<group>:<topic>:<partition>:<offset>`.")
            .body_or_none::<parked::RedriveOne>()
            .answers::<parked::ParkedDetail>(200, "It will be tried by the owner of its partition.")
            .refuses(404, NO_PARKED)
            .refuses(409, CHANGED),
        Route::post("/admin/parked/{id}/discard", "discard", "Give up a message; the next of its key goes on", parked::discard)
            .path("id", "`<group>:<topic>:<partition>:<offset>`.")
            .body::<parked::Discard>()
            .answers::<parked::ParkedDetail>(200, "It is given up, and kept for a while.")
            .refuses(404, NO_PARKED)
            .refuses(409, CHANGED),
        Route::post("/admin/parked/{id}/edit", "edit", "Put another value in place of a dead letter's; it stays dead until it is redriven", parked::edit)
            .path("id", "`<group>:<topic>:<partition>:<offset>`.")
            .body::<parked::Edit>()
            .answers::<parked::ParkedDetail>(200, "The original is kept beside it.")
            .refuses(404, NO_PARKED)
            .refuses(409, CHANGED),
        Route::get("/admin/audit", "audit", "Who did what, when and why, newest first", audit::list)
            .query::<audit::Asked>()
            .answers::<audit::AuditList>(200, "The entries."),
        Route::get("/admin/topics", "topics", "Topics and their partitions", topics::list)
            .answers::<topics::TopicList>(200, "The topics."),
        Route::get("/admin/topics/{topic}/messages", "messages", "The messages of a topic", topics::messages)
            .path("topic", "The topic.")
            .query::<topics::Asked>()
            .answers::<topics::MessageList>(200, "The messages: of one partition by offset, of several by time.")
            .refuses(404, NO_TOPIC),
        Route::post("/admin/topics/{topic}/messages", "publish", "Publish a message, as a producer in any language would", topics::publish)
            .path("topic", "The topic.")
            .body::<topics::Publish>()
            .answers::<topics::Published>(201, "It is in the topic.")
            .refuses(404, NO_TOPIC),
    ];
    // Whatever looks into a store or a broker may find that it doesn't answer.
    let routes = routes.into_iter().map(|route| match route.path {
        "/health" | "/ready" | "/metrics" => route,
        _ => route.can_be_unavailable(),
    });
    Api::new(
        "Factum admin API",
        env!("CARGO_PKG_VERSION"),
        "What happened and why, what is stuck, and the means to mend it.",
        routes.collect(),
    )
    .for_operators()
}
