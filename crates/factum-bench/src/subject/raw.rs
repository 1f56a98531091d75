//! A raw file: the encoded event behind a small header, one write and one fdatasync for all that has gathered.
//!
//! The least that durable commands could cost on this disk: nothing is checked, nothing can be found again.

use std::{fs::OpenOptions, io::Write as _, path::Path, sync::Arc};

use async_trait::async_trait;
use factum::Event as _;

use super::{CarriesOut, Opened, Subject, batching::Batching};
use crate::{failure::Failure, workload::Step};

/// The raw file.
pub(super) struct RawFile;

struct Open(Batching<Vec<u8>>);

#[async_trait]
impl Subject for RawFile {
    fn name(&self) -> &'static str {
        "raw file"
    }

    async fn open(&self, directory: &Path) -> Result<Box<dyn Opened>, Failure> {
        let path = directory.join("raw");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file =
            file.map_err(|error| Failure::while_(format!("making `{}`", path.display()), error))?;
        let mut bytes = Vec::new();
        let batching = Batching::start(move |group| {
            bytes.clear();
            for writing in group {
                let event: &Vec<u8> = &writing.what;
                let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(event);
            }
            file.write_all(&bytes)
                .and_then(|()| file.sync_data())
                .map_err(|error| error.to_string())
        })?;
        Ok(Box::new(Arc::new(Open(batching))))
    }
}

impl CarriesOut for Open {
    async fn carry_out(&self, _: &str, step: Step, number: u64) -> Result<(), Failure> {
        let event = step
            .event(number)
            .encode()
            .map_err(|error| Failure::while_("encoding an event", error))?;
        self.0.write(event).await
    }

    async fn close(&self) {
        self.0.close();
    }
}
