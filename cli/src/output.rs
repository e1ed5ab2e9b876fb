//! Standard output, which whoever reads it may close at any time (`zone status | head -1`).

use std::io::{ErrorKind, Write};

/// Prints a line. Ends the program, done, when nobody reads any more.
pub(crate) fn line(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // A full disk behind a redirection, for example.
        Err(err) => {
            eprintln!("zone: failed to write to standard output: {err}");
            std::process::exit(1)
        }
        Ok(()) => (),
    }
}
