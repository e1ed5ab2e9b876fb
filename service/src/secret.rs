//! The zone secret: read from the environment or a file, never printed, and the keys derived from it.

use std::{io, path::Path};

use anyhow::{Context, bail};
use aws_lc_rs::{hmac, rand};
use secrecy::ExposeSecret;

use crate::config::{Environment, SecretSource, Zone};

/// A secret shorter than this can be guessed.
const BYTES_MIN: usize = 16;
/// Random bytes in a secret that is made.
const MADE_BYTES: usize = 32;
/// What examples and habits give for a secret: refused outside dev, whatever is added to make it long enough.
const SAMPLES: [&str; 8] = ["change-me", "changeme", "change_me", "secret", "sample", "example", "paifang", "password"];

/// The zone secret. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct ZoneSecret(secrecy::SecretSlice<u8>);

impl std::fmt::Debug for ZoneSecret {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("ZoneSecret(..)")
    }
}

impl ZoneSecret {
    /// From its bytes; for tests.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec().into())
    }

    /// Reads it from where the zone file says. In a dev zone a missing file is made, with mode 0600.
    ///
    /// # Errors
    /// When it is not there, shorter than 16 bytes, or (outside dev) a sample value; the error says what to do.
    pub fn load(zone: &Zone, data: &Path) -> anyhow::Result<Self> {
        let bytes = match (read(&zone.secret, data)?, &zone.secret) {
            (Some(bytes), _) => bytes,
            (None, SecretSource::File(path)) if zone.environment == Environment::Dev => make(&data.join(path))?,
            (None, SecretSource::File(path)) => {
                bail!("read the zone secret: there is no file {}; put {BYTES_MIN} or more random bytes there", data.join(path).display())
            }
            (None, SecretSource::Env(name)) => {
                bail!("read the zone secret: the environment variable {name} is not set; set it to {BYTES_MIN} or more random characters")
            }
        };
        check(&bytes, zone.environment).map_err(|why| anyhow::anyhow!("take the zone secret: {why}"))?;
        Ok(Self::new(&bytes))
    }

    /// A key for one purpose: HMAC-SHA256 of the purpose's name under the secret.
    pub fn key(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        let tag = hmac::sign(&key, purpose.as_bytes());
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// A secret that is a text, such as a URL with a password in it; its `Debug` shows nothing. A relative file starts at `data`.
///
/// # Errors
/// When it is not there or is no UTF-8; the error says where it was sought.
pub fn text(source: &SecretSource, data: &Path) -> anyhow::Result<secrecy::SecretString> {
    let place = match source {
        SecretSource::Env(name) => format!("the environment variable {name}"),
        SecretSource::File(path) => format!("the file {}", data.join(path).display()),
    };
    let bytes = read(source, data)?.filter(|bytes| !bytes.is_empty()).with_context(|| format!("{place} is not there or empty"))?;
    Ok(String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{place} is no UTF-8"))?.into())
}

/// The secret's bytes without the white space around them; `None` if it is not there.
pub(crate) fn read(source: &SecretSource, data: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match source {
        SecretSource::Env(name) => Ok(std::env::var_os(name).map(|value| value.as_encoded_bytes().trim_ascii().to_vec())),
        SecretSource::File(path) => match crate::fs::read(&data.join(path)) {
            Ok(bytes) => Ok(Some(bytes.trim_ascii().to_vec())),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err).context("read the zone secret"),
        },
    }
}

/// Whether a zone of this environment may use the secret; if not, why, and what to do.
pub(crate) fn check(bytes: &[u8], environment: Environment) -> Result<(), String> {
    if bytes.len() < BYTES_MIN {
        return Err(format!("it has {} bytes; give it {BYTES_MIN} or more random ones", bytes.len()));
    }
    let lower = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let one_byte = bytes.iter().all(|byte| *byte == bytes[0]);
    if environment == Environment::Live && (one_byte || SAMPLES.iter().any(|sample| lower.contains(sample))) {
        return Err("it is a sample value; make one of random bytes, for example with `openssl rand -hex 32`".into());
    }
    Ok(())
}

/// Makes the secret's file. Several processes of a zone may do so at once: the first one's is everybody's.
fn make(path: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some(folder) = path.parent() {
        crate::fs::make_folder(folder)?;
    }
    match crate::fs::create(path, made(MADE_BYTES).as_bytes(), 0o600) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err).context("make the zone secret"),
        _ => (),
    }
    Ok(crate::fs::read(path).context("read the zone secret")?.trim_ascii().to_vec())
}

/// `length` bytes that nobody can guess, as lower-case hexadecimal digits: for passwords and secrets that are made.
pub fn made(length: usize) -> String {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes).expect("the kernel has random bytes");
    proto::json::hex::encode(&bytes)
}

/// 64 bits that nobody can guess, to seed a process' chance and to tell its runs apart.
pub fn chance() -> u64 {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the kernel has random bytes");
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(environment: &str) -> Zone {
        let text = crate::config::DEV_ZONE.replace("environment: dev ", &format!("environment: {environment} "));
        Zone::for_test(&text).unwrap()
    }

    #[test]
    fn a_dev_zone_makes_its_secret_once() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let first = ZoneSecret::load(&zone("dev"), data.path()).unwrap();
        let second = ZoneSecret::load(&zone("dev"), data.path()).unwrap();
        assert_eq!(first.key("a"), second.key("a"));
        assert_ne!(first.key("a"), first.key("b"));
        let mode = std::fs::metadata(data.path().join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_live_zone_wants_a_secret_that_is_its_own() {
        let data = tempfile::tempdir().unwrap();
        let refused = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(data.path().join("secret"), text).unwrap();
            }
            ZoneSecret::load(&zone("live"), data.path()).unwrap_err().to_string()
        };
        assert!(refused(None).contains("there is no file"));
        assert!(refused(Some("short")).contains("5 bytes"));
        assert!(refused(Some("change-me-change-me")).contains("sample"));
        assert!(refused(Some("aaaaaaaaaaaaaaaaaaaa")).contains("sample"));
        std::fs::write(data.path().join("secret"), made(32)).unwrap();
        ZoneSecret::load(&zone("live"), data.path()).unwrap();
    }

    #[test]
    fn nothing_shows_the_secret() {
        assert_eq!(format!("{:?}", ZoneSecret::new(b"0123456789abcdef")), "ZoneSecret(..)");
    }
}
