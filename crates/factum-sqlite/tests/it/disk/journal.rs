//! The journal of what reached a disk, and what a power cut leaves of it.
//!
//! A file's bytes are safe once they were followed by a sync of that file; a file's name, by one of its directory.
//! Of the rest each write may have reached the disk or not, whatever came before or after it, and one may have done so up
//! to some sector. The `-shm` file lives in memory and is made anew.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::Dice;

const SECTOR_BYTES: usize = 512;

/// One thing that was done.
#[derive(Debug)]
pub(super) enum Entry {
    Write(PathBuf, usize, Vec<u8>),
    Truncate(PathBuf, usize),
    Sync(PathBuf),
    SyncDirectory(PathBuf),
    Create(PathBuf),
    Unlink(PathBuf),
}

/// Reads a journal. A kill may have cut its last entry.
pub(super) fn read(path: &Path) -> Vec<Entry> {
    let bytes = fs::read(path).expect("there is a journal");
    let mut rest = &bytes[..];
    let mut entries = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<21>() {
        let number = |from: usize, to: usize| {
            let mut wide = [0; 8];
            wide[..to - from].copy_from_slice(&head[from..to]);
            usize::try_from(u64::from_le_bytes(wide)).expect("it was a length")
        };
        let (of, offset, length) = (number(1, 5), number(5, 13), number(13, 21));
        if behind.len() < of + length {
            break;
        }
        let path = PathBuf::from(String::from_utf8_lossy(&behind[..of]).into_owned());
        let data = behind[of..of + length].to_vec();
        rest = &behind[of + length..];
        entries.push(match head[0] {
            b'w' => Entry::Write(path, offset, data),
            b't' => Entry::Truncate(path, offset),
            b's' => Entry::Sync(path),
            b'd' => Entry::SyncDirectory(path),
            b'c' => Entry::Create(path),
            b'u' => Entry::Unlink(path),
            kind => panic!("the journal has an entry of kind {kind}"),
        });
    }
    entries
}

/// A file as the disk and as the system's memory have it.
#[derive(Clone, Debug, Default)]
struct File {
    safe: Vec<u8>,
    /// What was not synced yet: offset and data; without data, a new length.
    pending: Vec<(usize, Option<Vec<u8>>)>,
    /// Whether its name is on the disk, and in memory.
    is_named: (bool, bool),
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(BTreeMap<PathBuf, File>);

impl Disk {
    /// Does what was done.
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Write(path, offset, data) => {
                self.file(path).pending.push((*offset, Some(data.clone())));
            }
            Entry::Truncate(path, length) => self.file(path).pending.push((*length, None)),
            Entry::Sync(path) => {
                let file = self.file(path);
                for (offset, data) in std::mem::take(&mut file.pending) {
                    change(&mut file.safe, offset, data.as_deref());
                }
            }
            Entry::SyncDirectory(path) => {
                for (of, file) in &mut self.0 {
                    if of.parent() == Some(path) {
                        file.is_named.0 = file.is_named.1;
                    }
                }
            }
            Entry::Create(path) => {
                let before = self.file(path).is_named.0;
                let is_named = (before, true);
                self.0.insert(
                    path.clone(),
                    File {
                        is_named,
                        ..File::default()
                    },
                );
            }
            Entry::Unlink(path) => self.file(path).is_named.1 = false,
        }
    }

    fn file(&mut self, path: &Path) -> &mut File {
        self.0.entry(path.to_path_buf()).or_default()
    }

    /// What a power cut leaves at this moment.
    pub(super) fn cut(&self, dice: &mut Dice) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut left = BTreeMap::new();
        // Sometimes all or nothing of what was not synced, else each for itself.
        let mood = dice.below(4);
        let reached = |dice: &mut Dice| match mood {
            0 => false,
            1 => true,
            _ => dice.below(2) == 0,
        };
        for (path, file) in &self.0 {
            let is_named = match file.is_named {
                (true, true) => true,
                (false, false) => false,
                _ => reached(dice),
            };
            if !is_named || path.to_string_lossy().ends_with("-shm") {
                continue;
            }
            let mut bytes = file.safe.clone();
            for (offset, data) in &file.pending {
                if !reached(dice) {
                    continue;
                }
                let mut data = data.as_deref();
                if let Some(whole) = data
                    && mood == 3
                    && dice.below(4) == 0
                {
                    // A sector of the disk is written whole or not at all.
                    let end = offset + whole.len();
                    let sectors = (end - offset) / SECTOR_BYTES;
                    let kept = dice.index(sectors + 1) * SECTOR_BYTES;
                    let kept = kept.saturating_sub(offset % SECTOR_BYTES).min(whole.len());
                    data = Some(&whole[..kept]);
                }
                change(&mut bytes, *offset, data);
            }
            left.insert(path.clone(), bytes);
        }
        left
    }
}

fn change(bytes: &mut Vec<u8>, offset: usize, data: Option<&[u8]>) {
    match data {
        None => bytes.resize(offset, 0),
        Some(data) => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            bytes[offset..offset + data.len()].copy_from_slice(data);
        }
    }
}
