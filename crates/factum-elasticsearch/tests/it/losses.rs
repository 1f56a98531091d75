//! An index that goes, or goes back: noticed, and answered by rows that are built anew, never by wrong answers.

use factum_core::{Epoch, ErrorClass, Query, Timestamp};

use crate::{
    front::{Front, Verdict},
    support::{Place, Process, activate, definition, options_at, orders, put, view},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_was_deleted_is_noticed_by_whoever_writes_or_reads() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    let reader = Process::of(&place, place.options()).await;
    owner
        .apply(3, vec![put("a", 3, r#"{"total":1}"#), activate()])
        .await
        .expect("it is the owner");
    assert_eq!(reader.ids(&Query::all()).await, ["a"]);
    let index = place.indexes().await.remove(0);
    place.ask("DELETE", &format!("/{index}"), "").await;

    let idle = owner
        .apply(3, Vec::new())
        .await
        .expect_err("the rows are gone");
    assert_eq!(idle.class(), ErrorClass::Conflict, "{idle}");
    let late = owner
        .apply(4, vec![put("a", 4, "{}")])
        .await
        .expect_err("the rows are gone");
    assert_eq!(late.class(), ErrorClass::Conflict, "{late}");
    assert!(
        place.indexes().await.is_empty(),
        "nothing was made in its place by accident"
    );
    assert_eq!(
        process.views.active(&orders()).await.expect("it reads"),
        None
    );
    assert!(
        process
            .views
            .projections()
            .await
            .expect("they are listed")
            .is_empty()
    );

    // Made anew under the same number, it is another one.
    let mut new = process.claim().await;
    assert_eq!(new.claim.checkpoint, factum_core::At::ZERO);
    assert!(new.claim.fence > owner.claim.fence);
    let error = reader.views.query(&view(), Some(1), &Query::all()).await;
    let error = error.expect_err("those rows are not what it has read before");
    assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
    let shown = reader
        .views
        .shown(&orders(), 1, owner.at(3), Some(owner.at(3)))
        .await;
    assert_ne!(
        shown.ok(),
        Some(owner.at(3)),
        "it is not passed off as fresh"
    );
    owner.claim.checkpoint = factum_core::At::ZERO;
    let late = owner
        .apply(1, vec![put("a", 1, "{}")])
        .await
        .expect_err("it belongs to another one");
    assert_eq!(late.class(), ErrorClass::Fenced, "{late}");
    new.apply(3, vec![put("a", 3, r#"{"total":1}"#), activate()])
        .await
        .expect("it is the owner");
    process
        .views
        .settle(&view(), None)
        .await
        .expect("rows can be shown");
    assert_eq!(reader.ids(&Query::all()).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_went_back_is_told_to_readers() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    owner
        .apply(3, vec![put("a", 3, "{}"), activate()])
        .await
        .expect("it is the owner");
    let index = place.indexes().await.remove(0);
    let before = place
        .ask("GET", &format!("/{index}/_source/state"), "")
        .await;
    owner
        .apply(5, vec![put("a", 5, "{}")])
        .await
        .expect("it is the owner");
    let (three, five) = (owner.at(3), owner.at(5));
    let shown = async || process.views.shown(&orders(), 1, five, Some(five)).await;
    assert_eq!(shown().await.expect("it is asked"), five);
    // As a replica that was behind, and was made the first.
    place
        .ask("PUT", &format!("/{index}/_doc/state"), &before.to_string())
        .await;
    assert_eq!(shown().await.expect("it is asked"), three);
    let idle = owner.apply(5, Vec::new()).await.expect_err("it went back");
    assert_eq!(idle.class(), ErrorClass::Conflict, "{idle}");
    let mut again = process.claim().await;
    assert_eq!(again.claim.checkpoint, three);
    again
        .apply(5, vec![put("a", 5, "{}")])
        .await
        .expect("it goes on from there");
    assert_eq!(shown().await.expect("it is asked"), five);
}

/// Rows that came again after a loss were taken for those that queries had shown before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_after_a_loss_is_made_searchable_again() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    owner
        .apply(3, vec![put("a", 3, "{}"), activate()])
        .await
        .expect("it is the owner");
    let index = place.indexes().await.remove(0);
    let before = place
        .ask("GET", &format!("/{index}/_source/state"), "")
        .await;
    let five = owner.at(5);
    let show = async || {
        let shown = process.views.shown(&orders(), 1, five, Some(five)).await;
        assert_eq!(shown.expect("it is asked"), five);
    };
    owner
        .apply(5, vec![put("b", 5, r#"{"total":1}"#)])
        .await
        .expect("it is the owner");
    show().await;
    assert_eq!(process.ids(&Query::all().equal("total", 1)).await, ["b"]);
    place
        .ask("PUT", &format!("/{index}/_doc/state"), &before.to_string())
        .await;
    let mut again = process.claim().await;
    // With another value, so that what was lost is not found in its place.
    again
        .apply(5, vec![put("b", 5, r#"{"total":2}"#)])
        .await
        .expect("it goes on from there");
    show().await;
    assert_eq!(process.ids(&Query::all().equal("total", 2)).await, ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_has_rows_of_its_own_and_drops_those_of_lost_ones() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    owner
        .apply(3, vec![put("a", 3, "{}"), activate()])
        .await
        .expect("it is the owner");
    let old = place.indexes().await;
    let epoch = Epoch(process.store.identity().epoch.0 + 1);
    process
        .store
        .open_epoch(epoch, Timestamp::UNIX_EPOCH, "restored")
        .await
        .expect("it opens");
    assert_eq!(
        process.views.active(&orders()).await.expect("it reads"),
        None
    );
    assert!(
        process
            .views
            .projections()
            .await
            .expect("they are listed")
            .is_empty()
    );
    let late = owner
        .apply(4, Vec::new())
        .await
        .expect_err("that epoch is over");
    assert!(
        matches!(late.class(), ErrorClass::Conflict | ErrorClass::Fenced),
        "{late}"
    );
    let mut new = process.claim().await;
    assert_eq!(new.claim.checkpoint, factum_core::At::ZERO);
    new.apply(2, vec![put("b", 2, "{}"), activate()])
        .await
        .expect("it is the owner");
    assert_eq!(process.ids(&Query::all()).await, ["b"]);
    let left = place.indexes().await;
    assert_eq!(left.len(), 1);
    assert!(
        !left.contains(&old[0]),
        "nobody sees the rows of the lost epoch"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_that_comes_late_lets_nobody_see_old_rows() {
    let Some(place) = Place::new() else {
        return;
    };
    let (process, mut owner) = Process::owner(&place).await;
    owner
        .apply(1, vec![activate()])
        .await
        .expect("it is the owner");
    let index = place.indexes().await.remove(0);
    let aliases = place.ask("GET", &format!("/{index}/_alias"), "").await;
    let aliases = aliases[&index]["aliases"]
        .as_object()
        .expect("it has aliases")
        .clone();
    let active = aliases
        .keys()
        .find(|alias| alias.contains("-a-"))
        .expect("readers see it");
    process
        .views
        .ensure(&definition(), 2)
        .await
        .expect("a view can be prepared");
    let claim = process
        .views
        .claim(&orders(), 2, "f")
        .await
        .expect("it is claimed");
    let input = factum_core::LogInput {
        projection: orders(),
        generation: 2,
        fence: claim.fence,
        from: claim.checkpoint,
        to: owner.at(1),
    };
    let activate = factum_core::ViewWrite::Activate {
        projection: orders(),
        generation: 2,
    };
    process
        .views
        .apply(&input, vec![activate])
        .await
        .expect("it is the owner");
    let seen = async || process.views.active(&orders()).await.expect("it reads");
    assert_eq!(seen().await, Some(2));
    let add = format!(r#"{{"actions":[{{"add":{{"index":"{index}","alias":"{active}"}}}}]}}"#);
    place.ask("POST", "/_aliases", &add).await;
    assert_eq!(seen().await, Some(2));
}

/// Aliases are given to an index by its name, and another one may have it by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_of_rows_that_are_gone_lets_nobody_see_those_in_their_place() {
    let Some(place) = Place::new() else {
        return;
    };
    let front = Front::of(&place.url, None).await;
    let options = options_at(&format!("http://{}/{}", front.host(), place.prefix));
    let process = Process::of(&place, options).await;
    let mut owner = process.claim().await;
    let index = place.indexes().await.remove(0);
    place.ask("DELETE", &format!("/{index}"), "").await;
    let next = Process::of(&place, place.options()).await;
    next.claim().await;
    // It was lost behind the last request before that for the aliases.
    front.rule(|asked| {
        let answer = match asked.path.as_str() {
            path if path.contains("_doc/state") => r#"{"_seq_no":9,"_primary_term":1}"#,
            path if path.contains("_bulk") => r#"{"errors":false}"#,
            path if path.contains("_refresh") => "{}",
            _ => return Verdict::Pass,
        };
        Verdict::Answer(200, answer.into())
    });
    let applied = owner.apply(1, vec![put("a", 1, "{}"), activate()]).await;
    let error = applied.expect_err("the rows are gone");
    assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
    let active = next.views.active(&orders()).await;
    assert_eq!(active.expect("it reads"), None);
    assert!(!front.asked("/_aliases").is_empty(), "it has come so far");
}
