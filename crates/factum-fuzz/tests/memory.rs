//! What hostile inputs cost in memory: never more than so many times their own size, whatever they say.
//!
//! A test binary of its own, with one test: the allocator counts for the whole process.

use std::hint::black_box;

use factum_fuzz::target;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The largest message, and half of the largest body of a request.
const MEBIBYTE: usize = 1 << 20;
/// What executors, connections and the platform in the background may take meanwhile.
const BESIDES: usize = 16 * MEBIBYTE;

/// `what` again and again, each time with another number in place of `#`, up to a mebibyte.
fn numbered(what: &str) -> String {
    let mut text = String::with_capacity(MEBIBYTE + what.len());
    for number in 0.. {
        if text.len() >= MEBIBYTE {
            break;
        }
        text.push_str(&what.replace('#', &number.to_string()));
    }
    text
}

fn filled(what: &str) -> String {
    what.repeat(MEBIBYTE / what.len())
}

/// Names of which each is taken, and the one that it would get instead, too.
fn climbing(value: u32) -> String {
    let names = (0..320).map(|times| format!("\"{}a\":{value}", "envelope.".repeat(times)));
    names.collect::<Vec<_>>().join(",")
}

const LEAST: &str = r#""event_type":"E","event_id":"e","timestamp":"2026-03-02T10:00:00Z","data":"#;

/// Messages that say as much as they can in a mebibyte.
fn envelopes() -> Vec<(&'static str, String)> {
    let with = |members: &str| format!("{{{members}{LEAST}1}}");
    let data = |data: &str| format!("{{{LEAST}{data}}}");
    let taken = format!("{},\"metadata\":{{{}}},", climbing(1), climbing(2));
    vec![
        ("open lists", filled("[")),
        ("open objects", filled("{\"a\":")),
        ("open texts", filled("\"")),
        ("digits", filled("9")),
        ("unknown fields", with(&numbered("\"#\":1,"))),
        (
            "metadata",
            with(&format!("\"metadata\":{{{}\"\":1}},", numbered("\"#\":1,"))),
        ),
        ("fields that are there twice", with(&filled("\"a\":1,"))),
        ("names that are taken", with(&taken)),
        (
            "tags",
            with(&format!("\"factum_tags\":[{}\"\"],", filled("\"\","))),
        ),
        ("a long name", with(&format!("\"{}\":1,", filled("x")))),
        ("a long id", format!("{{\"event_id\":\"{}\"}}", filled("x"))),
        (
            "data of empty lists",
            data(&format!("[{}1]", filled("[],"))),
        ),
        (
            "data in escapes",
            data(&format!("\"{}\"", filled("\\u0000"))),
        ),
        ("data nested too deep", data(&(filled("[") + &filled("]")))),
        ("a long number", data(&filled("9"))),
    ]
}

fn cases() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut case = |target, name: &str, bytes: String| {
        cases.push((target, name.to_owned(), bytes.into_bytes()));
    };
    let json = "Content-Type: application/json\n\n";
    for (name, text) in envelopes() {
        case(
            "cloudevents",
            name,
            format!("content-type: application/cloudevents+json\n\n{text}"),
        );
        case("requests", name, format!("POST /orders\n{json}{text}"));
        case(
            "requests",
            name,
            format!("POST /admin/topics/nowhere/messages\n{json}{{\"value\":{text}}}"),
        );
        case("snapshot", name, format!("\0\0\0\0\0\0\0\u{3}{text}"));
        case("names", name, text.clone());
        case("connection", name, text.clone());
        case("envelope", name, text);
    }
    case("cloudevents", "headers", numbered("ce_x#: y\n"));
    case("cloudevents", "one header", numbered("ce_x: y\n"));
    case(
        "cloudevents",
        "a long header",
        format!("ce_id: {}\n\n{{}}", filled("x")),
    );
    case(
        "requests",
        "items",
        format!(
            "POST /orders\n{json}{{\"user_id\":\"u\",\"items\":[{}{{}}]}}",
            filled("{\"qty\":1,\"price\":1},")
        ),
    );
    case(
        "requests",
        "a long query",
        format!("GET /admin/parked?{}", "a=b&".repeat(15_000)),
    );
    case(
        "requests",
        "headers",
        format!("GET /\n{}", numbered("x#: y\n")),
    );
    case(
        "connection",
        "headers",
        format!("GET / HTTP/1.1\r\n{}", numbered("x#: y\r\n")),
    );
    case(
        "connection",
        "requests",
        filled("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    );
    case(
        "connection",
        "a long target",
        format!("GET /{}", filled("x")),
    );
    cases
}

/// How many bytes each byte of an input may cost. What costs most is a name of few letters: it becomes an entry of a
/// map, and a record of it is written and read back in three formats here.
fn worth(target: &str) -> usize {
    match target {
        "envelope" | "cloudevents" => 64,
        _ => 16,
    }
}

/// What an input costs that costs too much.
fn cost_beyond(name: &str, bytes: &[u8], run: fn(&[u8])) -> Option<usize> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    run(bytes);
    let cost = ALLOCATOR.peak_usage().saturating_sub(before);
    (cost > BESIDES + bytes.len() * worth(name)).then_some(cost)
}

#[test]
fn no_input_costs_more_than_so_many_times_its_size() {
    for (name, target_input) in [("requests", "GET /"), ("connection", ""), ("snapshot", "")] {
        // What is made once, and kept, is not the input's fault.
        (target(name).run)(target_input.as_bytes());
    }
    let mut too_much = Vec::new();
    for (name, what, bytes) in cases() {
        if let Some(cost) = cost_beyond(name, &bytes, target(name).run) {
            too_much.push(format!("{name}: {what}: {cost} bytes for {}", bytes.len()));
        }
    }
    assert!(too_much.is_empty(), "{too_much:#?}");

    // Planted, and here because the allocator counts for the whole process: a hundred times each input's size.
    let greedy = |bytes: &[u8]| drop(black_box(vec![1_u8; 100 * bytes.len()]));
    for name in ["envelope", "requests"] {
        let cost = cost_beyond(name, &vec![b'['; MEBIBYTE], greedy);
        assert!(cost.is_some(), "{name}: it was not noticed");
    }
}
