//! TLS: how much of the server's certificate is verified, and what we show of ourselves.

use factum_core::Store as _;
use factum_postgres::{Postgres, PostgresOptions};
use factum_testkit::Authority;

use crate::{
    server::Server,
    support::{env, service},
};

async fn connect(url: String) -> Result<(), factum_core::Error> {
    let postgres = Postgres::new(&PostgresOptions::new(url))?;
    let store = postgres.store(&service(), &env()).await?;
    store.head().await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_certificate_is_verified_as_far_as_the_address_says() {
    let authority = Authority::new("servers");
    for (host, fits) in [("localhost", true), ("elsewhere.example", false)] {
        let Some(mut server) = Server::start(&[]) else {
            return;
        };
        let (certificate, key) = authority.sign(host);
        server.put("server.crt", &certificate);
        server.put("server.key", &key);
        server.set("ssl=on");
        server.down("INT");
        server.up();
        let trusted = server.put("root.crt", &authority.certificate);
        let stranger = server.put("stranger.crt", &Authority::new("strangers").certificate);
        for (parameters, expected) in [
            ("sslmode=disable".to_string(), true),
            ("sslmode=prefer".to_string(), true),
            ("sslmode=require".to_string(), true),
            (
                format!("sslmode=verify-ca&sslrootcert={}", trusted.display()),
                true,
            ),
            (
                format!("sslmode=verify-full&sslrootcert={}", trusted.display()),
                fits,
            ),
            (
                format!("sslmode=verify-ca&sslrootcert={}", stranger.display()),
                false,
            ),
            (
                format!("sslmode=verify-full&sslrootcert={}", stranger.display()),
                false,
            ),
            (
                format!("sslmode=require&sslrootcert={}", stranger.display()),
                false,
            ),
        ] {
            let connected = connect(server.url(&parameters)).await;
            assert_eq!(
                connected.is_ok(),
                expected,
                "{host}, {parameters}: {connected:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    connect(server.url("sslmode=prefer"))
        .await
        .expect("it is no condition");
    connect(server.url("sslmode=require"))
        .await
        .expect_err("the server has none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_the_right_certificate_needs_no_password() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let (servers, users) = (Authority::new("servers"), Authority::new("users"));
    let (certificate, key) = servers.sign("localhost");
    server.put("server.crt", &certificate);
    server.put("server.key", &key);
    server.put("users.crt", &users.certificate);
    server.put("pg_hba.conf", "hostssl all all 127.0.0.1/32 cert\n");
    server.set("ssl=on");
    server.set("ssl_ca_file=users.crt");
    server.down("INT");
    server.up();
    let root = server.put("root.crt", &servers.certificate);
    for (authority, fits) in [(&users, true), (&servers, false)] {
        let (certificate, key) = authority.sign("factum");
        let (certificate, key) = (
            server.put("own.crt", &certificate),
            server.put("own.key", &key),
        );
        let url = server.url(&format!(
            "sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            root.display(),
            certificate.display(),
            key.display()
        ));
        let connected = connect(url).await;
        assert_eq!(connected.is_ok(), fits, "{connected:?}");
    }
}
