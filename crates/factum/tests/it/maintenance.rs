//! Maintenance: what has expired goes, though nobody asks for it and nothing else happens.

use std::time::Duration;

use factum::{Topic, TopicPartition};

use crate::{
    bank::deposit,
    world::{World, follow_time, until},
};

#[tokio::test(start_paused = true)]
async fn a_topic_that_nobody_uses_any_more_loses_its_old_messages() {
    let mut world = World::new(1);
    world.retention = Some(Duration::from_mins(1));
    let _time = follow_time(&world.env);
    let running = world.start().await;
    deposit(&running, "a", 1).await;
    let kept = async || {
        let mut kept = 0;
        for partition in 0..3 {
            let partition = TopicPartition::new(Topic::of("accounts"), partition);
            let marks = running.broker().watermarks(&partition).await.unwrap();
            kept += marks.end - marks.first;
        }
        kept
    };
    until("the deposit is published", async || kept().await == 1).await;

    tokio::time::sleep(Duration::from_mins(6)).await;

    assert_eq!(kept().await, 0);
    running.stop().await;
}
