//! What the compiler says when a family of events is wrong: its words are part of the interface.
//!
//! They differ from one release of the compiler to the next, so they are compared on the release that the workspace
//! states as its `rust-version`, and nowhere else. After a deliberate change, `TRYBUILD=overwrite cargo test -p
//! factum-macros --test compile_errors` writes them anew; then read every line of the difference.

use std::{env, io::Write as _, process::Command};

#[test]
fn mistakes_in_a_family_of_events_are_explained_where_they_are_made() {
    let compiler = compiler_version();
    let stated = env!("CARGO_PKG_RUST_VERSION");
    if !compiler.starts_with(&format!("rustc {stated}.")) || compiler.contains("nightly") {
        // Straight to the file: the harness would swallow what is printed.
        let notice =
            format!("skipping the compile errors: pinned for rustc {stated}, this is {compiler}\n");
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

fn compiler_version() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("the compiler runs: it built this test");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
