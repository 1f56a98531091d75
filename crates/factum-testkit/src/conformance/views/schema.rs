//! Views, their generations and their definitions.

use factum_core::{
    ErrorClass, FieldKind, Position, ProjectionName, Query, ViewDefinition, ViewName, ViewRef,
    ViewWrite,
};

use super::shelf::{Shelf, definition, json};
use crate::conformance::store::StoreHarness;

fn orders() -> ProjectionName {
    ProjectionName::of("orders")
}

/// A rebuild is seen when it is complete, and not before.
pub async fn readers_see_the_active_generation(harness: &dyn StoreHarness) {
    let shelf = Shelf::unseen(harness).await;
    assert_eq!(
        shelf
            .views()
            .active(&orders())
            .await
            .expect("the active generation reads"),
        None
    );
    shelf
        .write(vec![shelf.put("1", 1, r#"{"text":"old"}"#)])
        .await;
    assert_eq!(
        shelf
            .views()
            .active(&orders())
            .await
            .expect("the active generation reads"),
        None
    );
    shelf.write(vec![Shelf::activate(1)]).await;
    assert_eq!(
        shelf
            .views()
            .active(&orders())
            .await
            .expect("the active generation reads"),
        Some(1)
    );
    assert_eq!(shelf.ids(&Query::all().equal("text", "old")).await, ["1"]);
    shelf
        .views()
        .ensure(&definition("orders"), 2)
        .await
        .expect("a view can be prepared");
    let new = ViewRef {
        generation: 2,
        ..shelf.view.clone()
    };
    let put = ViewWrite::Put {
        view: new,
        id: "2".into(),
        version: Position(1),
        document: json(r#"{"text":"new"}"#),
    };
    shelf.write(vec![put]).await;
    assert_eq!(
        shelf.ids(&Query::all()).await,
        ["1"],
        "a rebuild in progress is not seen"
    );
    assert_eq!(shelf.get("2").await, None);
    // The last row of the rebuild, and the switch, in one commit.
    let last = ViewRef {
        generation: 2,
        ..shelf.view.clone()
    };
    let put = ViewWrite::Put {
        view: last,
        id: "3".into(),
        version: Position(2),
        document: json("{}"),
    };
    shelf.write(vec![put, Shelf::activate(2)]).await;
    assert_eq!(shelf.ids(&Query::all()).await, ["2", "3"]);
    assert_eq!(
        (shelf.get("1").await, shelf.get("3").await.map(|row| row.id)),
        (None, Some("3".into()))
    );
    assert_eq!(
        shelf
            .views()
            .count(&shelf.view.view, None, &Query::all(), 10)
            .await
            .expect("rows are counted"),
        2
    );
    assert_eq!(
        shelf
            .views()
            .count(&shelf.view.view, Some(1), &Query::all(), 10)
            .await
            .expect("rows are counted"),
        1,
        "who asks for a generation is told of that one"
    );
    let shelf = shelf.reopen(harness).await;
    assert_eq!(
        shelf
            .views()
            .active(&orders())
            .await
            .expect("the active generation reads"),
        Some(2)
    );
    assert_eq!(shelf.ids(&Query::all()).await, ["2", "3"]);
}

/// Of two programs that build rows of their own, the one whose rows are older may be ready later.
pub async fn an_activation_that_was_overtaken_changes_nothing(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    for generation in [2, 10] {
        shelf
            .views()
            .ensure(&definition("orders"), generation)
            .await
            .expect("a view can be prepared");
    }
    let active = async |shelf: &Shelf| {
        let active = shelf.views().active(&orders()).await;
        active.expect("the active generation reads")
    };
    shelf.write(vec![Shelf::activate(10)]).await;
    let late = ViewRef {
        generation: 2,
        ..shelf.view.clone()
    };
    let row = ViewWrite::Put {
        view: late,
        id: "late".into(),
        version: Position(1),
        document: json("{}"),
    };
    for late in [vec![row, Shelf::activate(2)], vec![Shelf::activate(1)]] {
        shelf.write(late).await;
        assert_eq!(active(&shelf).await, Some(10));
    }
    assert_eq!(shelf.ids(&Query::all()).await, Vec::<String>::new());
    shelf.write(vec![Shelf::activate(10)]).await;
    let shelf = shelf.reopen(harness).await;
    assert_eq!(active(&shelf).await, Some(10));
    let late = shelf.views().get(&shelf.view.view, Some(2), "late").await;
    assert!(late.expect("a row can be read").is_some(), "it was written");
    let dropped = shelf.views().drop_generation(&orders(), 2).await;
    dropped.expect("nobody sees it");
}

/// Each generation has rows of its own, and can be read while another is seen.
pub async fn generations_are_kept_apart(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    for generation in [2, 11, 111] {
        shelf
            .views()
            .ensure(&definition("orders"), generation)
            .await
            .expect("a view can be prepared");
    }
    for generation in [1, 2, 11, 111] {
        let view = ViewRef {
            generation,
            ..shelf.view.clone()
        };
        let document = json(&format!("{{\"number\":{generation}}}"));
        let version = Position(1000 - u64::from(generation));
        shelf
            .write(vec![ViewWrite::Put {
                view,
                id: "1".into(),
                version,
                document,
            }])
            .await;
    }
    for generation in [1, 2, 11, 111] {
        let row = shelf
            .views()
            .get(&shelf.view.view, Some(generation), "1")
            .await
            .expect("a row reads");
        let row = row.unwrap_or_else(|| panic!("generation {generation} has a row"));
        assert_eq!(row.version, Position(1000 - u64::from(generation)));
        let query = Query::all().equal("number", i64::from(generation));
        let found = shelf
            .views()
            .query(&shelf.view.view, Some(generation), &query)
            .await
            .expect("rows are found");
        assert_eq!(found.rows, [row]);
    }
}

/// What is dropped is gone from all views of the projection, and what readers see can't be dropped.
pub async fn a_generation_that_nobody_sees_is_dropped(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let lines = definition("order_lines");
    let other = ViewDefinition {
        name: ViewName::of("stock"),
        projection: ProjectionName::of("stock"),
        ..definition("stock")
    };
    for definition in [&definition("orders"), &lines, &other] {
        shelf
            .views()
            .ensure(definition, 1)
            .await
            .expect("a view can be prepared");
        shelf
            .views()
            .ensure(definition, 2)
            .await
            .expect("a view can be prepared");
    }
    let write = |view: &ViewName, generation| ViewWrite::Put {
        view: ViewRef {
            view: view.clone(),
            generation,
        },
        id: "1".into(),
        version: Position(9),
        document: json("{}"),
    };
    let names = [&shelf.view.view, &lines.name, &other.name];
    shelf
        .write(
            names
                .iter()
                .flat_map(|name| [write(name, 1), write(name, 2)])
                .collect(),
        )
        .await;
    shelf
        .views()
        .drop_generation(&orders(), 1)
        .await
        .expect_err("readers see it");
    assert_eq!(shelf.ids(&Query::all()).await, ["1"]);
    shelf.write(vec![Shelf::activate(2)]).await;
    shelf
        .views()
        .drop_generation(&orders(), 1)
        .await
        .expect("nobody sees it");
    shelf
        .views()
        .drop_generation(&orders(), 7)
        .await
        .expect("what was never there is gone as well");
    let shelf = shelf.reopen(harness).await;
    assert_eq!(
        shelf.ids(&Query::all()).await,
        ["1"],
        "another generation stays"
    );
    let row = shelf
        .views()
        .get(&other.name, Some(1), "1")
        .await
        .expect("a row reads");
    assert!(row.is_some(), "another projection's stays");
    // Prepared anew, with other fields even, nothing of it is left: no row and no tombstone.
    for name in ["orders", "order_lines"] {
        let anew = definition(name).field("more", FieldKind::Text);
        shelf
            .views()
            .ensure(&anew, 1)
            .await
            .expect("a view can be prepared");
        let found = shelf
            .views()
            .query(&anew.name, Some(1), &Query::all().sort("more"))
            .await;
        assert!(
            found.expect("rows are found").rows.is_empty(),
            "view `{name}`"
        );
        let put = ViewWrite::Put {
            view: ViewRef {
                view: anew.name.clone(),
                generation: 1,
            },
            id: "1".into(),
            version: Position(1),
            document: json(r#"{"more":"x"}"#),
        };
        shelf.write(vec![put]).await;
        let row = shelf
            .views()
            .get(&anew.name, Some(1), "1")
            .await
            .expect("a row reads");
        assert_eq!(
            row.map(|row| row.version),
            Some(Position(1)),
            "view `{name}`"
        );
    }
}

/// Rows that were indexed in one way can't be searched in another.
pub async fn a_generation_keeps_its_definition(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    shelf.fill([("1", r#"{"number":1}"#)]).await;
    let original = definition("orders");
    shelf
        .views()
        .ensure(&original, 1)
        .await
        .expect("the same again is no change");
    let shelf = shelf.reopen(harness).await;
    let stock = ProjectionName::of("stock");
    let changed = [
        original.clone().field("more", FieldKind::Text),
        original.clone().index(["number"]),
        ViewDefinition {
            indexes: Vec::new(),
            ..original.clone()
        },
        ViewDefinition {
            fields: original.fields[..1].to_vec(),
            indexes: Vec::new(),
            ..original.clone()
        },
        ViewDefinition {
            projection: stock,
            ..original.clone()
        },
    ];
    for definition in changed {
        let error = shelf
            .views()
            .ensure(&definition, 1)
            .await
            .expect_err("the generation has another definition");
        assert!(error.is_poison(), "{error}");
    }
    shelf
        .views()
        .ensure(&original, 1)
        .await
        .expect("the same again is no change");
    shelf
        .views()
        .ensure(&original.field("more", FieldKind::Text), 2)
        .await
        .expect("a new generation may differ");
    assert_eq!(shelf.ids(&Query::all()).await, ["1"]);
}

/// Definitions are checked when a view is prepared, and not when the first query fails.
pub async fn a_definition_that_nobody_could_keep_is_refused(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let bad = definition("bad");
    for definition in [
        bad.clone().field("", FieldKind::Text),
        bad.clone().field("a b", FieldKind::Text),
        bad.clone().field("a\"b", FieldKind::Text),
        bad.clone().field("Text", FieldKind::Text),
        bad.clone().index(["text", "unknown"]),
    ] {
        let error = shelf
            .views()
            .ensure(&definition, 1)
            .await
            .expect_err("nobody could keep it");
        assert!(error.is_poison(), "{error}");
    }
    shelf
        .views()
        .ensure(&bad, 1)
        .await
        .expect("nothing is left of those that were refused");
}

/// Names that differ in case or punctuation only name different views.
pub async fn similar_names_are_different_views(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let names = [
        "a.b",
        "a_b",
        "a-b",
        "A.B",
        "a.b.1",
        "a_b_1",
        "select",
        &"x".repeat(249),
    ];
    for (number, name) in names.iter().enumerate() {
        let definition = definition(name);
        shelf
            .views()
            .ensure(&definition, 1)
            .await
            .unwrap_or_else(|error| panic!("view `{name}`: {error}"));
        let view = ViewRef {
            view: definition.name,
            generation: 1,
        };
        let document = json(&format!("{{\"number\":{number}}}"));
        shelf
            .write(vec![ViewWrite::Put {
                view,
                id: "1".into(),
                version: Position(1),
                document,
            }])
            .await;
    }
    for (number, name) in (0_i64..).zip(names) {
        let view = ViewName::new(name).expect("a case names its views well");
        let query = Query::all().equal("number", number);
        let found = shelf
            .views()
            .query(&view, Some(1), &query)
            .await
            .expect("rows are found");
        assert_eq!(found.rows.len(), 1, "view `{name}`");
    }
}

/// A write or a query for what is not there is a mistake, and says so.
pub async fn what_was_not_prepared_is_refused(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let absent = [
        ViewRef {
            view: ViewName::of("unknown"),
            generation: 1,
        },
        ViewRef {
            generation: 2,
            ..shelf.view.clone()
        },
    ];
    for view in absent {
        let (id, version) = (String::from("1"), Position(1));
        let put = ViewWrite::Put {
            view: view.clone(),
            id: id.clone(),
            version,
            document: json("{}"),
        };
        let delete = ViewWrite::Delete {
            view: view.clone(),
            id,
            version,
        };
        for write in [put, delete] {
            let error = shelf.refuse(vec![write]).await;
            assert_eq!(error.class(), ErrorClass::Poison, "{view}: {error}");
        }
        let (name, generation) = (&view.view, Some(view.generation));
        shelf
            .views()
            .query(name, generation, &Query::all())
            .await
            .expect_err("it was not prepared");
        shelf
            .views()
            .get(name, generation, "1")
            .await
            .expect_err("it was not prepared");
    }
}

/// A field's name may mean something to an engine, or look like a column of its own.
pub async fn fields_may_have_any_declared_name(harness: &dyn StoreHarness) {
    let shelf = Shelf::create(harness).await;
    let names = [
        "id",
        "version",
        "document",
        "order",
        "select",
        "rowid",
        "_id",
        "0",
        "Group",
        "deleted",
        "generation",
    ];
    let long = "f".repeat(60);
    let names: Vec<_> = names.into_iter().chain([long.as_str()]).collect();
    let name = ViewName::of("odd");
    let mut odd = ViewDefinition::new(name.clone(), orders());
    for field in &names {
        odd = odd.field(field, FieldKind::Integer).index([field]);
    }
    shelf
        .views()
        .ensure(&odd, 1)
        .await
        .expect("a view can be prepared");
    let document: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(field, value)| format!("\"{field}\":{value}"))
        .collect();
    let document = json(&format!("{{{}}}", document.join(",")));
    let view = ViewRef {
        view: name.clone(),
        generation: 1,
    };
    shelf
        .write(vec![ViewWrite::Put {
            view,
            id: "key".into(),
            version: Position(7),
            document,
        }])
        .await;
    for (field, value) in names.iter().zip(1_i64..) {
        let found = |value| {
            let query = Query::all().equal(field, value).sort(field);
            async {
                shelf
                    .views()
                    .query(&name, Some(1), &{ query })
                    .await
                    .expect("rows are found")
                    .rows
            }
        };
        assert_eq!(found(value).await.len(), 1, "field `{field}`");
        assert_eq!(found(value + 100).await.len(), 0, "field `{field}`");
    }
}
