//! Hostile inputs: those of the corpus, changed by chance with what has broken parsers before.

use std::fmt;

use proptest::{collection::vec, prelude::*, sample::Index};

use crate::corpus;

/// What has broken parsers before.
fn spite() -> impl Strategy<Value = Vec<u8>> {
    let short = [
        &b"\0"[..],
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"%00",
        b"%ff",
        b"%2e%2e%2f",
        b"../",
        b"/",
        b"?",
        b"&",
        b"=",
        b"-",
        b"-1",
        b"0",
        b"1e999",
        b"4294967296",
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"0.1e-99999",
        b"null",
        b"true",
        b"\"\"",
        b"{}",
        b"[]",
        b"\\ud800",
        b"\\u0000",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xae",
        b"Host: a\r\n",
        b"Content-Length: 7\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"factum-at: 1-7\n",
        b"ce_id: 7\n",
        b"\"version\":0,",
        b"\"event_id\":\"2\",",
        b"\"a\":1,",
        b"\"envelope.a\":1,",
        b"limit=501&",
        b"after=1-1&",
    ];
    prop_oneof![
        12 => prop::sample::select(short.to_vec()).prop_map(<[u8]>::to_vec),
        3 => vec(any::<u8>(), 1..20),
        2 => (prop::sample::select(vec![&b"["[..], b"{\"a\":", b"x", b"9", b"%41", b"\0", b"a=b&", b"\"x\":1,", b"x: y\r\n"]), prop::sample::select(vec![130_usize, 700, 5_000]))
            .prop_map(|(what, times)| what.repeat(times)),
    ]
}

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    Insert(Index, Vec<u8>),
    Overwrite(Index, Vec<u8>),
    Cut(Index, Index),
    Repeat(Index, Index),
    Flip(Index, u8),
}

impl Change {
    fn apply(&self, input: &mut Vec<u8>) {
        let place = |index: &Index, input: &[u8]| index.index(input.len() + 1);
        match self {
            Self::Insert(at, bytes) => {
                let at = place(at, input);
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Overwrite(at, bytes) => {
                let at = place(at, input);
                let end = (at + bytes.len()).min(input.len());
                input.splice(at..end, bytes.iter().copied());
            }
            Self::Cut(one, other) => {
                let (one, other) = (place(one, input), place(other, input));
                input.drain(one.min(other)..one.max(other));
            }
            Self::Repeat(one, other) => {
                let (one, other) = (place(one, input), place(other, input));
                let part = input[one.min(other)..one.max(other)].to_vec();
                input.splice(other..other, part);
            }
            Self::Flip(at, bit) => {
                let at = place(at, input);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), spite()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        4 => (index(), spite()).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        1 => (index(), index()).prop_map(|(one, other)| Change::Cut(one, other)),
        1 => (index(), index()).prop_map(|(one, other)| Change::Repeat(one, other)),
        2 => (index(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
    ]
}

/// An input, as it is shown.
#[derive(Clone)]
pub(crate) struct Input(pub(crate) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(2_000)];
        write!(f, "{} bytes: {}", self.0.len(), shown.escape_ascii())
    }
}

/// Inputs of a target: those that are kept, with up to five changes; and any bytes.
pub(crate) fn inputs(target: &str) -> impl Strategy<Value = Input> + use<> {
    let kept: Vec<_> = corpus::inputs(target)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    let changed =
        (prop::sample::select(kept), vec(change(), 0..6)).prop_map(|(mut input, changes)| {
            for change in &changes {
                change.apply(&mut input);
            }
            input
        });
    prop_oneof![9 => changed, 1 => vec(any::<u8>(), 0..300)].prop_map(Input)
}
