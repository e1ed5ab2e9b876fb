//! The only way to the network: what a simulated network has to replace is in this file.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use tokio::net::{TcpListener, TcpStream};
use tokio::{io::Interest, net::TcpSocket};

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

/// The addresses that a host's port has now, as this machine resolves names; never none.
///
/// # Errors
/// When the host has no address; the error names it.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let named = |err: io::Error| io::Error::new(err.kind(), format!("find {host}: {err}"));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(named)?.collect();
    if addresses.is_empty() {
        return Err(named(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
    }
    Ok(addresses)
}

/// Connects to a process: to the port at its host, if it has one, or else to where it listens. The host is resolved each time, since a
/// container may have another address after each start.
///
/// # Errors
/// When nobody answers within `within`; the error names the host or the address.
pub async fn reach(host: Option<&str>, listens: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let Some(host) = host else { return connect(listens, within).await };
    let resolved = match tokio::time::timeout(within, resolve(host, listens.port())).await {
        Ok(resolved) => resolved?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("find {host}: no answer within {} s", within.as_secs()))),
    };
    let mut failed = None;
    for address in resolved {
        match connect(address, within).await {
            Ok(stream) => return Ok(stream),
            Err(err) => failed = Some(io::Error::new(err.kind(), format!("{host}: {err}"))),
        }
    }
    Err(failed.expect("a host that resolves has an address"))
}

/// Connects, without Nagle's delay.
///
/// # Errors
/// When nobody answers within `within`; the error names the address.
pub async fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    connected(address, TcpStream::connect(address), within).await
}

/// As [`connect`], from an address of this machine's own choice: each has as many ports as a connection can come from.
///
/// # Errors
/// As [`connect`]; when `from` is no address of this machine, or has no port left.
pub async fn connect_from(from: IpAddr, address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0)).map_err(|err| io::Error::new(err.kind(), format!("connect from {from}: {err}")))?;
    connected(address, socket.connect(address), within).await
}

async fn connected(
    address: SocketAddr,
    connecting: impl Future<Output = io::Result<TcpStream>>,
    within: Duration,
) -> io::Result<TcpStream> {
    let connected = match tokio::time::timeout(within, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let stream = connected.map_err(|err| io::Error::new(err.kind(), format!("connect to {address}: {err}")))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads what is there. After a read that filled less than `room` there is nothing more, and the next wait for the socket to be readable
/// really waits: `TcpStream::try_read` needs a second system call to find that out.
///
/// # Errors
/// `WouldBlock` when nothing is there; what the system says when the connection broke.
pub fn try_read(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut emptied = None;
    let read = stream.try_io(Interest::READABLE, || {
        let read = (&*socket2::SockRef::from(stream)).read(room)?;
        if 0 < read && read < room.len() {
            emptied = Some(read);
            // By this the runtime knows that the socket is empty.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    emptied.map_or(read, Ok)
}

/// Keeps the kernel from taking more than about `bytes_max` that the peer has no room for: what waits longer is better kept where newer
/// bytes can still take its place.
///
/// # Errors
/// The system's.
pub fn limit_unsent(stream: &TcpStream, bytes_max: u32) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes_max)
}

/// Says to the peer that nothing follows what was written; what it sends can still be read.
///
/// # Errors
/// The system's.
pub fn finish(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_taken_address_is_named_with_what_to_do() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let taken = first.local_addr().unwrap();
        let err = listen(taken).unwrap_err().to_string();
        assert!(err.starts_with(&format!("listen on {taken}: ")) && err.ends_with("or give another port in the zone file"), "{err}");
    }

    #[tokio::test]
    async fn a_process_with_a_host_is_reached_there_and_not_where_it_listens() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let everywhere = SocketAddr::new([0, 0, 0, 0].into(), listener.local_addr().unwrap().port());
        let stream = reach(Some("localhost"), everywhere, SOON).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        // Nobody listens at 127.0.0.2; the host decides.
        assert!(reach(Some("127.0.0.2"), everywhere, SOON).await.is_err());
    }

    #[tokio::test]
    async fn a_socket_that_was_read_empty_is_not_readable_until_more_comes() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = connect(listener.local_addr().unwrap(), SOON).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut room = [0; 8];
        for sent in [b"abc", b"def"] {
            assert_eq!(sender.try_write(sent).unwrap(), 3);
            stream.readable().await.unwrap();
            assert_eq!(try_read(&stream, &mut room).unwrap(), 3);
            assert_eq!(&room[..3], sent);
            assert!(stream.readable().now_or_never().is_none(), "it knows without asking");
        }
        drop(sender);
        stream.readable().await.unwrap();
        assert_eq!(try_read(&stream, &mut room).unwrap(), 0, "the end is told");
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_address_that_it_is_given() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let from: IpAddr = "127.0.0.2".parse().unwrap();
        let stream = connect_from(from, listener.local_addr().unwrap(), SOON).await.unwrap();
        let (_, seen) = listener.accept().await.unwrap();
        assert_eq!((seen.ip(), Some(seen)), (from, stream.local_addr().ok()));
    }

    #[tokio::test]
    async fn a_host_that_is_unknown_is_named() {
        let err = reach(Some("no host at all"), "0.0.0.0:1".parse().unwrap(), SOON).await.unwrap_err();
        assert!(err.to_string().starts_with("find no host at all: "), "{err}");
    }
}
