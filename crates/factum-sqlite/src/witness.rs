//! The witness: a small file beside the data file that says how far the disk has come.
//!
//! SQLite takes a cut or flipped frame of its write-ahead log for the log's end, and a missing log for an empty one:
//! what was committed behind is gone, and nothing tells. So after each group's sync, and before anybody hears of it,
//! the writer notes here what the file then held, and a start compares. The file may be ahead of its witness, never
//! behind.
//!
//! *What is compared.* The sum of all heads of logs and of a sequence that grows with the groups that move no
//! head grows with every group, so that each one that is lost lowers it. Beside it stand the heads of the stores that
//! moved last, with the checksums of their records, for a message that a person can use and to tell another log of
//! the same length. Device and inode of the data file tell a copy from the original.
//!
//! *What it costs.* One write of some hundred bytes over what is there already, without a sync: 2 microseconds a group.
//! What a crash can leave of it: when the process is killed, the system has the whole write, because it lies within
//! one page of memory. When the power fails, the disk has this write or one before it. The data file was synced
//! before the write began, so it is never behind either of them. If a write is torn, its checksum shows it, and the
//! other slot has the one before it.
//!
//! What it can't tell: see `docs/guide/operating.md`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use factum_core::{At, Epoch, Position, StoreId};
use tracing::warn;
use uuid::Uuid;

use crate::state::StoreState;

/// The name of the witness within the data directory.
pub(crate) const WITNESS_NAME: &str = "factum.witness";

const MAGIC: &[u8; 8] = b"FACTWIT1";

/// The witness has two slots, which are written in turn. Each has a page of the disk for itself.
const SLOT_BYTES: usize = 4_096;

/// How many heads are noted, those that moved last: at 44 bytes each, they fit into a slot.
const HEADS_MAX: usize = 64;

/// What identifies a file on this machine: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Place {
    /// That of the file at `path`. Where the system has no such numbers, all files have the same.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            Ok(Self {
                device: metadata.dev(),
                inode: metadata.ino(),
            })
        }
        #[cfg(not(unix))]
        {
            drop(metadata);
            Ok(Self {
                device: 0,
                inode: 0,
            })
        }
    }
}

/// Where the log of one store ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreHead {
    pub(crate) id: StoreId,
    /// The epoch of the store. Its last record may be of an earlier one.
    pub(crate) epoch: Epoch,
    pub(crate) head: At,
    /// The checksum of the record at the head; 0 without one.
    pub(crate) checksum: u32,
}

/// What the file held at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Testimony {
    /// How often the witness was written: the greater of two is the newer one.
    pub(crate) count: u64,
    pub(crate) place: Place,
    /// The sum of the positions of all heads and of the file's sequence.
    pub(crate) total: u64,
    /// The heads of the stores that moved last; the last one is the newest.
    pub(crate) heads: Vec<StoreHead>,
}

impl Testimony {
    /// Notes a head in place of what was known of its store.
    pub(crate) fn note(&mut self, head: StoreHead) {
        self.heads.retain(|known| known.id != head.id);
        if self.heads.len() == HEADS_MAX {
            self.heads.remove(0);
        }
        self.heads.push(head);
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(MAGIC);
        let numbers = [
            self.count,
            self.place.device,
            self.place.inode,
            self.total,
            self.heads.len() as u64,
        ];
        for number in numbers {
            into.extend_from_slice(&number.to_le_bytes());
        }
        for head in &self.heads {
            into.extend_from_slice(head.id.0.as_bytes());
            for number in [head.epoch.0, head.head.epoch.0, head.head.position.0] {
                into.extend_from_slice(&number.to_le_bytes());
            }
            into.extend_from_slice(&head.checksum.to_le_bytes());
        }
        let checksum = crc32fast::hash(into);
        into.extend_from_slice(&checksum.to_le_bytes());
    }

    /// What a slot holds; `None` when it was never written, or not whole.
    fn decode(slot: &[u8]) -> Option<Self> {
        let mut rest = slot.strip_prefix(MAGIC)?;
        let count = number(&mut rest)?;
        let place = Place {
            device: number(&mut rest)?,
            inode: number(&mut rest)?,
        };
        let total = number(&mut rest)?;
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let heads = (0..length.min(HEADS_MAX))
            .map(|_| {
                let (id, behind) = rest.split_first_chunk::<16>()?;
                rest = behind;
                let id = StoreId(Uuid::from_bytes(*id));
                let epoch = Epoch(number(&mut rest)?);
                let head = At {
                    epoch: Epoch(number(&mut rest)?),
                    position: Position(number(&mut rest)?),
                };
                let checksum = short(&mut rest)?;
                Some(StoreHead {
                    id,
                    epoch,
                    head,
                    checksum,
                })
            })
            .collect::<Option<_>>()?;
        let covered = slot.len() - rest.len();
        let checksum = short(&mut rest)?;
        (checksum == crc32fast::hash(&slot[..covered])).then_some(Self {
            count,
            place,
            total,
            heads,
        })
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*bytes))
}

fn short(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*bytes))
}

/// What is found where a witness should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is none, or one that nothing was ever noted in.
    Nothing,
    /// There is one, and it can't be read.
    Damaged,
    /// What it says.
    Testimony(Testimony),
}

