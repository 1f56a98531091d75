//! The scripts that the server runs, each whole and alone: what must not come apart is one of them.
//!
//! Each says at its top what it is given. All keys of a call are of one projection, and so in one slot of a cluster.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));)*
    };
}

scripts! {
    /// Begins a generation.
    MADE = "made";
    /// Prepares a view of a generation.
    ENSURE = "ensure";
    /// Gives a generation a new owner.
    CLAIM = "claim";
    /// Writes rows and moves the checkpoint.
    APPLY = "apply";
    /// Walks along an index.
    WALK = "walk";
    /// Forgets a generation of which something was lost.
    DISCARD = "discard";
    /// Drops the rows of a generation that readers don't see.
    DROP = "drop";
    /// Forgets owner and checkpoint of a generation.
    FORGET = "forget";
    /// Drops a key that nobody knows.
    SWEEP = "sweep";
}
