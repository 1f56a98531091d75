//! What the tables do that the broker suite can't see: chunks, and what is left of them.

use factum_core::{Headers, Key};

use super::*;

fn database() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    for migration in [
        include_str!("../../migrations/0002_topics.sql"),
        include_str!("../../migrations/0007_restored.sql"),
    ] {
        db.execute_batch(migration).unwrap();
    }
    put_topic(&db, &TopicSpec::new(Topic::of("t"), 2)).unwrap();
    db
}

fn part(partition: u32) -> TopicPartition {
    TopicPartition::new(Topic::of("t"), partition)
}

fn message(partition: u32, value: &str) -> Outgoing {
    Outgoing {
        topic: Topic::of("t"),
        partition,
        key: Some(Key::from("key")),
        headers: Headers::new(),
        value: Some(value.to_owned().into()),
        timestamp: Timestamp::from_millis(1),
    }
}

fn chunks(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))
        .unwrap()
}

fn values(db: &Connection, from: u64, messages: usize) -> Vec<String> {
    let slice = read(
        db,
        &part(0),
        from,
        ReadLimit {
            messages,
            bytes: usize::MAX,
        },
    )
    .unwrap();
    let value = |message: Message| String::from_utf8(message.value.unwrap().into()).unwrap();
    slice.messages.into_iter().map(value).collect()
}

fn keep_bytes(bytes: u64) -> Keep {
    Keep {
        since: None,
        bytes: Some(bytes),
    }
}

#[test]
fn a_batch_takes_one_row_for_each_partition() {
    let db = database();
    let batch: Vec<_> = (0..10)
        .map(|number| message(number % 2, &number.to_string()))
        .collect();

    let appended = append(&db, batch.clone()).unwrap();

    assert_eq!(appended.offsets, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(
        appended
            .growth
            .iter()
            .map(|growth| (growth.end, growth.bytes))
            .collect::<Vec<_>>(),
        [(5, 20); 2]
    );
    assert_eq!(chunks(&db), 2);
    assert_eq!(values(&db, 1, 2), ["2", "4"]);
}

#[test]
fn a_large_batch_is_cut_and_read_across_the_cuts() {
    let db = database();
    let long = "x".repeat(1000);
    let batch: Vec<_> = (0..200)
        .map(|number| message(0, &format!("{number}{long}")))
        .collect();
    append(&db, batch.clone()).unwrap();
    assert!((3..=5).contains(&chunks(&db)), "{}", chunks(&db));
    for from in 0..200 {
        assert_eq!(
            values(&db, from as u64, 3).len(),
            (200 - from).min(3),
            "{from}"
        );
        assert!(values(&db, from as u64, 1)[0].starts_with(&format!("{from}x")));
    }
}

#[test]
fn a_trim_keeps_the_chunk_that_holds_the_first_message() {
    let db = database();
    for batch in 0..3 {
        let batch: Vec<_> = (0..4)
            .map(|number| message(0, &format!("{batch}.{number}")))
            .collect();
        append(&db, batch).unwrap();
    }
    // Each message has six bytes; six of twelve may go.
    let kept = trim(&db, &part(0), &keep_bytes(36)).unwrap();
    assert_eq!(kept, Watermarks { first: 6, end: 12 });
    assert_eq!(chunks(&db), 2);
    assert_eq!(values(&db, 0, 2), ["1.2", "1.3"]);
    assert_eq!(
        trim(&db, &part(0), &keep_bytes(36)).unwrap(),
        kept,
        "it is done"
    );

    let kept = trim(&db, &part(0), &keep_bytes(0)).unwrap();
    assert_eq!(kept, Watermarks { first: 12, end: 12 });
    assert_eq!(chunks(&db), 0);
    assert_eq!(append(&db, vec![message(0, "next")]).unwrap().offsets, [12]);
    assert_eq!(values(&db, 0, 2), ["next"]);
}

#[test]
fn a_trim_does_no_more_than_its_share_at_a_time() {
    let db = database();
    let batch: Vec<_> = (0..TRIM_MESSAGES_MAX + 10)
        .map(|_| message(0, "x"))
        .collect();
    append(&db, batch.clone()).unwrap();
    assert_eq!(
        trim(&db, &part(0), &keep_bytes(0)).unwrap().first,
        TRIM_MESSAGES_MAX as u64
    );
    let all = batch.len() as u64;
    assert_eq!(trim(&db, &part(0), &keep_bytes(0)).unwrap().first, all);
}

#[test]
fn partitions_do_not_reach_into_each_other() {
    let db = database();
    append(&db, vec![message(0, "zero"), message(1, "one")]).unwrap();
    trim(&db, &part(1), &keep_bytes(0)).unwrap();
    assert_eq!(values(&db, 0, 9), ["zero"]);
    assert_eq!(
        watermarks(&db, &part(1)).unwrap(),
        Watermarks { first: 1, end: 1 }
    );
}

#[test]
fn damage_is_an_error_and_never_a_gap() {
    let db = database();
    append(&db, vec![message(0, "first"), message(0, "second")]).unwrap();
    let mut data: Vec<u8> = db
        .query_row("SELECT data FROM chunks", [], |row| row.get(0))
        .unwrap();
    let last = data.len() - 1;
    data[last] ^= 1;
    db.execute("UPDATE chunks SET data = ?1", [&data]).unwrap();

    let limit = ReadLimit {
        messages: 9,
        bytes: usize::MAX,
    };
    let error = read(&db, &part(0), 0, limit).unwrap_err();

    assert!(error.is_fatal());
    assert!(
        format!("{error:#}").contains("`t/0`") && format!("{error:#}").contains("offset 1"),
        "{error:#}"
    );
}
