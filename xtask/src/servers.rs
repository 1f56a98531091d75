//! `cargo xtask servers`: the real servers that tests use, on loopback, without containers.
//!
//! They come from package registries (Debian's and Maven's), live in the ignored folder `.servers` or wherever they are
//! told, and go on until `down`. Every step may be done again: what is installed, prepared or running is left as it is.
//! Each server is a file beside this one; this file knows what is the same for all.

#[cfg(test)]
mod compose;
mod jars;
mod kafka;
mod opensearch;
mod postgres;
mod process;
mod redis;

use std::{
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Subcommand;

use self::process::Process;

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_mins(2);

/// Which servers, and what to do with them.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where they live, if not in `.servers`: others than those, which may run beside them
    #[arg(long, global = true, value_name = "PATH")]
    directory: Option<PathBuf>,

    #[command(subcommand)]
    deed: Deed,
}

/// What to do with the servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Deed {
    /// Install what is missing, start what is not running, and wait until all answer
    Up {
        /// Only these (postgres, kafka, redis, opensearch)
        servers: Vec<String>,
    },
    /// Stop them in good order
    Down {
        /// Delete their data too
        #[arg(long)]
        purge: bool,
    },
    /// Kill them and all that they have forked, as a crash does; `up` starts them again on what they left
    Kill(Victims),
    /// Stop them in the middle of whatever they do, until `resume`: they keep their connections, and say nothing
    Pause(Victims),
    /// Let them go on that were paused
    Resume(Victims),
    /// Show which run, and where
    Status,
    /// Print their addresses as exports for a shell: eval "$(cargo xtask servers env)"
    Env,
}

/// Those to whom something is done that nobody does to all by mistake.
#[derive(Debug, clap::Args)]
pub(crate) struct Victims {
    /// Which (postgres, kafka, redis, opensearch)
    #[arg(required = true)]
    servers: Vec<String>,
}

/// A kind of server.
trait Server: Sync {
    /// What it is called here.
    fn name(&self) -> &'static str;
    /// The variable in which tests look for its address.
    fn variable(&self) -> &'static str;
    /// Its address.
    fn address(&self, port: u16) -> String;
    /// The Debian packages that it lacks.
    fn missing_packages(&self) -> Vec<&'static str>;
    /// Brings what no package has, and makes its configuration and empty data.
    fn prepare(&self, place: &Place) -> io::Result<()>;
    /// How it is started.
    fn command(&self, place: &Place) -> io::Result<Command>;
    /// Whether it answers as what it is.
    fn answers(&self, place: &Place) -> bool;
}

const SERVERS: [&dyn Server; 4] = [
    &postgres::Postgres,
    &kafka::Kafka,
    &redis::Redis,
    &opensearch::OpenSearch,
];

/// Where one server lives.
struct Place {
    /// Its folder.
    directory: PathBuf,
    /// What it is made of, which all of its kind share.
    parts: PathBuf,
    /// Its port, the same from its first start on.
    port: u16,
}

impl Place {
    fn of(set: &Set, server: &dyn Server) -> io::Result<Self> {
        let directory = set.directory.join(server.name());
        fs::create_dir_all(&directory)?;
        let noted = directory.join("port");
        let port = if let Ok(text) = fs::read_to_string(&noted) {
            text.trim().parse().map_err(io::Error::other)?
        } else {
            let port = free_port()?;
            fs::write(&noted, port.to_string())?;
            port
        };
        let parts = set.parts.join(server.name());
        Ok(Self {
            directory,
            parts,
            port,
        })
    }

    fn join(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn log(&self) -> PathBuf {
        self.join("log")
    }

    fn process(&self) -> Process {
        Process::noted_in(self.join("pid"))
    }
}

/// Does what is asked, for the repository at `root`.
pub(crate) fn run(root: &Path, options: &Options) -> io::Result<()> {
    let set = match &options.directory {
        None => Set::of(root),
        Some(directory) => Set::of(root).at(directory)?,
    };
    match &options.deed {
        Deed::Up { servers } => set.up(servers),
        Deed::Down { purge } => set.down(*purge),
        Deed::Kill(victims) => set.each(victims, Process::kill),
        Deed::Pause(victims) => set.each(victims, Process::pause),
        Deed::Resume(victims) => set.each(victims, Process::resume),
        Deed::Status => set.status(),
        Deed::Env => set.env(),
    }
}

/// One of each server, in one folder.
#[derive(Debug)]
pub(crate) struct Set {
    directory: PathBuf,
    /// Where that is which sets share: it is large, takes long to bring, and doesn't change.
    parts: PathBuf,
}

impl Set {
    /// The one that everybody uses.
    pub(crate) fn of(root: &Path) -> Self {
        let directory = root.join(".servers");
        Self {
            parts: directory.clone(),
            directory,
        }
    }

    /// One of its own in another folder, made of the same parts.
    pub(crate) fn at(self, directory: &Path) -> io::Result<Self> {
        // The servers are told of it, who may be elsewhere.
        let directory = std::path::absolute(directory)?;
        Ok(Self { directory, ..self })
    }

    /// Where it lives.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether one of them runs.
    pub(crate) fn is_used(&self) -> io::Result<bool> {
        Ok(!self.addresses()?.is_empty())
    }

