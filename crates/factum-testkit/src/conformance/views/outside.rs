//! Views outside of the store: checkpoints and fences that live with the rows.

use factum_core::{
    AuditEntry, Commit, CommitError, ErrorClass, ExpectedVersion, Input, LogInput, Position,
    ProjectionName, Query, ViewName, ViewRef, ViewWrite,
};

use super::shelf::{Shelf, definition, json};
use crate::conformance::store::{StoreHarness, world::at};

fn orders() -> ProjectionName {
    ProjectionName::of("orders")
}

fn projecting(shelf: &Shelf, input: &LogInput, views: Vec<ViewWrite>) -> Commit {
    Commit {
        input: Input::Log(input.clone()),
        views,
        ..shelf.world.commit()
    }
}

/// The next stretch of the log behind one.
fn behind(input: &LogInput) -> LogInput {
    let mut next = input.clone();
    next.from = input.to;
    next.to.position = input.to.position.next();
    next
}

async fn checkpoint(shelf: &Shelf, generation: u32) -> Option<Position> {
    let states = shelf.world.store.projections().await;
    let states = states.expect("projections are listed");
    let mut states = states.into_iter();
    let state = states.find(|state| state.projection == orders() && state.generation == generation);
    state.map(|state| state.checkpoint.position)
}

/// Nobody else knows what the rows stand for.
pub async fn rows_are_written_by_the_owner_of_their_projection_alone(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    assert!(
        !shelf.views().capabilities().atomic,
        "this suite is for views outside of the store"
    );
    let error = shelf
        .world
        .refuse(Commit {
            views: vec![shelf.put("1", 1, "{}")],
            ..shelf.world.appending("order/1", ExpectedVersion::Any, 1)
        })
        .await;
    assert_eq!(error.class(), ErrorClass::Poison, "{error}");
    assert_eq!(shelf.world.version("order/1").await.0, 0);
    let definition = definition("orders");
    shelf
        .views()
        .ensure(&definition, 2)
        .await
        .expect("a view can be prepared");
    let input = shelf.claim(&orders(), 1).await;
    let other = ViewRef {
        generation: 2,
        ..shelf.view.clone()
    };
    let stranger = ViewWrite::Put {
        view: other,
        id: "1".into(),
        version: Position(1),
        document: json("{}"),
    };
    for write in [stranger, Shelf::activate(2)] {
        let writes = vec![shelf.put("1", 1, "{}"), write];
        let error = shelf.world.refuse(projecting(&shelf, &input, writes)).await;
        assert_eq!(error.class(), ErrorClass::Poison, "{error}");
    }
    assert_eq!(shelf.get("1").await, None);
    assert_eq!(
        shelf.views().active(&orders()).await.expect("it reads"),
        Some(1)
    );
}

