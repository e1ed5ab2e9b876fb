//! SIGTERM and SIGINT: stop, drained and saved.

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGTERM or SIGINT after the call: these no longer end the process by themselves. Cancel-safe.
///
/// # Panics
/// When the process may not install a handler for these, which the kernel always allows.
pub fn shutdown() -> impl Future<Output = ()> {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    }
}
