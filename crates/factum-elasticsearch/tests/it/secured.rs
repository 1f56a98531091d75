//! TLS, and who may come in. The cluster of the tests has neither, so what stands before it does.

use std::sync::Arc;

use factum_core::{Error, ErrorClass};
use factum_elasticsearch::ElasticsearchOptions;
use factum_testkit::Authority;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{
    front::{Front, Verdict},
    support::{Place, Process, options_at, orders},
};

/// What lets a server show a certificate for `host`.
fn acceptor(authority: &Authority, host: &str) -> TlsAcceptor {
    let (certificate, key) = authority.sign(host);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    let chain = vec![certificate.expect("it is a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_no_client_auth()
        .with_single_cert(chain, key.expect("it is a key"))
        .expect("they fit");
    TlsAcceptor::from(Arc::new(config))
}

async fn ask(place: &Place, options: ElasticsearchOptions) -> Result<(), Error> {
    let process = Process::of(place, options).await;
    process.views.active(&orders()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_certificate_is_verified() {
    let Some(place) = Place::new() else {
        return;
    };
    let (authority, stranger) = (Authority::new("servers"), Authority::new("strangers"));
    let directory = tempfile::tempdir().expect("there is room");
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("there is room");
        path.display().to_string()
    };
    let trusted = put("root.pem", &authority.certificate);
    let other = put("other.pem", &stranger.certificate);
    for (host, ca, fits) in [
        ("localhost", &trusted, true),
        ("localhost", &other, false),
        ("elsewhere.example", &trusted, false),
    ] {
        let front = Front::of(&place.url, Some(acceptor(&authority, host))).await;
        let address = format!(
            "elasticsearch+https://{}/{}?ca={ca}",
            front.host(),
            place.prefix
        );
        let options = ElasticsearchOptions::parse(&address).expect("the address is right");
        let asked = ask(&place, options).await;
        assert_eq!(asked.is_ok(), fits, "{host}, {ca}: {asked:?}");
        assert_eq!(front.asked("").len(), usize::from(fits));
    }
    let front = Front::of(&place.url, Some(acceptor(&authority, "localhost"))).await;
    let plain = options_at(&format!("http://{}/{}", front.host(), place.prefix));
    ask(&place, plain)
        .await
        .expect_err("the server speaks TLS alone");
    let empty = put("empty.pem", "");
    for file in [&empty, "/nowhere"] {
        let options = ElasticsearchOptions::parse(&format!("https://localhost?ca={file}"));
        let connected = factum_elasticsearch::ElasticsearchViews::connect(
            options.expect("the address is right"),
        );
        let error = connected.map(|_| ()).expect_err("there is no authority");
        assert!(
            error.is_fatal() && error.to_string().contains(file),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_keys_are_shown_to_the_cluster() {
    let Some(place) = Place::new() else {
        return;
    };
    let authority = Authority::new("servers");
    let file = tempfile::NamedTempFile::new().expect("there is room");
    std::fs::write(file.path(), &authority.certificate).expect("there is room");
    let front = Front::of(&place.url, Some(acceptor(&authority, "localhost"))).await;
    front.rule(|asked| match asked.authorization.as_deref() {
        // factum:s@fe, and a key.
        Some("Basic ZmFjdHVtOnNAZmU=" | "ApiKey a2V5OnNlY3JldA==") => Verdict::Pass,
        Some(_) => Verdict::Answer(
            403,
            r#"{"error":{"type":"security_exception","reason":"no permissions"}}"#.into(),
        ),
        None => Verdict::Answer(401, String::new()),
    });
    let (host, prefix, ca) = (front.host(), &place.prefix, file.path().display());
    for (user, key, expected) in [
        ("factum:s%40fe@", "", None),
        ("", "&api_key=a2V5OnNlY3JldA%3D%3D", None),
        ("", "", Some(ErrorClass::Fatal)),
        ("factum:wrong@", "", Some(ErrorClass::Fatal)),
        ("", "&api_key=wrong", Some(ErrorClass::Fatal)),
    ] {
        let address = format!("elasticsearch+https://{user}{host}/{prefix}?ca={ca}{key}");
        let options = ElasticsearchOptions::parse(&address).expect("the address is right");
        let asked = ask(&place, options).await;
        assert_eq!(
            asked.as_ref().err().map(Error::class),
            expected,
            "{address}: {asked:?}"
        );
        if let Err(error) = asked {
            assert!(error.to_string().contains("API key"), "{error}");
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
}
