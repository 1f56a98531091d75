//! Members in processes of their own, and by the options that change how a group works.

use std::{collections::BTreeSet, time::Duration};

use factum_core::{
    Broker, Consumed, Consumer, Group, Headers, Key, Outgoing, Subscription, Topic, TopicPartition,
    TopicSpec,
};
use factum_kafka::{GroupProtocol, Kafka, KafkaOptions};
use tokio::time::timeout;

use crate::{
    process::{Process, part},
    support::{Place, WAIT_MAX, eventually, now},
};

/// As short as the broker allows.
const SESSION: Duration = Duration::from_secs(6);

struct Member {
    consumer: Box<dyn Consumer>,
    owned: BTreeSet<TopicPartition>,
    offsets: Vec<(u32, u64)>,
    told: Vec<&'static str>,
}

impl Member {
    async fn join(kafka: &Kafka, topic: &Topic, member: &str) -> Self {
        let subscription = Subscription {
            group: Group::new(format!("{topic}.group")).unwrap(),
            topics: vec![topic.clone()],
            member: member.to_owned(),
            session: SESSION,
            batch_max: 500,
        };
        Self {
            consumer: kafka.join(subscription).await.unwrap(),
            owned: BTreeSet::new(),
            offsets: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Calls once, and starts whatever it is assigned at the beginning.
    async fn call(&mut self) {
        let told = timeout(Duration::from_millis(100), self.consumer.next()).await;
        let Ok(told) = told else { return };
        match told.unwrap() {
            Consumed::Assigned(partitions) => {
                self.told.push("assigned");
                for partition in partitions {
                    self.consumer.seek(&partition, 0).await.unwrap();
                    self.owned.insert(partition);
                }
            }
            Consumed::Revoked(partitions) => {
                self.told.push("revoked");
                self.owned.retain(|owned| !partitions.contains(owned));
            }
            Consumed::Lost(partitions) => {
                self.told.push("lost");
                self.owned.retain(|owned| !partitions.contains(owned));
            }
            Consumed::Messages(messages) => {
                let offsets = messages.iter();
                self.offsets
                    .extend(offsets.map(|message| (message.partition, message.offset)));
            }
            Consumed::Passed(partitions) => panic!("{partitions:?} keep all"),
        }
    }

    async fn own(&mut self, count: usize) {
        let owned = async {
            while self.owned.len() != count {
                self.call().await;
            }
        };
        timeout(WAIT_MAX, owned)
            .await
            .expect("it is assigned in time");
    }
}

async fn topic(kafka: &Kafka, place: &Place, partitions: u32) -> Topic {
    let topic = Topic::new(format!("{}.orders", place.prefix)).unwrap();
    let spec = TopicSpec::new(topic.clone(), partitions);
    kafka.ensure_topic(&spec).await.unwrap();
    topic
}

async fn publish(kafka: &Kafka, topic: &Topic, partition: u32, count: u64, bytes: usize) {
    let mut producer = kafka.producer().await.unwrap();
    let numbers: Vec<_> = (0..count).collect();
    for batch in numbers.chunks(500) {
        let batch = batch.iter().map(|number| {
            let message = Outgoing {
                topic: topic.clone(),
                partition,
                key: Some(Key::from(number.to_string())),
                headers: Headers::new(),
                value: Some(vec![b'x'; bytes].into()),
                timestamp: now(),
            };
            (*number, message)
        });
        producer.send(batch.collect()).await.unwrap();
    }
    let mut reported = 0;
    while reported < count {
        for report in producer.reports().await.unwrap() {
            report.result.unwrap();
            reported += 1;
        }
    }
}

/// The body of a process that is a member until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn member_that_will_be_killed() {
    let Some(part) = part() else { return };
    let place = Place::of(&part[0]);
    let mut options = place.options();
    if let Some(instance) = part.get(2) {
        options = options.instance(instance);
    }
    let kafka = Kafka::connect(options).await.unwrap();
    let mut member = Member::join(&kafka, &Topic::new(&part[1]).unwrap(), "victim").await;
    loop {
        member.call().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_goes_to_others_after_its_session() {
    let Some(place) = Place::new() else { return };
    let kafka = place.connect().await;
    let topic = topic(&kafka, &place, 4).await;
    let victim = Process::start(
        "groups::member_that_will_be_killed",
        &[place.servers(), topic.as_str()],
    );
    let group = Group::new(format!("{topic}.group")).unwrap();
    eventually("the victim owns all", async || {
        let members = kafka.members(&group).await.unwrap();
        (members.first()?.partitions.len() == 4).then_some(())
    })
    .await;
    let mut other = Member::join(&kafka, &topic, "other").await;
    other.own(2).await;

    victim.signal("KILL");

    other.own(4).await;
    assert!(!other.told.contains(&"lost"), "{:?}", other.told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_back_within_its_session_finds_its_partitions() {
    let Some(place) = Place::new() else { return };
    let kafka = Kafka::connect(place.options().instance("other"))
        .await
        .unwrap();
    let topic = topic(&kafka, &place, 4).await;
    let body = "groups::member_that_will_be_killed";
    let part = [place.servers(), topic.as_str(), "victim"];
    let victim = Process::start(body, &part);
    let mut other = Member::join(&kafka, &topic, "other").await;
    let group = Group::new(format!("{topic}.group")).unwrap();
    let shares = async |other: &mut Member| {
        other.call().await;
        let members = kafka.members(&group).await.unwrap();
        let shares: Vec<_> = members
            .into_iter()
            .map(|member| (member.member, member.partitions))
            .collect();
        let is_shared = shares.len() == 2 && shares.iter().all(|(_, share)| share.len() == 2);
        is_shared.then_some(shares)
    };
    let before = eventually("both own two", async || shares(&mut other).await).await;
    other.told.clear();

    victim.signal("KILL");
    let again = Process::start(body, &part);
    let topics = [(topic.clone(), 1)];
    for (topic, count) in &topics {
        for partition in 0..4 {
            publish(&kafka, topic, partition, *count, 10).await;
        }
    }
    // For longer than it takes to notice a crash.
    timeout(SESSION * 2, async {
        loop {
            other.call().await;
        }
    })
    .await
    .expect_err("it calls for ever");

    assert_eq!(
        other.told,
        Vec::<&str>::new(),
        "nothing was shared out anew"
    );
    let after = eventually("both still own two", async || shares(&mut other).await).await;
    assert_eq!(after, before);
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_may_share_out_itself() {
    let Some(place) = Place::new() else { return };
    let by_broker = |options: KafkaOptions| options.group_protocol(GroupProtocol::Consumer);
    let kafka = Kafka::connect(by_broker(place.options())).await.unwrap();
    let topic = topic(&kafka, &place, 4).await;
    for partition in 0..4 {
        publish(&kafka, &topic, partition, 10, 10).await;
    }
    let mut one = Member::join(&kafka, &topic, "one").await;
    one.own(4).await;
    let mut two = Member::join(&kafka, &topic, "two").await;
    eventually("both have a share", async || {
        one.call().await;
        two.call().await;
        (one.owned.len() == 2 && two.owned.len() == 2).then_some(())
    })
    .await;
    assert!(one.owned.is_disjoint(&two.owned));
    // It went wrong: they looked like a group without members.
    let group = Group::new(format!("{topic}.group")).unwrap();
    let unknown = kafka.members(&group).await.unwrap_err();
    assert!(unknown.to_string().contains("group.protocol"), "{unknown}");
    let nobody = Group::new(format!("{topic}.nobody")).unwrap();
    assert_eq!(kafka.members(&nobody).await.unwrap(), []);
    eventually("both read", async || {
        one.call().await;
        two.call().await;
        let count = two.offsets.len();
        (count == 20).then_some(())
    })
    .await;

    two.consumer.leave().await.unwrap();

    one.own(4).await;
}

/// How much memory this process has, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_not_fetched_into_memory() {
    const COUNT: u64 = 100_000;
    let Some(place) = Place::new() else { return };
    let kafka = place.options().prefetch_bytes_max(4 * 1024 * 1024);
    let kafka = Kafka::connect(kafka).await.unwrap();
    let topic = topic(&kafka, &place, 2).await;
    for partition in 0..2 {
        publish(&kafka, &topic, partition, COUNT / 2, 1_000).await;
    }
    let mut member = Member::join(&kafka, &topic, "one").await;
    member.own(2).await;
    let before = resident();
    let mut most = 0;
    while (member.offsets.len() as u64) < COUNT {
        member.call().await;
        most = most.max(resident().saturating_sub(before));
    }
    // A hundred megabytes are read; other tests of this process have some too.
    assert!(most < 64 * 1024 * 1024, "{most} bytes more");
}
