//! Words that may not stand in the tree: what switches a check off, and what is true of one
//! machine only.
//!
//! The words are looked for in the plain text, comments and strings included: an example in
//! a comment teaches as much as code does. This folder is exempt, since it has to spell what
//! it looks for.

use super::{Fault, has_extension, numbered};

const EXEMPT: &str = "xtask/src/tidy";

/// What would switch off a lint, a test or a function, and what to write instead.
const SWITCHES: &[(&str, &str)] = &[
    (
        "#[allow(",
        "write `#[expect(lint, reason = \"...\")]`: it says why, and when it is stale",
    ),
    (
        "#![allow(",
        "write `#![expect(lint, reason = \"...\")]`: it says why, and when it is stale",
    ),
    (
        "#[ignore",
        "a test that does not run proves nothing: mend it, or delete it",
    ),
    ("todo!(", "write it, or leave it out"),
    ("unimplemented!(", "write it, or return an error"),
];

/// The same attributes in their conditional form.
const CONDITIONAL_SWITCHES: &[(&str, &str)] = &[
    (
        ", allow(",
        "write `expect(lint, reason = \"...\")`: it says why, and when it is stale",
    ),
    (
        ", ignore",
        "a test that does not run proves nothing: mend it, or delete it",
    ),
];

/// Tags of a code block that keep rustdoc from running it.
const SILENCERS: &[&str] = &["ignore", "no_run"];

/// Where the facade names the pages whose examples it runs.
const PAGES: &str = concat!(
    include_str!("../../../crates/factum/src/lib.rs"),
    include_str!("../../../crates/factum-postgres/src/lib.rs"),
);

/// Folders that exist on somebody's machine, and one beside the repository.
const MACHINE_PATHS: &[&str] = &["/home/", "/root/", "/work/", "/Users/"];
const OUTSIDE_PATHS: &[&str] = &["../shared"];

/// Where package managers download from: a setting of the machine, never of the repository.
/// The index in a lock file is a name, not a host.
const REGISTRY_HOSTS: &[&str] = &[
    "://crates.io",
    "deb.debian.org",
    "files.pythonhosted.org",
    "index.crates.io",
    "proxy.golang.org",
    "pypi.org",
    "registry.npmjs.org",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "static.crates.io",
];

/// Lints, tests and functions are not switched off.
pub(super) fn nothing_is_switched_off(path: &str, text: &str) -> Vec<Fault> {
    if !has_extension(path, "rs") || path.starts_with(EXEMPT) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in numbered(text) {
        let conditional = if line.contains("cfg_attr(") {
            CONDITIONAL_SWITCHES
        } else {
            &[]
        };
        for (word, instead) in SWITCHES.iter().chain(conditional) {
            if starts_a_word(line, word) {
                let word = word.trim_start_matches([',', ' ']);
                faults.push(Fault::new(
                    number,
                    format!("`{word}` is not used here: {instead}"),
                ));
            }
        }
    }
    faults
}

/// Every example in the documentation is compiled and run.
pub(super) fn examples_run(path: &str, text: &str) -> Vec<Fault> {
    if !(has_extension(path, "rs") || has_extension(path, "md")) || path.starts_with(EXEMPT) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in numbered(text) {
        let mut tags = block_tags(line);
        if let Some(tag) = tags.find(|tag| SILENCERS.iter().any(|word| is_or_qualifies(tag, word)))
        {
            let rule = format!("an example that does not run goes stale: drop `{tag}`");
            faults.push(Fault::new(number, rule));
        }
    }
    faults
}

/// Every page of the guide is among those that documentation tests compile: the facade's, or those of the adapter that it is about.
pub(super) fn pages_are_compiled(path: &str, _: &str) -> Vec<Fault> {
    let is_page = path.starts_with("docs/guide/") && has_extension(path, "md");
    if !is_page || PAGES.contains(&format!("../../../{path}\"")) {
        return Vec::new();
    }
    let rule = "its examples are not compiled: add it to the pages in crates/factum/src/lib.rs, or to the adapter that it is about";
    vec![Fault::new(1, rule)]
}

/// Nothing refers to a folder that only one machine has.
pub(super) fn names_no_machine(path: &str, text: &str) -> Vec<Fault> {
    if path.starts_with(EXEMPT) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in numbered(text) {
        for folder in MACHINE_PATHS
            .iter()
            .filter(|folder| starts_a_path(line, folder))
        {
            faults.push(Fault::new(
                number,
                format!("`{folder}` is a folder of one machine"),
            ));
        }
        for folder in OUTSIDE_PATHS
            .iter()
            .filter(|folder| line.contains(**folder))
        {
            let rule = format!("`{folder}` is not in the repository: say it here");
            faults.push(Fault::new(number, rule));
        }
    }
    faults
}

/// Nothing names the host of a package registry.
pub(super) fn names_no_registry_host(path: &str, text: &str) -> Vec<Fault> {
    if path.starts_with(EXEMPT) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in numbered(text) {
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(**host)) {
            let rule =
                format!("`{host}` is a registry's host: which one serves is a local setting");
            faults.push(Fault::new(number, rule));
        }
    }
    faults
}

/// Whether `word` stands in the line other than as the tail of a longer name.
fn starts_a_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let continues = |before: char| before.is_alphanumeric() || before == '_';
        !(before.is_some_and(continues) && word.starts_with(char::is_alphabetic))
    })
}

