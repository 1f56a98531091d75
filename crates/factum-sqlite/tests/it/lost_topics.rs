//! A directory that is lost with its topics, and remade from backups of its stores.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use factum_core::{
    At, Begin, Broker as _, Commit, Disposition, Epoch, ExpectedVersion, Group, Headers, InboxId,
    InboxRow, Input, Lane, MessageInput, Outgoing, RelayInput, Seen, Start, Store as _, Timestamp,
    Topic, TopicPartition, TopicSpec, Watermarks, chain::Link,
};
use factum_sqlite::{Restore, Sqlite, SqliteBroker, SqliteStore};

use crate::support::{AT, Directory, appending, commit, env, store};

fn place() -> TopicPartition {
    TopicPartition::new(Topic::of("orders"), 0)
}

fn inbox(group: &'static str) -> InboxId {
    InboxId {
        group: Group::of(group),
        topic: Topic::of("orders"),
        partition: 0,
    }
}

/// A source, its broker, and who reads it.
struct World {
    directory: Directory,
    sqlite: Sqlite,
    broker: SqliteBroker,
    order: Arc<SqliteStore>,
}

impl World {
    async fn new() -> Self {
        let directory = Directory::new();
        let sqlite = directory.open();
        let broker = sqlite.broker(&env()).await.expect("the broker opens");
        let spec = TopicSpec::new(Topic::of("orders"), 4);
        broker.ensure_topic(&spec).await.expect("the topic is made");
        let order = store(&sqlite, "order").await;
        Self {
            directory,
            sqlite,
            broker,
            order,
        }
    }

    fn at(&self, position: u64) -> At {
        match position {
            0 => At::ZERO,
            _ => At::new(self.order.identity().epoch.0, position),
        }
    }

    fn link(&self, position: u64) -> Link {
        Link {
            source: self.order.identity().id,
            at: self.at(position),
            previous: self.at(position - 1),
        }
    }

    /// Records that go to the partition, published up to a position, which lies at the offset before it.
    async fn publish(&self, up_to: u64) {
        let head = self.order.head().await.expect("there is a head").position.0;
        let mut producer = self.broker.producer().await.expect("a producer is made");
        for position in head + 1..=up_to {
            let mut one = appending("order/1", ExpectedVersion::Any);
            for draft in &mut one.appends[0].drafts {
                draft.destination.as_mut().expect("it is sent").partition = 0;
            }
            self.order.commit(one).await.expect("it is applied");
            let mut headers = Headers::new();
            for (name, value) in self.link(position).to_headers() {
                headers.push(name, value);
            }
            let message = Outgoing {
                topic: Topic::of("orders"),
                partition: 0,
                key: Some("order/1".into()),
                headers,
                value: Some(format!("{position}").into()),
                timestamp: AT,
            };
            producer
                .send(vec![(position, message)])
                .await
                .expect("it is handed over");
            for report in producer.reports().await.expect("it is reported") {
                report.result.expect("it is in the topic");
            }
        }
        let claim = self.order.claim_relay().await.expect("it is claimed");
        let input = Input::Relay(RelayInput {
            fence: claim.fence,
            checkpoint: self.at(up_to),
            lasts: vec![(Topic::of("orders"), 0, self.at(up_to))],
            rewind: false,
        });
        let commit = Commit { input, ..commit() };
        self.order.commit(commit).await.expect("it is saved");
    }

    /// A service whose group has finished the messages at these offsets.
    async fn reader(&self, service: &'static str, finished: &[u64]) -> Arc<SqliteStore> {
        let reader = store(&self.sqlite, service).await;
        let inbox = inbox(service);
        let row = reader
            .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
            .await;
        let fence = row.expect("it is claimed").fence;
        for offset in finished {
            let head = self.order.head().await.expect("there is a head");
            let seen = (0..head.position.0).map(|offset| Seen {
                from: offset,
                offset,
                void: false,
                link: Some(self.link(offset + 1)),
                timestamp: Timestamp::from_millis(1),
            });
            let input = Input::Message(MessageInput {
                inbox: inbox.clone(),
                fence,
                offset: *offset,
                lane: Lane::Key("order/1".into()),
                advance: seen.collect(),
                event_id: None,
                disposition: Disposition::Apply,
            });
            let commit = Commit { input, ..commit() };
            reader.commit(commit).await.expect("it is applied");
        }
        reader
    }

