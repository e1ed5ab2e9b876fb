//! Nothing but argon2id, on as many threads as the zone has hashers, each with memory of its own.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::bench::process::Usage;

/// Hashes a second, and processor seconds for each.
pub(super) fn hash_for(memory_kib: u32, passes: u32, span: Duration) -> anyhow::Result<(f64, f64)> {
    let params = Params::new(memory_kib, passes, 1, None).map_err(|err| anyhow!("argon2 parameters: {err}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (over, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (before, began) = (Usage::own()?, Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut memory = vec![Block::new(); argon2.params().block_count()];
                let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
                while !over.load(Ordering::Relaxed) {
                    let hashed = argon2.hash_password_into_with_memory(b"correct horse", b"sixteen bytes of", &mut out, &mut memory[..]);
                    hashed.expect("the parameters are allowed");
                    hashes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(span);
        over.store(true, Ordering::Relaxed);
    });
    let (took, used) = (began.elapsed().as_secs_f64(), Usage::own()?.cpu_s() - before.cpu_s());
    let hashes = Some(hashes.into_inner()).filter(|hashes| 0 < *hashes).context("hash at least once")? as f64;
    Ok((hashes / took, used / hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_counted() {
        let (per_s, cpu_s) = hash_for(8, 1, Duration::from_millis(10)).unwrap();
        assert!(0.0 < per_s && 0.0 <= cpu_s);
        assert!(hash_for(1, 1, Duration::ZERO).is_err());
    }
}
