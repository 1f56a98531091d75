//! The command line: what can be asked of the program, with help that needs no other page.

mod address;
mod serve;
#[cfg(feature = "engines")]
pub(crate) use address::Views;
pub(crate) use serve::{Engines, Serve};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    error::ErrorKind, parser::ValueSource,
};
use factum::{Accept, Timestamp};
use orders::platform::Role;

use crate::failure::Failure;

/// Where `serve` keeps its data, unless told otherwise.
pub(crate) const DATA_DEFAULT: &str = "factum-data";

/// The least that a partition keeps. Of less, nothing would be left by the time that anybody reads it.
const RETENTION_BYTES_MIN: u64 = 65_536;

const LONG_ABOUT: &str = "\
The order platform: five services (users, order, payment, stock, notification) in one process, with
nothing to install. Each owns a store; they speak to each other through topics alone. Stores and
topics are files in one data directory, and what was acknowledged survives a kill. Or each service
is processes of its own, on PostgreSQL and Kafka: see `orders serve --help`.

Without a command it serves.";

const EXAMPLES: &str = "\
Examples (in a clone, `cargo run --` stands for `orders`):
  orders                                  serve on 127.0.0.1:7400, data in ./factum-data
  orders demo                             a tour: success, failure, mending
  orders load --rate 200 --for 30s        200 orders a second for half a minute, then the invariants
  orders --data /srv/orders --listen 127.0.0.1:8080
  orders store verify --data /srv/orders  read all of it, and name what is damaged
  orders store backup --data /srv/orders --to /mnt/backups/monday
  orders store restore --data /srv/orders --from stock.backup --reason 'a lost disk'
  orders serve --role payment --store postgres://db/shop --broker kafka://k:9092 \\
         --outside http://firms:7405      one service of many (docs/guide/services.md)
  FACTUM_TOKEN=ada=$(openssl rand -hex 20) orders --listen 0.0.0.0:7400 --host orders.example.org

Speak to it (while it serves):
  curl -s localhost:7400/                                   what is where
  curl -s localhost:7400/users -H 'Content-Type: application/json' \\
       -d '{\"name\":\"Kim\",\"email\":\"kim@example.org\"}'
  curl -s localhost:7400/stock/tea/receive -H 'Content-Type: application/json' -d '{\"qty\":100}'
  curl -s localhost:7400/orders -H 'Content-Type: application/json' -H 'Idempotency-Key: 1' \\
       -d '{\"user_id\":\"<user_id>\",\"items\":[{\"sku\":\"tea\",\"qty\":2,\"price\":500}]}'
  curl -s localhost:7400/orders/<order_id>
  curl -s localhost:7400/orders/<order_id>/history
  curl -s localhost:7400/admin/parked                       what is stuck, and why
  curl -s localhost:7400/metrics

