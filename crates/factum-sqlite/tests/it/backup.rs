//! Restores: which epoch they open, so that nobody takes new facts for old ones.

use std::fs;

use factum_core::{
    At, Broker as _, Epoch, ExpectedVersion, Headers, Outgoing, Store as _, StoreId, Topic,
    TopicSpec, chain::Link,
};
use factum_sqlite::{Restore, Sqlite};

use crate::support::{AT, Directory, appending, env, fresh, store};

fn restore() -> Restore {
    Restore {
        at: AT,
        epoch_min: Epoch(0),
        reason: "a test".into(),
    }
}

/// Publishes what looks as if the relay of `source` had sent it in `epoch`.
async fn publish(sqlite: &Sqlite, source: StoreId, epoch: u64) {
    let broker = sqlite.broker(&env()).await.expect("the broker opens");
    let topic = Topic::of("orders");
    let spec = TopicSpec::new(topic.clone(), 1);
    broker.ensure_topic(&spec).await.expect("the topic is made");
    let at = At::new(epoch, 1);
    let link = Link {
        source,
        at,
        previous: At::ZERO,
    };
    let mut headers = Headers::new();
    for (name, value) in link.to_headers() {
        headers.push(name, value);
    }
    let message = Outgoing {
        topic,
        partition: 0,
        key: None,
        headers,
        value: None,
        timestamp: AT,
    };
    let mut producer = broker.producer().await.expect("a producer is made");
    producer
        .send(vec![(0, message)])
        .await
        .expect("it is handed over");
    for report in producer.reports().await.expect("it is reported") {
        report.result.expect("it is in the topic");
    }
}

/// The operator had to know which epochs were used: an older one was opened, and the relay refused to publish.
#[tokio::test]
async fn a_restore_opens_an_epoch_greater_than_any_that_the_topics_know_of_the_store() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    let commit = appending("order/1", ExpectedVersion::Any);
    order.commit(commit).await.expect("it is applied");
    let backup = directory.path().join("order.backup");
    order.backup(&backup).await.expect("a backup is written");
    for epoch in [3, 60, 7] {
        publish(&sqlite, order.identity().id, epoch).await;
    }
    publish(&sqlite, StoreId(fresh()), 90).await;
    drop(order);
    sqlite.close().await;
    let restored =
        Sqlite::restore(&backup, &directory.options(), &restore()).expect("it is restored");
    assert_eq!(restored.epoch, Epoch(61));
}

/// A witness outlives its file, and knows which epoch was the last.
#[tokio::test]
async fn a_restore_in_place_of_a_lost_file_opens_an_epoch_greater_than_the_witness_knows() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    let backup = directory.path().join("order.backup");
    order.backup(&backup).await.expect("a backup is written");
    order
        .open_epoch(Epoch(40), AT, "a test")
        .await
        .expect("it is opened");
    let commit = appending("order/1", ExpectedVersion::Any);
    order.commit(commit).await.expect("it is applied");
    drop(order);
    sqlite.close().await;
    fs::remove_file(directory.file()).expect("it is lost");
    let options = directory.options();
    Sqlite::restore(&backup, &options, &restore()).expect_err("it is not said that it is lost");
    let options = options.new_epoch(AT, "it is lost");
    let restored = Sqlite::restore(&backup, &options, &restore()).expect("it is restored");
    assert_eq!(restored.epoch, Epoch(41));
}
