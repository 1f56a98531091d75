//! A disk that is full for a while, under the real process: commands are refused for now, reads go on, nothing that was
//! acknowledged is lost, and nothing needs a restart, though one may come.
//!
//! Faults come from the library of the store's own tests, `crates/factum-sqlite/tests/faults/faults.c`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    load::{Book, Load},
    planted::{PATIENCE, notices},
    process::Process,
    rounds::{Target, Torture, command, fill},
};

/// How long clients give commands before the disk is full.
const LOAD: Duration = Duration::from_millis(500);
/// How many bytes of the log may be written at most until it is: in the middle of a commit, or between two.
const ROOM_MAX: u64 = 20_000;

/// A disk on which something goes wrong as long as a file is there.
struct Disk {
    aside: TempDir,
    rules: String,
}

impl Disk {
    fn new(rules: String) -> Self {
        let aside = TempDir::new().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../crates/factum-sqlite/tests/faults/faults.c");
        let disk = Self { aside, rules };
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&disk.path("libfaults.so"), &source])
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(built.unwrap().success());
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.aside.path().join(name)
    }

    /// The platform on `data`, which lies on this disk.
    fn command(&self, data: &Path) -> Command {
        let mut command = command(data);
        command
            .env("LD_PRELOAD", self.path("libfaults.so"))
            .env("FACTUM_FAULTS", &self.rules)
            .env("FACTUM_FAULTS_WHILE", self.path("while"))
            .env("FACTUM_FAULTS_LOG", self.path("log"));
        command
    }

    fn goes_wrong(&self) {
        fs::write(self.path("while"), "").unwrap();
    }

    fn is_mended(&self) {
        fs::remove_file(self.path("while")).unwrap();
    }

    /// Whether a fault was met.
    fn has_met(&self, fault: &str) -> bool {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().any(|line| line.ends_with(fault))
    }
}

/// A platform on that disk, under load until the disk goes wrong and every client has heard so, or for a while longer.
#[expect(
    clippy::disallowed_methods,
    reason = "the seed itself, which is printed"
)]
async fn under_load(rules: impl FnOnce(&mut fastrand::Rng) -> String) -> (Disk, Torture) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = Disk::new(rules(&mut rng));
    let data = TempDir::new().unwrap();
    let process = Process::start(disk.command(data.path())).unwrap();
    let mut torture = Torture::on(data, process, Book::default(), seed);
    fill(&torture.book);
    torture.settle().await;
    load(&disk, &mut torture).await;
    (disk, torture)
}

async fn load(disk: &Disk, torture: &mut Torture) {
    let load = Load::begin(&torture.client, &torture.book, &mut torture.rng);
    tokio::time::sleep(LOAD).await;
    disk.goes_wrong();
    drop(tokio::time::timeout(PATIENCE, load.end()).await);
}

fn full(rng: &mut fastrand::Rng) -> String {
    let room = rng.u64(..ROOM_MAX);
    format!("factum.db-wal:bytes:{room}:ENOSPC:0;/factum.db:bytes:0:ENOSPC:0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_commands_for_now_serves_reads_and_is_waited_out() {
    let (disk, mut torture) = under_load(full).await;
    assert!(disk.has_met("ENOSPC"), "it was not full");
    let kim = json!({ "name": "Kim", "email": "kim@example.org" });
    let users = torture.client.ask(Method::POST, "/users", Some(&kim), None);
    let refused = users.await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(
        refused.text.contains("it can't be done now"),
        "{}",
        refused.text
    );
    let order = torture.book.lock().unwrap().orders().into_keys().next();
    torture
        .client
        .get(&format!("/orders/{}", order.unwrap()))
        .await;

    disk.is_mended();
    torture.settle().await;
    assert_eq!(torture.look().await, [""; 0]);
    // It is the same process, and it ends in good order.
    torture.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_the_disk_is_full_loses_nothing_that_was_acknowledged() {
    let (disk, mut torture) = under_load(full).await;
    assert!(disk.has_met("ENOSPC"), "it was not full");
    torture.die(Target::Load);
    // Room was made before it is started again.
    torture.start().await.unwrap();
    torture.settle().await;
    assert_eq!(torture.look().await, [""; 0]);
    torture.stop();
}

/// A disk that says of what it drops that it was written: found by the witness at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_drops_what_it_was_given_is_noticed() {
    let rules = |_: &mut _| "factum.db-wal:write:1:SKIP:0".to_owned();
    let (disk, mut torture) = under_load(rules).await;
    assert!(disk.has_met("SKIP"), "nothing was dropped");
    torture.patience = PATIENCE;
    torture.die(Target::Load);
    assert_ne!(notices(torture).await, "");
}
