//! Which crate may depend on which, read from the manifests.
//!
//! The code cannot name a crate that its manifest does not list, so the manifests are the
//! whole truth about directions. What a rule is for stands beside it; why the crates are cut
//! this way stands in `ARCHITECTURE.md`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Fault, line_at};

/// What may not be in the core's manifest in any table, besides Factum's own crates: the
/// core is values to values, and a test that needs a runtime or an engine is a test of
/// something else.
const CORE_NEVER_HAS: &[&str] = &["axum", "rusqlite", "tokio"];

/// The Factum crates that a crate's users get along with it. A crate without a row is free.
const SEES_OF_FACTUM: &[(&str, &[&str])] = &[
    ("factum-core", &[]),
    ("factum-macros", &[]),
    // Adapters know the ports and their own engine, never the runtime or a sibling.
    ("factum-sqlite", &["factum-core"]),
    ("factum-postgres", &["factum-core"]),
    ("factum-kafka", &["factum-core"]),
    ("factum-redis", &["factum-core"]),
    ("factum-elasticsearch", &["factum-core"]),
    // On the core alone, so that factum's own tests can use it.
    ("factum-testkit", &["factum-core"]),
];

/// An outside crate that only a few of ours may know.
struct Reserved {
    package: &'static str,
    /// By folder, which is the package's name.
    users: &'static [&'static str],
    in_tests_too: bool,
    reason: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        package: "axum",
        users: &["factum-admin", "orders"],
        in_tests_too: true,
        reason: "HTTP is an edge: it stays in the admin API and the applications",
    },
    Reserved {
        package: "clap",
        users: &["factum-bench", "factum-cli", "orders", "xtask"],
        in_tests_too: true,
        reason: "only a program has a command line",
    },
    Reserved {
        package: "rusqlite",
        // The benchmark measures ours beside it.
        users: &["factum-sqlite", "factum-bench"],
        // A test may open the file from outside, as a person with a SQL prompt does.
        in_tests_too: false,
        reason: "one crate knows each engine",
    },
    Reserved {
        package: "rdkafka",
        users: &["factum-kafka", "factum-bench"],
        in_tests_too: false,
        reason: "one crate knows each engine",
    },
    Reserved {
        package: "tokio-postgres",
        users: &["factum-postgres", "factum-bench"],
        in_tests_too: false,
        reason: "one crate knows each engine",
    },
    Reserved {
        package: "hyper-rustls",
        users: &["factum-elasticsearch"],
        in_tests_too: false,
        reason: "one crate knows each engine, and this is how it speaks to search clusters",
    },
    Reserved {
        package: "redis",
        users: &["factum-redis"],
        in_tests_too: false,
        reason: "one crate knows each engine",
    },
];

/// A dependency as a manifest states it.
#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    /// The package's own name, whatever the manifest calls it.
    package: String,
    table: Table,
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// `[dependencies]` and `[build-dependencies]`, whatever the target: users get these along.
    Linked,
    /// `[dev-dependencies]`, whatever the target.
    Tests,
}

/// Dependencies follow the directions of `ARCHITECTURE.md`.
pub(super) fn dependencies_point_inwards(path: &str, text: &str) -> Vec<Fault> {
    let Some(folder) = crate_folder(path) else {
        return Vec::new();
    };
    let manifest = match DeTable::parse(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            return vec![Fault::new(
                line,
                format!("cannot read the manifest: {}", error.message()),
            )];
        }
    };
    let dependencies = dependencies(text, manifest.get_ref());
    dependencies
        .iter()
        .filter_map(|dependency| refuse(folder, dependency))
        .collect()
}

/// A crate's folder bears its name, and the workspace's lints hold in it.
pub(super) fn joins_the_workspace(path: &str, text: &str) -> Vec<Fault> {
    let Some(folder) = crate_folder(path) else {
        return Vec::new();
    };
    // A manifest that can't be read is reported once, by the check above.
    let Ok(manifest) = DeTable::parse(text) else {
        return Vec::new();
    };
    let manifest = manifest.get_ref();
    if manifest.contains_key("workspace") {
        return Vec::new(); // a workspace of its own, as fuzz targets need
    }
    let mut faults = Vec::new();
    let name = subtable(manifest, "package").and_then(|package| package.get("name"));
    if let Some(name) = name
        && name.get_ref().as_str() != Some(folder)
    {
        let line = line_at(text, name.span().start);
        faults.push(Fault::new(
            line,
            format!("a crate bears its folder's name, `{folder}`"),
        ));
    }
    let lints = subtable(manifest, "lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(|lints| lints.get_ref().as_bool()) != Some(true) {
        faults.push(Fault::new(
            1,
            "the workspace's lints are missing: `lints.workspace = true`",
        ));
    }
    faults
}