Let it fail (\"card\" of an order: card:declined, or card:flaky, which works at the third try):
  curl -s localhost:7400/faults -H 'Content-Type: application/json' -d '{\"gateway_down\":true}'
  curl -s localhost:7400/admin/services/payment/stop -X POST    orders wait; then .../start

Logs go to standard error; RUST_LOG chooses what is logged (RUST_LOG=info, RUST_LOG=factum=debug).

Exit codes:
  0  done; or stopped by SIGTERM or ctrl-c, in good order
  1  failed, or an invariant is broken, or the data directory is damaged
  2  the command line can't be understood
  130, 143  ended by ctrl-c or SIGTERM before its end: a demo, a load (which shows what came of it
            until then), or at the second one a server that was putting all in good order";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "orders",
    version,
    about = "The order platform: the reference application of Factum",
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES,
    after_help = "`--help` shows examples.",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

impl Cli {
    /// Reads the command line, or says what is wrong with it and ends.
    pub(crate) fn read() -> Self {
        let matches = Self::command().get_matches();
        if let Some(what) = surplus(&matches) {
            let error = Self::command().error(ErrorKind::ArgumentConflict, what);
            error.exit();
        }
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What is asked for; without a command, to serve.
    pub(crate) fn asked(&self) -> Command {
        self.command
            .clone()
            .unwrap_or_else(|| Command::Serve(Serve::default()))
    }
}

/// An option's name here, and how it is written.
type Named = (&'static str, &'static str);

/// Where a server is reached.
const ADDRESSES: &[Named] = &[("listen", "--listen"), ("hosts", "--host")];

/// Who may speak to it.
const TOKENS: &[Named] = &[("tokens", "--token")];

/// How it does its work.
const WORK: &[Named] = &[
    ("retention_bytes", "--retention-bytes"),
    ("snapshot_every", "--snapshot-every"),
];

/// Where its data is.
const DATA: &[Named] = &[("data", "--data")];

/// What it is told of a directory that it finds.
const FOUND: &[Named] = &[("moved", "--moved"), ("new_epoch", "--new-epoch")];

/// What a command is told and has no use for: whoever says it expects something of it.
fn surplus(matches: &ArgMatches) -> Option<String> {
    let is_given = |asked: &ArgMatches, (id, _): &Named| {
        asked.value_source(id) == Some(ValueSource::CommandLine)
    };
    let (command, mut asked) = matches.subcommand()?;
    let all = |what: &str, unused: [&'static [Named]; 4]| {
        let named = unused.map(|of| (format!("`{what}`"), of));
        Vec::from(named)
    };
    let unused = match command {
        "store" => {
            let (what, of) = asked.subcommand()?;
            asked = of;
            let found = if what == "verify" { FOUND } else { &[] };
            all(&format!("store {what}"), [ADDRESSES, TOKENS, WORK, found])
        }
        "demo" | "load" if is_given(asked, &("target", "--target")) => {
            let what = format!("{command} --target");
            all(&what, [ADDRESSES, WORK, DATA, FOUND])
        }
        "demo" | "load" => {
            let mut unused = vec![(format!("`{command}`"), ADDRESSES)];
            // It makes a directory for the run, and finds nothing there.
            if !is_given(asked, &DATA[0]) {
                unused.push((format!("`{command}` without `--data`"), FOUND));
            }
            unused
        }
        "outside" => vec![
            ("`outside`".to_owned(), WORK),
            ("`outside`".to_owned(), FOUND),
        ],
        _ => return None,
    };
    unused.into_iter().find_map(|(what, of)| {
        let (_, option) = of.iter().find(|named| is_given(asked, named))?;
        Some(format!("`{option}` means nothing to {what}"))
    })
}

/// What every command may be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The directory of stores, topics and ledgers, made if it is not there.
    ///
    /// `serve` keeps it in ./factum-data; `demo` and `load` use a temporary one that is
    /// gone afterwards, unless one is named.
    #[arg(long, global = true, value_name = "DIR", verbatim_doc_comment)]
    pub(crate) data: Option<PathBuf>,

    /// The address to listen on; port 0 is any free one.
    ///
    /// Other addresses than loopback need a token. `demo` and `load` take a free port of
    /// their own.
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7400",
        verbatim_doc_comment
    )]
    pub(crate) listen: SocketAddr,

    /// A token that clients have to send: `Authorization: Bearer SECRET`.
    ///
    /// NAME is what the audit record calls who has it. May be given several times, or once with
    /// commas between. With `--target` it is the token to send.
    #[arg(
        long = "token",
        global = true,
        value_name = "[NAME=]SECRET",
        env = "FACTUM_TOKEN",
        hide_env_values = true,
        value_delimiter = ',',
        verbatim_doc_comment
    )]
    pub(crate) tokens: Vec<String>,

    /// Another name that clients call this server by (behind a proxy, say).
    ///
    /// Requests for other names are refused, so that no web page can reach it by a name of
    /// its own. May be given several times.
    #[arg(
        long = "host",
        global = true,
        value_name = "NAME",
        value_parser = host,
        verbatim_doc_comment
    )]
    pub(crate) hosts: Vec<String>,

    /// How many bytes of messages each partition of a topic keeps; at first all.
    ///
    /// It holds until another is given. What a consumer has not read by then is lost to it:
    /// keep more than the longest stop of one brings.
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(RETENTION_BYTES_MIN..),
        verbatim_doc_comment
    )]
    pub(crate) retention_bytes: Option<u64>,

    /// After how many events of an aggregate a snapshot of it is kept; 0: never.
    ///
    /// By default the aggregates say. Fewer make the first command on a long one quicker.
    #[arg(long, global = true, value_name = "EVENTS", verbatim_doc_comment)]
    pub(crate) snapshot_every: Option<u64>,

    /// Say that the data directory was moved here from another disk or machine.
    ///
    /// A start refuses a directory that was copied or moved. Say this once, and only if the
    /// former one is never used again and this is its latest state.
    #[arg(
        long,
        global = true,
        conflicts_with = "new_epoch",
        verbatim_doc_comment
    )]
    pub(crate) moved: bool,

    /// Take the data directory as it is, and begin a new epoch in each of its stores.
    ///
    /// For a copy, an older state, or one that has lost what was acknowledged: whoever has
    /// seen more than is there is told so. Say this once; each start that says it begins
    /// another epoch.
    #[arg(long, global = true, verbatim_doc_comment)]
    pub(crate) new_epoch: bool,
}

impl Options {
    /// Refuses what is said about a data directory where there is none.
    pub(crate) fn are_for_engines(&self) -> Result<(), Failure> {
        let given = [
            ("--data", self.data.is_some()),
            ("--moved", self.moved),
            ("--new-epoch", self.new_epoch),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::with_code(
                2,
                format!("`{option}` is about a data directory, and with `--store` there is none"),
            )),
        }
    }

    /// What the person has said about the data directory.
    pub(crate) fn accept(&self, now: Timestamp) -> Accept {
        if self.new_epoch {
            let reason = "`--new-epoch` at the start".into();
            Accept::NewEpoch { at: now, reason }
        } else if self.moved {
            Accept::Moved
        } else {
            Accept::Nothing
        }
    }
}

