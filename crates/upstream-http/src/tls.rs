//! Whom we believe.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{Error, UpstreamUrl};

/// The root certificates in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// How many there are.
    pub count: usize,
    /// Where they came from, as a fragment for `mirror doctor`.
    pub origin: String,
}

/// What every connection is checked with.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub roots: Roots,
    pub store: Arc<RootCertStore>,
    /// What loading the roots said, if there are none.
    missing: Option<String>,
    /// For awc, which knows HTTP/2.
    pub any: Arc<ClientConfig>,
    /// For the connector's own TLS, which carries HTTP/1.1 only.
    pub http1: Arc<ClientConfig>,
}

impl Tls {
    /// The system's roots, which `SSL_CERT_FILE` and `SSL_CERT_DIR` replace, and those of `ca_file`.
    pub(crate) fn load(ca_file: Option<&Path>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (system, unreadable) = store.add_parsable_certificates(found.certs);
        for error in &found.errors {
            log::warn!("the system's root certificates: {error}");
        }
        let mut origin = format!("{system} of the system or SSL_CERT_FILE");
        if unreadable > 0 {
            log::warn!("{unreadable} of the system's root certificates cannot be read");
        }
        if let Some(path) = ca_file {
            let added = add_file(&mut store, path)?;
            origin = format!("{origin}, {added} of {}", path.display());
        }
        let mut missing = None;
        if store.is_empty() {
            let said: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            let detail = if said.is_empty() {
                "nothing was found".to_owned()
            } else {
                said.join(", ")
            };
            log::warn!("{}", Error::NoRoots { detail: detail.clone() });
            missing = Some(detail);
        }
        let roots = Roots {
            count: store.len(),
            origin,
        };
        let store = Arc::new(store);
        let (any, http1) = (config(&store, &[b"h2", b"http/1.1"])?, config(&store, &[b"http/1.1"])?);
        Ok(Self {
            roots,
            any,
            http1,
            store,
            missing,
        })
    }

    /// Refuses https where there is nothing to check a certificate against. A machine that speaks plain http, or to
    /// nobody, needs no roots.
    pub(crate) fn check(&self, url: &UpstreamUrl) -> Result<(), Error> {
        match &self.missing {
            Some(detail) if url.is_https() => Err(Error::NoRoots { detail: detail.clone() }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(crate) fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::TlsSetup)
}

fn config(store: &Arc<RootCertStore>, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let builder = builder()?.with_root_certificates(Arc::clone(store));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Whether a PEM file of root certificates can be used.
///
/// # Errors
/// [`Error::CaFile`].
pub fn check_ca_file(path: &Path) -> Result<(), Error> {
    add_file(&mut RootCertStore::empty(), path).map(drop)
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<usize, Error> {
    let failed = |reason: String| Error::CaFile {
        path: path.to_owned(),
        reason,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let mut added = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let added_one = store.add(certificate);
        added_one.map_err(|error| failed(format!("certificate {}: {error}", added + 1)))?;
        added += 1;
    }
    if added == 0 {
        return Err(failed("it has no certificate in PEM form".to_owned()));
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_roots_plain_http_goes_and_https_says_why_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/root.pem");
        let mut tls = Tls::load(Some(&root)).unwrap();
        tls.missing = Some("nothing was found".to_owned());
        assert!(tls.check(&"http://host.example/".parse().unwrap()).is_ok());
        let refused = tls.check(&"https://host.example/".parse().unwrap()).unwrap_err();
        assert!(matches!(refused, Error::NoRoots { .. }) && refused.to_string().contains("SSL_CERT_FILE"));
    }
}