/// The name of the folder that holds the manifest; nothing for the root's, and for other files.
fn crate_folder(path: &str) -> Option<&str> {
    let folder = path.strip_suffix("/Cargo.toml")?;
    folder.rsplit('/').next()
}

/// Why the crate in `folder` may not have this dependency, if it may not.
fn refuse(folder: &str, dependency: &Dependency) -> Option<Fault> {
    let Dependency {
        package,
        table,
        line,
    } = dependency;
    let is_ours = package == "factum" || package.starts_with("factum-");

    if folder == "factum-core" && (is_ours || CORE_NEVER_HAS.contains(&package.as_str())) {
        let rule = format!("`factum-core` may not depend on `{package}`, not even in tests");
        return Some(Fault::new(*line, rule));
    }
    let sees = SEES_OF_FACTUM.iter().find(|(name, _)| *name == folder);
    if let Some((_, seen)) = sees
        && is_ours
        && *table == Table::Linked
        && !seen.contains(&package.as_str())
    {
        let rule = match seen {
            [] => format!("`{folder}` may depend on no other factum crate, `{package}` is one"),
            _ => format!(
                "`{folder}` may depend on {}, not on `{package}`",
                quoted(seen)
            ),
        };
        return Some(Fault::new(*line, rule));
    }
    let reserved = RESERVED
        .iter()
        .find(|reserved| reserved.package == package)?;
    let is_held_to_it = *table == Table::Linked || reserved.in_tests_too;
    if is_held_to_it && !reserved.users.contains(&folder) {
        let Reserved { users, reason, .. } = reserved;
        let rule = format!("only {} may depend on `{package}`: {reason}", quoted(users));
        return Some(Fault::new(*line, rule));
    }
    None
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Every dependency of a manifest, those for one target only included.
fn dependencies(text: &str, manifest: &DeTable<'_>) -> Vec<Dependency> {
    const TABLES: &[(&str, Table)] = &[
        ("dependencies", Table::Linked),
        ("build-dependencies", Table::Linked),
        ("dev-dependencies", Table::Tests),
    ];
    let targets = subtable(manifest, "target")
        .into_iter()
        .flat_map(DeTable::values);
    let holders = targets.filter_map(|target| target.get_ref().as_table());

    let mut found = Vec::new();
    for holder in std::iter::once(manifest).chain(holders) {
        for (name, table) in TABLES {
            for (key, value) in subtable(holder, name).into_iter().flatten() {
                found.push(Dependency {
                    package: package_name(key.get_ref(), value).to_owned(),
                    table: *table,
                    line: line_at(text, key.span().start),
                });
            }
        }
    }
    found
}

/// `web = { package = "axum" }` is axum.
fn package_name<'a>(key: &'a str, value: &'a Spanned<DeValue<'_>>) -> &'a str {
    let renamed = value
        .get_ref()
        .as_table()
        .and_then(|table| table.get("package"));
    renamed
        .and_then(|package| package.get_ref().as_str())
        .unwrap_or(key)
}

