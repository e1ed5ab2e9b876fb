//! One socket to a gate, as a pair of byte buffers and the frames between them: TCP or WebSocket, plain or TLS.
//!
//! Everything here is polled by the one task that owns the socket; a poll that is dropped loses no byte, in neither direction.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream as _};
use proto::{
    Frame, FrameError,
    frame::{self, LENGTH_BYTES},
    kinds::Direction,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use crate::{
    address::Address,
    tcp::{QUIET_READ_BYTES, Tcp},
    tls::{self, Roots},
};

/// Room that is made before each read: a typical tick fits, and an idle connection keeps no more.
const READ_BYTES: usize = 4096;
/// The longest WebSocket message that is taken; a gate packs a tick of frames into one.
const WEBSOCKET_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// What quiet sockets are read into, one after the other.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// A connected socket with its two buffers.
pub(crate) struct Transport {
    socket: Socket,
    incoming: BytesMut,
    /// Whole frames that wait for the socket. Bounded by its user ([`crate::connection::Connection`]).
    outgoing: BytesMut,
    unflushed: bool,
    received_bytes: u64,
}

enum Socket {
    Bytes(Stream),
    WebSocket(Box<WebSocketStream<Stream>>),
}

enum Stream {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

impl Transport {
    pub(crate) async fn connect(address: &Address, roots: &Roots) -> io::Result<Self> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        let tcp = Tcp::Woken(tcp);
        let stream = if address.scheme.is_encrypted() {
            let connector = TlsConnector::from(Arc::new(tls::config(roots)?));
            let name = tls::server_name(&address.host)?;
            Stream::Tls(Box::new(connector.connect(name, tcp).await?))
        } else {
            Stream::Plain(tcp)
        };
        let socket = if address.scheme.is_websocket() { Socket::WebSocket(upgrade(address, stream).await?) } else { Socket::Bytes(stream) };
        Ok(Self { socket, incoming: BytesMut::new(), outgoing: BytesMut::new(), unflushed: false, received_bytes: 0 })
    }

    /// Puts bytes behind what already waits; [`Transport::poll_flush`] hands them to the socket.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Bytes that wait for the socket.
    pub(crate) fn queued(&self) -> usize {
        self.outgoing.len()
    }

    /// Bytes that the socket has brought, as frames count them.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Bytes(stream) => {
                while !self.outgoing.is_empty() {
                    self.unflushed = true;
                    // `write_buf` takes off the buffer exactly what it wrote: polling a fresh future each time loses nothing.
                    let written = ready!(pin!(stream.write_buf(&mut self.outgoing)).poll(cx))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                }
                if self.unflushed {
                    ready!(Pin::new(stream).poll_flush(cx))?;
                }
            }
            Socket::WebSocket(socket) => {
                let mut socket = Pin::new(socket.as_mut());
                if !self.outgoing.is_empty() {
                    ready!(socket.as_mut().poll_ready(cx)).map_err(to_io)?;
                    socket.as_mut().start_send(Message::Binary(self.outgoing.split().freeze())).map_err(to_io)?;
                    self.unflushed = true;
                }
                if self.unflushed {
                    ready!(socket.poll_flush(cx)).map_err(to_io)?;
                }
            }
        }
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// The next frame; `None` when the server has closed the connection.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        loop {
            let frame = take_frame(&mut self.incoming).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if frame.is_some() {
                return Poll::Ready(Ok(frame));
            }
            let read = ready!(self.poll_read(cx))?;
            if read == 0 {
                return Poll::Ready(Ok(None));
            }
            self.received_bytes = self.received_bytes.saturating_add(read as u64);
        }
    }

    /// Gives `take` the frames that have arrived on a quiet socket, without waiting; false when the server has closed the connection.
    pub(crate) fn fetch(&mut self, mut take: impl FnMut(Frame)) -> io::Result<bool> {
        let mut cx = Context::from_waker(Waker::noop());
        let begun = std::mem::replace(&mut self.incoming, SPARE.take());
        self.incoming.extend_from_slice(&begun);
        let is_open = loop {
            while let Some(frame) = take_frame(&mut self.incoming).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                take(frame);
            }
            match self.poll_read(&mut cx)? {
                Poll::Ready(0) => break false,
                Poll::Ready(read) => self.received_bytes = self.received_bytes.saturating_add(read as u64),
                Poll::Pending => break true,
            }
        };
        // The next fetch is far away: until then the memory is somebody else's, but for the frame that has begun.
        let begun = BytesMut::from(&self.incoming[..]);
        let mut spare = std::mem::replace(&mut self.incoming, begun);
        spare.clear();
        SPARE.set(spare);
        Ok(is_open)
    }

    /// The socket below TLS and WebSocket.
    pub(crate) fn tcp(&mut self) -> &mut Tcp {
        let stream = match &mut self.socket {
            Socket::Bytes(stream) => stream,
            Socket::WebSocket(socket) => socket.get_mut(),
        };
        match stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(stream) => stream.get_mut().0,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = if self.tcp().is_quiet() { QUIET_READ_BYTES } else { READ_BYTES };
        match &mut self.socket {
            Socket::Bytes(stream) => {
                self.incoming.reserve(room);
                pin!(stream.read_buf(&mut self.incoming)).poll(cx)
            }
            Socket::WebSocket(socket) => loop {
                match ready!(Pin::new(socket.as_mut()).poll_next(cx)) {
                    Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                    Some(Ok(Message::Binary(bytes))) => {
                        let read = bytes.len();
                        append(&mut self.incoming, bytes);
                        return Poll::Ready(Ok(read));
                    }
                    Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(0)),
                    // tungstenite answers pings itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Text(_))) => {
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a text message on the WebSocket")));
                    }
                    Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => return Poll::Ready(Ok(0)),
                    Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                }
            },
        }
    }
}

