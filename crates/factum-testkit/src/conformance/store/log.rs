//! The log and its streams, as readers see them.

use std::sync::Arc;

use bytes::Bytes;
use factum_core::{
    At, Category, Commit, Destination, Draft, ExpectedVersion, Json, Key, LogFilter,
    PAGE_BYTES_MAX, Position, Record, RecordKind, RecordState, StreamId, Topic, TypeName, Version,
};

use super::{
    StoreHarness,
    world::{TOPIC, World, stream},
};

/// An empty store answers every read, with nothing.
pub async fn an_empty_store_reads_as_empty(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    assert_eq!(world.head().await.position, Position(0));
    let page = world
        .store
        .read_log(At::ZERO, &LogFilter::default(), 10)
        .await
        .expect("an empty log reads");
    assert_eq!((page.records.len(), page.head.position), (0, Position(0)));
    let page = world
        .store
        .read_log(page.head, &LogFilter::default(), 10)
        .await;
    assert!(
        page.expect("the head of an empty log is a cursor")
            .records
            .is_empty()
    );
    let page = world
        .store
        .read_stream(&stream("order/1"), Version(1), 10)
        .await
        .expect("no stream reads");
    assert_eq!((page.records.len(), page.version), (0, Version(0)));
    assert!(
        world
            .store
            .streams(None, None, 10)
            .await
            .expect("no streams are listed")
            .is_empty()
    );
    assert!(
        world
            .store
            .next_timers(10)
            .await
            .expect("no timers are listed")
            .is_empty()
    );
    let epochs = world.store.epochs().await.expect("the epochs are listed");
    assert_eq!(epochs.len(), 1);
    assert_eq!(
        (epochs[0].epoch, epochs[0].first),
        (world.store.identity().epoch, Position(1))
    );
    assert!(
        world.store.identity().epoch.0 > 0,
        "epoch 0 is before all, and no store's"
    );
}

/// Whatever a writer may put into a record is read back, from the log and from the stream.
pub async fn records_come_back_as_they_were_written(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let json = |text| Json::parse(text).expect("it is JSON");
    let full = Draft {
        event_id: "ORDER-1/created".into(),
        event_type: TypeName::new("주문생성", 17),
        destination: Some(Destination {
            topic: Topic::of(TOPIC),
            partition: 3,
            key: Some(Key::from(vec![0, 0xff, b'\'', b'"', 0])),
        }),
        timestamp: factum_core::Timestamp::from_micros(-1),
        correlation_id: "0192ABCD-0000-7000-8000-00000000000A".into(),
        causation_id: Some("01920000-0000-7000-8000-00000000000a".into()),
        metadata: [
            (
                "actor".into(),
                json("{\"z\":1e400,\"a\":12345678901234567890}"),
            ),
            (String::new(), json("null")),
        ]
        .into(),
        tags: vec!["vip".into(), "".into(), "a\0b".into()],
        protection: Some(Arc::from("user-1")),
        data: Bytes::from_static(b"{\"total\": 10.10, \"name\": \"\xed\x95\x9c\"}"),
        ..world.event("order/1")
    };
    let private = Draft {
        destination: None,
        ..world.event("order/1")
    };
    let import = Draft {
        kind: RecordKind::Import,
        destination: None,
        ..world.event("user/1")
    };
    let message = Draft {
        data: Bytes::new(),
        ..world.message()
    };
    let mut commit = world.appending("order/1", ExpectedVersion::NoStream, 1);
    commit.appends[0].drafts = vec![full.clone(), private.clone()];
    let mut imports = world.append("user/1", ExpectedVersion::Any, 1);
    imports.drafts = vec![import.clone()];
    commit.appends.push(imports);
    commit.outbox = vec![message.clone()];

    let committed = world.apply(commit).await;
    let epoch = world.store.identity().epoch;
    assert_eq!(committed.first, Some(Position(1)));
    assert_eq!(
        committed.head,
        At {
            epoch,
            position: Position(4)
        }
    );
    assert_eq!(committed.versions, [Version(2), Version(1)]);
    assert_eq!(world.head().await, committed.head);

    let record = |position, version, draft: &Draft| Record {
        at: At {
            epoch,
            position: Position(position),
        },
        version: Version(version),
        state: RecordState::Live,
        draft: Arc::new(draft.clone()),
    };
    let expected = [
        record(1, 1, &full),
        record(2, 2, &private),
        record(3, 1, &import),
        record(4, 0, &message),
    ];
    assert_eq!(world.log().await, expected);
    let world = world.reopen(harness).await;
    assert_eq!(world.log().await, expected, "after a restart");
    let page = world
        .store
        .read_stream(&stream("order/1"), Version(1), 10)
        .await
        .expect("a stream reads");
    assert_eq!(
        (&page.records[..], page.version),
        (&expected[..2], Version(2))
    );
    let page = world
        .store
        .read_stream(&stream("user/1"), Version(1), 10)
        .await
        .expect("a stream reads");
    assert_eq!(
        (&page.records[..], page.version),
        (&expected[2..3], Version(1))
    );
}

