//! What stands in the data directory in place of a file.

use std::fs;

use factum_sqlite::Sqlite;

use crate::support::Directory;

const NAMES: [&str; 5] = [
    "factum.db",
    "factum.db-wal",
    "factum.db-shm",
    "factum.lock",
    "factum.witness",
];

/// The refusal to open a directory in which `make` has put something in the place of `name`.
#[track_caller]
fn refused(name: &str, make: impl FnOnce(&std::path::Path)) -> String {
    let directory = Directory::new();
    drop(directory.open());
    let path = directory.path().join(name);
    if path.exists() {
        fs::remove_file(&path).expect("it was closed");
    }
    make(&path);
    let error = Sqlite::open(&directory.options()).expect_err("it is refused");
    assert!(error.is_fatal(), "{error:#}");
    let text = format!("{error:#}");
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(fs::symlink_metadata(&path).is_ok(), "it is left alone");
    text
}

#[test]
fn a_directory_in_place_of_a_file_is_refused_by_name() {
    for name in NAMES {
        let text = refused(name, |path| fs::create_dir(path).expect("it is made"));
        assert!(text.contains("is a directory"), "{text}");
    }
}

/// A pipe was opened and waited for, for ever.
#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    for name in NAMES {
        let text = refused(name, |path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.expect("every Unix has it").success());
        });
        assert!(text.contains("is no file"), "{text}");
    }
}

/// Two directories with a link to one file each had a lock of their own, and both wrote.
#[cfg(unix)]
#[test]
fn a_link_in_place_of_a_file_is_refused_wherever_it_leads() {
    let other = Directory::new();
    drop(other.open());
    for name in NAMES {
        for to in [
            other.path().join(name),
            other.path().into(),
            "nowhere".into(),
        ] {
            let text = refused(name, |path| {
                std::os::unix::fs::symlink(&to, path).expect("it is made");
            });
            assert!(text.contains("is a link"), "{text}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_the_directory_as_a_whole_is_followed() {
    let directory = Directory::new();
    let linked = directory.path().join("linked");
    let real = directory.path().join("real");
    fs::create_dir(&real).expect("it is made");
    std::os::unix::fs::symlink(&real, &linked).expect("it is made");
    drop(Sqlite::open(&factum_sqlite::SqliteOptions::new(&linked)).expect("it opens"));
    assert!(real.join("factum.db").is_file());
}