    /// A backup in the directory.
    async fn backup(&self, store: &SqliteStore) -> PathBuf {
        let service = store.identity().service;
        let file = self.directory.path().join(format!("{service}.backup"));
        store.backup(&file).await.expect("a backup is written");
        file
    }
}

fn restore(backup: &Path, into: &Directory) -> Result<(), factum_core::Error> {
    restore_at(AT, backup, into)
}

fn restore_at(at: Timestamp, backup: &Path, into: &Directory) -> Result<(), factum_core::Error> {
    let restore = Restore {
        at,
        epoch_min: Epoch(0),
        reason: "a lost disk".into(),
    };
    Sqlite::restore(backup, &into.options(), &restore).map(drop)
}

/// What the partition holds, by offset, and how far it reaches.
async fn held(sqlite: &Sqlite) -> (Vec<(u64, bytes::Bytes)>, Watermarks) {
    let broker = sqlite.broker(&env()).await.expect("the broker opens");
    let marks = broker.watermarks(&place()).await.expect("it is there");
    let held = broker.read(&place(), 0, 100).await.expect("they are read");
    let held = held
        .into_iter()
        .map(|message| (message.offset, message.value.expect("it has one")));
    (held.collect(), marks)
}

/// Messages as they were published at these offsets.
fn published<const N: usize>(offsets: [u64; N]) -> Vec<(u64, bytes::Bytes)> {
    offsets
        .map(|at| (at, format!("{}", at + 1).into()))
        .to_vec()
}

async fn row(sqlite: &Sqlite, service: &'static str) -> InboxRow {
    let store = store(sqlite, service).await;
    let row = store.inbox(&inbox(service)).await.expect("it is read");
    row.expect("it is there")
}

/// The offsets of the remade topic began at 0 again, below where the groups stood: they took nothing any more, and what
/// was on its way was lost.
#[tokio::test]
async fn topics_that_are_lost_begin_again_where_groups_had_come_to_and_relays_where_they_end() {
    let world = World::new().await;
    world.publish(6).await;
    let stock = world.reader("stock", &[0, 1, 3]).await;
    let stock = world.backup(&stock).await;
    let late = world.reader("late", &[0]).await;
    let late = world.backup(&late).await;
    // The newest backup is that of the source: it says that it published what is in no other one.
    world.publish(9).await;
    let mail = world.reader("mail", &[0, 1, 2, 3, 4, 5, 6, 7]).await;
    let mail = world.backup(&mail).await;
    let order = world.backup(&world.order).await;

    for backups in [
        [&stock, &late, &mail, &order],
        [&order, &mail, &late, &stock],
        [&mail, &stock, &order, &late],
    ] {
        let anew = Directory::new();
        for backup in backups {
            restore(backup, &anew).expect("it is restored");
        }
        let damages = Sqlite::verify(anew.path(), |_| {}).expect("it can be read");
        assert_eq!(damages.damages, [""; 0]);
        let sqlite = anew.open();
        let (held, marks) = held(&sqlite).await;
        assert_eq!(marks, Watermarks { first: 1, end: 9 }, "of {backups:?}");
        // Those at 6 and 7 are in no backup: the group that had not come to them gets them from the source.
        let expected = published([1, 2, 3, 4, 5, 8]);
        assert_eq!(held, expected, "of {backups:?}");
        let (stock, mail) = (row(&sqlite, "stock").await, row(&sqlite, "mail").await);
        assert_eq!(
            (stock.low, stock.is_done(3), stock.is_done(4)),
            (2, true, false)
        );
        assert_eq!(mail.low, 8);
        let order = store(&sqlite, "order").await;
        let relay = order.relay().await.expect("it is read");
        assert_eq!(relay.checkpoint, world.at(6), "of {backups:?}");
        assert_eq!(relay.lasts, [(Topic::of("orders"), 0, world.at(6))]);
    }
}

