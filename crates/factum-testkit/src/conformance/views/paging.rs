//! Pages, by cursor and by number.

use factum_core::{Cursor, ErrorClass, PAGE_NUMBER_MAX, PAGE_ROWS_MAX, Page, Query, Value};

use super::shelf::Shelf;
use crate::conformance::store::StoreHarness;

/// Rows with many ties and many nulls: what cursors stumble over.
async fn fill(shelf: &Shelf) {
    let document = |id: usize| match id % 5 {
        0 => "{}".to_string(),
        rest => format!(
            "{{\"number\":{},\"text\":\"{}\",\"flag\":{}}}",
            rest % 3,
            id % 4,
            id.is_multiple_of(2)
        ),
    };
    shelf
        .fill((0..37).map(|id| (format!("{id:02}"), document(id))))
        .await;
}

fn queries() -> impl Iterator<Item = Query> {
    let sorts = ["number", "text", "flag"].into_iter();
    let sorted = sorts.flat_map(|field| {
        [
            Query::all().sort(field),
            Query::all().sort_descending(field),
        ]
    });
    let queries = sorted.chain([Query::all()]);
    queries.flat_map(|query| {
        [
            query.clone(),
            query.clone().equal("flag", true),
            query.equal("number", Value::Null),
        ]
    })
}

/// Page after page is the whole, whatever the order and the size of the pages.
pub async fn pages_by_cursor_hold_every_row_once(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    fill(&shelf).await;
    for query in queries() {
        let whole = shelf.ids(&query).await;
        for limit in [1, 2, 7, 36, 37, 38] {
            assert_eq!(
                shelf.all(&query.clone().limit(limit)).await,
                whole,
                "{query:?}, {limit} at a time"
            );
        }
        let exact = u32::try_from(whole.len()).expect("there are few");
        if exact > 0 {
            let page = shelf.query(&query.clone().limit(exact)).await;
            assert_eq!(
                page.next, None,
                "{query:?}: there is nothing behind the last row"
            );
            let page = shelf.query(&query.limit(exact).page(2)).await;
            assert_eq!((page.rows.len(), page.next), (0, None));
        }
    }
}

/// Rows before the cursor that come or go don't shift the pages behind it.
pub async fn a_cursor_stays_where_it_is_while_rows_come_and_go(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let document = |number: i64| format!("{{\"number\":{number}}}");
    shelf
        .fill((0..20).map(|id| (format!("{id:02}"), document(id))))
        .await;
    let mut version = 1;
    for (query, expected) in [
        (Query::all().sort("number"), ["05", "06", "07"]),
        (Query::all().sort_descending("number"), ["14", "13", "12"]),
        (Query::all(), ["05", "06", "07"]),
    ] {
        let page = shelf.query(&query.clone().limit(5)).await;
        let cursor = page.next.expect("there is more");
        let last = page
            .rows
            .last()
            .map(|row| row.id.clone())
            .expect("there are five");
        let behind = query.clone().limit(3).after(cursor.clone());
        assert_eq!(shelf.ids(&behind).await, expected);
        // New rows before the cursor, whichever the order.
        let number: i64 = last.parse().expect("ids are numbers");
        version += 1;
        shelf
            .write(vec![
                shelf.put("000", version, &document(-1)),
                shelf.put("00x", version, &document(99)),
            ])
            .await;
        shelf.write(vec![shelf.delete(&last, version)]).await;
        assert_eq!(
            shelf.ids(&behind).await,
            expected,
            "the row of the cursor may be gone"
        );
        version += 1;
        shelf
            .write(vec![shelf.put(&last, version, &document(number))])
            .await;
        shelf
            .write(vec![
                shelf.delete("000", version),
                shelf.delete("00x", version),
            ])
            .await;
        assert_eq!(shelf.ids(&behind).await, expected);
    }
}

/// Clients are given a cursor as text.
pub async fn a_cursor_goes_through_text(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    fill(&shelf).await;
    shelf
        .fill([(
            "\u{1f600} \"",
            r#"{"text":"한글\u0001","number":9223372036854775807}"#,
        )])
        .await;
    for query in queries() {
        let whole = shelf.ids(&query).await;
        let mut query = query.limit(1);
        for (index, id) in whole.iter().enumerate() {
            let page = shelf.query(&query).await;
            assert_eq!(
                page.rows.iter().map(|row| &row.id).collect::<Vec<_>>(),
                [id]
            );
            assert_eq!(page.next.is_some(), index + 1 < whole.len());
            let Some(next) = page.next else { break };
            let text = next.to_string();
            query =
                query.after(Cursor::parse(&text).unwrap_or_else(|| panic!("`{text}` is a cursor")));
        }
    }
}

/// A page by number is that stretch of the whole.
pub async fn pages_by_number_hold_every_row_once(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    fill(&shelf).await;
    for query in queries() {
        let whole = shelf.ids(&query).await;
        for limit in [1, 5, 37] {
            let mut found = Vec::new();
            for number in 1..=u32::try_from(whole.len()).expect("there are few") / limit + 2 {
                let page = shelf.query(&query.clone().limit(limit).page(number)).await;
                let more = (number * limit) as usize;
                assert_eq!(
                    page.next.is_some(),
                    more < whole.len(),
                    "{query:?}, page {number} of {limit}"
                );
                found.extend(page.rows.into_iter().map(|row| row.id));
            }
            assert_eq!(found, whole, "{query:?}, {limit} at a time");
        }
    }
    // From a page by number, one can go on by cursor.
    let query = Query::all().sort("number").limit(5);
    let page = shelf.query(&query.clone().page(3)).await;
    let next = query.clone().after(page.next.expect("there is more"));
    assert_eq!(shelf.ids(&next).await, shelf.ids(&query.page(4)).await);
}

/// Whoever wants more goes on by cursor.
pub async fn pages_have_bounds(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf
        .fill((0..=PAGE_ROWS_MAX).map(|id| (format!("{id:04}"), "{}")))
        .await;
    let page = shelf.query(&Query::all().limit(PAGE_ROWS_MAX)).await;
    assert_eq!(
        (page.rows.len(), page.next.is_some()),
        (PAGE_ROWS_MAX as usize, true)
    );
    assert!(
        shelf
            .ids(&Query::all().page(PAGE_NUMBER_MAX))
            .await
            .is_empty()
    );
    assert_eq!(
        shelf
            .ids(&Query::all().limit(1).page(PAGE_NUMBER_MAX))
            .await,
        ["0999"]
    );
    let by_id = Cursor {
        value: None,
        id: "0".into(),
    };
    let by_value = Cursor {
        value: Some(Value::Integer(1)),
        id: "0".into(),
    };
    for query in [
        Query::all().limit(0),
        Query::all().limit(PAGE_ROWS_MAX + 1),
        Query::all().page(0),
        Query::all().page(PAGE_NUMBER_MAX + 1),
        Query::all().after(by_value),
        Query {
            page: Page::After(by_id),
            ..Query::all().sort("number")
        },
    ] {
        let error = shelf
            .views()
            .query(&shelf.view.view, None, &query)
            .await
            .expect_err("it is out of bounds");
        assert_eq!(error.class(), ErrorClass::Poison, "{query:?}: {error}");
    }
}
