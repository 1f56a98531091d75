//! Groups: who owns what, and how it moves.

use std::collections::BTreeSet;

use factum_core::{Consumed, TopicPartition};
use tokio::time::timeout;

use super::{
    BrokerHarness,
    world::{Inbox, Member, PATIENCE, World, part, until, values},
};

fn loads(members: &[&mut Member]) -> Vec<usize> {
    members.iter().map(|member| member.owned.len()).collect()
}

/// One member is assigned each partition of each topic it subscribes to, and operators see it.
pub async fn a_member_alone_owns_everything(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "alone").await;
    let (orders, payments) = (
        world.make("orders", 3).await,
        world.make("payments", 2).await,
    );
    let group = world.group("g");
    let mut member = world
        .join(&group, &[&orders, &payments], "one", &Inbox::default())
        .await;

    member.own(5).await;

    let members = world.broker.members(&group).await.unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].member, "one");
    assert_eq!(
        members[0]
            .partitions
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>(),
        member.owned
    );
    assert_eq!(
        world.broker.members(&world.group("nobody")).await.unwrap(),
        []
    );
}

/// Each group reads everything, whatever others do.
pub async fn two_groups_are_independent(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "two_groups").await;
    let topic = world.make("orders", 2).await;
    world.publish(&topic, 0, values(0..5)).await;
    world.publish(&topic, 1, values(5..10)).await;
    let mut one = world
        .join(&world.group("a"), &[&topic], "one", &Inbox::default())
        .await;
    let mut two = world
        .join(&world.group("b"), &[&topic], "two", &Inbox::default())
        .await;

    one.receive(10).await;
    one.consumer.pause(&part(&topic, 0)).await.unwrap();
    one.leave().await;

    two.receive(10).await;
    assert_eq!(two.owned.len(), 2);
}

/// Members have equal shares, and who has its share keeps it when others come and go.
pub async fn partitions_are_balanced_and_kept(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "balance").await;
    let topic = world.make("orders", 6).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut one = world.join(&group, &[&topic], "one", &inbox).await;
    one.own(6).await;
    let mut two = world.join(&group, &[&topic], "two", &inbox).await;
    until(&mut [&mut one, &mut two], |members| {
        loads(members) == [3, 3]
    })
    .await;
    let (before_one, before_two) = (one.owned.clone(), two.owned.clone());

    let mut three = world.join(&group, &[&topic], "three", &inbox).await;
    until(&mut [&mut one, &mut two, &mut three], |members| {
        loads(members) == [2, 2, 2]
    })
    .await;
    assert!(one.owned.is_subset(&before_one) && two.owned.is_subset(&before_two));
    let all: BTreeSet<TopicPartition> = [&one, &two, &three]
        .into_iter()
        .flat_map(|member| member.owned.clone())
        .collect();
    assert_eq!(all.len(), 6);

    let (before_one, before_two) = (one.owned.clone(), two.owned.clone());
    three.leave().await;
    until(&mut [&mut one, &mut two], |members| {
        loads(members) == [3, 3]
    })
    .await;
    assert!(one.owned.is_superset(&before_one) && two.owned.is_superset(&before_two));
}

/// What is revoked belongs to its owner until that calls again, and only then to another.
pub async fn a_partition_moves_only_when_its_owner_has_finished(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "finish").await;
    let topic = world.make("orders", 2).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut one = world.join(&group, &[&topic], "one", &inbox).await;
    one.own(2).await;
    let mut two = world.join(&group, &[&topic], "two", &inbox).await;
    let revoked = async {
        loop {
            two.call().await;
            assert!(two.owned.is_empty(), "nothing was given away yet");
            match one.call().await {
                Some(Consumed::Revoked(partitions)) => return partitions,
                other => assert_eq!(other, None),
            }
        }
    };
    let revoked = timeout(PATIENCE, revoked)
        .await
        .expect("the old owner is asked");
    assert_eq!(revoked.len(), 1);

    // The old owner is still at work; the new one waits for it.
    for _ in 0..10 {
        two.call().await;
        assert!(two.owned.is_empty(), "its owner has not finished");
    }

    until(&mut [&mut one, &mut two], |members| {
        loads(members) == [1, 1]
    })
    .await;
    assert_eq!(two.owned, revoked.into_iter().collect());
}

/// Leaving is faster than a session.
pub async fn a_member_that_leaves_hands_over_at_once(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "leave").await;
    let topic = world.make("orders", 2).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut one = world.join(&group, &[&topic], "one", &inbox).await;
    let mut two = world.join(&group, &[&topic], "two", &inbox).await;
    until(&mut [&mut one, &mut two], |members| {
        loads(members) == [1, 1]
    })
    .await;
    world.publish(&topic, 0, values(0..3)).await;
    world.publish(&topic, 1, values(3..6)).await;
    until(&mut [&mut one, &mut two], |members| {
        members
            .iter()
            .map(|member| member.received.len())
            .sum::<usize>()
            == 6
    })
    .await;

    one.leave().await;
    two.own(2).await;

    assert_eq!(world.broker.members(&group).await.unwrap().len(), 1);
    let before = two.received.len();
    world.publish(&topic, 0, ["later"]).await;
    world.publish(&topic, 1, ["later"]).await;
    two.receive(before + 2).await;
}

