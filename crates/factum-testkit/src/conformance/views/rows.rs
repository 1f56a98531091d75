//! Rows: their versions, their tombstones, and conditions on them.

use factum_core::{
    Commit, CommitError, Condition, ErrorClass, ExpectedVersion, Position, Query, Version,
};
use futures_util::future::join_all;

use super::shelf::{Shelf, json};
use crate::conformance::store::StoreHarness;

/// The document comes back byte for byte, with the position that wrote it.
pub async fn a_row_is_read_as_it_was_written(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let document = r#"{"z":12345678901234567890.10,"text":"주문 \u00e9 \"x\"", "number":-7,"deep":{"b":[1, 2.50],"a":null}}"#;
    let high = u64::MAX / 2;
    shelf
        .write(vec![
            shelf.put("1", high, document),
            shelf.put("2", 1, "{}"),
        ])
        .await;
    let row = shelf.get("1").await.expect("it was written");
    assert_eq!(
        (row.id.as_str(), row.version, &row.document),
        ("1", Position(high), &json(document))
    );
    assert_eq!(shelf.text("2").await, Some((1, "{}".into())));
    assert_eq!(shelf.get("3").await, None);
    let found = shelf.query(&Query::all()).await;
    assert_eq!(
        (found.rows[0].clone(), found.rows.len(), found.next),
        (row, 2, None)
    );
}

