//! Queries that look at more than the server shows at a time, and rows that are written meanwhile.

use std::time::Duration;

use factum_core::{Operator, Query, Rows, Store, Value, ViewWrite};

use crate::{
    shelf::{Owner, definition, view, views},
    support::Place,
};

/// More than some slices, and more than are kept in memory to be sorted.
const ROWS: usize = 12_500;

fn document(id: usize) -> String {
    let total = (id * 7_919) % 1_000;
    if id.is_multiple_of(50) {
        format!(r#"{{"user":"u{}","count":{id}}}"#, id % 3)
    } else {
        format!(r#"{{"user":"u{}","count":{id},"total":{total}}}"#, id % 3)
    }
}

async fn filled(place: &Place) -> (std::sync::Arc<dyn Store>, Owner) {
    let process = place.process().await;
    let mut owner = Owner::claim(&process.store, 1).await.expect("it is free");
    let ids: Vec<_> = (0..ROWS).collect();
    for slice in ids.chunks(1_000) {
        let put = |id: &usize| owner.put(&format!("{id:05}"), &document(*id));
        let mut writes: Vec<ViewWrite> = slice.iter().map(put).collect();
        writes.push(owner.activate());
        owner.apply(writes).await.expect("it is ours");
    }
    (process.store, owner)
}

/// All ids that should be found, in order.
fn expected(query: &Query) -> Vec<String> {
    let definition = definition();
    let column = |field: &str| {
        let is_it = |known: &factum_core::Field| known.name == field;
        definition
            .fields
            .iter()
            .position(is_it)
            .expect("it is declared")
    };
    let mut rows: Vec<(Option<Value>, String)> = Vec::new();
    for id in 0..ROWS {
        let json = factum_core::Json::parse(&document(id)).expect("it is JSON");
        let values = definition.extract(&json).expect("it fits");
        let meets = query
            .filter
            .iter()
            .all(|held| held.holds(&values[column(&held.field)]));
        if meets {
            let value = query
                .sort
                .as_ref()
                .map(|(field, _)| values[column(field)].clone());
            rows.push((value, format!("{id:05}")));
        }
    }
    let descending = query
        .sort
        .as_ref()
        .is_some_and(|(_, descending)| *descending);
    rows.sort_by(|left, right| {
        let null = |row: &(Option<Value>, String)| row.0 == Some(Value::Null);
        let rest = left.cmp(right);
        null(left)
            .cmp(&null(right))
            .then(if descending { rest.reverse() } else { rest })
    });
    rows.into_iter().map(|(_, id)| id).collect()
}

async fn ask(store: &dyn Store, query: &Query) -> Rows {
    let found = views(store).query(&view(), Some(1), query).await;
    found.unwrap_or_else(|error| panic!("{query:?}: {error:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_walks_find_what_a_plain_list_would() {
    let Some(place) = Place::new() else { return };
    let (store, _) = filled(&place).await;
    let some = |query: Query| query.compare("total", Operator::Less, 400);
    for query in [
        Query::all(),
        // Along an index, with something to look at in each row.
        some(Query::all().equal("user", "u1").sort_descending("count")),
        Query::all().equal("count", 12_001),
        // No index has the order.
        Query::all().sort("total"),
        Query::all().sort_descending("total"),
        some(Query::all().sort_descending("count")),
    ] {
        let whole = expected(&query);
        let query = query.limit(700);
        for page in [1, 2, 15, 17, 18, 19] {
            let found = ask(&*store, &query.clone().page(page)).await;
            let ids: Vec<_> = found.rows.into_iter().map(|row| row.id).collect();
            let skipped = (page as usize - 1) * 700;
            let stretch: Vec<_> = whole.iter().skip(skipped).take(700).cloned().collect();
            assert_eq!(ids, stretch, "page {page} of {query:?}");
            assert_eq!(
                found.next.is_some(),
                skipped + 700 < whole.len(),
                "page {page} of {query:?}"
            );
            if let Some(next) = found.next {
                let next = ask(&*store, &query.clone().after(next)).await;
                let ids: Vec<_> = next.rows.into_iter().map(|row| row.id).collect();
                let stretch: Vec<_> = whole
                    .iter()
                    .skip(skipped + 700)
                    .take(700)
                    .cloned()
                    .collect();
                assert_eq!(ids, stretch, "behind page {page} of {query:?}");
            }
        }
        let counted = views(&*store)
            .count(&view(), Some(1), &query, 1 << 60)
            .await;
        assert_eq!(
            counted.expect("rows are counted"),
            whole.len() as u64,
            "{query:?}"
        );
    }
}

/// A page that needs many looks is begun anew when rows were written in between: of two rows that change places each is
/// found once, always.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_change_places_while_they_are_looked_for_are_found_once() {
    let Some(place) = Place::new() else { return };
    let (store, mut owner) = filled(&place).await;
    let query = Query::all()
        .equal("user", "u1")
        .equal("total", -7)
        .sort("count");
    let seed = 20_260_302;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..30 {
        // One is at the beginning of the order and one at its end; and the other way round.
        let places = if round % 2 == 0 {
            (-1, 99_999)
        } else {
            (99_999, -1)
        };
        let put = |owner: &Owner, id: &str, count: i64| {
            let document = format!(r#"{{"user":"u1","count":{count},"total":-7}}"#);
            owner.put(id, &document)
        };
        let writes = vec![put(&owner, "x", places.0), put(&owner, "y", places.1)];
        let pause = Duration::from_micros(random.u64(..8_000));
        let write = async {
            tokio::time::sleep(pause).await;
            owner.apply(writes).await
        };
        let (found, written) = tokio::join!(ask(&*store, &query), write);
        written.expect("it is ours");
        let mut ids: Vec<_> = found.rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        // Before the first round there are none.
        assert!(
            ids == ["x", "y"] || (round == 0 && ids.is_empty()),
            "round {round}, seed {seed}: {ids:?}"
        );
    }
}
