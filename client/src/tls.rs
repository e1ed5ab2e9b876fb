//! Whom a client believes to be the gate: the machine's own root certificates, or a given one.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// Where Debian and its relatives keep the certificates that the machine trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Who may vouch for a gate.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// What the machine trusts: the file that `SSL_CERT_FILE` names, or `/etc/ssl/certs/ca-certificates.crt`.
    #[default]
    System,
    /// Only these certificates; for tests and for zones with a certificate authority of their own.
    Only(Arc<RootCertStore>),
}

impl Roots {
    /// Trusts only the certificates of a PEM text.
    ///
    /// # Errors
    /// When the text has no certificate, or one that is malformed.
    pub fn from_pem(pem: &[u8]) -> io::Result<Self> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            store.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        if store.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no certificate in the PEM text"));
        }
        Ok(Self::Only(Arc::new(store)))
    }

    /// Trusts only the certificates of a PEM file.
    ///
    /// # Errors
    /// When the file can't be read, or as [`Roots::from_pem`].
    pub fn from_pem_file(file: &Path) -> io::Result<Self> {
        Self::from_pem(&std::fs::read(file)?)
    }
}

/// A configuration with the provider named, so that a second provider in the program can't make it ambiguous.
pub(crate) fn config(roots: &Roots) -> io::Result<ClientConfig> {
    let roots = match roots {
        Roots::Only(store) => store.clone(),
        Roots::System => system()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

pub(crate) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn system() -> io::Result<Arc<RootCertStore>> {
    let file = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| SYSTEM_ROOTS.to_owned());
    let pem = std::fs::read(&file).map_err(|error| io::Error::new(error.kind(), format!("read root certificates from {file}: {error}")))?;
    let mut store = RootCertStore::empty();
    // A machine's list may hold certificates that rustls does not take; the others still count.
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    Ok(Arc::new(store))
}
