//! Whom a process trusts when it connects to a database with TLS.

use std::path::Path;

use anyhow::{Context, ensure};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The certificates in a PEM file, as it is, after a look at whether there is one.
///
/// # Errors
/// When the file can't be read, or what is in it is no certificate; the error says what to do.
pub fn certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = crate::fs::read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.with_context(|| format!("{} is no PEM file of certificates", path.display()))?;
    ensure!(!found.is_empty(), "{} has no certificate: it begins with -----BEGIN CERTIFICATE-----", path.display());
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let pem = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        std::fs::write(&path, &pem).unwrap();
        assert_eq!(certificates(&path).unwrap(), pem.as_bytes());
        for (text, expected) in [("", "has no certificate"), (&pem[..60], "is no PEM file"), ("a key", "has no certificate")] {
            std::fs::write(&path, text).unwrap();
            let refused = format!("{:#}", certificates(&path).unwrap_err());
            assert!(refused.contains(expected) && refused.contains("ca.pem"), "{text}: {refused}");
        }
    }
}