/// A commit that is refused takes no position.
pub async fn positions_are_dense_across_commits_that_fail(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    for number in 0..20 {
        world.fill(&format!("order/{number}"), 1 + number % 3).await;
        world
            .refuse(world.appending(&format!("order/{number}"), ExpectedVersion::NoStream, 2))
            .await;
    }
    let positions: Vec<_> = world
        .log()
        .await
        .iter()
        .map(|record| record.at.position.0)
        .collect();
    assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>());
    assert_eq!(world.head().await.position.0, positions.len() as u64);
}

/// A stream is read from any version on, so many at a time; its version is told with each page.
pub async fn a_stream_is_read_in_pages(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    for _ in 0..5 {
        world.fill("order/1", 2).await;
        world.fill("order/10", 1).await;
    }
    for (from, limit, expected) in [
        (1, 3, vec![1, 2, 3]),
        (4, 3, vec![4, 5, 6]),
        (10, 3, vec![10]),
        (11, 3, vec![]),
        (1, 0, vec![]),
        (0, 2, vec![1, 2]),
        (9, 100, vec![9, 10]),
    ] {
        let page = world
            .store
            .read_stream(&stream("order/1"), Version(from), limit)
            .await
            .expect("a stream reads");
        let versions: Vec<_> = page.records.iter().map(|record| record.version.0).collect();
        assert_eq!(
            (versions, page.version),
            (expected, Version(10)),
            "from {from}, {limit} at most"
        );
    }
}

/// A page of large records once had as many of them as one of small ones: hundreds of megabytes.
pub async fn a_page_of_the_log_ends_when_it_has_enough_bytes(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let large = Bytes::from(format!("\"{}\"", "x".repeat(700_000)));
    for _ in 0..14 {
        let mut commit = world.appending("order/1", ExpectedVersion::Any, 2);
        commit.appends[0].drafts[0].event_type = TypeName::new("Small", 1);
        commit.appends[0].drafts[1].event_type = TypeName::new("Large", 1);
        commit.appends[0].drafts[1].data = large.clone();
        world.apply(commit).await;
    }
    let of = |name: &str| LogFilter {
        types: vec![name.into()],
        ..LogFilter::default()
    };
    for (filter, expected, ends) in [
        (LogFilter::default(), (1..=28).collect(), vec![24, 28]),
        (of("Large"), (2..=28).step_by(2).collect(), vec![24, 28]),
        (of("Small"), (1..=28).step_by(2).collect(), vec![28]),
    ] {
        let expected: Vec<u64> = expected;
        let (mut found, mut pages, mut after) = (Vec::new(), Vec::new(), At::ZERO);
        loop {
            let page = world.store.read_log(after, &filter, 100).await;
            let page = page.expect("the log reads");
            if page.next == after {
                break;
            }
            let bytes = page.records.iter().map(|one| one.draft.encoded_len());
            let before_last: usize = bytes.rev().skip(1).sum();
            assert!(
                before_last < PAGE_BYTES_MAX,
                "{before_last} bytes, and a further record"
            );
            found.extend(page.records.iter().map(|record| record.at.position.0));
            pages.push(page.next.position.0);
            after = page.next;
        }
        assert_eq!((found, pages), (expected, ends), "{filter:?}");
    }
}

