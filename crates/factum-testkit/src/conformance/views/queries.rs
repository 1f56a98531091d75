//! Queries: order, comparison and counting.

use factum_core::{Comparison, ErrorClass, Operator, Query, Value};

use super::shelf::Shelf;
use crate::conformance::store::StoreHarness;
use Operator::{AtLeast, AtMost, Equal, Greater, Less};

const OPERATORS: [Operator; 5] = [Equal, Less, AtMost, Greater, AtLeast];

async fn fill_text(shelf: &Shelf, texts: &[&str]) {
    let document = |text: &str| {
        format!(
            "{{\"text\":{}}}",
            factum_core::Json::of(text).expect("text is JSON")
        )
    };
    shelf
        .fill(
            texts
                .iter()
                .enumerate()
                .map(|(id, text)| (format!("{id:02}"), document(text))),
        )
        .await;
}

/// Neither a language's order nor UTF-16's: that of the UTF-8 bytes, for values and ids alike.
pub async fn text_is_in_the_order_of_its_bytes(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let texts = [
        "\u{1f600}",
        "\u{ffee}",
        "z",
        "Z",
        "a",
        "é",
        "e\u{301}",
        "",
        " ",
        "10",
        "9",
        "가",
        "ab",
        "a b",
        "a-b",
        "A",
        "_",
    ];
    fill_text(&shelf, &texts).await;
    let mut expected: Vec<_> = (0..texts.len()).collect();
    expected.sort_by_key(|index| texts[*index].as_bytes());
    let expected: Vec<_> = expected.into_iter().map(|id| format!("{id:02}")).collect();
    assert_eq!(shelf.ids(&Query::all().sort("text")).await, expected);
    let reversed: Vec<_> = expected.iter().rev().cloned().collect();
    assert_eq!(
        shelf.ids(&Query::all().sort_descending("text")).await,
        reversed
    );
    for (operator, text) in [
        (Less, "a"),
        (AtMost, "Z"),
        (Greater, "z"),
        (AtLeast, "\u{ffee}"),
    ] {
        let mut expected: Vec<_> = (0..texts.len())
            .filter(|index| {
                let comparison = Comparison {
                    field: String::new(),
                    operator,
                    value: text.into(),
                };
                comparison.holds(&texts[*index].into())
            })
            .map(|id| format!("{id:02}"))
            .collect();
        expected.sort();
        assert_eq!(
            shelf
                .ids(&Query::all().compare("text", operator, text))
                .await,
            expected,
            "{operator:?} {text:?}"
        );
    }
    shelf
        .fill(
            texts
                .iter()
                .filter(|text| !text.is_empty())
                .map(|text| (format!("~{text}"), "{}")),
        )
        .await;
    let mut ids: Vec<_> = texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| format!("~{text}"))
        .collect();
    ids.sort();
    let found = shelf.ids(&Query::all()).await;
    assert_eq!(found[texts.len()..], ids);
}

