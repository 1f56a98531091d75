//! Random rows and random queries, compared with a plain list that is filtered and sorted in memory.

use std::collections::BTreeMap;

use factum_core::{FieldKind, Operator, Query, Value};

use super::shelf::{Shelf, definition, json};
use crate::conformance::store::StoreHarness;

/// The seeds that are tried. A failure names the one that it happened with.
const SEEDS: [u64; 3] = [1, 7, 1_772_445_600];
/// How many commits each seed makes.
const COMMITS: usize = 40;
/// How many queries each seed asks.
const QUERIES: usize = 150;

const TEXTS: [&str; 8] = ["", "a", "B", "b", "ab", "é", "\u{ffee}", "\u{1f600}"];
const NUMBERS: [i64; 7] = [i64::MIN, -1, 0, 1, 1 << 53, (1 << 53) + 1, i64::MAX];
const FIELDS: [(&str, FieldKind); 3] = [
    ("text", FieldKind::Text),
    ("number", FieldKind::Integer),
    ("flag", FieldKind::Boolean),
];

/// What the view should hold: the version and values of each row, without values when it was deleted.
type Plain = BTreeMap<String, (u64, Option<Vec<Value>>)>;

fn value(random: &mut fastrand::Rng, kind: FieldKind) -> Value {
    match kind {
        _ if random.u8(..) < 50 => Value::Null,
        FieldKind::Text => TEXTS[random.usize(..TEXTS.len())].into(),
        FieldKind::Integer => NUMBERS[random.usize(..NUMBERS.len())].into(),
        FieldKind::Boolean => random.bool().into(),
    }
}

fn document(random: &mut fastrand::Rng) -> String {
    let mut members = Vec::new();
    for (field, kind) in FIELDS {
        let text = match value(random, kind) {
            Value::Null if random.bool() => continue,
            Value::Null => "null".into(),
            Value::Text(text) => factum_core::Json::of(&text)
                .expect("text is JSON")
                .to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
        };
        members.push(format!("\"{field}\":{text}"));
    }
    format!("{{{}}}", members.join(","))
}

fn query(random: &mut fastrand::Rng) -> Query {
    use Operator::{AtLeast, AtMost, Equal, Greater, Less};
    let mut query = Query::all().limit(random.u32(1..12));
    for _ in 0..random.usize(..3) {
        let (field, kind) = FIELDS[random.usize(..FIELDS.len())];
        let operator = [Equal, Less, AtMost, Greater, AtLeast][random.usize(..5)];
        query = query.compare(field, operator, value(random, kind));
    }
    let (field, _) = FIELDS[random.usize(..FIELDS.len())];
    match random.u8(..3) {
        0 => query,
        1 => query.sort(field),
        _ => query.sort_descending(field),
    }
}

/// The ids that a query should find, in order.
fn expected(plain: &Plain, query: &Query) -> Vec<String> {
    let index = |field: &str| {
        FIELDS
            .iter()
            .position(|(name, _)| *name == field)
            .expect("it is declared")
    };
    let live = plain
        .iter()
        .filter_map(|(id, (_, values))| Some((id, values.as_ref()?)));
    let mut rows: Vec<_> = live
        .filter(|(_, values)| {
            query
                .filter
                .iter()
                .all(|wanted| wanted.holds(&values[index(&wanted.field)]))
        })
        .collect();
    rows.sort_by(|(left_id, left), (right_id, right)| {
        let Some((field, descending)) = &query.sort else {
            return left_id.cmp(right_id);
        };
        let (left, right) = (&left[index(field)], &right[index(field)]);
        let nulls = (*left == Value::Null).cmp(&(*right == Value::Null));
        let rest = left.cmp(right).then(left_id.cmp(right_id));
        let rest = if *descending && *left == Value::Null {
            left_id.cmp(right_id)
        } else {
            rest
        };
        nulls.then(if *descending { rest.reverse() } else { rest })
    });
    rows.into_iter().map(|(id, _)| id.clone()).collect()
}

/// Whatever is written and asked for, the view answers as a plain list would.
pub async fn random_queries_agree_with_a_plain_list(harness: &dyn StoreHarness) {
    let mut shelf = Shelf::create(harness).await;
    let definition = definition("orders");
    for (generation, seed) in (1..).zip(SEEDS) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut plain = Plain::new();
        shelf.view.generation = generation;
        shelf
            .views()
            .ensure(&definition, generation)
            .await
            .expect("a view can be prepared");
        shelf.write(vec![Shelf::activate(generation)]).await;
        for _ in 0..COMMITS {
            let mut writes = Vec::new();
            for _ in 0..random.usize(1..10) {
                let (id, version) = (random.u32(..80).to_string(), random.u64(1..30));
                let (write, values) = if random.u8(..) < 50 {
                    (shelf.delete(&id, version), None)
                } else {
                    let text = document(&mut random);
                    let values = definition
                        .extract(&json(&text))
                        .expect("it fits its definition");
                    (shelf.put(&id, version, &text), Some(values))
                };
                let known = plain.entry(id).or_insert((0, None));
                if known.0 <= version {
                    *known = (version, values);
                }
                writes.push(write);
            }
            shelf.write(writes).await;
        }
        for (id, (version, values)) in &plain {
            let row = shelf.get(id).await.map(|row| row.version.0);
            assert_eq!(
                row,
                values.as_ref().map(|_| *version),
                "row `{id}`, seed {seed}"
            );
        }
        for number in 0..QUERIES {
            let query = query(&mut random);
            let whole = expected(&plain, &query);
            let what = format!("{query:?}, the {number}th of seed {seed}");
            assert_eq!(shelf.all(&query).await, whole, "{what}");
            let page = random.u32(1..4);
            let first = (page - 1) as usize * query.limit as usize;
            let stretch: Vec<_> = whole
                .iter()
                .skip(first)
                .take(query.limit as usize)
                .cloned()
                .collect();
            assert_eq!(
                shelf.ids(&query.clone().page(page)).await,
                stretch,
                "page {page} of {what}"
            );
            let cap = random.u64(..40);
            let counted = shelf
                .views()
                .count(&shelf.view.view, None, &query, cap)
                .await
                .expect("rows are counted");
            assert_eq!(counted, cap.min(whole.len() as u64), "up to {cap}: {what}");
        }
    }
}