/// A replay or redelivery brings old writes again: they change nothing.
pub async fn a_stale_write_does_not_overwrite(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .write(vec![shelf.put("1", 10, r#"{"number":10}"#)])
        .await;
    shelf
        .write(vec![
            shelf.put("1", 9, r#"{"number":9}"#),
            shelf.put("2", 9, r#"{"number":9}"#),
        ])
        .await;
    assert_eq!(shelf.text("1").await, Some((10, r#"{"number":10}"#.into())));
    assert_eq!(
        shelf.text("2").await,
        Some((9, r#"{"number":9}"#.into())),
        "the rest of its commit counts"
    );
    assert_eq!(shelf.ids(&Query::all().equal("number", 9)).await, ["2"]);
    shelf.write(vec![shelf.delete("1", 9)]).await;
    assert_eq!(shelf.ids(&Query::all().equal("number", 10)).await, ["1"]);
    shelf
        .write(vec![shelf.put("1", 11, r#"{"number":11}"#)])
        .await;
    assert_eq!(shelf.text("1").await, Some((11, r#"{"number":11}"#.into())));
    assert_eq!(shelf.all(&Query::all().sort("number")).await, ["2", "1"]);
}

/// A deleted row is not brought back by what was written before it was deleted.
pub async fn a_delete_leaves_a_tombstone(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .write(vec![shelf.put("1", 5, r#"{"text":"a"}"#)])
        .await;
    shelf
        .write(vec![shelf.delete("1", 7), shelf.delete("never", 7)])
        .await;
    for id in ["1", "never"] {
        shelf
            .write(vec![shelf.put(id, 6, r#"{"text":"stale"}"#)])
            .await;
        assert_eq!(shelf.get(id).await, None, "row `{id}`");
    }
    assert!(shelf.ids(&Query::all()).await.is_empty());
    assert_eq!(
        shelf
            .views()
            .count(&shelf.view.view, None, &Query::all(), 10)
            .await
            .expect("rows are counted"),
        0
    );
    let shelf = shelf.reopen(harness).await;
    shelf
        .write(vec![shelf.put("1", 6, r#"{"text":"stale"}"#)])
        .await;
    assert_eq!(shelf.get("1").await, None, "after a restart");
    shelf
        .write(vec![
            shelf.put("1", 8, r#"{"text":"b"}"#),
            shelf.put("never", 9, "{}"),
        ])
        .await;
    assert_eq!(shelf.all(&Query::all()).await, ["1", "never"]);
    assert_eq!(shelf.ids(&Query::all().equal("text", "b")).await, ["1"]);
}

/// One event may write a row more than once, and a commit that is replayed writes the same again.
pub async fn of_writes_at_one_version_the_last_counts(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let put = |number: u64| shelf.put("1", 5, &format!("{{\"number\":{number}}}"));
    shelf.write(vec![put(1), put(2)]).await;
    assert_eq!(shelf.text("1").await, Some((5, r#"{"number":2}"#.into())));
    shelf.write(vec![put(3)]).await;
    assert_eq!(shelf.text("1").await, Some((5, r#"{"number":3}"#.into())));
    shelf.write(vec![shelf.delete("1", 5)]).await;
    assert_eq!(shelf.get("1").await, None);
    shelf
        .write(vec![put(4), shelf.delete("1", 5), put(5)])
        .await;
    assert_eq!(shelf.text("1").await, Some((5, r#"{"number":5}"#.into())));
    assert_eq!(shelf.all(&Query::all().sort("number")).await, ["1"]);
}

/// A projection that reads other rows asks that they have not changed.
pub async fn a_row_condition_compares_the_version_that_was_read(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    assert!(
        shelf.views().capabilities().atomic,
        "views in a store are committed with it"
    );
    shelf
        .write(vec![shelf.put("live", 5, "{}"), shelf.put("gone", 5, "{}")])
        .await;
    shelf.write(vec![shelf.delete("gone", 6)]).await;
    let commit = |id: &str, version: Option<u64>| {
        let (view, id, version) = (shelf.view.clone(), id.into(), version.map(Position));
        Commit {
            conditions: vec![Condition::Row { view, id, version }],
            views: vec![shelf.put("written", 7, "{}")],
            ..shelf.world.appending("order/1", ExpectedVersion::Any, 1)
        }
    };
    for (id, version) in [
        ("live", None),
        ("live", Some(4)),
        ("live", Some(6)),
        ("gone", Some(5)),
        ("gone", Some(6)),
        ("never", Some(0)),
        ("never", Some(1)),
    ] {
        let error = shelf.world.refuse(commit(id, version)).await;
        match &error {
            CommitError::RowChanged { view, id: known } => {
                assert_eq!((view, known.as_str()), (&shelf.view, id));
            }
            other => panic!("row `{id}` at {version:?}: {other}"),
        }
        assert_eq!(error.class(), ErrorClass::Conflict);
    }
    assert_eq!(
        (
            shelf.get("written").await,
            shelf.world.version("order/1").await
        ),
        (None, Version(0))
    );
    for (id, version) in [("live", Some(5)), ("gone", None), ("never", None)] {
        shelf.world.apply(commit(id, version)).await;
    }
    // The condition is about what was read, and not about what the commit itself writes.
    let mut both = commit("written", Some(7));
    both.views = vec![shelf.put("written", 8, "{}")];
    shelf.world.apply(both).await;
    let other = factum_core::ViewRef {
        generation: 2,
        ..shelf.view.clone()
    };
    shelf
        .views()
        .ensure(&super::shelf::definition("orders"), 2)
        .await
        .expect("a view can be prepared");
    let conditions = vec![Condition::Row {
        view: other,
        id: "live".into(),
        version: None,
    }];
    shelf
        .world
        .apply(Commit {
            conditions,
            ..shelf.world.commit()
        })
        .await;
}

/// Whoever writes what another has read makes the other read again.
pub async fn of_many_who_read_a_row_one_writes_it(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf.write(vec![shelf.put("1", 1, "{}")]).await;
    for version in 1..10 {
        let race = (0..8).map(|writer| {
            let condition = Condition::Row {
                view: shelf.view.clone(),
                id: "1".into(),
                version: Some(Position(version)),
            };
            let views = vec![shelf.put("1", version + 1, &format!("{{\"number\":{writer}}}"))];
            shelf.world.store.commit(Commit {
                conditions: vec![condition],
                views,
                ..shelf.world.commit()
            })
        });
        let results = join_all(race).await;
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "at version {version}"
        );
        assert_eq!(
            shelf.get("1").await.map(|row| row.version),
            Some(Position(version + 1))
        );
    }
}

/// What can't be found by its declared fields would be lost to queries.
pub async fn a_document_that_does_not_fit_its_definition_is_poison(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    for document in [
        "[]",
        "null",
        "1",
        r#""text""#,
        r#"{"text":1}"#,
        r#"{"text":["a"]}"#,
        r#"{"number":"1"}"#,
        r#"{"number":1.5}"#,
        r#"{"number":9223372036854775808}"#,
        r#"{"number":true}"#,
        r#"{"flag":0}"#,
        r#"{"flag":"true"}"#,
    ] {
        let error = shelf
            .refuse(vec![
                shelf.put("good", 1, "{}"),
                shelf.put("bad", 1, document),
            ])
            .await;
        assert_eq!(error.class(), ErrorClass::Poison, "{document}: {error}");
    }
    assert!(shelf.ids(&Query::all()).await.is_empty());
    let fits = [
        r#"{"text":null,"number":null,"flag":null}"#,
        r#"{"text":"","number":0,"flag":false,"other":[1.5]}"#,
        r#"{"number":-9223372036854775808}"#,
    ];
    for (number, document) in fits.iter().enumerate() {
        shelf
            .write(vec![shelf.put(&number.to_string(), 1, document)])
            .await;
    }
}

/// Rows are as durable as the log.
pub async fn a_restart_keeps_rows_tombstones_and_the_active_generation(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .fill((0..30).map(|id| (format!("{id:02}"), format!("{{\"number\":{}}}", id % 7))))
        .await;
    shelf
        .write(
            (0..10)
                .map(|id| shelf.delete(&format!("{id:02}"), 5))
                .collect(),
        )
        .await;
    let query = Query::all().sort_descending("number").limit(7);
    let before = shelf.all(&query).await;
    assert_eq!(before.len(), 20);
    let shelf = shelf.reopen(harness).await;
    assert_eq!(shelf.all(&query).await, before);
    shelf
        .views()
        .ensure(&super::shelf::definition("orders"), 1)
        .await
        .expect("a view is prepared at each start");
    assert_eq!(
        shelf.all(&query).await,
        before,
        "to prepare it again changes nothing"
    );
    shelf.fill([("00", "{}")]).await;
    assert_eq!(shelf.get("00").await, None, "its tombstone is newer");
}

/// Nothing in an id or a value has a meaning of its own.
pub async fn hostile_ids_and_values_are_kept_apart(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let mut texts = vec![
        "",
        " ",
        "a",
        "A",
        "a ",
        "á",
        "a\u{301}",
        "%",
        "_",
        "a%",
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "; drop table rows; --",
        "null",
        "NULL",
        "0",
        "00",
        "0.0",
        "1e3",
        "true",
        "$1",
        "?1",
        ":id",
        "{{}}",
        "\u{1f600}",
        "\u{202e}",
    ];
    let long = "x".repeat(2_000);
    texts.push(&long);
    let document = |text: &str| {
        factum_core::Json::of(&std::collections::BTreeMap::from([("text", text)]))
            .expect("it is JSON")
            .to_string()
    };
    shelf
        .fill(texts.iter().map(|text| (*text, document(text))))
        .await;
    for text in &texts {
        assert_eq!(
            shelf.text(text).await,
            Some((1, document(text))),
            "row {text:?}"
        );
        assert_eq!(
            shelf.ids(&Query::all().equal("text", *text)).await,
            [*text],
            "text {text:?}"
        );
    }
    texts.sort_unstable();
    assert_eq!(shelf.all(&Query::all().limit(3)).await, texts);
    assert_eq!(shelf.all(&Query::all().sort("text").limit(4)).await, texts);
    let large = document(&"주".repeat(300_000));
    shelf.write(vec![shelf.put("large", 2, &large)]).await;
    assert_eq!(shelf.text("large").await, Some((2, large)));
}
