//! The processes of a platform: how they are started, killed, paused and started again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use factum::system_env;
use factum_testkit::engines;
use orders::platform::Role;
use tempfile::TempDir;

use crate::fleet::Client;

/// How long a process may take until it says where it is. Making schemas and topics takes seconds where many do it.
const START_MAX: Duration = Duration::from_mins(2);

/// Where the engines are.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    pub(crate) store: String,
    pub(crate) broker: String,
    pub(crate) views: Option<String>,
    /// Where the rows are that queries read, if elsewhere.
    pub(crate) front_views: Option<String>,
}

impl Engines {
    /// Those of the tests; none, which is then said, where one is missing.
    pub(crate) fn of_the_tests() -> Option<Self> {
        Some(Self {
            store: engines::server("FACTUM_TEST_POSTGRES")?,
            broker: format!("kafka://{}", engines::server("FACTUM_TEST_KAFKA")?),
            views: None,
            front_views: None,
        })
    }
}

/// A process of a platform. Dropped, it is killed.
pub(crate) struct Process {
    /// What it is called in failures, and its log.
    pub(crate) name: String,
    args: Vec<String>,
    log: std::path::PathBuf,
    child: Child,
    said: Option<Receiver<String>>,
    pub(crate) url: String,
}

impl Process {
    /// Starts it, and doesn't wait until it is there.
    fn begin(name: &str, args: Vec<String>, listen: &str, directory: &TempDir) -> Self {
        let log = directory.path().join(format!("{name}.log"));
        let (child, said) = Self::spawn(&args, listen, &log);
        Self {
            name: name.to_owned(),
            args,
            log,
            child,
            said: Some(said),
            url: String::new(),
        }
    }

    fn spawn(args: &[String], listen: &str, log: &std::path::Path) -> (Child, Receiver<String>) {
        let errors = File::options().create(true).append(true).open(log).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_orders"))
            .args(args)
            .args(["--listen", listen])
            .env_remove("FACTUM_TOKEN")
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (say, said) = sync_channel(1);
        std::thread::spawn(move || {
            // All is read: a full pipe would stop the process.
            for line in out.lines().map_while(Result::ok) {
                let mut words = line.split_whitespace();
                if let Some(url) = words.find(|word| word.starts_with("http://")) {
                    drop(say.try_send(url.trim_end_matches(',').to_owned()));
                }
            }
        });
        (child, said)
    }

    /// Waits until it says where it is.
    pub(crate) fn ready(&mut self) {
        let Some(said) = self.said.take() else { return };
        let url = said.recv_timeout(START_MAX);
        assert!(
            url.is_ok(),
            "`{}` did not start:\n{}",
            self.name,
            self.log()
        );
        self.url = url.unwrap_or_default();
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after it has died, where it was, and waits until it is there.
    pub(crate) fn restart(&mut self) {
        self.begin_again();
        self.ready();
    }

    /// Starts it again after it has died, where it was.
    pub(crate) fn begin_again(&mut self) {
        let listen = self.url.trim_start_matches("http://").to_owned();
        let (child, said) = Self::spawn(&self.args, &listen, &self.log);
        (self.child, self.said) = (child, Some(said));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success(), "{signal} to `{}`", self.name);
    }

    /// Asks it to end in good order, and sees that it does.
    pub(crate) fn terminate(&mut self) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        assert!(
            status.success(),
            "`{}`: {status}\n{}",
            self.name,
            self.log()
        );
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn client(&self) -> Client {
        Client::of(&self.url)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already. One that is paused dies all the same.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A platform of processes.
pub(crate) struct Platform {
    pub(crate) outside: Process,
    pub(crate) services: Vec<(Role, Process)>,
    pub(crate) front: Process,
    pub(crate) client: Client,
    /// What the names of its topics begin with.
    pub(crate) prefix: String,
    directory: TempDir,
}

impl Platform {
    /// Two processes of `order` and of `payment`, one of each other role, and one that speaks for all.
    pub(crate) fn start(engines: &Engines) -> Self {
        Self::start_on(engines, |_| engines.store.clone())
    }

    /// The same, each service with the address of the store that it is given by its number.
    pub(crate) fn start_on(engines: &Engines, store: impl Fn(usize) -> String) -> Self {
        let id = system_env().uuid().simple().to_string();
        let prefix = format!("t{}_", &id[id.len() - 10..]);
        let directory = TempDir::new().unwrap();
        let free = "127.0.0.1:0";
        let books = directory.path().join("books").display().to_string();
        let args = ["outside", "--data", &books].map(str::to_owned).to_vec();
        let mut outside = Process::begin("outside", args, free, &directory);
        outside.ready();
        let args = |role: Role, store: String| {
            let mut args = vec![
                "serve".to_owned(),
                format!("--role={role}"),
                format!("--store={store}"),
                format!("--broker={}", engines.broker),
                format!("--prefix={prefix}"),
            ];
            if matches!(role, Role::Payment | Role::Notification) {
                args.push(format!("--outside={}", outside.url));
            }
            let views = match role {
                Role::Query => engines.front_views.as_ref().or(engines.views.as_ref()),
                _ => engines.views.as_ref(),
            };
            args.extend(views.map(|views| format!("--views={views}")));
            args
        };
        let mut services = Vec::new();
        for role in [&Role::ALL[..], &[Role::Order, Role::Payment]].concat() {
            let number = services.len();
            let name = format!("{role}-{number}");
            let args = args(role, store(number));
            services.push((role, Process::begin(&name, args, free, &directory)));
        }
        let mut front = args(Role::Query, engines.store.clone());
        for (role, process) in &mut services {
            process.ready();
            front.push(format!("--peer={role}={}", process.url));
        }
        let mut front = Process::begin("query", front, free, &directory);
        front.ready();
        let client = front.client();
        Self {
            outside,
            services,
            front,
            client,
            prefix,
            directory,
        }
    }

    /// All processes.
    pub(crate) fn processes(&mut self) -> Vec<&mut Process> {
        let services = self.services.iter_mut().map(|(_, process)| process);
        services
            .chain([&mut self.outside, &mut self.front])
            .collect()
    }

    /// The processes of a role.
    pub(crate) fn of(&mut self, role: Role) -> Vec<&mut Process> {
        let of_role = self.services.iter_mut().filter(|(known, _)| *known == role);
        of_role.map(|(_, process)| process).collect()
    }

    /// The ends of all logs, for failures.
    pub(crate) fn logs(&self) -> String {
        let services = self.services.iter().map(|(_, process)| process);
        let all = services.chain([&self.outside, &self.front]);
        let logs = all.map(|process| format!("--- {}\n{}", process.name, process.log()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// Ends all of them in good order.
    pub(crate) fn terminate(mut self) {
        self.front.terminate();
        for (_, process) in &mut self.services {
            process.terminate();
        }
        self.outside.terminate();
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // Whoever wants to know what went wrong reads on there.
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("the logs are in {}", self.directory.path().display());
        }
    }
}
