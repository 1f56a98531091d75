//! TLS for connections to the cluster, by rustls: the server's certificate is always verified, host name included.

use factum_core::Error;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// What sessions are made by: with the authorities of a file, or of the system.
pub(crate) fn config(ca: Option<&str>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::fatal("TLS can't be set up").caused_by(error))?;
    Ok(builder
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth())
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::fatal(
                "the system has no authorities that could be trusted: name a file with the parameter `ca`",
            ));
        }
        return Ok(roots);
    };
    let unreadable =
        |error| Error::fatal(format!("failed to read certificates of `{path}`")).caused_by(error);
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    for certificate in certificates {
        roots
            .add(certificate.map_err(unreadable)?)
            .map_err(|error| {
                Error::fatal(format!("`{path}` holds a certificate that can't be used"))
                    .caused_by(error)
            })?;
    }
    if roots.is_empty() {
        return Err(Error::fatal(format!("`{path}` holds no certificate")));
    }
    Ok(roots)
}

/// What makes no session, since it trusts nobody.
pub(crate) fn nobody() -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::fatal("TLS can't be set up").caused_by(error))?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}