/// A member that is silent for its session is dead, and one that calls isn't.
pub async fn a_crashed_member_is_noticed_after_its_session(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "crash").await;
    let topic = world.make("orders", 2).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut one = world.join(&group, &[&topic], "one", &inbox).await;
    let mut two = world.join(&group, &[&topic], "two", &inbox).await;
    until(&mut [&mut one, &mut two], |members| {
        loads(members) == [1, 1]
    })
    .await;
    let of_one = one.owned.first().unwrap().clone();
    world.publish(&topic, of_one.partition, values(0..4)).await;
    one.receive(4).await;
    // It handled two of them before it crashed.
    inbox.set(&of_one, one.received[2].offset);

    one.crash();
    world.pass(harness.session(), &mut [&mut two]).await;
    two.own(2).await;

    two.receive(2).await;
    assert_eq!(
        two.values(),
        values(2..4),
        "it goes on where the other's work ended"
    );
}

/// Who calls in time keeps what it has, however long it does so.
pub async fn a_member_that_calls_is_alive(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "alive").await;
    let topic = world.make("orders", 2).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut one = world.join(&group, &[&topic], "one", &inbox).await;
    let mut two = world.join(&group, &[&topic], "two", &inbox).await;
    until(&mut [&mut one, &mut two], |members| {
        loads(members) == [1, 1]
    })
    .await;
    let before = [one.owned.clone(), two.owned.clone()];

    world
        .pass(harness.session() * 3, &mut [&mut one, &mut two])
        .await;

    assert_eq!([one.owned.clone(), two.owned.clone()], before);
    let members = world.broker.members(&group).await.unwrap();
    assert_eq!(members.len(), 2, "{members:?}");
}

/// Who was silent for too long hears that its partitions are others', and gets a share again.
pub async fn an_expelled_member_is_told_what_it_lost_and_comes_back(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "expelled").await;
    let topic = world.make("orders", 2).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut slow = world.join(&group, &[&topic], "slow", &inbox).await;
    slow.own(2).await;
    let before = slow.owned.clone();
    let mut quick = world.join(&group, &[&topic], "quick", &inbox).await;
    world.pass(harness.session(), &mut [&mut quick]).await;
    quick.own(2).await;

    let told = timeout(PATIENCE, slow.consumer.next())
        .await
        .expect("it is told")
        .unwrap();

    assert_eq!(told, Consumed::Lost(before.into_iter().collect()));
    slow.handle(&told).await;
    until(&mut [&mut slow, &mut quick], |members| {
        loads(members) == [1, 1]
    })
    .await;
}

/// An old owner that speaks late does not change how far the group is.
pub async fn a_late_word_of_an_old_owner_is_not_kept(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "late_commit").await;
    let topic = world.make("orders", 1).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let partition = part(&topic, 0);
    world.publish(&topic, 0, values(0..5)).await;
    let mut slow = world.join(&group, &[&topic], "slow", &inbox).await;
    slow.receive(5).await;
    let mut quick = world.join(&group, &[&topic], "quick", &inbox).await;
    world.pass(harness.session(), &mut [&mut quick]).await;
    quick.own(1).await;
    quick
        .consumer
        .commit(&[(partition.clone(), 5)])
        .await
        .unwrap();

    // Whether it is told so or not, it changes nothing.
    drop(slow.consumer.commit(&[(partition.clone(), 1)]).await);

    let kept = async {
        while world.broker.committed(&group).await.unwrap() != [(partition.clone(), 5)] {
            quick.call().await;
        }
    };
    timeout(PATIENCE, kept)
        .await
        .expect("the owner's word counts");
}

/// A group gets the partitions of a topic when it comes to be, whoever was first.
pub async fn a_topic_that_appears_later_is_assigned(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "appears").await;
    let early = world.make("early", 1).await;
    let late = world.topic("late");
    let mut member = world
        .join(
            &world.group("g"),
            &[&early, &late],
            "one",
            &Inbox::default(),
        )
        .await;
    member.own(1).await;

    world.make("late", 2).await;

    member.own(3).await;
    world.publish(&late, 1, ["hello"]).await;
    member.receive(1).await;
}

/// A group may have more members than partitions; who has none takes over when somebody leaves.
pub async fn members_in_excess_wait_in_reserve(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "reserve").await;
    let topic = world.make("orders", 1).await;
    let (group, inbox) = (world.group("g"), Inbox::default());
    let mut one = world.join(&group, &[&topic], "one", &inbox).await;
    one.own(1).await;
    let mut two = world.join(&group, &[&topic], "two", &inbox).await;
    for _ in 0..10 {
        one.call().await;
        two.call().await;
        assert_eq!(
            (one.owned.len(), two.owned.len()),
            (1, 0),
            "a partition that is in place stays there"
        );
    }

    one.leave().await;

    two.own(1).await;
}
