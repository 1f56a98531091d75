//! The shape of a file: how it opens and how long it may get.

use super::{Fault, has_extension, numbered};

/// Folders whose Rust files are written for readers.
const READ_FOLDERS: &[&str] = &["crates/", "apps/", "xtask/", "examples/"];

/// Programs that only show a compile error: their first line is part of what is shown.
const COMPILE_FIXTURES: &str = "/tests/ui/";

/// A comfortable file has 60 to 400 lines. At 700 it surely holds two nouns.
const FILE_LINES_MAX: usize = 700;

/// What is written by hand. Lock files, recorded runs and test vectors are as long as they are.
const WRITTEN_BY_HAND: &[&str] = &[
    "css", "html", "js", "md", "proto", "py", "rs", "sh", "sql", "toml", "ts",
];

/// A Rust file says what it is for before it says anything else.
pub(super) fn opens_with_its_purpose(path: &str, text: &str) -> Vec<Fault> {
    let is_read = READ_FOLDERS.iter().any(|folder| path.starts_with(folder));
    if !has_extension(path, "rs") || !is_read || path.contains(COMPILE_FIXTURES) {
        return Vec::new();
    }
    let opening = text.lines().next().unwrap_or_default();
    match opening.strip_prefix("//!") {
        Some(purpose) if !purpose.trim().is_empty() => Vec::new(),
        _ => {
            let rule = "a file opens with `//!`: what lives here and what it promises";
            vec![Fault::new(1, rule)]
        }
    }
}

/// No file grows past [`FILE_LINES_MAX`].
pub(super) fn is_not_too_long(path: &str, text: &str) -> Vec<Fault> {
    if !WRITTEN_BY_HAND
        .iter()
        .any(|extension| has_extension(path, extension))
    {
        return Vec::new();
    }
    let first_too_many = numbered(text).nth(FILE_LINES_MAX);
    let fault = |(line, _)| {
        let lines = text.lines().count();
        let rule =
            format!("{lines} lines, {FILE_LINES_MAX} at most: does the file hold two nouns?");
        Fault::new(line, rule)
    };
    first_too_many.map(fault).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens_well(path: &str, text: &str) -> bool {
        opens_with_its_purpose(path, text).is_empty()
    }

    #[test]
    fn a_rust_file_must_say_what_it_is_for_first() {
        for folder in [
            "crates/factum/src",
            "apps/orders/src",
            "xtask/src",
            "examples/counter/src",
        ] {
            let path = format!("{folder}/lib.rs");

            assert!(opens_well(&path, "//! Things.\n\nfn f() {}\n"), "{path}");
            assert!(!opens_well(&path, "use std::fmt;\n"), "{path}");
            assert!(!opens_well(&path, "// Things.\n"), "{path}");
            assert!(!opens_well(&path, "\n//! Things.\n"), "{path}");
            assert!(!opens_well(&path, "//!\n//! Things.\n"), "{path}");
            assert!(!opens_well(&path, ""), "{path}");
        }
    }

    #[test]
    fn compile_fixtures_and_other_files_open_as_they_like() {
        assert!(opens_well(
            "crates/factum-macros/tests/ui/no_version.rs",
            "fn main() {}\n"
        ));
        assert!(opens_well(
            "crates/factum-sqlite/src/schema.sql",
            "CREATE TABLE t (a);\n"
        ));
        assert!(opens_well("fuzz/fuzz_targets/record.rs", "fn main() {}\n"));
    }

    #[test]
    fn a_file_ends_at_700_lines() {
        let lines = |count| "//! A line.\n".repeat(count);

        assert_eq!(is_not_too_long("crates/factum/src/lib.rs", &lines(700)), []);
        let faults = is_not_too_long("crates/factum/src/lib.rs", &lines(712));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].line, 701);
        assert!(
            faults[0].message.starts_with("712 lines, 700 at most"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_file_that_no_hand_wrote_may_be_longer() {
        assert_eq!(is_not_too_long("Cargo.lock", &"line\n".repeat(5_000)), []);
        assert_eq!(
            is_not_too_long("crates/factum/tests/vectors.json", &"1\n".repeat(5_000)),
            []
        );
    }
}
