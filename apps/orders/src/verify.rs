//! `store verify`: reading a data directory whole, and naming what is damaged.

use std::path::PathBuf;

use factum::{Sqlite, Verified};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    cli::{DATA_DEFAULT, Format, Options, Verify},
    failure::Failure,
    screen::Screen,
};

/// Verifies the directory, and fails if anything is damaged. Progress goes to standard error, what was found to
/// standard output.
pub(crate) fn run(options: &Options, how: &Verify) -> Result<(), Failure> {
    let data = options
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
    let style = ProgressStyle::with_template("{elapsed:>5} {wide_bar} {pos}/{len} {msg}");
    let bar = ProgressBar::new(0);
    bar.set_style(style.map_err(|error| Failure::while_("the progress line", error))?);
    let verified = Sqlite::verify(&data, |progress| {
        bar.set_length(progress.of);
        bar.set_position(progress.done);
        bar.set_message(progress.what.clone());
    });
    bar.finish_and_clear();
    let verified = verified
        .map_err(|error| Failure::while_(format!("can't verify `{}`", data.display()), error))?;
    match how.format {
        Format::Text => tell(&verified),
        Format::Json => Screen::say(&as_json(&verified).to_string()),
    }
    match verified.damages.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!(
            "`{}` is damaged in {count} places: restore the newest backup, or take what is whole with SQLite's \
             `.recover`",
            verified.file.display()
        ))),
    }
}

fn tell(verified: &Verified) {
    for damage in &verified.damages {
        Screen::say(&format!("damaged: {damage}"));
    }
    for store in &verified.stores {
        Screen::say(&format!(
            "store {} was read up to {}, in epoch {}",
            store.service, store.head, store.epoch
        ));
    }
    Screen::say(&format!("topics hold {} messages", verified.messages));
    if verified.damages.is_empty() {
        Screen::say(&format!("`{}` is whole", verified.file.display()));
    }
}

fn as_json(verified: &Verified) -> serde_json::Value {
    let stores = verified.stores.iter().map(|store| {
        json!({
            "service": store.service.as_str(),
            "epoch": store.epoch.0,
            "head": store.head.to_string(),
            "records": store.head.position.0,
        })
    });
    json!({
        "file": verified.file.display().to_string(),
        "stores": stores.collect::<Vec<_>>(),
        "messages": verified.messages,
        "damages": verified.damages,
    })
}
