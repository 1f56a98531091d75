//! Signals: how a person or a supervisor tells the program to end, and to end at once.

use std::fmt;

use crate::failure::Failure;

/// A signal to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-c.
    Interrupt,
    /// What supervisors send.
    #[cfg(unix)]
    Terminate,
}

impl Signal {
    /// The exit code of a program that it ended at once, as shells have it: 128 and its number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            #[cfg(unix)]
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "ctrl-c",
            #[cfg(unix)]
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The signals to end that come. One that comes while nobody waits is not lost.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// What `run` comes to, unless it is interrupted: then what it has begun is dropped, temporary data included.
    pub(crate) async fn or<T>(
        &mut self,
        run: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            ended = run => ended,
            signal = self.next() => {
                Err(Failure::with_code(signal.code(), format!("interrupted by {signal}")))
            }
        }
    }
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|error| Failure::while_("can't wait for signals", error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The next one. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Listens from the first wait on.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// The next one.
    #[expect(clippy::unused_self, reason = "elsewhere it is needed")]
    pub(crate) async fn next(&mut self) -> Signal {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!("can't wait for ctrl-c: {error}");
        }
        Signal::Interrupt
    }
}