/// Reads the witness at `path`.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
        Ok(file) => file.take(2 * SLOT_BYTES as u64).read_to_end(&mut bytes)?,
    };
    // Its first testimony is written before the data file says that it has a witness.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Found::Nothing);
    }
    let slots = bytes.chunks(SLOT_BYTES).filter_map(Testimony::decode);
    Ok(slots
        .max_by_key(|testimony| testimony.count)
        .map_or(Found::Damaged, Found::Testimony))
}

/// The writer's handle of the witness.
#[derive(Debug)]
pub(crate) struct Witness {
    file: fs::File,
    path: PathBuf,
    pub(crate) testimony: Testimony,
    buffer: Vec<u8>,
    /// Whether the last write failed, so that it is told once.
    failed: bool,
}

impl Witness {
    /// Writes `testimony` into the witness at `path`, or makes it, and waits until the disk has it.
    pub(crate) fn begin(path: &Path, testimony: Testimony) -> io::Result<Self> {
        let mut options = fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let whole = 2 * SLOT_BYTES as u64;
        if file.metadata()?.len() != whole {
            // Written, and not left as a hole: a later write must need no room on the disk.
            write_at(&file, &[0; 2 * SLOT_BYTES], 0)?;
            file.set_len(whole)?;
        }
        let mut witness = Self {
            file,
            path: path.to_path_buf(),
            testimony,
            buffer: Vec::with_capacity(SLOT_BYTES),
            failed: false,
        };
        // Both slots, so that what an earlier life has left says nothing any more.
        for _ in 0..2 {
            witness.try_write()?;
        }
        witness.file.sync_all()?;
        if let Some(directory) = path.parent() {
            fs::File::open(directory)?.sync_all()?;
        }
        Ok(witness)
    }

    /// Notes what a group that is on the disk has moved: the heads of `stores`, and the file's sequence by `counted`.
    pub(crate) fn testify(&mut self, stores: &mut BTreeMap<i64, StoreState>, counted: u64) {
        let mut moved = counted > 0;
        self.testimony.total += counted;
        for state in stores.values_mut() {
            let (epoch, head) = (state.epoch(), state.head);
            if state.witnessed == (epoch, head) {
                continue;
            }
            moved = true;
            self.testimony.total += head.position.0 - state.witnessed.1.position.0;
            state.witnessed = (epoch, head);
            self.testimony.note(StoreHead {
                id: state.identity.id,
                epoch,
                head,
                checksum: state.head_checksum,
            });
        }
        if moved {
            self.write();
        }
    }

    /// Writes what is known now, without a sync. A failure is told, and harms nobody: the data file is ahead of its
    /// witness then, and the next write makes up for it.
    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                warn!(
                    "`{}` can't be written: until it can, a start does not notice a shortened log: {error}",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }

    /// Waits until the disk has what was written: at the end of a life.
    pub(crate) fn finish(&mut self) {
        if let Err(error) = self.file.sync_data() {
            warn!("failed to sync `{}`: {error}", self.path.display());
        }
    }

    fn try_write(&mut self) -> io::Result<()> {
        self.testimony.count += 1;
        self.testimony.encode(&mut self.buffer);
        let slot = (self.testimony.count % 2) * SLOT_BYTES as u64;
        write_at(&self.file, &self.buffer, slot)
    }
}

#[cfg(unix)]
fn write_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn testimony(count: u64, heads: usize) -> Testimony {
        let mut testimony = Testimony {
            count,
            place: Place {
                device: 7,
                inode: 9,
            },
            total: 100 + count,
            heads: Vec::new(),
        };
        for number in 0..heads as u64 {
            testimony.note(StoreHead {
                id: StoreId(Uuid::from_u128(number.into())),
                epoch: Epoch(2),
                head: At::new(1, number),
                checksum: 4,
            });
        }
        testimony
    }

    #[test]
    fn what_is_noted_is_read_again_and_fits_into_a_slot() {
        for heads in [0, 1, HEADS_MAX, HEADS_MAX + 3] {
            let (noted, mut bytes) = (testimony(3, heads), Vec::new());
            noted.encode(&mut bytes);
            assert!(bytes.len() <= SLOT_BYTES);
            assert_eq!(Testimony::decode(&bytes), Some(noted));
        }
        let newest = testimony(3, HEADS_MAX + 3).heads.pop().unwrap();
        assert_eq!(newest.head.position, Position(HEADS_MAX as u64 + 2));
    }

    #[test]
    fn a_slot_that_was_changed_anywhere_says_nothing() {
        let mut bytes = Vec::new();
        testimony(3, 2).encode(&mut bytes);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(Testimony::decode(&changed), None, "byte {index}");
            assert_eq!(Testimony::decode(&bytes[..index]), None, "cut at {index}");
        }
    }

    #[test]
    fn a_torn_write_leaves_the_one_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(WITNESS_NAME);
        assert_eq!(read(&path).unwrap(), Found::Nothing);
        let mut witness = Witness::begin(&path, testimony(0, 1)).unwrap();
        witness.testimony.total = 1_000;
        witness.write();
        witness.testimony.total = 2_000;
        witness.write();
        let total = |found| match found {
            Found::Testimony(testimony) => testimony.total,
            other => panic!("{other:?}"),
        };
        assert_eq!(total(read(&path).unwrap()), 2_000);
        let slot = (witness.testimony.count % 2) * SLOT_BYTES as u64;
        write_at(&witness.file, &[1; 20], slot + 20).unwrap();
        assert_eq!(total(read(&path).unwrap()), 1_000);
        write_at(&witness.file, &[1; 20], SLOT_BYTES as u64 - slot + 20).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Damaged);
    }
}