/// What is sent again because nobody knew whether it arrived does nothing the second time.
pub async fn a_batch_that_was_applied_is_not_applied_again(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let batch = || projecting(&shelf, &input, vec![shelf.put("1", 5, r#"{"number":1}"#)]);
    shelf.world.apply(batch()).await;
    let error = shelf.world.refuse(batch()).await;
    assert!(
        matches!(&error, CommitError::CheckpointMoved { actual, .. } if *actual == input.to),
        "{error}"
    );
    // Batches in another order than they were made.
    let next = behind(&input);
    let error = shelf
        .world
        .refuse(projecting(
            &shelf,
            &behind(&next),
            vec![shelf.put("1", 9, "{}")],
        ))
        .await;
    assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
    shelf
        .world
        .apply(projecting(&shelf, &next, vec![shelf.put("1", 7, "{}")]))
        .await;
    assert_eq!(shelf.text("1").await, Some((7, "{}".into())));
}

/// Rows that are there without their checkpoint would be counted twice, a checkpoint without its rows never.
pub async fn a_checkpoint_moves_with_its_rows_or_not_at_all(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let good = shelf.put("good", 1, "{}");
    let bad = shelf.put("bad", 1, r#"{"number":"x"}"#);
    let error = shelf
        .world
        .refuse(projecting(&shelf, &input, vec![good.clone(), bad]))
        .await;
    assert_eq!(error.class(), ErrorClass::Poison, "{error}");
    assert_eq!(checkpoint(&shelf, 1).await, Some(input.from.position));
    assert_eq!(shelf.get("good").await, None);
    let writes = vec![good, shelf.delete("gone", 1)];
    shelf.world.apply(projecting(&shelf, &input, writes)).await;
    assert_eq!(checkpoint(&shelf, 1).await, Some(input.to.position));
    let shelf = shelf.reopen(harness).await;
    assert_eq!(checkpoint(&shelf, 1).await, Some(input.to.position));
    assert_eq!(shelf.text("good").await, Some((1, "{}".into())));
}

/// One that was paused for a minute and wakes up, with a batch in its hands.
pub async fn a_former_owner_can_do_nothing(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let old = shelf.claim(&orders(), 1).await;
    let new = shelf.claim(&orders(), 1).await;
    assert!(new.fence > old.fence, "{:?}, {:?}", old.fence, new.fence);
    for writes in [Vec::new(), vec![shelf.put("1", 1, "{}")]] {
        let error = shelf.world.refuse(projecting(&shelf, &old, writes)).await;
        assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    }
    assert_eq!(shelf.get("1").await, None);
    shelf
        .world
        .apply(projecting(&shelf, &new, vec![shelf.put("1", 2, "{}")]))
        .await;
    let error = shelf
        .world
        .refuse(projecting(
            &shelf,
            &behind(&old),
            vec![shelf.put("1", 3, "{}")],
        ))
        .await;
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    // The other generations are not touched by it.
    let other = shelf.claim(&orders(), 2).await;
    shelf
        .world
        .apply(projecting(
            &shelf,
            &behind(&new),
            vec![shelf.put("1", 3, "{}")],
        ))
        .await;
    shelf
        .world
        .apply(projecting(&shelf, &other, Vec::new()))
        .await;
    assert_eq!(shelf.text("1").await, Some((3, "{}".into())));
}

/// While the log doesn't grow, this is how a loss is found out.
pub async fn an_owner_finds_out_without_writing_whether_it_still_is(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let mut input = shelf.claim(&orders(), 1).await;
    input.to = input.from;
    for _ in 0..3 {
        shelf
            .world
            .apply(projecting(&shelf, &input, Vec::new()))
            .await;
    }
    assert_eq!(checkpoint(&shelf, 1).await, Some(input.from.position));
    shelf.claim(&orders(), 1).await;
    let error = shelf
        .world
        .refuse(projecting(&shelf, &input, Vec::new()))
        .await;
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
}

/// It could come apart.
pub async fn a_commit_can_not_write_rows_and_something_else(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let batch = projecting(&shelf, &input, vec![shelf.put("1", 1, "{}")]);
    let error = shelf
        .world
        .refuse(Commit {
            appends: vec![shelf.world.append("order/1", ExpectedVersion::Any, 1)],
            ..batch
        })
        .await;
    assert_eq!(error.class(), ErrorClass::Poison, "{error}");
    assert_eq!(
        (shelf.get("1").await, shelf.world.version("order/1").await.0),
        (None, 0)
    );
}

/// Nothing is left out in silence, though the checkpoint that passes over it is elsewhere.
pub async fn what_a_projection_skips_is_recorded_in_the_store(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let entry = AuditEntry {
        at: at(1),
        actor: "orders".into(),
        action: "skip".into(),
        subject: "orders@1:1-1".into(),
        reason: "of no interest".into(),
    };
    let mut batch = projecting(&shelf, &input, Vec::new());
    batch.audit = Some(entry.clone());
    shelf.world.apply(batch).await;
    assert_eq!(checkpoint(&shelf, 1).await, Some(input.to.position));
    let audited = shelf.world.store.audit(None, 10).await;
    let audited = audited.expect("the record can be read");
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0].entry, entry);
}

/// As in a store.
pub async fn a_generation_goes_on_where_it_was_and_is_forgotten(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    shelf
        .world
        .apply(projecting(&shelf, &input, Vec::new()))
        .await;
    let shelf = shelf.reopen(harness).await;
    let again = shelf.claim(&orders(), 1).await;
    assert_eq!(again.from, input.to);
    let other = shelf.claim(&orders(), 2).await;
    assert_eq!(other.from.position, Position(0));
    assert_eq!(
        (checkpoint(&shelf, 1).await, checkpoint(&shelf, 2).await),
        (Some(again.from.position), Some(Position(0)))
    );
    let store = &shelf.world.store;
    store
        .forget_projection(&orders(), 2)
        .await
        .expect("a generation is forgotten");
    assert_eq!(checkpoint(&shelf, 2).await, None);
    let error = shelf
        .world
        .refuse(projecting(&shelf, &other, Vec::new()))
        .await;
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    let anew = shelf.claim(&orders(), 2).await;
    assert!(anew.fence > other.fence, "no owner gets its fence back");
    assert_eq!(anew.from.position, Position(0));
}

/// As in a store: so that whoever drops rows can first say that nobody must take them for theirs.
pub async fn another_fingerprint_starts_over(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    shelf
        .world
        .apply(projecting(&shelf, &input, Vec::new()))
        .await;
    let store = &shelf.world.store;
    let claim = store.claim_projection(&orders(), 1, "another").await;
    let claim = claim.expect("a projection can be claimed");
    assert_eq!(claim.checkpoint.position, Position(0));
    let states = store.projections().await.expect("projections are listed");
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].fingerprint, "another");
}

