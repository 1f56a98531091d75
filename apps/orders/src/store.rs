//! `store`: backups of a data directory that nobody serves, and putting them back.

use std::path::PathBuf;

use factum::{Accept, Epoch, Restore, ServiceName, Sqlite, SqliteOptions, system_env};
use orders::platform::Role;

use crate::{
    cli::{self, DATA_DEFAULT, Options},
    failure::Failure,
    screen::Screen,
};

fn data(options: &Options) -> PathBuf {
    let data = options.data.clone();
    data.unwrap_or_else(|| PathBuf::from(DATA_DEFAULT))
}

/// Writes the stores into files of their own.
pub(crate) async fn backup(options: &Options, how: &cli::Backup) -> Result<(), Failure> {
    let data = data(options);
    // Opening makes what is not there, and a backup of nothing helps nobody.
    if !data.is_dir() {
        let what = format!("there is no data directory `{}`", data.display());
        return Err(Failure::new(what));
    }
    let failed = |error: factum::Error| {
        let what = format!(
            "can't back up `{}` (while it is served, the server makes backups: POST /admin/services/{{name}}/backup)",
            data.display()
        );
        Failure::while_(what, error)
    };
    let mut file = SqliteOptions::new(&data);
    file.accept = options.accept(system_env().now());
    let sqlite = Sqlite::open(&file).map_err(failed)?;
    std::fs::create_dir_all(&how.to)
        .map_err(|error| Failure::while_(format!("can't make `{}`", how.to.display()), error))?;
    let roles = match &how.services[..] {
        [] => &Role::ALL[..],
        chosen => chosen,
    };
    for role in roles {
        let file = how.to.join(format!("{role}.backup"));
        let service = ServiceName::of(role.name());
        let store = sqlite
            .store(&service, &system_env())
            .await
            .map_err(failed)?;
        store.backup(&file).await.map_err(failed)?;
        Screen::say(&format!("{role}: `{}`", file.display()));
    }
    sqlite.close().await;
    Ok(())
}

/// Puts backups in the place of what their stores hold.
pub(crate) fn restore(options: &Options, how: &cli::Restore) -> Result<(), Failure> {
    let data = data(options);
    let mut into = SqliteOptions::new(&data);
    into.accept = options.accept(system_env().now());
    for file in &how.from {
        let restore = Restore {
            at: system_env().now(),
            epoch_min: Epoch(0),
            reason: how.reason.clone(),
        };
        let restored = Sqlite::restore(file, &into, &restore);
        // What was said about the directory is said once.
        into.accept = Accept::Nothing;
        let restored = restored.map_err(|error| {
            let (file, data) = (file.display(), data.display());
            Failure::while_(format!("can't restore `{file}` into `{data}`"), error)
        })?;
        Screen::say(&format!(
            "{}: restored from `{}`, in epoch {}",
            restored.service,
            file.display(),
            restored.epoch
        ));
    }
    Ok(())
}
