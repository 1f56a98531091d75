//! Values of declared fields as bytes whose order is that of the rows, and rows as they are kept.
//!
//! Of two values of one kind, the bytes of neither begin with those of the other. So what follows behind them in an
//! index, further values and the id, is compared only where they are equal.

use factum_core::{Error, FieldKind, Json, Position, Row, Value};

/// What the bytes of a value begin with: nulls are last.
pub(crate) const PRESENT: u8 = 1;
pub(crate) const NULL: u8 = 2;

/// How a version is written: as many digits as the greatest has.
pub(crate) fn digits(number: u64) -> String {
    format!("{number:020}")
}

/// A number as the scripts compute with: they do so exactly up to 2^53, beyond which nothing can be counted.
pub(crate) fn digits_of(number: u64) -> u64 {
    number.min(1 << 53)
}

/// How many bytes a row has before its values: the version, and whether it was deleted.
const HEAD: usize = 21;

/// The bytes of a value.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = vec![PRESENT];
    match value {
        Value::Null => bytes[0] = NULL,
        Value::Boolean(flag) => bytes.push(u8::from(*flag)),
        Value::Integer(number) => {
            // With the sign turned round, the bytes of negative numbers come first.
            bytes.extend((number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
        Value::Text(text) => {
            for byte in text.bytes() {
                bytes.push(byte);
                if byte == 0 {
                    bytes.push(0xff);
                }
            }
            bytes.extend([0, 0]);
        }
    }
    bytes
}

/// The value of bytes that [`encode`] made.
pub(crate) fn decode(bytes: &[u8], kind: FieldKind) -> Option<Value> {
    let rest = match bytes.split_first()? {
        (&NULL, []) => return Some(Value::Null),
        (&PRESENT, rest) => rest,
        _ => return None,
    };
    Some(match kind {
        FieldKind::Boolean => Value::Boolean(match rest {
            [0] => false,
            [1] => true,
            _ => return None,
        }),
        FieldKind::Integer => {
            let number = u64::from_be_bytes(rest.try_into().ok()?);
            Value::Integer((number ^ (1 << 63)).cast_signed())
        }
        FieldKind::Text => {
            let mut text = Vec::with_capacity(rest.len());
            let mut escaped = rest.strip_suffix(&[0, 0])?.iter();
            while let Some(&byte) = escaped.next() {
                text.push(byte);
                if byte == 0 && escaped.next() != Some(&0xff) {
                    return None;
                }
            }
            Value::Text(String::from_utf8(text).ok()?)
        }
    })
}

/// A row as it is kept.
pub(crate) fn live(version: Position, values: &[Value], document: &Json) -> Vec<u8> {
    let mut row = digits(version.0).into_bytes();
    row.push(b'P');
    for value in values {
        let bytes = encode(value);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        row.extend(length.to_be_bytes());
        row.extend(bytes);
    }
    row.extend(document.as_str().as_bytes());
    row
}

/// What is kept of a row that was deleted.
pub(crate) fn tombstone(version: Position) -> Vec<u8> {
    let mut row = digits(version.0).into_bytes();
    row.push(b'D');
    row
}

/// The bytes of a row's values, and itself.
pub(crate) type Found = (Vec<Vec<u8>>, Row);

/// A row that was read; `None` when it was deleted.
pub(crate) fn read(id: &[u8], kept: &[u8], fields: usize) -> Result<Option<Found>, Error> {
    let parsed = || {
        let id = str::from_utf8(id).ok()?;
        let version = str::from_utf8(kept.get(..HEAD - 1)?).ok()?.parse().ok()?;
        match kept.get(HEAD - 1)? {
            b'D' => return Some(None),
            b'P' => {}
            _ => return None,
        }
        let mut rest = &kept[HEAD..];
        let mut values = Vec::with_capacity(fields);
        for _ in 0..fields {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (value, behind) = behind.split_at_checked(length)?;
            values.push(value.to_vec());
            rest = behind;
        }
        let document = Json::parse(str::from_utf8(rest).ok()?).ok()?;
        let row = Row {
            id: id.into(),
            version: Position(version),
            document,
        };
        Some(Some((values, row)))
    };
    parsed().ok_or_else(|| {
        Error::fatal(format!(
            "row `{}` is not as it was written: somebody else has changed it; rebuild the projection",
            String::from_utf8_lossy(id)
        ))
    })
}

/// Where all that begins with `prefix` ends: the least bytes behind them.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<Value> {
        [
            "",
            "\0",
            "\0\0",
            "\0\u{1}",
            "\u{1}",
            "a",
            "a\0",
            "a\0b",
            "aa",
            "b",
            "é",
            "\u{ffee}",
            "\u{1f600}",
        ]
        .map(Value::from)
        .into()
    }

    fn check(mut values: Vec<Value>, kind: FieldKind) {
        values.push(Value::Null);
        for left in &values {
            let bytes = encode(left);
            assert_eq!(decode(&bytes, kind).as_ref(), Some(left));
            for right in &values {
                let other = encode(right);
                assert_eq!(bytes.cmp(&other), left.cmp(right), "{left:?}, {right:?}");
                assert!(
                    left == right || !other.starts_with(&bytes),
                    "{left:?}, {right:?}"
                );
            }
        }
    }

    #[test]
    fn the_order_of_the_bytes_is_that_of_the_values() {
        check(texts(), FieldKind::Text);
        check([false, true].map(Value::from).into(), FieldKind::Boolean);
        let numbers = [
            i64::MIN,
            i64::MIN + 1,
            -256,
            -1,
            0,
            1,
            255,
            1 << 53,
            (1 << 53) + 1,
            i64::MAX,
        ];
        check(numbers.map(Value::from).into(), FieldKind::Integer);
    }

    #[test]
    fn a_row_reads_back_and_a_damaged_one_says_so() {
        let document = Json::parse(r#"{"n":12345678901234567890.10}"#).unwrap();
        let values = [Value::Null, Value::from("\0x"), Value::from(7)];
        let kept = live(Position(u64::MAX), &values, &document);
        let (found, row) = read("한".as_bytes(), &kept, 3).unwrap().unwrap();
        assert_eq!(found, values.iter().map(encode).collect::<Vec<_>>());
        assert_eq!(
            (row.id.as_str(), row.version, row.document),
            ("한", Position(u64::MAX), document)
        );
        assert_eq!(read(b"1", &tombstone(Position(7)), 3).unwrap(), None);
        for length in 0..kept.len() {
            assert!(read(b"1", &kept[..length], 3).is_err(), "{length}");
        }
    }

    #[test]
    fn what_begins_with_a_prefix_lies_before_its_end() {
        assert_eq!(end_of(&[1, 2]), [1, 3]);
        assert_eq!(end_of(&[1, 0xff, 0xff]), [2]);
    }
}
