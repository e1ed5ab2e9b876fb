//! The only way to the network: what a simulated network has to replace is in this file.

use std::{io, net::SocketAddr, time::Duration};

pub use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel keeps for a listener until they are accepted.
const BACKLOG: i32 = 4096;

/// Listens; the address can be taken again at once after a process died.
///
/// # Errors
/// When the address is taken or not this machine's; the error names it.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    let how = |kind| match kind {
        io::ErrorKind::AddrInUse => "; end the program that has it, or give another port in the zone file",
        io::ErrorKind::AddrNotAvailable => "; give an address of this machine in the zone file",
        io::ErrorKind::PermissionDenied => "; give a port from 1024 up in the zone file",
        _ => "",
    };
    bind().map_err(|err| io::Error::new(err.kind(), format!("listen on {address}: {err}{}", how(err.kind()))))
}

/// Connects, without Nagle's delay.
///
/// # Errors
/// When nobody answers within `within`; the error names the address.
pub async fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let connected = match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let stream = connected.map_err(|err| io::Error::new(err.kind(), format!("connect to {address}: {err}")))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named_with_what_to_do() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let taken = first.local_addr().unwrap();
        let err = listen(taken).unwrap_err().to_string();
        assert!(err.starts_with(&format!("listen on {taken}: ")) && err.ends_with("or give another port in the zone file"), "{err}");
    }
}
