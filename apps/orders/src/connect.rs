//! The engines by their addresses: the one place that knows all of them. They are the cargo feature `engines`.

#[cfg(feature = "engines")]
mod engines;
#[cfg(feature = "engines")]
pub(crate) use engines::part;

use factum::Error;

use crate::failure::Failure;

/// Why there is nothing to run on.
#[derive(Debug)]
pub(crate) enum NotConnected {
    /// An engine doesn't answer, and may do so soon.
    Yet(Error),
    /// It will not do.
    Failed(Failure),
}

impl From<Error> for NotConnected {
    fn from(error: Error) -> Self {
        if error.is_transient() {
            Self::Yet(error)
        } else {
            Self::Failed(Failure::while_("can't start", error))
        }
    }
}

/// What a process of some services runs on: nothing, without the engines.
#[cfg(not(feature = "engines"))]
#[expect(
    clippy::unused_async,
    reason = "with the engines there is something to wait for"
)]
pub(crate) async fn part(
    engines: &crate::cli::Engines,
    _: &factum::Env,
    _: &[String],
) -> Result<orders::platform::Part, NotConnected> {
    let scheme = |url: &str| url.split("://").next().unwrap_or_default().to_owned();
    Err(NotConnected::Failed(Failure::new(format!(
        "this program was built without the engines behind `{}://` and `{}://`: build it with `cargo build --release \
         -p orders --features engines` (it takes make and a C++ compiler)",
        scheme(&engines.store.0),
        scheme(&engines.broker.0)
    ))))
}
