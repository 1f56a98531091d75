//! The write-ahead log as bytes: whether it ends where it was meant to.
//!
//! SQLite takes the first frame whose checksum does not fit for the log's end. After a kill or a power cut that is
//! right: the last group had not been synced, and its frames may lie there in any state. But each group is synced
//! before the next one is written, so that at most one can be in that state. Two whole commits behind the first bad
//! frame mean that the bad frame was whole once. This is known without the witness, which a power cut may have put back.
//!
//! Nothing is mended here, and nothing but the checksums of frames is looked at.

use std::{
    fs,
    io::{self, BufReader, ErrorKind, Read},
    path::Path,
};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The first bytes of a log; the last bit says in which order of bytes words are summed up.
const MAGIC: u32 = 0x377f_0682;

/// What a look at the log has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wal {
    /// How many frames fit, one behind another.
    pub(crate) frames: u64,
    /// How many of them are up to the last commit.
    pub(crate) committed: u64,
    /// How many other frames of the same log are behind them.
    pub(crate) tail: u64,
    /// How many commits behind the first bad frame fit to the frame before them: more than one was synced once.
    pub(crate) stranded: u64,
    /// Whether it has a header that can't be read, and so says nothing.
    pub(crate) is_headless: bool,
}

impl Wal {
    /// Whether something that was synced can't be read any more.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_headless || self.stranded > 1
    }

    /// How many frames of it are of no whole commit: a start takes the log as if they were not there.
    pub(crate) fn cut(&self) -> u64 {
        self.frames - self.committed + self.tail
    }
}

/// Looks through the log at `path`. One that is not there is empty.
pub(crate) fn examine(path: &Path) -> io::Result<Wal> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Wal::default()),
        other => other?,
    };
    examine_log(BufReader::with_capacity(1 << 18, file))
}

/// The running sum of a log: two words.
type Sum = (u32, u32);

fn examine_log(mut log: impl Read) -> io::Result<Wal> {
    let mut wal = Wal::default();
    let mut header = [0; HEADER_BYTES];
    if !fill(&mut log, &mut header)? || header == [0; HEADER_BYTES] {
        return Ok(wal);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let page = usize::try_from(word(&header, 8)).unwrap_or(0);
    let mut sum = add((0, 0), &header[..24], big_endian);
    let fits = word(&header, 0) & !1 == MAGIC
        && page.is_power_of_two()
        && (512..=65_536).contains(&page)
        && sum == (word(&header, 24), word(&header, 28));
    if !fits {
        wal.is_headless = true;
        return Ok(wal);
    }
    let salts = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER_BYTES + page];
    let mut is_whole = true;
    while fill(&mut log, &mut frame)? {
        let (head, data) = frame.split_at(FRAME_HEADER_BYTES);
        let stored = (word(head, 16), word(head, 20));
        let summed = add(add(sum, &head[..8], big_endian), data, big_endian);
        let of_this_log = &head[8..16] == salts;
        let fits = of_this_log && word(head, 0) != 0 && summed == stored;
        let is_commit = word(head, 4) != 0;
        is_whole &= fits;
        if is_whole {
            wal.frames += 1;
            if is_commit {
                wal.committed = wal.frames;
            }
        } else {
            wal.tail += u64::from(of_this_log);
            wal.stranded += u64::from(fits && is_commit);
        }
        // Behind a bad frame too, the next one is held against what the one before it says of itself.
        sum = stored;
    }
    Ok(wal)
}

/// Fills `into`; `false` when the log ends before it is full.
fn fill(log: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(into) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes are four");
    u32::from_be_bytes(bytes)
}

fn add(sum: Sum, bytes: &[u8], big_endian: bool) -> Sum {
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    let read = |word: [u8; 4]| {
        if big_endian {
            u32::from_be_bytes(word)
        } else {
            u32::from_le_bytes(word)
        }
    };
    pairs.iter().fold(sum, |(first, second), [left, right]| {
        let first = first.wrapping_add(read(*left)).wrapping_add(second);
        (first, second.wrapping_add(read(*right)).wrapping_add(first))
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// The log of five transactions as SQLite writes it.
    fn log() -> (Vec<u8>, u64) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (n INTEGER);")
            .unwrap();
        for number in 0..4 {
            connection
                .execute("INSERT INTO a VALUES (?1)", [number])
                .unwrap();
        }
        let frames = connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                row.get::<_, i64>(1)
            })
            .unwrap();
        let bytes = fs::read(directory.path().join("a.db-wal")).unwrap();
        (bytes, frames.cast_unsigned())
    }

    #[test]
    fn a_whole_log_is_whole() {
        let (bytes, frames) = log();
        let wal = examine_log(&bytes[..]).unwrap();
        assert_eq!((wal.frames, wal.committed), (frames, frames));
        assert!(!wal.is_damaged() && wal.cut() == 0);
        assert_eq!(examine_log(&[][..]).unwrap(), Wal::default());
        assert_eq!(examine_log(&[0; 9_000][..]).unwrap(), Wal::default());
    }

    /// As a power cut leaves it: of the last group some frames are there, in any order.
    #[test]
    fn one_group_that_was_not_synced_is_no_damage() {
        let (mut bytes, frames) = log();
        let frame = (bytes.len() - HEADER_BYTES) / usize::try_from(frames).unwrap();
        let last = bytes.len() - frame;
        bytes[last + 300..last + 400].fill(7);
        let wal = examine_log(&bytes[..]).unwrap();
        assert_eq!((wal.committed, wal.cut(), wal.stranded), (frames - 1, 1, 0));
        assert!(!wal.is_damaged());
        let wal = examine_log(&bytes[..last + 10]).unwrap();
        assert!(wal.committed == frames - 1 && !wal.is_damaged());
    }

    #[test]
    fn a_bit_that_flipped_before_the_last_two_groups_is_damage() {
        let (bytes, frames) = log();
        let frame = (bytes.len() - HEADER_BYTES) / usize::try_from(frames).unwrap();
        let end = bytes.len() - 3 * frame;
        // Each byte of the headers, and some of the pages.
        for index in
            (0..end).filter(|index| (index + frame - HEADER_BYTES) % frame < 24 || index % 97 == 0)
        {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << (index % 8);
            let wal = examine_log(&flipped[..]).unwrap();
            assert!(wal.is_damaged(), "byte {index}: {wal:?}");
        }
    }
}
