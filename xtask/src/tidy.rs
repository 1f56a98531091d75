//! Rules of the repository that neither the compiler, clippy nor rustfmt can see.
//!
//! Every check is a pure function from a file's path and text to its faults, and comes with
//! tests that plant a fault and see it caught. This file knows which checks there are and
//! runs them over the files that git tracks or would track; it holds no rule itself.
//!
//! The tests at the end run the checks over this very repository, which is how `cargo test`
//! enforces them.

mod logs;
mod manifests;
mod services;
mod shape;
mod words;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A check: the path (from the root, with `/`) and the text of one file, to its faults.
type Check = fn(&str, &str) -> Vec<Fault>;

const CHECKS: &[Check] = &[
    shape::opens_with_its_purpose,
    shape::is_not_too_long,
    logs::speak_the_dictionary,
    manifests::dependencies_point_inwards,
    manifests::joins_the_workspace,
    services::share_only_contracts,
    words::nothing_is_switched_off,
    words::examples_run,
    words::pages_are_compiled,
    words::names_no_machine,
    words::names_no_registry_host,
];

/// What one check found in one file.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// Counts from 1, as editors do.
    line: usize,
    message: String,
}

impl Fault {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
        }
    }
}

/// A fault and the file it is in. Displays as `file:line: error: message`.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { line, message } = &self.fault;
        write!(f, "{}:{line}: error: {message}", self.path)
    }
}

/// What a run over the whole repository found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) files_checked: usize,
    pub(crate) findings: Vec<Finding>,
}

/// The folder that holds the workspace, wherever it was checked out.
pub(crate) fn repository_root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .expect("xtask is a folder of the repository")
        .to_path_buf()
}

/// Runs every check over every text file of the repository at `root`.
///
/// # Errors
///
/// If git can't be asked for the files, or one of them can't be read.
pub(crate) fn check_repository(root: &Path) -> io::Result<Report> {
    let mut report = Report {
        files_checked: 0,
        findings: Vec::new(),
    };
    for path in files(root)? {
        let Some(text) = read_text(&root.join(&path))? else {
            continue;
        };
        report.files_checked += 1;
        report.findings.extend(check_file(&path, &text));
    }
    Ok(report)
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let faults = CHECKS.iter().flat_map(|check| check(path, text));
    faults
        .map(|fault| Finding {
            path: path.to_owned(),
            fault,
        })
        .collect()
}

/// Tracked files, and new ones that no `.gitignore` excludes: a fault is found before it is
/// committed, and build output is never read.
fn files(root: &Path) -> io::Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
        ])
        .current_dir(root)
        .output()
        .map_err(|error| io::Error::other(format!("cannot run git ls-files: {error}")))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "git ls-files failed: {}",
            reason.trim()
        )));
    }
    let listing = String::from_utf8(output.stdout)
        .map_err(|_| io::Error::other("a file's name is not UTF-8"))?;
    Ok(listing.split_terminator('\0').map(str::to_owned).collect())
}

/// The text of a file; nothing for a binary file, and for one that is tracked but deleted.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0')))
}

/// The lines of a text with their numbers.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().zip(1..).map(|(line, number)| (number, line))
}

/// The number of the line that holds the byte at `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let report = check_repository(&repository_root()).unwrap();

        let lines: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    }

    #[test]
    fn every_field_of_the_dictionary_of_logs_is_used() {
        let root = repository_root();
        let texts: Vec<String> = files(&root)
            .unwrap()
            .iter()
            .filter(|path| has_extension(path, "rs") && path.contains("/src/"))
            .filter_map(|path| read_text(&root.join(path)).unwrap())
            .collect();
        let used: Vec<&str> = texts.iter().flat_map(|text| logs::used(text)).collect();

        for field in logs::fields(logs::DICTIONARY) {
            assert!(used.contains(&field), "no log line uses `{field}`");
        }
    }

    /// It is what anybody sees first.
    #[test]
    fn the_first_program_is_short_and_the_same_in_both_languages() {
        let program = |readme: &str| {
            let text = read_text(&repository_root().join(readme)).unwrap().unwrap();
            let (_, program) = text.split_once("```rust\n").unwrap();
            program.split_once("```").unwrap().0.to_owned()
        };
        let shown = program("README.md");
        let lines = shown.lines().filter(|line| !line.trim().is_empty());
        let lines = lines.count();
        assert!(lines <= 25, "it has {lines} lines");
        assert_eq!(program("README.ko.md"), shown);
    }

    /// A run that reads nothing finds nothing, and would look like a clean one.
    #[test]
    fn the_files_of_this_repository_are_found() {
        let files = files(&repository_root()).unwrap();

        for expected in ["Cargo.toml", "xtask/Cargo.toml", "xtask/src/tidy.rs"] {
            assert!(
                files.iter().any(|path| path == expected),
                "{expected} is not listed"
            );
        }
        assert!(
            !files.iter().any(|path| path.starts_with("target/")),
            "build output is listed"
        );
    }

    #[test]
    fn a_finding_reads_as_compilers_write_theirs() {
        let findings = check_file("crates/factum/src/lib.rs", "fn f() {}\n");

        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        let expected = "crates/factum/src/lib.rs:1: error: \
                        a file opens with `//!`: what lives here and what it promises";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn every_check_is_run() {
        fn lines(path: &str, text: &str) -> Vec<usize> {
            let findings = check_file(path, text).into_iter();
            findings.map(|finding| finding.fault.line).collect()
        }
        let outward = "[package]\nname = 'factum'\n\
                       [lints]\nworkspace = true\n\
                       [dependencies]\naxum = '1'\n";

        assert_eq!(lines("crates/factum/src/a.rs", "fn f() {}\n"), [1]);
        assert_eq!(lines("docs/long.md", &"A line.\n".repeat(701)), [701]);
        assert_eq!(lines("crates/factum/Cargo.toml", outward), [6]);
        assert_eq!(
            lines("xtask/Cargo.toml", "[package]\nname = 'xtask'\n"),
            [1]
        );
        assert_eq!(
            lines("apps/orders/src/order.rs", "//! O.\nuse crate::stock;\n"),
            [2]
        );
        assert_eq!(
            lines("crates/factum/src/a.rs", "//! A.\n#[allow(x)]\n"),
            [2]
        );
        assert_eq!(lines("docs/a.md", "```no_run\n```\n"), [1]);
        assert_eq!(lines("docs/a.md", "see /home/me\n"), [1]);
        assert_eq!(lines("docs/a.md", "from index.crates.io\n"), [1]);
    }

    #[test]
    fn an_offset_is_on_the_line_that_holds_it() {
        let text = "a\nbc\nd";

        assert_eq!(
            [0, 1, 2, 3, 5].map(|offset| line_at(text, offset)),
            [1, 1, 2, 2, 3]
        );
    }
}
