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
    let failed = |error: factum::Error| {
        Failure::while_(format!("can't back up `{}`", data.display()), error)
    };
    let unopened = |error: factum::Error| {
        let what = format!(
            "can't back up `{}` (while it is served, the server makes backups: POST /admin/services/{{name}}/backup)",
            data.display()
        );
        Failure::while_(what, error)
    };
    let roles = match &how.services[..] {
        [] => &Role::ALL[..],
        chosen => chosen,
    };
    // Opening makes what is not there, and a backup of nothing helps nobody.
    let there = Sqlite::services(&data).map_err(unopened)?;
    for role in roles {
        if !there.iter().any(|service| service.as_str() == role.name()) {
            let what = format!("`{}` has no store of service `{role}`", data.display());
            return Err(Failure::new(what));
        }
        let file = file_of(how, *role);
        if file.exists() {
            let what = format!(
                "there is a backup `{}` already: choose another directory",
                file.display()
            );
            return Err(Failure::new(what));
        }
    }
    let mut file = SqliteOptions::new(&data);
    file.accept = options.accept(system_env().now());
    let sqlite = Sqlite::open(&file).map_err(unopened)?;
    std::fs::create_dir_all(&how.to)
        .map_err(|error| Failure::while_(format!("can't make `{}`", how.to.display()), error))?;
    for role in roles {
        let file = file_of(how, *role);
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

/// The file for the backup of a service's store.
fn file_of(how: &cli::Backup, role: Role) -> PathBuf {
    how.to.join(format!("{role}.backup"))
}

/// Puts backups in the place of what their stores hold.
pub(crate) fn restore(options: &Options, how: &cli::Restore) -> Result<(), Failure> {
    let data = data(options);
    // All or none: half of them would be two times in one directory.
    Sqlite::check_restore(&how.from, &data).map_err(|error| {
        Failure::while_(
            format!("nothing was restored into `{}`", data.display()),
            error,
        )
    })?;
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
