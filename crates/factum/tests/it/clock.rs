//! A clock that jumps back: what is done every so often is done all the same.

use std::time::Duration;

use factum::{Error, Group, Key, ParkedFilter, ParkedState, Topic, TopicPartition};
use factum_testkit::faults::Call;

use crate::{
    bank::{Bank, accounts},
    world::{Account, AccountCommand, World, amounts, deposit, follow_time, until},
};

/// Sets the clock back by two hours: longer than a test waits for anything.
fn set_back(world: &World) {
    let now = world.env.env().now();
    world.env.set(now - Duration::from_hours(2));
}

/// It went wrong: nothing was told, and no operator noticed, until the clock had come to where it had been.
#[tokio::test(start_paused = true)]
async fn a_member_whose_clock_is_set_back_tells_its_offsets_all_the_same() {
    let world = World::new(67);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let partition = TopicPartition::new(Topic::of("accounts"), Key::from("a").partition(3));
    let told = async || {
        let group = Group::of("receipt-service");
        let told = running.broker().committed(&group).await.unwrap();
        let told = told.into_iter().find(|(known, _)| *known == partition);
        told.map_or(0, |(_, offset)| offset)
    };
    deposit(&running, "a", 1).await;
    until("it is told", async || told().await == 1).await;
    set_back(&world);
    deposit(&running, "a", 2).await;
    until("it is told again", async || told().await == 2).await;
    running.stop().await;
}

/// It went wrong: what a look at the store had found was believed until the clock had come to where it had been.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_commits_again_is_well_though_the_clock_is_set_back() {
    let bank = Bank::new(76);
    let running = bank.start::<1>().await;
    let accounts = accounts(&running);
    let full = Error::transient("the disk is full");
    let rule = bank.plan.at(Call::Commit).on("accounts");
    rule.times(u64::MAX).fails(full);
    let deposit = AccountCommand::Deposit(1);
    let refused = accounts.commands().execute::<Account>("a", deposit).await;
    refused.expect_err("nothing is taken");
    assert!(accounts.unwritable().await.is_some());
    bank.plan.clear();
    let now = bank.env.env().now();
    bank.env.set(now - Duration::from_hours(2));
    assert!(accounts.unwritable().await.is_none());
    running.stop().await;
}

/// It went wrong: what is parked from a topic that is read no more got no owner for as long as the clock was set back.
#[tokio::test(start_paused = true)]
async fn what_is_left_behind_gets_an_owner_though_the_clock_is_set_back() {
    let mut world = World::new(68);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    deposit(&running, "a", 66).await;
    let parked = async |running: &factum::Running| {
        let store = running.service("receipts").unwrap().store();
        store.parked(&ParkedFilter::default(), 10).await.unwrap()
    };
    until("it is parked", async || parked(&running).await.len() == 1).await;
    running.stop().await;
    drop(running);
    world.reads = "receipts";
    let running = world.start().await;
    // It looks for what there is to be tried again, and finds nothing.
    tokio::time::sleep(Duration::from_secs(30)).await;
    set_back(&world);
    let operator = running.service("receipts").unwrap().operator();
    let by = factum::By::new("local", "a test");
    let row = parked(&running).await.remove(0);
    operator.redrive(&row.id, row.revision, &by).await.unwrap();
    until("it is tried", async || {
        // Another process might have an owner for it, who counts as gone when a message was due for a while.
        world.env.advance(Duration::from_secs(1));
        let row = parked(&running).await.remove(0);
        row.state == ParkedState::Dead && row.revision > 2
    })
    .await;
    assert_eq!(amounts(&running, "a").await, [0; 0]);
    running.stop().await;
}
