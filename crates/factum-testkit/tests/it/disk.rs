//! What only a memory store can do: copies of its disk, and a restore under stores that stay open.

use factum_core::{
    At, Begin, Commit, CommitError, CommitId, Epoch, Group, InboxId, Input, LogFilter, Position,
    ServiceName, Signal, Start, Store as _, StoreId, TimerWrite, Timestamp, Topic, VoidInput,
};
use factum_testkit::{MemoryDisk, MemoryStore};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn disk() -> MemoryDisk {
    MemoryDisk::new(StoreId(Uuid::nil()), ServiceName::of("order"), NOW)
}

fn commit(number: u128) -> Commit {
    Commit::new(CommitId(Uuid::from_u128(number)), NOW)
}

fn timer(number: u128) -> Commit {
    let (id, payload) = (number.to_string(), bytes::Bytes::new());
    let set = TimerWrite::Set {
        id,
        due: NOW,
        payload,
    };
    Commit {
        timers: vec![set],
        ..commit(number)
    }
}

#[tokio::test]
async fn a_backup_is_a_copy_that_changes_no_more() {
    let store = MemoryStore::open(disk());
    store.commit(timer(1)).await.unwrap();
    let backup = MemoryStore::open(store.disk().backup());
    store.commit(timer(2)).await.unwrap();
    assert_eq!(backup.next_timers(9).await.unwrap().len(), 1);
    backup.commit(timer(3)).await.unwrap();
    assert_eq!(store.next_timers(9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_store_that_stays_open_over_a_restore_is_a_fenced_zombie() {
    let disk = disk();
    let zombie = MemoryStore::open(disk.clone());
    let backup = disk.backup();
    let inbox = InboxId {
        group: Group::of("payment"),
        topic: Topic::of("orders"),
        partition: 0,
    };
    let fence = zombie
        .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
        .await
        .unwrap()
        .fence;
    let used = Epoch(1_772_000_000_000);
    assert_eq!(
        disk.restore(&backup, used, NOW, "lost a disk").unwrap(),
        At::ZERO
    );
    assert_eq!(zombie.identity().epoch, used);
    // Two restores of one backup are two time lines.
    disk.restore(&backup, Epoch(0), NOW, "lost it again")
        .unwrap();
    assert_eq!(zombie.identity().epoch, Epoch(used.0 + 1));
    let input = VoidInput {
        inbox,
        fence,
        advance: [].into(),
        trying: None,
        release: true,
        accept: None,
    };
    let late = Commit {
        input: Input::Void(input),
        ..commit(1)
    };
    assert!(matches!(
        zombie.commit(late).await,
        Err(CommitError::Fenced { .. })
    ));
}

#[tokio::test]
async fn whoever_waits_is_woken_by_a_restore() {
    let disk = disk();
    let store = MemoryStore::open(disk.clone());
    store.commit(timer(1)).await.unwrap();
    let (backup, seen) = (disk.backup(), store.wait(Signal::Timers, 0).await.unwrap());
    let waiting = tokio::spawn(async move { store.wait(Signal::Timers, seen).await });
    tokio::task::yield_now().await;
    disk.restore(&backup, Epoch(0), NOW, "lost a disk").unwrap();
    assert!(waiting.await.unwrap().unwrap() > seen);
}

#[tokio::test]
async fn a_cursor_of_nowhere_says_what_is_wrong_with_it() {
    let store = MemoryStore::open(disk());
    let after = At {
        epoch: Epoch(1),
        position: Position(3),
    };
    let error = store
        .read_log(after, &LogFilter::default(), 1)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "place 1-3 is not on the present time line: epoch 1 ends at position 0"
    );
}
