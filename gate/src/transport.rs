//! How bytes come and go: plain or in TLS, as a stream or as WebSocket messages. Nothing here knows what the bytes mean.
//!
//! [`open`] makes a [`Reader`] and a [`Writer`] out of a connection. Over WebSocket only binary messages are taken, each of whole frames,
//! without compression, bounded in length.

use std::{io, sync::Arc};

use bytes::{Buf, BytesMut};
use futures_util::{SinkExt, StreamExt, stream};
use service::net::{self, TcpStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{
        self, Message,
        error::{CapacityError, ProtocolError},
        protocol::WebSocketConfig,
    },
};

/// Bytes that are read at once.
const READ_BYTES: usize = 2048;
/// The longest WebSocket message from a client: a dozen of the longest frames.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// A write buffer that a burst has grown beyond this is given back.
const BUFFER_KEPT_MAX: usize = 16 * 1024;

/// What a transport stands on.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of any kind.
pub(crate) type BoxIo = Box<dyn Io>;

/// What a client comes in by.
pub(crate) enum Accepted {
    /// A connection to a door.
    Tcp(TcpStream),
    /// Anything else that carries bytes: tests have no sockets.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests"))]
    Other(BoxIo),
}

/// The reading half of a client's connection.
pub(crate) enum Reader {
    /// A stream of frames, over plain TCP.
    Tcp(Arc<TcpStream>),
    /// A stream of frames.
    Stream(ReadHalf<BoxIo>),
    /// Messages of whole frames.
    WebSocket(stream::SplitStream<WebSocketStream<BoxIo>>),
}

/// The writing half of a client's connection.
pub(crate) enum Writer {
    /// A stream of frames, over plain TCP.
    Tcp(Arc<TcpStream>),
    /// A stream of frames.
    Stream(WriteHalf<BoxIo>),
    /// Messages of whole frames.
    WebSocket(stream::SplitSink<WebSocketStream<BoxIo>, Message>),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Bytes, now in the buffer.
    Bytes,
    /// Bytes that must be whole frames, now in the buffer.
    Message,
    /// A sign of life without meaning.
    Ping,
    /// A text message, which no client of ours sends.
    Text,
    /// A message that is too long.
    Oversize,
    /// Bytes that are no WebSocket.
    Malformed,
    /// The client closed the connection, or it broke.
    End,
}

/// Upgrades a connection. The caller limits the time.
///
/// # Errors
/// When the client does not speak what is configured.
pub(crate) async fn open(accepted: Accepted, tls: Option<TlsAcceptor>, websocket: bool) -> io::Result<(Reader, Writer)> {
    let io: BoxIo = match accepted {
        Accepted::Tcp(stream) if tls.is_none() && !websocket => {
            let stream = Arc::new(stream);
            return Ok((Reader::Tcp(stream.clone()), Writer::Tcp(stream)));
        }
        Accepted::Tcp(stream) => Box::new(stream),
        Accepted::Other(io) => io,
    };
    let io: BoxIo = match tls {
        Some(tls) => Box::new(Box::pin(tls.accept(io)).await?),
        None => io,
    };
    if !websocket {
        let (reader, writer) = tokio::io::split(io);
        return Ok((Reader::Stream(reader), Writer::Stream(writer)));
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = Box::pin(accept_async_with_config(io, Some(config))).await.map_err(io::Error::other)?;
    let (writer, reader) = socket.split();
    Ok((Reader::WebSocket(reader), Writer::WebSocket(writer)))
}

impl Reader {
    /// Reads what is there, behind what `buffer` has. Cancel-safe.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> Received {
        match self {
            Reader::Tcp(stream) => read_tcp(stream, buffer).await,
            Reader::Stream(stream) => {
                if buffer.capacity() - buffer.len() < READ_BYTES / 16 {
                    buffer.reserve(READ_BYTES);
                }
                match stream.read_buf(buffer).await {
                    Ok(0) | Err(_) => Received::End,
                    Ok(_) => Received::Bytes,
                }
            }
            Reader::WebSocket(stream) => match stream.next().await {
                Some(Ok(Message::Binary(message))) => {
                    buffer.extend_from_slice(&message);
                    Received::Message
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Received::Ping,
                Some(Ok(Message::Text(_))) => Received::Text,
                Some(Err(tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }))) => Received::Oversize,
                // A socket that broke, not a client that misbehaved: the session can be resumed.
                Some(Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Received::End,
                Some(Err(tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_))) => Received::Malformed,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Received::End,
            },
        }
    }

    /// Reads and forgets up to `bytes_max`, or until the client closes. A connection that is closed with unread bytes is reset, and a
    /// reset can overtake the last frame.
    pub(crate) async fn drain(&mut self, bytes_max: usize) {
        let (mut buffer, mut left) = (BytesMut::new(), bytes_max);
        while matches!(self.read(&mut buffer).await, Received::Bytes | Received::Message | Received::Ping | Received::Text) {
            match left.checked_sub(buffer.len().max(1)) {
                Some(less) => left = less,
                None => return,
            }
            buffer.clear();
        }
    }
}

/// Memory is taken when there is something to read: most clients are silent most of the time.
async fn read_tcp(stream: &TcpStream, buffer: &mut BytesMut) -> Received {
    loop {
        if buffer.is_empty() {
            *buffer = BytesMut::new();
        }
        if stream.readable().await.is_err() {
            return Received::End;
        }
        let mut room = [0; READ_BYTES];
        match net::try_read(stream, &mut room) {
            Ok(0) => return Received::End,
            Ok(read) => {
                buffer.extend_from_slice(&room[..read]);
                return Received::Bytes;
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Received::End,
        }
    }
}

impl Writer {
    /// The connection, if it is plain TCP.
    pub(crate) fn tcp(&self) -> Option<&Arc<TcpStream>> {
        match self {
            Writer::Tcp(stream) => Some(stream),
            Writer::Stream(_) | Writer::WebSocket(_) => None,
        }
    }

    /// Writes all of `buffer`, which is whole frames, in one go.
    pub(crate) async fn write(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        match self {
            Writer::Tcp(stream) => {
                while !buffer.is_empty() {
                    stream.writable().await?;
                    match stream.try_write(buffer) {
                        Ok(count) => buffer.advance(count),
                        Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                        Err(err) => return Err(err),
                    }
                }
                Ok(())
            }
            Writer::Stream(stream) => {
                stream.write_all_buf(buffer).await?;
                stream.flush().await?;
                if BUFFER_KEPT_MAX < buffer.capacity() {
                    *buffer = BytesMut::new();
                }
                Ok(())
            }
            Writer::WebSocket(sink) => sink.send(Message::Binary(buffer.split().freeze())).await.map_err(io::Error::other),
        }
    }

    /// Says that nothing follows.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        match self {
            Writer::Tcp(stream) => net::finish(stream),
            Writer::Stream(stream) => stream.shutdown().await,
            Writer::WebSocket(sink) => sink.close().await.map_err(io::Error::other),
        }
    }
}
