//! TLS: the server's certificate is verified, and what we show of ourselves.

use factum_core::{Error, ErrorClass};
use factum_redis::{RedisOptions, RedisViews};
use factum_testkit::Authority;

use crate::{server::Server, shelf::Owner, support::Place};

/// A server that speaks TLS only, with a certificate for `host`.
fn dressed(authority: &Authority, users: &Authority, host: &str, wants: &str) -> Option<Server> {
    let mut server = Server::prepare(&[])?;
    let (certificate, key) = authority.sign(host);
    let file = |name: &str, content: &str| server.put(name, content).display().to_string();
    let (certificate, key) = (file("server.crt", &certificate), file("server.key", &key));
    let users = file("users.crt", &users.certificate);
    file("root.crt", &authority.certificate);
    let port = server.port.to_string();
    server.set(&["--port", "0", "--tls-port", &port]);
    server.set(&["--tls-cert-file", &certificate, "--tls-key-file", &key]);
    server.set(&["--tls-ca-cert-file", &users, "--tls-auth-clients", wants]);
    server.up();
    Some(server)
}

async fn connect(url: &str) -> Result<(), Error> {
    let options = RedisOptions::parse(url)?;
    RedisViews::connect(options).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_certificate_and_name_are_verified() {
    let (authority, stranger) = (Authority::new("servers"), Authority::new("strangers"));
    for (host, fits) in [("localhost", true), ("elsewhere.example", false)] {
        let Some(server) = dressed(&authority, &authority, host, "no") else {
            return;
        };
        let root = server.path().join("root.crt");
        let other = server.put("stranger.crt", &stranger.certificate);
        let port = server.port;
        for (url, expected) in [
            (
                format!("rediss://localhost:{port}?ca={}", root.display()),
                fits,
            ),
            (
                format!("rediss://localhost:{port}?ca={}", other.display()),
                false,
            ),
            (format!("rediss://localhost:{port}"), false),
            (format!("redis://localhost:{port}"), false),
        ] {
            let connected = connect(&url).await;
            assert_eq!(connected.is_ok(), expected, "{host}, {url}: {connected:?}");
            if let Err(error) = connected
                && url.starts_with("rediss")
            {
                assert_eq!(error.class(), ErrorClass::Fatal, "{error:#}");
                assert!(error.to_string().contains("not trusted"), "{error}");
            }
        }
        if fits {
            let place = Place::on(&format!("rediss://localhost:{port}?ca={}", root.display()));
            let process = place.process().await;
            let mut owner = Owner::claim(&process.store, 1).await.expect("it is free");
            owner.count_one("a").await.expect("it is ours");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_want_a_certificate_of_ours() {
    let (servers, users) = (Authority::new("servers"), Authority::new("users"));
    let Some(server) = dressed(&servers, &users, "localhost", "yes") else {
        return;
    };
    let root = server.path().join("root.crt");
    let plain = format!("rediss://localhost:{}?ca={}", server.port, root.display());
    connect(&plain).await.expect_err("it shows nothing");
    for (authority, fits) in [(&users, true), (&servers, false)] {
        let (certificate, key) = authority.sign("factum");
        let (certificate, key) = (
            server.put("own.crt", &certificate),
            server.put("own.key", &key),
        );
        let url = format!(
            "{plain}&cert={}&key={}",
            certificate.display(),
            key.display()
        );
        let connected = connect(&url).await;
        assert_eq!(connected.is_ok(), fits, "{connected:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_missing_is_named() {
    for url in [
        "rediss://h?ca=/none/ca.pem",
        "rediss://h?cert=/none/own.pem&key=/none/own.key",
    ] {
        let error = connect(url).await.expect_err("there is no such file");
        assert_eq!(error.class(), ErrorClass::Fatal, "{error}");
        assert!(error.to_string().contains("/none/"), "{error}");
    }
}