/// What has no value is behind all that has one, whichever way it is sorted.
pub async fn nulls_are_last_in_both_directions(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .fill([
            ("a", r#"{"number":2,"text":"x","flag":true}"#),
            ("b", r#"{"number":null,"text":null,"flag":null}"#),
            ("c", r#"{"number":1,"text":"","flag":false}"#),
            ("d", "{}"),
            ("e", r#"{"number":-3,"text":"y","flag":true}"#),
        ])
        .await;
    for limit in [1, 2, 100] {
        let all = async |query: Query| shelf.all(&query.limit(limit)).await;
        assert_eq!(
            all(Query::all().sort("number")).await,
            ["e", "c", "a", "b", "d"]
        );
        assert_eq!(
            all(Query::all().sort_descending("number")).await,
            ["a", "c", "e", "d", "b"]
        );
        assert_eq!(
            all(Query::all().sort("text")).await,
            ["c", "a", "e", "b", "d"]
        );
        assert_eq!(
            all(Query::all().sort_descending("text")).await,
            ["e", "a", "c", "d", "b"]
        );
        assert_eq!(
            all(Query::all().sort("flag")).await,
            ["c", "a", "e", "b", "d"]
        );
        assert_eq!(
            all(Query::all().sort_descending("flag")).await,
            ["e", "a", "c", "d", "b"]
        );
    }
}

/// So that every query has one order, and a cursor one place in it.
pub async fn ties_are_in_the_order_of_ids(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    // Not in the order of their ids, so that the order of writing is told from it.
    for id in ["9", "10", "b", "B", "a", "1", "é"] {
        shelf.fill([(id, r#"{"number":7}"#)]).await;
    }
    let expected = ["1", "10", "9", "B", "a", "b", "é"];
    for limit in [1, 3, 100] {
        assert_eq!(shelf.all(&Query::all().limit(limit)).await, expected);
        assert_eq!(
            shelf.all(&Query::all().sort("number").limit(limit)).await,
            expected
        );
        assert_eq!(
            shelf
                .all(&Query::all().equal("number", 7).sort("text").limit(limit))
                .await,
            expected
        );
        let mut reversed = shelf
            .all(&Query::all().sort_descending("number").limit(limit))
            .await;
        reversed.reverse();
        assert_eq!(reversed, expected);
    }
}

/// Money in minor units, and ids that are numbers, are not doubles.
pub async fn integers_are_exact(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let two_to_53 = 1_i64 << 53;
    let numbers = [
        i64::MIN,
        i64::MIN + 1,
        -two_to_53 - 1,
        -two_to_53,
        -10,
        -9,
        0,
        9,
        10,
        two_to_53 - 1,
        two_to_53,
        two_to_53 + 1,
        i64::MAX - 1,
        i64::MAX,
    ];
    let rows = numbers.iter().enumerate().rev();
    shelf
        .fill(rows.map(|(id, number)| (format!("{id:02}"), format!("{{\"number\":{number}}}"))))
        .await;
    let ids: Vec<_> = (0..numbers.len()).map(|id| format!("{id:02}")).collect();
    for limit in [1, 100] {
        assert_eq!(
            shelf.all(&Query::all().sort("number").limit(limit)).await,
            ids
        );
        let mut reversed = shelf
            .all(&Query::all().sort_descending("number").limit(limit))
            .await;
        reversed.reverse();
        assert_eq!(reversed, ids);
    }
    for (index, number) in numbers.into_iter().enumerate() {
        for (operator, expected) in [
            (Equal, &ids[index..=index]),
            (Less, &ids[..index]),
            (AtMost, &ids[..=index]),
            (Greater, &ids[index + 1..]),
            (AtLeast, &ids[index..]),
        ] {
            let found = shelf
                .ids(&Query::all().compare("number", operator, number))
                .await;
            assert_eq!(found, expected, "{operator:?} {number}");
        }
    }
}

/// All operators, on all kinds, with null too: it equals itself, and is neither less nor greater.
pub async fn every_operator_compares(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let rows = [
        (
            r#"{"text":"a","number":-1,"flag":false}"#,
            ["a".into(), Value::Integer(-1), false.into()],
        ),
        (
            r#"{"text":"b","number":0,"flag":true}"#,
            ["b".into(), Value::Integer(0), true.into()],
        ),
        (
            r#"{"text":"","number":1,"flag":true}"#,
            ["".into(), Value::Integer(1), true.into()],
        ),
        ("{}", [Value::Null, Value::Null, Value::Null]),
    ];
    shelf
        .fill(
            rows.iter()
                .enumerate()
                .map(|(id, (document, _))| (id.to_string(), *document)),
        )
        .await;
    for (index, field) in ["text", "number", "flag"].into_iter().enumerate() {
        for (_, values) in &rows {
            for operator in OPERATORS {
                let value = values[index].clone();
                let comparison = Comparison {
                    field: field.into(),
                    operator,
                    value: value.clone(),
                };
                let expected: Vec<_> = (0..rows.len())
                    .filter(|row| comparison.holds(&rows[*row].1[index]))
                    .map(|id| id.to_string())
                    .collect();
                let query = Query::all().compare(field, operator, value);
                assert_eq!(shelf.ids(&query).await, expected, "{comparison:?}");
                let counted = shelf
                    .views()
                    .count(&shelf.view.view, None, &query, 100)
                    .await;
                assert_eq!(
                    counted.expect("rows are counted"),
                    expected.len() as u64,
                    "{comparison:?}"
                );
            }
        }
    }
}

/// A row must meet all comparisons, those of one field too.
pub async fn filters_hold_together(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let document = |id: u32| {
        format!(
            "{{\"number\":{id},\"flag\":{},\"text\":\"{}\"}}",
            id.is_multiple_of(2),
            id % 3
        )
    };
    shelf
        .fill((0..30).map(|id| (format!("{id:02}"), document(id))))
        .await;
    let query = Query::all()
        .compare("number", AtLeast, 5)
        .compare("number", Less, 20)
        .equal("flag", true)
        .equal("text", "0")
        .sort_descending("number");
    assert_eq!(shelf.ids(&query).await, ["18", "12", "06"]);
    assert!(
        shelf
            .ids(&query.clone().equal("flag", false))
            .await
            .is_empty()
    );
    assert!(
        shelf
            .ids(&query.compare("number", Greater, 20))
            .await
            .is_empty()
    );
}

/// No query is slow, or empty, by accident.
pub async fn fields_that_are_not_declared_are_refused(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf.fill([("1", r#"{"text":"a","other":"b"}"#)]).await;
    for query in [
        Query::all().equal("other", "b"),
        Query::all().equal("Text", "a"),
        Query::all().equal("id", "1"),
        Query::all().equal("text", 1),
        Query::all().equal("number", "1"),
        Query::all().equal("flag", 1),
    ] {
        let error = shelf
            .views()
            .query(&shelf.view.view, None, &query)
            .await
            .expect_err("it can't be answered");
        assert_eq!(error.class(), ErrorClass::Poison, "{query:?}: {error}");
        let error = shelf
            .views()
            .count(&shelf.view.view, None, &query, 10)
            .await
            .expect_err("it can't be answered");
        assert_eq!(error.class(), ErrorClass::Poison, "{query:?}: {error}");
    }
    for query in [
        Query::all().sort("other"),
        Query::all().sort_descending("id"),
    ] {
        let error = shelf
            .views()
            .query(&shelf.view.view, None, &query)
            .await
            .expect_err("it can't be answered");
        assert_eq!(error.class(), ErrorClass::Poison, "{query:?}: {error}");
    }
}

/// "More than 1,000" is known after 1,000 rows.
pub async fn counting_stops_at_the_cap(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .fill((0..50).map(|id| (id.to_string(), format!("{{\"flag\":{}}}", id < 20))))
        .await;
    shelf.write(vec![shelf.delete("0", 2)]).await;
    for (query, cap, expected) in [
        (Query::all(), 1000, 49),
        (Query::all(), 49, 49),
        (Query::all(), 48, 48),
        (Query::all(), 0, 0),
        (Query::all().equal("flag", true), 1000, 19),
        (Query::all().equal("flag", true), 10, 10),
        (Query::all().equal("flag", Value::Null), 10, 0),
        // A count is of all rows, whatever the page.
        (Query::all().limit(5).page(3), 1000, 49),
    ] {
        let counted = shelf
            .views()
            .count(&shelf.view.view, None, &query, cap)
            .await;
        assert_eq!(
            counted.expect("rows are counted"),
            expected,
            "{query:?} up to {cap}"
        );
    }
}

/// Rows have all words of a query, wherever in what is searched; and where the engine looks for none, it says so.
pub async fn words_are_found_where_the_engine_can(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .fill([
            (
                "1",
                r#"{"text":"Kim Minsu","note":"green tea, pot","number":3}"#,
            ),
            ("2", r#"{"text":"Lee","note":"Green TEA","number":1}"#),
            ("3", r#"{"text":"김민수","note":"녹차 주전자","number":2}"#),
            ("4", r#"{"text":null,"number":2}"#),
            ("5", r#"{"other":"tea"}"#),
        ])
        .await;
    let all = |words: &str| Query::all().words(words).sort("number");
    if !shelf.views().capabilities().full_text {
        let (view, query) = (&shelf.view.view, all("tea"));
        let error = shelf.views().query(view, None, &query).await;
        let error = error.expect_err("nobody looks for words");
        assert_eq!(error.class(), ErrorClass::Poison, "{error}");
        assert!(error.to_string().contains("full text"), "{error}");
        let error = shelf.views().count(view, None, &query, 10).await;
        assert!(error.expect_err("nobody looks for words").is_poison());
        return;
    }
    for (words, expected) in [
        ("tea", ["2", "1"].as_slice()),
        ("TEA Green", &["2", "1"]),
        ("pot kim", &["1"]),
        ("lee pot", &[]),
        ("te", &[]),
        ("녹차", &["3"]),
        ("!?", &[]),
        ("", &[]),
        ("text:kim OR lee", &[]),
    ] {
        assert_eq!(shelf.all(&all(words).limit(1)).await, expected, "{words}");
        let counted = shelf
            .views()
            .count(&shelf.view.view, None, &all(words), 10)
            .await;
        assert_eq!(counted.expect("rows are counted"), expected.len() as u64);
    }
    assert_eq!(shelf.ids(&all("tea").equal("number", 3)).await, ["1"]);
    shelf
        .write(vec![
            shelf.put("1", 2, r#"{"note":"coffee"}"#),
            shelf.delete("2", 2),
        ])
        .await;
    assert_eq!(shelf.ids(&all("tea")).await, Vec::<String>::new());
    assert_eq!(shelf.ids(&all("coffee")).await, ["1"]);
}