    /// Starts those of these names, or all.
    pub(crate) fn up(&self, names: &[String]) -> io::Result<()> {
        let wanted = named(names)?;
        let missing: Vec<_> = wanted
            .iter()
            .flat_map(|server| server.missing_packages())
            .collect();
        if !missing.is_empty() {
            install(&missing)?;
        }
        let mut started = Vec::new();
        for server in wanted {
            let place = Place::of(self, server)?;
            if !(place.process().is_alive() && server.answers(&place)) {
                say(&format!("starting {}", server.name()))?;
                place.process().stop()?;
                server.prepare(&place)?;
                place
                    .process()
                    .start(server.command(&place)?, &place.log())?;
            }
            started.push((server, place));
        }
        // They start side by side, and are waited for one after another.
        for (server, place) in started {
            let answers = || server.answers(&place);
            if !place.process().wait_until(answers, START_MAX) {
                let log = fs::read_to_string(place.log()).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(30)..].join("\n");
                return Err(io::Error::other(format!(
                    "{} does not answer; the last of {}:\n{last}",
                    server.name(),
                    place.log().display()
                )));
            }
            say(&format!(
                "{} is up: {}",
                server.name(),
                server.address(place.port)
            ))?;
        }
        Ok(())
    }

    /// Stops all in good order.
    pub(crate) fn down(&self, purge: bool) -> io::Result<()> {
        for server in SERVERS {
            let place = Place::of(self, server)?;
            if place.process().is_alive() {
                say(&format!("stopping {}", server.name()))?;
            }
            place.process().stop()?;
            if purge {
                fs::remove_dir_all(&place.directory)?;
            }
        }
        Ok(())
    }

    /// Does something to the processes of some.
    fn each(&self, victims: &Victims, deed: impl Fn(&Process) -> io::Result<()>) -> io::Result<()> {
        for server in named(&victims.servers)? {
            deed(&Place::of(self, server)?.process())?;
        }
        Ok(())
    }

    fn status(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        for server in SERVERS {
            let place = Place::of(self, server)?;
            let state = match place.process().is_alive() {
                true if server.answers(&place) => "up",
                true => "starting, or stuck",
                false => "down",
            };
            writeln!(
                stdout,
                "{:<12}{:<20}{}",
                server.name(),
                state,
                server.address(place.port)
            )?;
        }
        Ok(())
    }

    /// The variables in which tests look for servers, and the addresses of those that run.
    pub(crate) fn addresses(&self) -> io::Result<Vec<(&'static str, String)>> {
        let mut addresses = Vec::new();
        for server in SERVERS {
            let place = Place::of(self, server)?;
            if place.process().is_alive() {
                addresses.push((server.variable(), server.address(place.port)));
            }
        }
        Ok(addresses)
    }

    fn env(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        for (variable, address) in self.addresses()? {
            writeln!(stdout, "export {variable}='{address}'")?;
        }
        Ok(())
    }
}

/// The servers of these names; all, if there is none.
fn named(names: &[String]) -> io::Result<Vec<&'static dyn Server>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| SERVERS.iter().all(|server| server.name() != **name))
    {
        let known: Vec<_> = SERVERS.iter().map(|server| server.name()).collect();
        let known = known.join(", ");
        return Err(io::Error::other(format!(
            "there is no server `{unknown}`: there are {known}"
        )));
    }
    let wanted =
        |server: &&dyn Server| names.is_empty() || names.iter().any(|name| name == server.name());
    Ok(SERVERS.into_iter().filter(wanted).collect())
}

/// Progress is for the person: stdout stays clean for what `env` prints.
fn say(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "servers: {what}")
}

fn install(packages: &[&str]) -> io::Result<()> {
    let list = packages.join(" ");
    say(&format!("installing {list}"))?;
    let refused = |error| {
        io::Error::other(format!(
            "{error}: install these by hand, as whoever may ({list}), then say `cargo xtask servers up` again"
        ))
    };
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        done(command.args(arguments)).map_err(refused)
    };
    apt(&["update", "--quiet=2"])?;
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends"];
    apt(&[&install, packages].concat())
}

/// Runs a command to its end; its output is shown only when it fails.
fn done(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::other(format!("can't run `{name}`: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(io::Error::other(format!(
        "`{name}` failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&said).trim()
    )))
}

/// Whether the shell would find this program.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A port that nobody uses just now.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_port() {
        let root = std::env::temp_dir().join(format!("factum-servers-{}", std::process::id()));
        let usual = Set::of(&root);
        let one = Place::of(&usual, &redis::Redis).unwrap();
        let again = Place::of(&usual, &redis::Redis).unwrap();
        let elsewhere = Set::of(&root).at(&root.join("elsewhere")).unwrap();
        let other = Place::of(&elsewhere, &redis::Redis).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(one.port, again.port);
        assert_eq!(one.parts, other.parts);
        assert_ne!(one.directory, other.directory);
    }

    #[test]
    fn an_unknown_server_is_refused_before_anything_is_done() {
        let set = Set::of(Path::new("/nonexistent"));
        let error = set.up(&["mongo".into()]).unwrap_err();
        assert!(error.to_string().contains("postgres, kafka"), "{error}");
    }

    #[test]
    fn what_a_failed_command_said_is_told() {
        let error =
            done(Command::new("sh").args(["-c", "echo no such thing; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
    }
}
