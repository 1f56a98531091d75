//! Certificates for tests of TLS: an authority of the test's own, and what it signs.
//!
//! With the feature `certificates` alone, so that whoever needs none builds no cryptography.

use std::fmt;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, as its certificate and what it signs with.
///
/// ```
/// let authority = factum_testkit::Authority::new("servers");
/// let (certificate, key) = authority.sign("localhost");
/// assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
/// assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
/// ```
pub struct Authority {
    /// Its certificate, as PEM: what somebody is given who is to believe it.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, which nobody believes yet. Of several in one test each wants a name of its own: some clients look an
    /// authority up by that.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no hosts are fine");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is chance");
        let certificate = params.self_signed(&key).expect("it signs").pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for a host or a user, and its key, both as PEM.
    ///
    /// # Panics
    ///
    /// When `name` can't be a host's.
    pub fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("it is a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("there is chance");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("it signs")
            .pem();
        (certificate, key.serialize_pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without its key.
        f.debug_struct("Authority")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