/// The secret of a token, which may be written with a name before it.
pub(crate) fn secret(token: &str) -> String {
    match token.split_once('=') {
        Some((_, secret)) if !secret.trim_matches('=').is_empty() => secret.to_owned(),
        _ => token.to_owned(),
    }
}

/// What the program can do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the platform until SIGTERM or ctrl-c (the default)
    ///
    /// All of it on a data directory; or some of its services on PostgreSQL and Kafka, where the
    /// others are other processes (`docs/guide/services.md`).
    #[command(verbatim_doc_comment)]
    Serve(Serve),
    /// Play a scripted tour through the HTTP API, and check the invariants
    ///
    /// A happy order; a declined card; out of stock; a flaky gateway; payment stopped for a
    /// while; poison messages that are mended and given up. Ends with exit code 1 if an
    /// invariant is broken.
    #[command(verbatim_doc_comment)]
    Demo(Demo),
    /// Place many orders, and show how fast they are taken and that nothing breaks
    Load(Load),
    /// Run the pretended firms outside, for services that are several processes
    ///
    /// A card gateway and a notifier with books of their own (`--data`, by default
    /// ./factum-outside). All processes of `payment` and `notification` speak to the same.
    #[command(verbatim_doc_comment)]
    Outside,
    /// Look after a data directory that nobody serves
    #[command(subcommand)]
    Store(Store),
}

/// What can be done with a data directory.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Store {
    /// Read all of it, and name what is damaged
    ///
    /// Reads every page, index, record and message of the directory that `--data` names, and
    /// changes nothing. Ends with exit code 1 if anything is damaged or missing.
    #[command(verbatim_doc_comment)]
    Verify(Verify),
    /// Write each service's store into a file of its own
    ///
    /// The files, `<service>.backup`, hold all of a store as of now, and of the topics what its
    /// groups had not finished. While the directory is served, ask the server:
    /// POST /admin/services/{name}/backup.
    #[command(verbatim_doc_comment)]
    Backup(Backup),
    /// Put backups in the place of what their stores hold now
    ///
    /// Each file says which service it is of; other stores and the topics stay as they are.
    /// Topics that are lost begin again with what the backups have of them.
    /// The restored store begins a new epoch, greater than any that the topics know of it, so
    /// that nobody takes new facts for those that are lost. What it had published behind the
    /// backup stays with whoever has taken it.
    #[command(verbatim_doc_comment)]
    Restore(Restore),
}

/// How to verify.
#[derive(Clone, Debug, Args)]
pub(crate) struct Verify {
    /// How to write what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How to make backups.
#[derive(Clone, Debug, Args)]
pub(crate) struct Backup {
    /// The directory for the files, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,

    /// Only the store of this service; may be given several times
    #[arg(long = "service", value_name = "NAME", value_parser = service)]
    pub(crate) services: Vec<Role>,
}

/// How to restore.
#[derive(Clone, Debug, Args)]
pub(crate) struct Restore {
    /// A backup; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) from: Vec<PathBuf>,

    /// Why, for the record: it is kept with the new epoch
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

fn host(name: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.chars().all(is_part) {
        return Ok(name.to_owned());
    }
    Err("write the name alone, such as `orders.example.org`: no scheme, no port, no path".into())
}

fn service(name: &str) -> Result<Role, String> {
    let role = Role::parse(name).filter(|role| Role::ALL.contains(role));
    role.ok_or_else(|| {
        let known: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
        format!("there is no such service (known: {})", known.join(", "))
    })
}

/// How to play the tour.
#[derive(Clone, Debug, Args)]
pub(crate) struct Demo {
    /// Play it on the platform that serves there, instead of one that is started for it
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,
}

/// How to load.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// How many orders to place per second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,

    /// For how long: 500ms, 30s, 5m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// Load the platform that serves there, instead of one that is started for it
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,

    /// How to write the summary
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How a summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The longest load: nobody means more.
const LOAD_MAX: Duration = Duration::from_hours(24);

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: write it as `500ms`, `30s` or `5m`");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err(wrong()),
    };
    let number = u32::try_from(number).map_err(|_| wrong())?;
    let duration = unit
        .checked_mul(number)
        .filter(|duration| *duration <= LOAD_MAX);
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("`{text}` is not between 1ms and 24h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s",
            "0s",
            "25h",
            "99999999999999999999s",
            "5d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_may_stand_before_and_behind_the_command() {
        let before = Cli::parse_from(["orders", "--listen", "127.0.0.1:1", "demo"]);
        let behind = Cli::parse_from(["orders", "demo", "--listen", "127.0.0.1:1"]);
        assert_eq!(before.options.listen, behind.options.listen);
        assert!(matches!(
            Cli::parse_from(["orders"]).asked(),
            Command::Serve(_)
        ));
    }
}
