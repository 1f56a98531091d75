//! TLS for connections to Redis, by rustls. The server's certificate and name are always verified.

use std::{path::Path, sync::Arc};

use factum_core::Error;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName,
            pem::{Error as PemError, PemObject as _},
        },
    },
};

use crate::options::RedisTls;

/// What makes sessions with one host.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    pub(crate) host: ServerName<'static>,
}

impl Tls {
    /// Reads the certificates.
    pub(crate) fn new(host: &str, options: &RedisTls) -> Result<Self, Error> {
        let refused = |error| Error::fatal("TLS for Redis can't be set up").caused_by(error);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_root_certificates(roots(options.ca.as_deref())?);
        let config = match &options.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
                builder.with_client_auth_cert(chain, key).map_err(refused)?
            }
        };
        let host = ServerName::try_from(host.to_string()).map_err(|error| {
            Error::fatal(format!("`{host}` is no name that a certificate could have"))
                .caused_by(error)
        })?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            host,
        })
    }
}

fn unreadable(path: &Path, error: PemError) -> Error {
    Error::fatal(format!(
        "failed to read certificate or key `{}`",
        path.display()
    ))
    .caused_by(error)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, error))?;
    if found.is_empty() {
        return Err(Error::fatal(format!(
            "`{}` holds no certificate",
            path.display()
        )));
    }
    Ok(found)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::fatal(
                "the system has no authorities that could be trusted; name a file with `ca`",
            ));
        }
        return Ok(roots);
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            Error::fatal(format!(
                "`{}` holds a certificate that can't be used",
                path.display()
            ))
            .caused_by(error)
        })?;
    }
    Ok(roots)
}
