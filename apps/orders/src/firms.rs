//! `outside`: the pretended firms as a server of their own, which all processes of a platform speak to.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use factum_admin::web;
use orders::outside::{self, Outside};
use tokio_util::sync::CancellationToken;

use crate::{cli::Options, failure::Failure, screen::Screen, server, signals::Signals};

/// Where they keep their books, unless told otherwise.
const BOOKS: &str = "factum-outside";

/// Serves the firms until SIGTERM or ctrl-c.
pub(crate) async fn serve(options: &Options) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let books = options.data.clone().unwrap_or_else(|| PathBuf::from(BOOKS));
    let (listener, address, tokens) = server::listen(options).await?;
    let _lock = lock(&books)?;
    let firms = Outside::open(&books).map_err(|error| {
        Failure::while_(
            format!("can't open the books in `{}`", books.display()),
            error,
        )
    })?;
    let access = web::Access::new(address, tokens, options.hosts.clone(), vec!["/health"]);
    let router = web::guarded(outside::router(firms), access);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(web::serve(listener, router, stop.clone()));
    Screen::say(&format!(
        "The firms outside are at http://{address}, their books in {}",
        books.display()
    ));
    signals.next().await;
    stop.cancel();
    serving
        .await
        .map_err(|error| Failure::while_("serving", error))?
        .map_err(|error| Failure::while_("serving", error))?;
    Screen::say("stopped");
    Ok(())
}

/// The books are one process's: two would each enter what they have not seen of the other.
fn lock(books: &Path) -> Result<File, Failure> {
    let path = books.join("lock");
    let failed =
        |error: std::io::Error| Failure::while_(format!("can't lock `{}`", path.display()), error);
    std::fs::create_dir_all(books).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
            "the books in `{}` are in use by another process: speak to that one, or name another directory by `--data`",
            books.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
