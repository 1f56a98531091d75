//! What gets in, and what doesn't.

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn access(listen: &str, tokens: &[&str]) -> Access {
    let tokens = tokens.iter().map(|token| token.parse().unwrap()).collect();
    Access::new(
        listen.parse().unwrap(),
        tokens,
        ["Ops.Example".into()],
        vec!["/health"],
    )
}

fn status(access: &Access, method: &Method, path: &str, pairs: &[(&'static str, &str)]) -> u16 {
    match access.check(method, path, &headers(pairs)) {
        Ok(_) => 200,
        Err(problem) => problem.status(),
    }
}

#[test]
fn only_loopback_may_be_listened_on_without_a_token() {
    let token: Token = "0123456789abcdef".parse().unwrap();
    for (address, open) in [
        ("127.0.0.1:1", true),
        ("127.9.9.9:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("192.168.0.7:1", false),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(allow_listen(address, &[]).is_ok(), open, "{address}");
        assert!(
            allow_listen(address, std::slice::from_ref(&token)).is_ok(),
            "{address}"
        );
    }
    let words = allow_listen("0.0.0.0:1".parse().unwrap(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        words.contains("0.0.0.0:1") && words.contains("token"),
        "{words}"
    );
}

#[test]
fn a_server_answers_to_its_own_names_only() {
    for (listen, host, expected) in [
        ("127.0.0.1:7400", "127.0.0.1:7400", 200),
        ("127.0.0.1:7400", "127.0.0.1", 200),
        ("127.0.0.1:7400", "localhost:7400", 200),
        ("127.0.0.1:7400", "LOCALHOST:80", 200),
        ("127.0.0.1:7400", "[::1]:7400", 200),
        ("127.0.0.1:7400", "ops.example", 200),
        ("127.0.0.1:7400", "evil.example", 421),
        ("127.0.0.1:7400", "localhost.evil.example", 421),
        ("127.0.0.1:7400", "192.168.0.7", 421),
        ("127.0.0.1:7400", "127.0.0.1:7400:evil.example", 421),
        ("127.0.0.1:7400", "127.0.0.1@evil.example", 421),
        ("127.0.0.1:7400", "[::1", 421),
        ("127.0.0.1:7400", "", 421),
        ("192.168.0.7:1", "192.168.0.7", 200),
        ("192.168.0.7:1", "192.168.0.8", 421),
        ("0.0.0.0:1", "192.168.0.8", 200),
        ("0.0.0.0:1", "evil.example", 421),
    ] {
        assert_eq!(
            status(&access(listen, &[]), &Method::GET, "/", &[("host", host)]),
            expected,
            "{listen} {host}"
        );
    }
    let none = access("127.0.0.1:1", &[]);
    assert_eq!(status(&none, &Method::GET, "/", &[]), 400);
    assert_eq!(
        status(
            &none,
            &Method::GET,
            "/",
            &[("host", "localhost"), ("host", "localhost")]
        ),
        400
    );
}

#[test]
fn a_foreign_page_may_not_change_anything() {
    let access = access("127.0.0.1:7400", &[]);
    let host = ("host", "127.0.0.1:7400");
    for (header, value, expected) in [
        ("origin", "http://127.0.0.1:7400", 200),
        ("origin", "http://evil.example", 403),
        ("origin", "http://127.0.0.1:8000", 403),
        ("origin", "null", 403),
        ("origin", "file://127.0.0.1:7400", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "none", 200),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("user-agent", "curl", 200),
    ] {
        let pairs = [host, (header, value)];
        assert_eq!(
            status(&access, &Method::POST, "/", &pairs),
            expected,
            "{header}: {value}"
        );
        assert_eq!(
            status(&access, &Method::GET, "/", &pairs),
            200,
            "{header}: {value}"
        );
    }
    // One honest header doesn't excuse another.
    let pairs = [
        host,
        ("sec-fetch-site", "same-origin"),
        ("origin", "http://evil.example"),
    ];
    assert_eq!(status(&access, &Method::DELETE, "/", &pairs), 403);
}

#[test]
fn with_tokens_every_request_needs_one() {
    let access = access("0.0.0.0:1", &["ada=first-secret", "second-secret"]);
    let host = ("host", "10.0.0.1");
    let actor = |authorization: &str| {
        let headers = headers(&[host, ("authorization", authorization)]);
        access
            .check(&Method::GET, "/admin", &headers)
            .map(|actor| actor.name().to_owned())
            .map_err(|problem| problem.status())
    };
    assert_eq!(actor("Bearer first-secret"), Ok("ada".into()));
    assert_eq!(actor("bearer second-secret"), Ok("operator".into()));
    for wrong in [
        "Bearer first-secre",
        "Bearer ",
        "Bearer",
        "Basic first-secret",
        "first-secret",
        "Bearer ada=first-secret",
    ] {
        assert_eq!(actor(wrong), Err(401), "{wrong}");
    }
    let twice = [
        host,
        ("authorization", "Bearer first-secret"),
        ("authorization", "Bearer first-secret"),
    ];
    assert_eq!(status(&access, &Method::GET, "/admin", &twice), 401);
    assert_eq!(status(&access, &Method::GET, "/admin", &[host]), 401);
    assert_eq!(status(&access, &Method::GET, "/health", &[host]), 200);
    assert_eq!(
        status(&access, &Method::GET, "/health/../admin", &[host]),
        401
    );
}

#[test]
fn without_tokens_the_actor_is_local() {
    let actor = access("127.0.0.1:1", &[])
        .check(&Method::POST, "/", &headers(&[("host", "localhost")]))
        .unwrap();
    assert_eq!(actor.name(), "local");
}

#[test]
fn a_token_is_never_shown() {
    let token: Token = "ada=first-secret".parse().unwrap();
    assert!(!format!("{token:?}").contains("first-secret"));
    for (text, error) in [
        ("short", InvalidToken::Secret),
        ("ada=short", InvalidToken::Secret),
        ("a da=first-secret", InvalidToken::Name),
        ("local=first-secret", InvalidToken::Name),
        ("=first-secret", InvalidToken::Name),
        ("ada=first secret", InvalidToken::Secret),
    ] {
        assert_eq!(text.parse::<Token>().unwrap_err(), error, "{text}");
    }
    assert_eq!(
        "c2VjcmV0LXNlY3JldA==".parse::<Token>().unwrap().name(),
        "operator"
    );
}
