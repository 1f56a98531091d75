//! Starting an app: which topics and stores a service gets that says nothing of them, and what is refused. And stopping
//! one.

use std::sync::Arc;

use factum::{
    App, Broker, Env, ErrorClass, Failure, GroupSpec, Reaction, Reactor, Recorded, Running,
    Service, Sqlite, SqliteOptions, Status, Topic, TopicSpec, reactor,
};
use factum_testkit::{Gate, MemoryTopicsDisk, TestEnv};

use crate::world::{Account, AccountCommand, AccountEvent, until};

fn reading(name: &'static str) -> Service {
    let ignore = reactor("ignore", |_: &factum::Recorded<AccountEvent>, _| Ok(()));
    Service::new(name).group(GroupSpec::new("reading").on(ignore))
}

fn outside() -> (Env, Arc<dyn Broker>) {
    let env = TestEnv::seeded(3);
    let topics = MemoryTopicsDisk::new();
    let broker = topics.open(env.env());
    (env.env().clone(), Arc::new(broker))
}

async fn partitions(broker: &Arc<dyn Broker>, topic: &str) -> Option<u32> {
    let topics = broker.topics().await.unwrap();
    let spec = topics.iter().find(|spec| spec.topic.as_str() == topic);
    spec.map(|spec| spec.partitions)
}

async fn store(env: &Env, name: &'static str) -> (tempfile::TempDir, Arc<Sqlite>) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&SqliteOptions::new(directory.path())).unwrap();
    sqlite
        .store(&factum::ServiceName::of(name), env)
        .await
        .unwrap();
    (directory, Arc::new(sqlite))
}

#[tokio::test]
async fn a_topic_that_nobody_describes_is_made_with_its_dead_letters() {
    let (env, broker) = outside();
    let (_directory, sqlite) = store(&env, "reader").await;
    let app = App::new(env, broker.clone()).stores(sqlite).partitions(3);
    let running = app.service(reading("reader")).start().await.unwrap();
    assert_eq!(partitions(&broker, "accounts").await, Some(3));
    assert_eq!(partitions(&broker, "accounts.dlq").await, Some(3));
    running.stop().await;
}

#[tokio::test]
async fn a_topic_that_another_program_made_is_taken_as_it_is() {
    let (env, broker) = outside();
    let foreign = TopicSpec::new(Topic::of("accounts"), 5);
    broker.ensure_topic(&foreign).await.unwrap();
    let (_directory, sqlite) = store(&env, "reader").await;
    let app = App::new(env, broker.clone()).stores(sqlite);
    let running = app.service(reading("reader")).start().await.unwrap();
    assert_eq!(partitions(&broker, "accounts").await, Some(5));
    running.stop().await;
}

#[tokio::test]
async fn one_service_describes_a_topic_for_all_of_the_app() {
    let (env, broker) = outside();
    let (_directory, sqlite) = store(&env, "reader").await;
    let writer = Service::new("writer")
        .aggregate::<Account>()
        .topic(TopicSpec::new(Topic::of("accounts"), 2));
    let app = App::new(env, broker.clone()).stores(sqlite);
    // The reader starts first, and takes the other's word for it.
    let app = app.service(reading("reader")).service(writer);
    let running = app.start().await.unwrap();
    assert_eq!(partitions(&broker, "accounts").await, Some(2));
    running.stop().await;
}

#[tokio::test]
async fn a_service_without_a_store_is_refused_in_words() {
    let (env, broker) = outside();
    let app = App::new(env, broker).service(reading("reader"));
    let error = app.start().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fatal);
    let text = format!("{error:#}");
    assert!(
        text.contains("`reader`") && text.contains("App::stores"),
        "{text}"
    );
}

#[tokio::test]
async fn stores_that_the_app_opened_are_closed_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let app = App::embedded(directory.path()).await.unwrap();
    let running = app.service(reading("reader")).start().await.unwrap();
    let in_use = App::embedded(directory.path()).await.unwrap_err();
    assert_eq!(in_use.class(), ErrorClass::Fatal, "{in_use:#}");
    running.stop().await;
    drop(App::embedded(directory.path()).await.unwrap());
}

