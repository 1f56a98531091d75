//! Every target on its corpus, and on what is made of it by chance.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use factum_fuzz::{TARGETS, Target, target};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use crate::{corpus, hostile};

/// The variable that asks for so many times as many cases: without a fuzzer, that is the way to look for longer.
const TIMES: &str = "FACTUM_FUZZ_TIMES";

/// How often anything panicked in this process, on whatever thread, caught or not.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Runs the body of a target, and holds it to account for panics on threads that nobody joins, too.
fn run(target: Target, bytes: &[u8]) {
    static COUNT: Once = Once::new();
    COUNT.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            hook(panic);
        }));
    });
    let before = PANICS.load(Ordering::SeqCst);
    (target.run)(bytes);
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "something panicked");
}

/// The same, with what it panicked with as a value.
fn attempt(target: Target, bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run(target, bytes))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        text.unwrap_or_default()
    })
}

/// The corpus as it is, then `cases` changes of it, and what went wrong first. `kept`: whether an input that it did
/// is kept for the next time.
fn look(target: Target, cases: u32, kept: bool) -> Result<(), String> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One at a time, so that a panic has one who is to blame. A test that failed has nothing to leave behind.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (input, bytes) in corpus::inputs(target.name) {
        attempt(target, &bytes).map_err(|why| format!("{input} of the corpus: {why}"))?;
    }
    let times = std::env::var(TIMES).map_or(1, |times| times.parse().unwrap());
    let persistence = FileFailurePersistence::WithSource("regressions");
    let config = Config {
        cases: cases * times,
        max_shrink_iters: 500,
        failure_persistence: kept.then(|| Box::new(persistence) as _),
        source_file: Some(file!()),
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&hostile::inputs(target.name), |input| {
            attempt(target, &input.0).map_err(TestCaseError::fail)
        })
        .map_err(|error| error.to_string())
}

fn holds(name: &str, cases: u32) {
    if let Err(why) = look(target(name), cases, true) {
        panic!("{name}: {why}");
    }
}

/// What is said of a body of code that does what none may do, and that only some inputs bring to light.
fn said_of(run: fn(&[u8])) -> String {
    let name = "names";
    let planted = Target { name, run };
    look(planted, 3_000, false).expect_err("it is looked for in vain")
}

#[test]
fn a_body_that_panics_at_some_bytes_is_reported() {
    let said = said_of(|bytes| assert!(!bytes.ends_with(b"\xff"), "planted"));
    assert!(said.contains("planted"), "{said}");
}

#[test]
fn a_body_whose_panic_nobody_waits_for_is_reported() {
    let said = said_of(|bytes| {
        if bytes.contains(&0) {
            let thread = std::thread::spawn(|| panic!("planted"));
            drop(thread.join());
        }
    });
    assert!(said.contains("something panicked"), "{said}");
}

/// A name that comes out as another than it went in: what the real target asserts of the real code.
#[test]
fn a_body_that_drops_a_byte_is_reported() {
    let said = said_of(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let kept = text.replacen('\u{feff}', "", 1);
        assert_eq!(kept, text, "a byte was dropped");
    });
    assert!(said.contains("a byte was dropped"), "{said}");
}

#[test]
fn any_value_is_read_or_refused_and_nothing_of_it_is_lost() {
    holds("envelope", 3_000);
}

#[test]
fn any_headers_and_value_are_read_or_refused_and_nothing_of_them_is_lost() {
    holds("cloudevents", 3_000);
}

#[test]
fn any_text_is_a_name_that_comes_out_as_it_went_in_or_is_refused() {
    holds("names", 3_000);
}

#[test]
fn any_snapshot_is_believed_when_it_can_be_right_and_left_aside_otherwise() {
    holds("snapshot", 500);
}

#[test]
fn any_data_directory_is_opened_or_refused_in_words() {
    holds("directory", 150);
}

#[test]
fn any_request_is_answered_and_none_is_the_servers_fault() {
    holds("requests", 1_500);
}

#[test]
fn any_bytes_on_a_connection_end_that_connection_only() {
    holds("connection", 500);
}

#[test]
fn every_target_is_a_fuzz_target_and_has_a_corpus() {
    let manifest = fs::read_to_string(corpus::fuzz().join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let program = format!("fuzz_targets/{}.rs", target.name);
        assert!(manifest.contains(&program), "{program} is in no `[[bin]]`");
        let text = fs::read_to_string(corpus::fuzz().join(&program)).unwrap();
        assert!(
            text.contains(&format!("target({:?})", target.name)),
            "{program} runs something else"
        );
        assert!(corpus::inputs(target.name).len() >= 10, "{}", target.name);
    }
}
