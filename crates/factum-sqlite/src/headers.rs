//! A message's headers as one column: for each its name and its value, each behind its length.

use bytes::{Buf, Bytes};
use factum_core::Headers;

/// The headers as bytes.
pub(crate) fn encode(headers: &Headers) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |part: &[u8]| {
        // Messages are bounded far below 4 GiB.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    };
    for (name, value) in headers.iter() {
        put(name.as_bytes());
        put(value);
    }
    bytes
}

/// The headers that [`encode`] wrote; `None` when it did not write this.
pub(crate) fn decode(mut bytes: Bytes) -> Option<Headers> {
    let mut headers = Headers::new();
    while !bytes.is_empty() {
        let name = part(&mut bytes)?;
        let value = part(&mut bytes)?;
        headers.push(str::from_utf8(&name).ok()?, value);
    }
    Some(headers)
}

fn part(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes
        .try_get_u32_le()
        .ok()
        .and_then(|length| usize::try_from(length).ok())?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_as_they_were() {
        let headers: Headers = [
            ("a", &b"1"[..]),
            ("a", &b""[..]),
            ("주문", &b"\xff\x00"[..]),
        ]
        .into_iter()
        .collect();
        assert_eq!(decode(encode(&headers).into()), Some(headers));
        assert_eq!(decode(Bytes::new()), Some(Headers::new()));
        for broken in [
            &b"\x01"[..],
            b"\x02\0\0\0a",
            b"\x01\0\0\0a",
            b"\x01\0\0\0\xff\0\0\0\0",
        ] {
            assert_eq!(decode(Bytes::from_static(broken)), None);
        }
    }
}