/// A page costs the same whatever its filter: it ends after so many records, whether they match or not,
/// and says where to go on.
pub async fn a_filtered_page_looks_through_no_more_than_its_limit(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    for number in 1..=12 {
        let stream = if number % 3 == 0 { "user/1" } else { "order/1" };
        let mut commit = world.appending(stream, ExpectedVersion::Any, 1);
        let version = number.try_into().expect("it is small");
        commit.appends[0].drafts[0].event_type =
            TypeName::new(if number % 4 == 0 { "B" } else { "A" }, version);
        if number % 5 == 0 {
            commit.appends[0].drafts[0].destination = None;
        }
        world.apply(commit).await;
    }
    world
        .apply(Commit {
            outbox: vec![world.message()],
            ..world.commit()
        })
        .await;
    let positions = async |filter: LogFilter| {
        let (mut found, mut after, mut pages) = (Vec::new(), At::ZERO, 0);
        loop {
            let page = world
                .store
                .read_log(after, &filter, 5)
                .await
                .expect("the log reads");
            assert!(
                page.next.position.0 <= after.position.0 + 5,
                "a page looks through its limit at most"
            );
            assert_eq!(page.head.position, Position(13));
            found.extend(page.records.iter().map(|record| record.at.position.0));
            if page.next == after {
                break;
            }
            (after, pages) = (page.next, pages + 1);
        }
        assert_eq!((after.position, pages), (Position(13), 3));
        found
    };
    let categories = |names: &[&'static str]| names.iter().copied().map(Category::of).collect();
    let types = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    assert_eq!(
        positions(LogFilter::default()).await,
        (1..=13).collect::<Vec<_>>()
    );
    let users = LogFilter {
        categories: categories(&["user"]),
        types: vec![],
        sent: false,
    };
    assert_eq!(positions(users).await, [3, 6, 9, 12]);
    let typed = LogFilter {
        categories: vec![],
        types: types(&["B"]),
        sent: false,
    };
    assert_eq!(positions(typed).await, [4, 8, 12]);
    let both = LogFilter {
        categories: categories(&["order", "stock"]),
        types: types(&["B", "C"]),
        sent: false,
    };
    assert_eq!(positions(both).await, [4, 8]);
    let none = LogFilter {
        categories: categories(&["stock"]),
        types: vec![],
        sent: false,
    };
    assert_eq!(positions(none).await, [0_u64; 0]);
    let sent = LogFilter {
        sent: true,
        ..LogFilter::default()
    };
    assert_eq!(positions(sent).await, [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13]);
}

/// The records of one story are found at once, those that an index has not come to yet too.
pub async fn correlated_records_are_found_up_to_the_newest(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let mut expected = Vec::new();
    for number in 1..=60 {
        let mut commit = world.appending(&format!("order/{}", number % 7), ExpectedVersion::Any, 1);
        if number % 2 == 0 {
            commit.appends[0].drafts[0].correlation_id = "story".into();
            expected.push(number);
        }
        world.apply(commit).await;
        let found = world
            .store
            .read_correlated(&"story".into(), Position(0), 1000)
            .await;
        let found: Vec<_> = found
            .expect("a story reads")
            .iter()
            .map(|record| record.at.position.0)
            .collect();
        assert_eq!(
            found, expected,
            "right after the append at position {number}"
        );
    }
    let found = world
        .store
        .read_correlated(&"story".into(), Position(10), 3)
        .await
        .expect("a story reads");
    assert_eq!(
        found
            .iter()
            .map(|record| record.at.position.0)
            .collect::<Vec<_>>(),
        [12, 14, 16]
    );
    let none = world
        .store
        .read_correlated(&"STORY".into(), Position(0), 3)
        .await
        .expect("a story reads");
    assert!(none.is_empty());
}

/// A list of streams is in the order of the bytes of category and id, and goes on where it ended.
pub async fn streams_are_listed_in_order_and_in_pages(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let names = [
        "order/10",
        "order/2",
        "order/Z",
        "order/a",
        "order/é",
        "order-line/1",
        "Order/1",
        "user/1",
    ];
    for name in names {
        world.fill(name, 2).await;
    }
    let mut expected: Vec<StreamId> = names.map(stream).to_vec();
    expected.sort();
    for limit in [1, 3, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = world
                .store
                .streams(None, after.as_ref(), limit)
                .await
                .expect("streams are listed");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.stream.clone());
            found.extend(page);
            assert!(
                found.len() <= names.len(),
                "the pages never end: {after:?} comes again"
            );
        }
        assert!(found.iter().all(|summary| summary.version == Version(2)));
        assert_eq!(
            found
                .into_iter()
                .map(|summary| summary.stream)
                .collect::<Vec<_>>(),
            expected,
            "{limit} at a time"
        );
    }
    let orders = world
        .store
        .streams(Some(&Category::of("order")), Some(&stream("order/10")), 2)
        .await;
    let orders: Vec<_> = orders
        .expect("streams are listed")
        .into_iter()
        .map(|summary| summary.stream)
        .collect();
    assert_eq!(orders, [stream("order/2"), stream("order/Z")]);
}

/// Ids that a careless adapter takes for one, or for something else, are different streams.
pub async fn hostile_stream_ids_are_kept_apart(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let ids = [
        "a",
        "A",
        "a ",
        " a",
        "a/b",
        "a%",
        "a_",
        "ä",
        "a\u{308}",
        "'; drop table records; --",
        "\u{202e}a",
        "1",
        "01",
        "1.0",
    ];
    for (count, id) in ids.iter().enumerate() {
        world.fill(&format!("order/{id}"), count + 1).await;
    }
    for (count, id) in ids.iter().enumerate() {
        let page = world
            .store
            .read_stream(&stream(&format!("order/{id}")), Version(1), 100)
            .await;
        let page = page.expect("a stream reads");
        assert_eq!(page.version, Version(count as u64 + 1), "{id:?}");
        assert_eq!(page.records.len(), count + 1, "{id:?}");
        assert!(
            page.records
                .iter()
                .all(|record| record.draft.stream.as_ref().map(StreamId::id) == Some(id))
        );
    }
}