#[tokio::test]
async fn two_services_with_one_group_are_refused_since_each_would_get_a_part() {
    let (env, broker) = outside();
    let app = App::new(env, broker).service(reading("one"));
    let error = app.service(reading("other")).start().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fatal);
    let text = format!("{error:#}");
    for name in ["`one`", "`other`", "`reading`"] {
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn a_handler_whose_name_is_none_is_refused_before_its_first_message() {
    let (env, broker) = outside();
    let charge = reactor("charge card", |_: &Recorded<AccountEvent>, _| Ok(()));
    let service = Service::new("payment").group(GroupSpec::new("payment").on(charge));
    let error = App::new(env, broker).service(service).start().await;
    let text = format!("{:#}", error.unwrap_err());
    assert!(text.contains("`charge card`"), "{text}");
}

/// A handler that says when it runs, and waits until it may go on.
struct Slow {
    runs: Gate,
    goes_on: Gate,
}

impl Reactor for Slow {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "slow"
    }

    async fn react(&self, _: &Recorded<AccountEvent>, _: &mut Reaction) -> Result<(), Failure> {
        self.runs.open();
        self.goes_on.passed().await;
        Ok(())
    }
}

/// A service in whose handler a message is, with the gate that lets it go on.
async fn busy() -> (tempfile::TempDir, Arc<Running>, Gate) {
    let (env, broker) = outside();
    let (directory, sqlite) = store(&env, "slow").await;
    let (runs, goes_on) = (Gate::closed(), Gate::closed());
    let slow = Slow {
        runs: runs.clone(),
        goes_on: goes_on.clone(),
    };
    let service = Service::new("slow")
        .aggregate::<Account>()
        .group(GroupSpec::new("slow").on(slow));
    let app = App::new(env, broker).stores(sqlite).service(service);
    let running = app.start().await.unwrap();
    let commands = running.service("slow").unwrap().commands();
    let deposit = AccountCommand::Deposit(1);
    commands.execute::<Account>("a", deposit).await.unwrap();
    runs.passed().await;
    (directory, Arc::new(running), goes_on)
}

#[tokio::test]
async fn whoever_stops_a_service_that_is_being_stopped_waits_as_well() {
    let (_directory, running, goes_on) = busy().await;
    let stop = || {
        let running = running.clone();
        tokio::spawn(async move { running.stop().await })
    };
    let first = {
        let running = running.clone();
        tokio::spawn(async move { running.service("slow").unwrap().stop().await })
    };
    let service = running.service("slow").unwrap();
    until("the first stop began", async || !service.is_running()).await;
    let second = stop();
    tokio::task::yield_now().await;
    assert!(!first.is_finished() && !second.is_finished());
    goes_on.open();
    second.await.unwrap();
    assert!(first.is_finished() || first.await.is_ok());
    // The store was open until the handler's commit was in it.
    let parts = service.health().parts();
    let stopped = |(status, _): &(Status, _)| *status == Status::Stopped;
    assert!(parts.values().all(stopped), "{parts:?}");
}

#[tokio::test]
async fn a_service_that_is_started_while_it_stops_runs_afterwards() {
    let (_directory, running, goes_on) = busy().await;
    let service = running.service("slow").unwrap();
    let (stop, start) = (service.stop(), async {
        until("the stop began", async || !service.is_running()).await;
        goes_on.open();
        service.start().await;
    });
    tokio::join!(stop, start);
    assert!(service.is_running());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_given_up_is_not_in_flight_any_more() {
    let (_directory, running, _goes_on) = busy().await;
    let in_flight = async || {
        let text = running.metrics().await;
        let line = text
            .lines()
            .find(|line| line.starts_with("factum_consumer_in_flight{"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(in_flight().await, "1");
    running.service("slow").unwrap().stop().await;
    assert_eq!(in_flight().await, "0");
}
