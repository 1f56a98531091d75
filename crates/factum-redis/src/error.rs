//! Redis' errors, sorted by what the caller should do about them.

use factum_core::Error;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What was being done, as far as an answer that didn't come is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing<'a> {
    /// Nothing that would change anything: it may be asked again.
    Reading(&'a str),
    /// A change that does no harm if it is made twice, and is made again by whoever needs it.
    Preparing(&'a str),
    /// A change of which nobody knows whether it was made when there is no answer.
    Writing(&'a str),
}

impl<'a> Doing<'a> {
    fn what(self) -> &'a str {
        match self {
            Self::Reading(what) | Self::Preparing(what) | Self::Writing(what) => what,
        }
    }
}

/// `error`, met while doing something, as the port's error.
pub(crate) fn sorted(doing: Doing<'_>, error: RedisError) -> Error {
    let what = doing.what();
    let sorted = match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => match doing {
            Doing::Writing(_) => Error::unknown(format!(
                "{what}: Redis did not answer, so nobody knows whether it was done"
            )),
            _ => Error::transient(format!("{what}: Redis did not answer")),
        },
        ErrorKind::Server(kind) => return server(what, kind, error),
        ErrorKind::Extension => return told(what, error),
        ErrorKind::AuthenticationFailed => {
            Error::fatal(format!("{what}: Redis refuses the user or the password"))
        }
        _ => Error::fatal(format!("{what}: Redis answers what was not expected")),
    };
    sorted.caused_by(error)
}

fn server(what: &str, kind: ServerErrorKind, error: RedisError) -> Error {
    let transient = |why: &str| Error::transient(format!("{what}: {why}"));
    let fatal = |why: &str| Error::fatal(format!("{what}: {why}"));
    let sorted = match kind {
        ServerErrorKind::BusyLoading => transient("the server is still reading its files"),
        ServerErrorKind::MasterDown => transient("the server is a replica and has lost its master"),
        ServerErrorKind::ReadOnly => transient("the server only reads: it is a replica"),
        ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown | ServerErrorKind::Ask => {
            transient("the cluster is being rearranged, or is not whole")
        }
        ServerErrorKind::Moved => fatal(
            "the keys are on another node of the cluster: the address must be that of their node, or of a proxy",
        ),
        ServerErrorKind::NoPerm => fatal(
            "the user may not do that: it needs `+@all -@admin -@dangerous +info`, or less, for the keys of the prefix",
        ),
        _ => fatal("the server refuses it"),
    };
    sorted.caused_by(error)
}

/// Errors that the client library knows by their code only.
fn told(what: &str, error: RedisError) -> Error {
    let transient = |why: &str| Error::transient(format!("{what}: {why}"));
    let fatal = |why: &str| Error::fatal(format!("{what}: {why}"));
    let sorted = match error.code().unwrap_or_default() {
        "OOM" => transient(
            "the server has no memory left (`maxmemory`); give it more, and it goes on by itself",
        ),
        "BUSY" => transient("the server is busy with somebody's script"),
        "MISCONF" => {
            transient("the server can't write its files and takes nothing; its log says why")
        }
        "NOREPLICAS" => transient("too few replicas are connected to the server"),
        "UNKILLABLE" | "UNBLOCKED" => transient("the server was interrupted"),
        "NOAUTH" => fatal(
            "the server wants a password; the address is then `redis://user:password@host`, or `redis://:password@host`",
        ),
        "WRONGPASS" => fatal("the server refuses the user or the password"),
        "WRONGTYPE" => {
            fatal("a key of ours holds something that is not ours: somebody else wrote it")
        }
        _ => fatal("the server refuses it"),
    };
    sorted.caused_by(error)
}
