//! argon2id in memory that is used again, and the PHC strings that hashes are kept as.
//!
//! What stays in the memory between two hashes is no secret of its own: whoever can read it can read the hash that it led to.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, PasswordHash, Salt},
    },
};

/// The blocks of a thread that hashes: a gigabyte a second would go through the allocator otherwise, and page by page through the kernel.
#[derive(Debug, Default)]
pub(super) struct Memory {
    blocks: Vec<Block>,
    /// As many stay between two hashes: those of the zone's own parameters.
    kept: usize,
}

impl Memory {
    /// None yet; the blocks of hashes with these parameters will be kept.
    pub(super) fn for_hashes_of(argon2: &Argon2) -> Self {
        Self { blocks: Vec::new(), kept: argon2.params().block_count() }
    }

    fn fill(&mut self, argon2: &Argon2, password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<(), argon2::Error> {
        let count = argon2.params().block_count();
        if self.blocks.len() < count {
            self.blocks.resize(count, Block::new());
        }
        let filled = argon2.hash_password_into_with_memory(password, salt, out, &mut self.blocks[..count]);
        // A stored hash may have asked for more than new ones do.
        if self.kept < self.blocks.len() {
            self.blocks.truncate(self.kept);
            self.blocks.shrink_to_fit();
        }
        filled
    }
}

/// The PHC string of a password.
///
/// # Errors
/// When the salt is too short or too long.
pub(super) fn hash(argon2: &Argon2, memory: &mut Memory, password: &[u8], salt: &[u8]) -> Result<String, password_hash::Error> {
    let params = argon2.params();
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    memory.fill(argon2, password, salt, &mut out)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: params.try_into()?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(&out)?),
    };
    Ok(hash.to_string())
}

/// Whether a password is the one of a PHC string, whatever its parameters. The outputs are compared in constant time.
///
/// # Errors
/// When the string is no hash of argon2.
pub(super) fn verify(memory: &mut Memory, password: &[u8], hash: &str) -> Result<bool, password_hash::Error> {
    let hash = PasswordHash::new(hash)?;
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Err(password_hash::Error::PasswordInvalid) };
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let argon2 = Argon2::new(Algorithm::try_from(hash.algorithm.as_str())?, version, Params::try_from(&hash)?);
    let mut out = vec![0; expected.len()];
    memory.fill(&argon2, password, salt.as_ref(), &mut out)?;
    Ok(Output::new(&out)? == *expected)
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};
    use proptest::prelude::*;

    use super::*;

    fn argon2(memory_kib: u32, passes: u32) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory_kib, passes, 1, None).expect("allowed"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The crate's own way, which allocates for each hash, is the model.
        #[test]
        fn hashes_are_those_of_the_crate(
            password in proptest::collection::vec(any::<u8>(), 0..40),
            salt in proptest::collection::vec(any::<u8>(), 16),
            costs in proptest::collection::vec((8u32..100, 1u32..3), 1..4),
        ) {
            let mut memory = Memory::for_hashes_of(&argon2(16, 1));
            for (memory_kib, passes) in costs {
                let argon2 = argon2(memory_kib, passes);
                let made = hash(&argon2, &mut memory, &password, &salt).expect("a hash");
                let model: PasswordHash = argon2.hash_password_with_salt(&password, &salt).expect("a hash");
                prop_assert_eq!(&made, &model.to_string());
                prop_assert!(verify(&mut memory, &password, &made).expect("a hash"));
                prop_assert!(!verify(&mut memory, b"another", &made).expect("a hash") || password == b"another");
                prop_assert!(argon2.verify_password(&password, &PasswordHash::new(&made).expect("PHC")).is_ok());
                prop_assert!(memory.blocks.len() <= 16);
            }
        }
    }

    /// From the reference implementation's own tests (github.com/P-H-C/phc-winner-argon2, src/test.c, version 0x13, argon2id).
    #[test]
    fn a_hash_of_the_reference_implementation_is_good() {
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(verify(&mut Memory::default(), b"password", hash).expect("a hash"));
        assert!(!verify(&mut Memory::default(), b"passwore", hash).expect("a hash"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for nonsense in ["", "no hash", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ", "$scrypt$ln=8,r=8,p=1$c29tZXNhbHQ$c29tZXNhbHQ"] {
            assert!(verify(&mut Memory::default(), b"password", nonsense).is_err(), "{nonsense}");
        }
    }
}