/// Backups that are made while all goes on are of different moments. The partition that they remade was taken for another
/// one, or kept its holes, according to which of them came in between.
#[tokio::test]
async fn backups_of_different_moments_remake_a_partition_in_any_order() {
    let world = World::new().await;
    let mut backups = Vec::new();
    // How far the topic had come, which messages the group had finished, and with which the backup so begins.
    for (service, published, finished) in [
        ("early", 5, 5), // carries 4
        ("slow", 8, 3),  // carries 3 to 7
        ("quick", 8, 8), // carries 7
        ("late", 12, 9), // carries 9 to 11
    ] {
        world.publish(published).await;
        let finished: Vec<_> = (0..finished).collect();
        let store = world.reader(service, &finished).await;
        backups.push(world.backup(&store).await);
    }
    let all = [0, 1, 2, 3];
    let orders = all.iter().flat_map(|a| all.map(|b| (*a, b)));
    for (a, b) in orders.filter(|(a, b)| a != b) {
        let rest: Vec<_> = all.into_iter().filter(|c| ![a, b].contains(c)).collect();
        for order in [[a, b, rest[0], rest[1]], [a, b, rest[1], rest[0]]] {
            let anew = Directory::new();
            for backup in order {
                restore(&backups[backup], &anew)
                    .unwrap_or_else(|error| panic!("{order:?}: {backup} is refused: {error:#}"));
            }
            let damages = Sqlite::verify(anew.path(), |_| {}).expect("it can be read");
            assert_eq!(damages.damages, [""; 0], "in the order {order:?}");
            let (held, marks) = held(&anew.open()).await;
            assert_eq!(
                held,
                published([3, 4, 5, 6, 7, 9, 10, 11]),
                "in the order {order:?}"
            );
            assert_eq!(marks, Watermarks { first: 3, end: 12 });
        }
    }
}

/// Messages behind a hole were put right behind those before it, at offsets at which groups had finished others.
#[tokio::test]
async fn a_backup_of_a_partition_with_holes_keeps_its_offsets() {
    let world = World::new().await;
    world.publish(5).await;
    let early = world.reader("early", &[0, 1, 2]).await;
    let early = world.backup(&early).await;
    world.publish(9).await;
    let late = world.reader("late", &[0, 1, 2, 3, 4, 5, 6]).await;
    let late = world.backup(&late).await;
    let torn = Directory::new();
    for backup in [&early, &late] {
        restore(backup, &torn).expect("it is restored");
    }
    let sqlite = torn.open();
    let expected = (published([3, 4, 7, 8]), Watermarks { first: 3, end: 9 });
    assert_eq!(held(&sqlite).await, expected);
    let again = torn.path().join("again.backup");
    let store = store(&sqlite, "early").await;
    store.backup(&again).await.expect("a backup is written");

    for backups in [vec![&again], vec![&late, &again]] {
        let anew = Directory::new();
        for backup in &backups {
            restore(backup, &anew).expect("it is restored");
        }
        assert_eq!(held(&anew.open()).await, expected, "of {backups:?}");
    }
}

/// The messages of a backup that was older than the topic's retention were dropped at the first start, before the groups
/// that had not finished them could read them.
#[tokio::test]
async fn what_a_restore_brings_back_is_kept_as_long_as_if_it_were_new() {
    let world = World::new().await;
    world.publish(5).await;
    let hour = Duration::from_hours(1);
    let spec = TopicSpec {
        retention: Some(hour),
        ..TopicSpec::new(Topic::of("orders"), 4)
    };
    world.broker.ensure_topic(&spec).await.expect("it is kept");
    let stock = world.reader("stock", &[0, 1, 2]).await;
    let stock = world.backup(&stock).await;
    let anew = Directory::new();
    let at = AT + 24 * hour;
    restore_at(at, &stock, &anew).expect("it is restored");

    let sqlite = anew.open();
    let expected = (published([3, 4]), Watermarks { first: 3, end: 5 });
    for minutes in [0, 59] {
        let now = at + Duration::from_mins(minutes);
        let broker = sqlite.broker(&env()).await.expect("the broker opens");
        broker.sweep(now).await.expect("it is swept");
        assert_eq!(held(&sqlite).await, expected, "{minutes} minutes later");
        let held = broker.read(&place(), 0, 1).await.expect("it is read");
        assert_eq!(held[0].timestamp, AT, "it was published when it was");
    }
    let broker = sqlite.broker(&env()).await.expect("the broker opens");
    broker.sweep(at + 2 * hour).await.expect("it is swept");
    assert_eq!(held(&sqlite).await.0, []);
}

