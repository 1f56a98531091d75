//! Starting an app: which topics and stores a service gets that says nothing of them.

use std::sync::Arc;

use factum::{
    App, Broker, Env, ErrorClass, GroupSpec, Service, Sqlite, SqliteOptions, Topic, TopicSpec,
    reactor,
};
use factum_testkit::{MemoryTopicsDisk, TestEnv};

use crate::world::{Account, AccountEvent};

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
