//! A TCP socket in one of two ways: *woken*, as tokio has it, where every arrival wakes whoever reads; or *quiet*, where the kernel gathers
//! what arrives until its owner comes to fetch it, and nobody is woken.
//!
//! A quiet socket's polls are `Pending` without a waker to come: [`crate::quiet`] polls it when it is time.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What one read of a quiet socket takes at most: half a second of a busy client.
pub(crate) const QUIET_READ_BYTES: usize = 32 * 1024;

thread_local! {
    /// Where quiet sockets are read into. One a thread, so that ten thousand sockets need no buffer each.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; QUIET_READ_BYTES].into_boxed_slice());
}

/// The socket.
pub(crate) enum Tcp {
    Woken(TcpStream),
    Quiet(Quiet),
    /// The runtime did not take it, or did not let it go.
    Gone,
}

/// A socket that no reactor knows.
pub(crate) struct Quiet {
    socket: std::net::TcpStream,
    /// The last read brought less than it asked for: another one now would bring nothing, and cost a system call.
    is_empty: bool,
}

impl Tcp {
    /// Takes the socket from the runtime.
    pub(crate) fn quieten(&mut self) -> io::Result<()> {
        if let Tcp::Woken(socket) = std::mem::replace(self, Tcp::Gone) {
            *self = Tcp::Quiet(Quiet { socket: socket.into_std()?, is_empty: false });
        }
        Ok(())
    }

    /// Gives the socket to the runtime.
    pub(crate) fn waken(&mut self) -> io::Result<()> {
        if let Tcp::Quiet(quiet) = std::mem::replace(self, Tcp::Gone) {
            *self = Tcp::Woken(TcpStream::from_std(quiet.socket)?);
        }
        Ok(())
    }

    /// Whether the runtime does not know it.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Tcp::Quiet(_))
    }
}

impl Quiet {
    fn read(&mut self, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_empty) {
            return Poll::Pending;
        }
        ROOM.with_borrow_mut(|room| {
            let wanted = to.remaining().min(room.len());
            match unless_blocked(|| self.socket.read(&mut room[..wanted])) {
                Poll::Ready(Ok(read)) => {
                    to.put_slice(&room[..read]);
                    self.is_empty = 0 < read && read < wanted;
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
    }
}

fn unless_blocked(mut call: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Tcp::Woken(socket) => Pin::new(socket).poll_read(cx, to),
            Tcp::Quiet(quiet) => quiet.read(to),
            Tcp::Gone => gone(),
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Tcp::Woken(socket) => Pin::new(socket).poll_write(cx, bytes),
            Tcp::Quiet(quiet) => unless_blocked(|| quiet.socket.write(bytes)),
            Tcp::Gone => gone(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What a TCP socket has taken is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Tcp::Woken(socket) => Pin::new(socket).poll_shutdown(cx),
            Tcp::Quiet(quiet) => Poll::Ready(quiet.socket.shutdown(std::net::Shutdown::Write)),
            Tcp::Gone => gone(),
        }
    }
}