/// When the partition was empty as the later backup was made, what an earlier one carries was dropped or left out, and its
/// group, which had not finished it, found its place gone.
#[tokio::test]
async fn what_a_backup_carries_comes_back_though_another_knows_the_partition_as_emptied() {
    let world = World::new().await;
    world.publish(5).await;
    let early = world.reader("early", &[0, 1, 2]).await;
    let early = world.backup(&early).await;
    world.publish(9).await;
    let hour = Duration::from_hours(1);
    let spec = TopicSpec {
        retention: Some(hour),
        ..TopicSpec::new(Topic::of("orders"), 4)
    };
    world.broker.ensure_topic(&spec).await.expect("it is kept");
    world
        .broker
        .sweep(AT + 24 * hour)
        .await
        .expect("it is swept");
    let late = world.reader("late", &[0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    let late = world.backup(&late).await;

    for backups in [[&early, &late], [&late, &early]] {
        let anew = Directory::new();
        for backup in backups {
            restore_at(AT + 24 * hour, backup, &anew).expect("it is restored");
        }
        let damages = Sqlite::verify(anew.path(), |_| {}).expect("it can be read");
        assert_eq!(damages.damages, [""; 0], "of {backups:?}");
        let sqlite = anew.open();
        let expected = (published([3, 4]), Watermarks { first: 3, end: 9 });
        assert_eq!(held(&sqlite).await, expected, "of {backups:?}");
        assert_eq!(row(&sqlite, "early").await.low, 3);
        // Behind them there is nothing yet, and what comes next comes where it would have come.
        let broker = sqlite.broker(&env()).await.expect("the broker opens");
        let behind = async || broker.read(&place(), 5, 10).await.expect("it is read");
        assert_eq!(behind().await, []);
        let spec = TopicSpec::new(Topic::of("orders"), 4);
        broker.ensure_topic(&spec).await.expect("it keeps all");
        let mut producer = broker.producer().await.expect("a producer is made");
        let next = Outgoing {
            topic: Topic::of("orders"),
            partition: 0,
            key: None,
            headers: Headers::new(),
            value: Some("10".into()),
            timestamp: AT + 24 * hour,
        };
        producer.send(vec![(0, next)]).await.expect("it is sent");
        for report in producer.reports().await.expect("it is reported") {
            assert_eq!(report.result.expect("it is in the topic"), 9);
        }
        assert_eq!(behind().await.len(), 1);
    }
}

/// A restore that goes on beside living topics must not touch them, nor have anything published again.
#[tokio::test]
async fn topics_that_are_whole_stay_as_they_are() {
    let world = World::new().await;
    world.publish(6).await;
    let stock = world.reader("stock", &[0, 1, 3]).await;
    let backup = world.backup(&stock).await;
    world.publish(9).await;
    let checkpoint = world.at(9);
    let World {
        directory,
        sqlite,
        broker,
        order,
    } = world;
    drop((broker, stock, order));
    sqlite.close().await;
    restore(&backup, &directory).expect("it is restored");
    let sqlite = directory.open();
    let broker = sqlite.broker(&env()).await.expect("the broker opens");
    let marks = broker.watermarks(&place()).await.expect("it is there");
    assert_eq!(marks, Watermarks { first: 0, end: 9 });
    let order = store(&sqlite, "order").await;
    let relay = order.relay().await.expect("it is read");
    assert_eq!(relay.checkpoint, checkpoint);
}

/// Offsets of one topic mean nothing in another of the same name.
#[tokio::test]
async fn a_backup_is_refused_by_topics_that_hold_other_messages() {
    let (world, other) = (World::new().await, World::new().await);
    world.publish(6).await;
    let stock = world.reader("stock", &[0, 1, 3]).await;
    let backup = world.backup(&stock).await;
    other.publish(8).await;
    let World {
        directory,
        sqlite,
        broker,
        order,
    } = other;
    drop((broker, order));
    sqlite.close().await;
    let refused = restore(&backup, &directory).expect_err("they are others");
    assert!(
        refused.to_string().contains("holds other messages"),
        "{refused:#}"
    );
}
