//! Queries show late what was written, unless they have to.

use factum_core::Query;

use crate::{
    front::Front,
    support::{Place, Process, activate, options_at, orders, put, view},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_refreshes_once_and_only_if_its_token_needs_it() {
    let Some(place) = Place::new() else {
        return;
    };
    let front = Front::of(&place.url, None).await;
    let options = options_at(&format!("http://{}/{}", front.host(), place.prefix));
    let process = Process::of(&place, options).await;
    let mut owner = process.claim().await;
    owner
        .apply(1, vec![put("a", 1, "{}"), activate()])
        .await
        .expect("it is the owner");
    owner
        .apply(2, vec![put("b", 2, "{}")])
        .await
        .expect("it is the owner");
    let refreshes = || front.asked("_refresh").len();
    let before = refreshes();
    let shown = async |wanted: Option<u64>| {
        let wanted = wanted.map(|position| owner.at(position));
        let shown = process.views.shown(&orders(), 1, owner.at(2), wanted).await;
        assert_eq!(shown.expect("it is asked"), owner.at(2));
    };
    // Who needs nothing gets what is shown, at no cost; a row by its id is shown at once.
    shown(None).await;
    assert_eq!(process.ids(&Query::all()).await, ["a"]);
    assert!(process.get("b").await.is_some());
    shown(Some(1)).await;
    assert!(process.get("b").await.is_some());
    assert_eq!(refreshes(), before);
    // Who needs the second row sees it; all others after that too, and nothing is done for them.
    shown(Some(2)).await;
    let (one, two) = (Query::all(), Query::all());
    let (one, two) = tokio::join!(process.ids(&one), process.ids(&two));
    assert_eq!(
        (one, two),
        (
            vec!["a".into(), "b".into()],
            vec!["a".into(), "b".to_string()]
        )
    );
    assert_eq!(refreshes(), before + 1);
    for wanted in [Some(2), Some(1), None] {
        shown(wanted).await;
        assert_eq!(process.ids(&Query::all()).await, ["a", "b"]);
    }
    let counted = process
        .views
        .count(&view(), Some(1), &Query::all(), 10)
        .await;
    assert_eq!(counted.expect("rows are counted"), 2);
    assert_eq!(refreshes(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_comes_back_byte_for_byte() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    let document = "{\"z\":12345678901234567890.10,\n\t\"text\":\"주문 \\u00e9 \\\"x\\\"\", \"number\":-7,\"deep\":{\"b\":[1, 2.50],\"a\":null}}";
    let high = u64::MAX / 2;
    owner
        .apply(1, vec![put("1", high, document), activate()])
        .await
        .expect("it is the owner");
    let row = process.get("1").await.expect("it was written");
    assert_eq!((row.version.0, row.document.as_str()), (high, document));
    let found = process.views.query(&view(), None, &Query::all()).await;
    assert_eq!(found.expect("rows are found").rows, [row]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_texts_are_equal_only_to_themselves() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    let long = "주".repeat(9_000);
    let other = format!("{long}x");
    let row = |id: &str, name: &str| put(id, 1, &format!("{{\"name\":\"{name}\"}}"));
    let rows = vec![
        row("1", &long),
        row("2", &other),
        row("3", "주"),
        activate(),
    ];
    owner.apply(1, rows).await.expect("it is the owner");
    assert_eq!(
        process
            .ids(&Query::all().equal("name", long.as_str()))
            .await,
        ["1"]
    );
    assert_eq!(
        process
            .ids(&Query::all().equal("name", other.as_str()))
            .await,
        ["2"]
    );
    let query = Query::all().sort_descending("name").limit(1);
    let mut page = process
        .views
        .query(&view(), Some(1), &query)
        .await
        .expect("rows are found");
    let mut ids = Vec::new();
    loop {
        ids.extend(page.rows.into_iter().map(|row| row.id));
        let Some(next) = page.next else { break };
        let query = query.clone().after(next);
        page = process
            .views
            .query(&view(), Some(1), &query)
            .await
            .expect("rows are found");
    }
    assert_eq!(ids, ["2", "1", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_far_behind_are_walked_to() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    for batch in 0..3_u64 {
        let ids = batch * 4_000..(batch + 1) * 4_000;
        let rows = ids.map(|id| put(&format!("{id:05}"), 1, &format!("{{\"total\":{}}}", id / 7)));
        owner
            .apply(batch + 1, rows.collect())
            .await
            .expect("it is the owner");
    }
    owner
        .apply(9, vec![activate()])
        .await
        .expect("it is the owner");
    let page = async |query: Query| {
        process
            .views
            .query(&view(), Some(1), &query)
            .await
            .expect("rows are found")
    };
    for query in [
        Query::all().limit(100),
        Query::all().limit(100).sort_descending("total"),
    ] {
        for (number, first) in [(99, 9_800), (100, 9_900), (101, 10_000), (120, 11_900)] {
            let found = page(query.clone().page(number)).await;
            let id = |index: usize| match query.sort {
                None => format!("{index:05}"),
                Some(_) => format!("{:05}", 11_999 - index),
            };
            let ids: Vec<_> = found.rows.iter().map(|row| row.id.clone()).collect();
            assert_eq!(
                ids,
                (first..first + 100).map(id).collect::<Vec<_>>(),
                "page {number}"
            );
            assert_eq!(found.next.is_some(), number < 120);
        }
        let behind = page(query.page(121)).await;
        assert!(behind.rows.is_empty() && behind.next.is_none());
    }
}