/// What was reached once may not be there any more, so each query asks.
pub async fn readers_are_shown_how_far_the_rows_have_come(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let shown = async |generation, wanted| {
        let views = shelf.views();
        views.shown(&orders(), generation, input.to, wanted).await
    };
    let before = shown(1, None).await.expect("readers see it");
    assert_eq!(before, input.from, "whatever was said before");
    let writes = vec![shelf.put("1", 1, "{}")];
    shelf.world.apply(projecting(&shelf, &input, writes)).await;
    let now = shown(1, Some(input.to)).await.expect("readers see it");
    assert_eq!(now, input.to);
    assert_eq!(
        shelf.all(&Query::all()).await,
        ["1"],
        "what is shown is found"
    );
    for generation in [2, 7] {
        let error = shown(generation, None).await.expect_err("nobody sees it");
        assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
    }
}

/// A projection stores its checkpoint behind what means nothing to it now and then only, and who waits for that waits for no
/// row.
pub async fn what_left_no_rows_is_shown_before_its_checkpoint_is_stored(
    harness: &dyn StoreHarness,
) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let writes = vec![shelf.put("1", 1, "{}")];
    shelf.world.apply(projecting(&shelf, &input, writes)).await;
    let reached = behind(&behind(&input)).to;
    let shown = async |wanted| {
        let shown = shelf.views().shown(&orders(), 1, reached, wanted).await;
        shown.expect("readers see it")
    };
    for wanted in [input.from, input.to, reached] {
        assert_eq!(shown(Some(wanted)).await, reached, "{wanted} is wanted");
        assert_eq!(shelf.all(&Query::all()).await, ["1"]);
    }
    assert_eq!(
        shown(None).await,
        input.to,
        "who wants nothing is told what is stored"
    );
    // Another process takes up the projection at what is stored, and so does this one after a restart.
    let shelf = shelf.reopen(harness).await;
    let states = shelf.world.store.projections().await;
    assert_eq!(
        states.expect("projections are listed")[0].checkpoint,
        input.to
    );
    let (views, reached) = (shelf.views(), input.to);
    let shown = views.shown(&orders(), 1, reached, Some(reached)).await;
    assert_eq!(shown.expect("readers see it"), reached);
}

/// What a restore lost may be in the rows.
pub async fn a_new_epoch_sees_nothing_of_the_old(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let input = shelf.claim(&orders(), 1).await;
    let writes = vec![shelf.put("lost", 9, "{}")];
    shelf.world.apply(projecting(&shelf, &input, writes)).await;
    let store = &shelf.world.store;
    let epoch = factum_core::Epoch(store.identity().epoch.0 + 1);
    store
        .open_epoch(epoch, at(1), "a test")
        .await
        .expect("an epoch can be opened");
    assert_eq!(
        shelf.views().active(&orders()).await.expect("it reads"),
        None
    );
    assert_eq!(checkpoint(&shelf, 1).await, None);
    let error = shelf
        .world
        .refuse(projecting(&shelf, &behind(&input), Vec::new()))
        .await;
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    shelf
        .views()
        .ensure(&definition("orders"), 1)
        .await
        .expect("a view can be prepared");
    let anew = shelf.claim(&orders(), 1).await;
    assert_eq!(anew.from.position, Position(0));
    let writes = vec![shelf.put("kept", 1, "{}"), Shelf::activate(1)];
    shelf.world.apply(projecting(&shelf, &anew, writes)).await;
    assert_eq!(shelf.all(&Query::all()).await, ["kept"]);
    assert_eq!(shelf.get("lost").await, None);
}

/// Processes that share a store share its views.
pub async fn a_second_process_sees_the_same_views(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let Some(second) = shelf.world.second(harness).await else {
        return;
    };
    let input = shelf.claim(&orders(), 1).await;
    let writes = vec![shelf.put("1", 1, r#"{"number":7}"#)];
    shelf.world.apply(projecting(&shelf, &input, writes)).await;
    let views = second.store.views().expect("it has the same");
    let name = ViewName::of("orders");
    let query = Query::all().equal("number", 7);
    for generation in [None, Some(1)] {
        let found = views.query(&name, generation, &query).await;
        assert_eq!(found.expect("rows are found").rows.len(), 1);
        let row = views.get(&name, generation, "1").await;
        assert!(row.expect("a row reads").is_some());
    }
    let states = second.store.projections().await;
    assert_eq!(states.expect("projections are listed").len(), 1);
    let claim = second.store.claim_projection(&orders(), 1, "shelf").await;
    let claim = claim.expect("a projection can be claimed");
    assert_eq!(claim.checkpoint, input.to);
    let error = shelf
        .world
        .refuse(projecting(&shelf, &behind(&input), Vec::new()))
        .await;
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
}
