//! What Java servers have in common: their jars, which Maven brings.

use std::{fs, io, path::Path, process::Command};

use super::{done, has};

/// The Debian packages that a Java server lacks.
pub(super) fn missing_packages() -> Vec<&'static str> {
    let mut missing = Vec::new();
    // One server's launcher is compiled when it starts.
    if !has("javac") {
        missing.push("default-jdk-headless");
    }
    if !has("mvn") {
        missing.push("maven");
    }
    missing
}

/// Brings all that `pom` names into `directory/lib`, unless it is there.
pub(super) fn bring(directory: &Path, pom: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let noted = directory.join("pom.xml");
    let lib = directory.join("lib");
    // The pom is noted when all is there, so that half of it is not taken for the whole.
    if fs::read_to_string(&noted).is_ok_and(|known| known == pom) {
        return Ok(());
    }
    let wanted = directory.join("wanted.pom.xml");
    fs::write(&wanted, pom)?;
    if lib.exists() {
        fs::remove_dir_all(&lib)?;
    }
    done(
        Command::new("mvn")
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(&wanted)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", lib.display())),
    )?;
    fs::rename(wanted, noted)
}

/// Java with these jars.
pub(super) fn java(directory: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-classpath"])
        .arg(directory.join("lib/*"));
    java
}
