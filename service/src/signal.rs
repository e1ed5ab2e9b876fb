//! SIGTERM and SIGINT: stop, drained and saved.

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGTERM or SIGINT. Cancel-safe.
///
/// # Panics
/// When the process may not install a handler for these, which the kernel always allows.
pub async fn shutdown() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}