fn subtable<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<&'a DeTable<'i>> {
    table.get(name)?.get_ref().as_table()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines at which the directions are broken by the manifest of the crate in `folder`.
    fn lines(folder: &str, manifest: &str) -> Vec<usize> {
        let path = format!("{folder}/Cargo.toml");
        let faults = dependencies_point_inwards(&path, manifest);
        faults.into_iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn the_core_has_no_engine_runtime_or_sibling() {
        for package in [
            "tokio",
            "rusqlite",
            "axum",
            "factum",
            "factum-macros",
            "factum-testkit",
        ] {
            for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
                let manifest = format!("[{table}]\nserde = '1'\n{package} = '1'\n");

                assert_eq!(
                    lines("crates/factum-core", &manifest),
                    [3],
                    "{package} in {table}"
                );
            }
        }
        let light = "[dependencies]\nserde.workspace = true\nuuid.workspace = true\n";
        assert_eq!(lines("crates/factum-core", light), []);
    }

    #[test]
    fn an_adapter_sees_the_core_only() {
        for folder in [
            "crates/factum-sqlite",
            "crates/factum-testkit",
            "crates/factum-kafka",
        ] {
            let core = "[dependencies]\nfactum-core.workspace = true\n";
            assert_eq!(lines(folder, core), [], "{folder}");

            for sibling in ["factum", "factum-macros", "factum-admin", "factum-redis"] {
                let manifest = format!("[dependencies]\n{sibling}.workspace = true\n");
                assert_eq!(lines(folder, &manifest), [2], "{folder} on {sibling}");
            }
        }
    }

    #[test]
    fn an_adapters_tests_may_use_the_testkit() {
        let manifest = "[dev-dependencies]\nfactum-testkit.workspace = true\n";

        assert_eq!(lines("crates/factum-sqlite", manifest), []);
    }

    #[test]
    fn axum_stays_in_the_admin_api_and_the_applications() {
        for table in ["dependencies", "dev-dependencies"] {
            let manifest = format!("[{table}]\naxum.workspace = true\n");

            assert_eq!(lines("crates/factum-admin", &manifest), []);
            assert_eq!(lines("apps/orders", &manifest), []);
            assert_eq!(lines("crates/factum", &manifest), [2], "{table}");
            assert_eq!(lines("examples/counter", &manifest), [2], "{table}");
        }
    }

    #[test]
    fn only_programs_know_clap() {
        let manifest = "[dependencies]\nclap.workspace = true\n";

        for program in [
            "apps/orders",
            "xtask",
            "crates/factum-cli",
            "crates/factum-bench",
        ] {
            assert_eq!(lines(program, manifest), [], "{program}");
        }
        for library in ["crates/factum", "crates/factum-admin", "examples/counter"] {
            assert_eq!(lines(library, manifest), [2], "{library}");
        }
    }

    #[test]
    fn rusqlite_stays_in_its_adapter_except_in_tests() {
        let linked = "[dependencies]\nrusqlite.workspace = true\n";
        let tested = "[dev-dependencies]\nrusqlite.workspace = true\n";

        assert_eq!(lines("crates/factum-sqlite", linked), []);
        assert_eq!(lines("crates/factum", linked), [2]);
        assert_eq!(lines("apps/orders", linked), [2]);
        assert_eq!(lines("apps/orders", tested), []);
    }

    #[test]
    fn the_client_of_search_clusters_stays_in_its_adapter() {
        let linked = "[dependencies]\nhyper-rustls = '0.27'\n";

        assert_eq!(lines("crates/factum-elasticsearch", linked), []);
        assert_eq!(lines("crates/factum-redis", linked), [2]);
        assert_eq!(lines("apps/orders", linked), [2]);
    }

    #[test]
    fn one_crate_knows_each_server() {
        for (package, adapter) in [
            ("rdkafka", "crates/factum-kafka"),
            ("tokio-postgres", "crates/factum-postgres"),
        ] {
            let linked = format!("[dependencies]\n{package} = '1'\n");

            assert_eq!(lines(adapter, &linked), [], "{package}");
            assert_eq!(lines("crates/factum", &linked), [2], "{package}");
            assert_eq!(lines("apps/orders", &linked), [2], "{package}");
        }
    }

    #[test]
    fn a_dependency_is_found_however_it_is_written() {
        let manifests = [
            ("[dependencies]\naxum = '0.8'\n", 2),
            (
                "[dependencies]\naxum = { workspace = true, optional = true }\n",
                2,
            ),
            ("[dependencies.axum]\nworkspace = true\n", 1),
            (
                "[dependencies]\nserde = '1'\nweb = { package = 'axum', version = '0.8' }\n",
                3,
            ),
            ("[target.'cfg(unix)'.dependencies]\naxum = '0.8'\n", 2),
            ("# For CI.\ndependencies = { axum = '0.8' }\n", 2),
        ];
        for (manifest, line) in manifests {
            assert_eq!(lines("crates/factum", manifest), [line], "{manifest}");
        }
    }

    #[test]
    fn an_unreadable_manifest_is_a_fault_itself() {
        assert_eq!(lines("crates/factum", "[package]\nname = \n"), [2]);
    }

    #[test]
    fn the_roots_manifest_and_other_files_are_free() {
        let text = "[dependencies]\naxum = '0.8'\n";

        assert_eq!(dependencies_point_inwards("Cargo.toml", text), []);
        assert_eq!(
            dependencies_point_inwards("crates/factum/deps.toml", text),
            []
        );
    }

    #[test]
    fn a_crate_bears_its_folders_name_and_the_workspaces_lints() {
        let check = |manifest| {
            let faults = joins_the_workspace("crates/factum/Cargo.toml", manifest);
            faults
                .into_iter()
                .map(|fault| fault.line)
                .collect::<Vec<_>>()
        };

        assert_eq!(
            check("[package]\nname = 'factum'\n[lints]\nworkspace = true\n"),
            []
        );
        assert_eq!(
            check("[package]\nname = 'facts'\n[lints]\nworkspace = true\n"),
            [2]
        );
        assert_eq!(check("[package]\nname = 'factum'\n"), [1]);
        assert_eq!(
            check("[package]\nname = 'factum'\n[lints.rust]\nunused = 'warn'\n"),
            [1]
        );
        assert_eq!(check("[workspace]\n[package]\nname = 'factum-fuzz'\n"), []);
    }
}
