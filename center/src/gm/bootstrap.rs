//! The first GM account: `admin`, with a password that center makes and keeps in its data folder.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow};
use proto::internal::{CallFaultCode, GmAccountCreate, GmAccountFind};
use service::fs;

use super::{auth, registry::Role};
use crate::center::Center;

const NAME: &str = "admin";
/// Random bytes in the password.
const PASSWORD_BYTES: usize = 16;
const FILE: &str = "gm.password";

/// Makes the account if dc has none.
///
/// The file is written before the account is made: a file without an account (center died in between, or the store was replaced)
/// gives the account the file's password. An account without a file is left as it is: its password is known to whoever took the file.
pub(crate) async fn first_account(center: &Arc<Center>) -> anyhow::Result<()> {
    let path = center.process.folder.join(FILE);
    match center.dc(&GmAccountFind { name: NAME.into() }).await {
        Ok(_) => return Ok(()),
        Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => (),
        Err(err) => return Err(anyhow!("find the GM account `{NAME}`: {err}")),
    }
    let password = match kept_password(&path) {
        Some(password) => password,
        None => {
            let password = service::secret::made(PASSWORD_BYTES);
            fs::replace(&path, format!("{NAME} {password}\n").as_bytes(), 0o600).context("keep the GM password")?;
            password
        }
    };
    let password_hash = auth::hash(password).await.map_err(|err| anyhow!("hash the GM password: {}", err.text))?;
    let create = GmAccountCreate { name: NAME.into(), password_hash, role: Role::Admin.name().into() };
    match center.dc(&create).await {
        Ok(_) => (),
        // An earlier try whose answer was lost.
        Err(err) if err.code() == Some(CallFaultCode::CallNameTaken) => (),
        Err(err) => return Err(anyhow!("make the GM account `{NAME}`: {err}")),
    }
    let says = format!("made the GM account `{NAME}`; its password is in {}", path.display());
    tracing::info!("{says}");
    println!("{says}");
    Ok(())
}

fn kept_password(path: &Path) -> Option<String> {
    let text = fs::read_text(path).ok()?;
    let password = text.strip_prefix(NAME)?.strip_prefix(' ')?.trim_end_matches('\n');
    (proto::names::password(password) && !password.contains('\n')).then(|| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_password_is_used_again_if_the_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(kept_password(&path), None);
        fs::replace(&path, b"admin 0123456789abcdef\n", 0o600).unwrap();
        assert_eq!(kept_password(&path), Some("0123456789abcdef".into()));
        for broken in ["", "admin", "admin \n", "root 0123456789abcdef\n", "admin short\n", "admin 01234567\nadmin 89abcdef\n"] {
            fs::replace(&path, broken.as_bytes(), 0o600).unwrap();
            assert_eq!(kept_password(&path), None, "{broken:?}");
        }
    }
}
