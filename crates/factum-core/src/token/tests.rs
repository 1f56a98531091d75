//! Tokens read back as written, and nothing else is taken for one.

use proptest::prelude::*;

use super::*;

fn store() -> StoreId {
    StoreId(Uuid::from_u128(7))
}

fn write(topic: &str, partition: u32, position: u64, key: Option<&str>) -> TopicWrite {
    let (topic, position) = (Topic::new(topic).unwrap(), Position(position));
    TopicWrite {
        topic,
        partition,
        position,
        key: key.map(Key::from),
    }
}

#[test]
fn a_usual_token_is_short() {
    let writes = [write("orders", 3, 4711, Some("user-1"))];
    let text = Token::new(store(), At::new(1, 4711), writes).to_string();
    assert!(text.starts_with("ft1.") && text.len() < 64, "{text}");
}

#[test]
fn a_changed_token_is_damaged() {
    let text = Token::new(store(), At::new(1, 9), [write("orders", 0, 9, None)]).to_string();
    for at in 4..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(
            changed.parse::<Token>(),
            Err(InvalidToken::Damaged),
            "{changed}"
        );
        assert_eq!(text[..at].parse::<Token>(), Err(InvalidToken::Damaged));
    }
}

#[test]
fn what_is_no_token_is_refused_and_told_why() {
    for text in [
        "",
        "ft",
        "ft1",
        "ft.AAAA",
        "ft01.AAAA",
        "ft+1.AAAA",
        "4711",
        "주문",
        "ft99999999999.A",
    ] {
        assert_eq!(
            text.parse::<Token>(),
            Err(InvalidToken::Foreign(text.into())),
            "{text}"
        );
    }
    let error = "ft2.AAAA".parse::<Token>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the consistency token has format 2, and this version reads 1: update this service, or ask without it"
    );
    let long = format!("ft1.{}", "A".repeat(TOKEN_BYTES_MAX));
    assert_eq!(long.parse::<Token>(), Err(InvalidToken::TooLong(4100)));
    assert!(serde_json::from_str::<Token>("\"x\"").is_err());
}

#[test]
fn writes_to_one_partition_become_one_that_waits_for_all_of_them() {
    let of = |writes: [TopicWrite; 2]| Token::new(store(), At::new(1, 9), writes);
    let same = of([write("a", 0, 8, Some("k")), write("a", 0, 7, Some("k"))]);
    assert_eq!(same.writes(), [write("a", 0, 8, Some("k"))]);
    let other = of([write("a", 0, 7, Some("k")), write("a", 0, 8, Some("l"))]);
    assert_eq!(other.writes(), [write("a", 0, 8, None)]);
    let none = of([write("a", 0, 7, None), write("a", 0, 8, Some("l"))]);
    assert_eq!(none.writes(), [write("a", 0, 8, None)]);
    let long = of([
        write("a", 0, 7, Some(&"k".repeat(65))),
        write("b", 0, 8, Some("")),
    ]);
    assert_eq!(
        long.writes(),
        [write("a", 0, 7, None), write("b", 0, 8, Some(""))]
    );
    assert!(long.is_whole());
}

#[test]
fn a_token_beyond_its_bounds_says_that_it_is_not_whole() {
    let token = Token::new(
        store(),
        At::new(1, 99),
        (0..17).map(|partition| write("a", partition, 99, None)),
    );
    assert_eq!((token.writes().len(), token.is_whole()), (16, false));
    assert_eq!(token.to_string().parse(), Ok(token));
}

proptest! {
    #[test]
    fn a_token_reads_back_as_written_and_keeps_its_bound(
        id in any::<u128>(), epoch in any::<u64>(), position in any::<u64>(),
        writes in proptest::collection::vec(
            ("[a-zA-Z0-9_-]{1,249}", any::<u32>(), any::<u64>(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..70))),
            0..20,
        ),
    ) {
        let writes = writes.into_iter().map(|(topic, partition, position, key)| TopicWrite {
            topic: Topic::new(topic).unwrap(), partition, position: Position(position), key: key.map(Key::from),
        });
        let token = Token::new(StoreId(Uuid::from_u128(id)), At::new(epoch, position), writes);
        let text = token.to_string();
        prop_assert!(text.len() <= TOKEN_BYTES_MAX);
        prop_assert_eq!(text.parse(), Ok(token));
    }

    #[test]
    fn no_text_makes_the_parser_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // With the right sum, so that the body is looked at.
        let mut body = bytes;
        body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let text = format!("ft1.{}", BASE64_URL_SAFE_NO_PAD.encode(body));
        if let Ok(token) = text.parse::<Token>() {
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }
    }
}