async fn upgrade(address: &Address, stream: Stream) -> io::Result<Box<WebSocketStream<Stream>>> {
    let limits = WebSocketConfig::default().max_message_size(Some(WEBSOCKET_BYTES_MAX)).max_frame_size(Some(WEBSOCKET_BYTES_MAX));
    let (socket, _) = tokio_tungstenite::client_async_with_config(address.to_string(), stream, Some(limits)).await.map_err(to_io)?;
    Ok(Box::new(socket))
}

fn to_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

fn append(incoming: &mut BytesMut, bytes: Bytes) {
    if incoming.is_empty() {
        *incoming = BytesMut::from(bytes); // takes the message's memory over
    } else {
        incoming.extend_from_slice(&bytes);
    }
}

/// As [`frame::split`], but a kind that this version does not know is a frame too: the application decides what it makes of it.
fn take_frame(incoming: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let unknown = match frame::split(incoming, Direction::ToClient) {
        Err(error @ FrameError::UnknownKind(_)) => error,
        usual => return usual,
    };
    // The length was checked against the direction's limit before the kind was looked at.
    let Some(prefix) = incoming.first_chunk::<LENGTH_BYTES>() else { return Err(unknown) };
    let whole = LENGTH_BYTES + u32::from_le_bytes(*prefix) as usize;
    if incoming.len() < whole {
        return Ok(None);
    }
    Frame::from_bytes(incoming.split_to(whole).freeze()).map(Some)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, to),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_a_newer_zone_is_a_frame() {
        let strange = Frame::from_body(0x7777, 0, b"what");
        let mut incoming = BytesMut::from(&strange.bytes()[..10]);
        assert_eq!(take_frame(&mut incoming), Ok(None));
        incoming.extend_from_slice(&strange.bytes()[10..]);
        assert_eq!(take_frame(&mut incoming), Ok(Some(strange)));
        assert!(incoming.is_empty());
    }

    #[test]
    fn an_endless_frame_is_refused() {
        let mut incoming = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(matches!(take_frame(&mut incoming), Err(FrameError::TooLong { .. })));
    }
}