/// Whether `folder` stands in the line as the start of a path: `a/work/b`, `../work/`,
/// `{root}/work/` and `https://example.com/work/` are other places.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let continues = |before: char| before.is_alphanumeric() || "/._-~}>*".contains(before);
        !before.is_some_and(continues)
    })
}

/// The tags of the code block that a line opens; none if it opens none.
fn block_tags(line: &str) -> impl Iterator<Item = &str> {
    let markdown =
        line.trim_start_matches(|symbol: char| "/!*> ".contains(symbol) || symbol == '\t');
    let fence = markdown
        .strip_prefix("```")
        .or_else(|| markdown.strip_prefix("~~~"));
    fence
        .unwrap_or_default()
        .split([',', ' ', '\t', '`', '~'])
        .filter(|tag| !tag.is_empty())
}

/// `ignore` and `ignore-windows` both silence a block.
fn is_or_qualifies(tag: &str, word: &str) -> bool {
    tag.strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUST: &str = "crates/factum/src/lib.rs";
    const PROSE: &str = "docs/guide/start.md";

    /// Checks `line` as the second line of the file at `path`.
    fn catches(check: super::super::Check, path: &str, line: &str) -> bool {
        let faults = check(path, &format!("//! Things.\n{line}\nfn f() {{}}\n"));
        assert!(faults.iter().all(|fault| fault.line == 2), "{faults:?}");
        !faults.is_empty()
    }

    #[test]
    fn lints_tests_and_functions_are_not_switched_off() {
        for line in [
            "#[allow(dead_code)]",
            "    #[allow(clippy::pedantic, reason = \"why\")]",
            "#![allow(unused)]",
            "#[cfg_attr(test, allow(unused))]",
            "#[ignore]",
            "#[ignore = \"slow\"]",
            "#[cfg_attr(windows, ignore)]",
            "fn f() { todo!() }",
            "    unimplemented!(\"later\")",
            "/// todo!()",
        ] {
            assert!(catches(nothing_is_switched_off, RUST, line), "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_a_switch_is_free() {
        for line in [
            "#[expect(dead_code, reason = \"why\")]",
            "fn allow(ignore: bool) {}",
            "let ignored = (a, ignore);",
            "my_todo!(1)",
            "// What is left to do stands in the issue.",
        ] {
            assert!(!catches(nothing_is_switched_off, RUST, line), "{line}");
        }
        assert!(!catches(
            nothing_is_switched_off,
            PROSE,
            "Write no `todo!()`."
        ));
    }

    #[test]
    fn examples_are_not_silenced() {
        for (path, line) in [
            (RUST, "/// ```ignore"),
            (RUST, "//! ```no_run"),
            (RUST, "    /// ```rust,ignore"),
            (RUST, " * ```rust, no_run"),
            (RUST, "/// ~~~ignore-windows"),
            (PROSE, "```rust,no_run"),
            (PROSE, "   ```` rust ignore"),
            (PROSE, "> ```ignore"),
        ] {
            assert!(catches(examples_run, path, line), "{line}");
        }
    }

    #[test]
    fn examples_that_run_or_must_not_compile_are_free() {
        for (path, line) in [
            (RUST, "/// ```"),
            (RUST, "/// ```compile_fail"),
            (RUST, "//! ```should_panic"),
            (PROSE, "```sh"),
            (PROSE, "We ignore what `no_run` would hide."),
            ("deny.toml", "ignore = []"),
        ] {
            assert!(!catches(examples_run, path, line), "{line}");
        }
    }

    #[test]
    fn a_page_that_nobody_compiles_is_found() {
        assert_eq!(pages_are_compiled("docs/guide/new.md", "").len(), 1);
        for path in [
            "docs/guide/aggregates.md",
            "docs/internals/storage.md",
            RUST,
        ] {
            assert_eq!(pages_are_compiled(path, ""), []);
        }
    }

    #[test]
    fn no_file_names_a_folder_of_one_machine() {
        for line in [
            "let path = \"/work/main\";",
            "see /root/.cargo",
            "cd /home/me/factum",
            "file:/Users/me/factum",
            "(/work/x)",
            "[style](../shared/STYLE.md)",
        ] {
            assert!(catches(names_no_machine, RUST, line), "{line}");
            assert!(catches(names_no_machine, "Makefile", line), "{line}");
        }
    }

    #[test]
    fn other_paths_are_free() {
        for line in [
            "https://example.com/home/index.html",
            "crates/factum/src/work/queue.rs",
            "../work/queue.rs",
            "format!(\"{root}/work/\")",
            "<root>/work/",
            "/var/lib/factum",
            "homework/",
        ] {
            assert!(!catches(names_no_machine, PROSE, line), "{line}");
        }
    }

    #[test]
    fn no_file_names_a_registry_host() {
        for host in REGISTRY_HOSTS {
            let line = format!(
                "fetch https{}/a",
                host.strip_prefix("https").unwrap_or(host)
            );
            assert!(
                catches(names_no_registry_host, "config.toml", &line),
                "{line}"
            );
        }
        let index = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        assert!(!catches(names_no_registry_host, "Cargo.lock", index));
        assert!(!catches(
            names_no_registry_host,
            PROSE,
            "as on https://docs.rs/tokio"
        ));
    }

    #[test]
    fn the_checks_may_spell_what_they_look_for() {
        let path = "xtask/src/tidy/words.rs";

        assert!(!catches(nothing_is_switched_off, path, "#[allow(x)]"));
        assert!(!catches(examples_run, path, "/// ```ignore"));
        assert!(!catches(names_no_machine, path, "/home/"));
        assert!(!catches(names_no_registry_host, path, "pypi.org"));
    }
}
