//! How two processes prove to each other that they belong to one zone, before anything else is read.
//!
//! The dialling side sends HELLO, the accepting side answers with its own HELLO and its proof, the dialling side sends PROOF. A proof
//! is an HMAC over both hellos, whose nonces make it worth nothing on another connection. Who finds something wrong sends REFUSED
//! with a reason that reads the same on both sides.

use std::{io, time::Duration};

use aws_lc_rs::hmac;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::{
    PROTOCOL_VERSION,
    internal::{LinkHello, LinkProof, LinkRefused},
    link::{HELLO, LinkFrame, LinkFrameError, PROOF, REFUSED},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{LinkConfig, Peer};
use crate::{
    config::{ProcessId, ProcessKind},
    members::Member,
};

/// How long a handshake may take.
pub(super) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);
/// Bytes that are read of a peer that has not proved itself.
const HANDSHAKE_BYTES_MAX: usize = 1024;
const NONCE_BYTES: usize = 32;

/// What this process says of itself, and the key with which it proves it.
pub(super) struct Identity {
    id: ProcessId,
    kind: ProcessKind,
    incarnation: u64,
    zone: String,
    key: hmac::Key,
}

/// A peer that has proved itself.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) peer: Peer,
    /// What was read after its proof.
    pub(super) read: BytesMut,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// This side refused; the other one was told.
    #[error("{reason}")]
    Refused { claimed: String, reason: String },
    /// The other side refused.
    #[error("{0}")]
    RefusedByPeer(String),
    #[error("it did not finish the handshake within {} s", HANDSHAKE_WITHIN.as_secs())]
    Late,
    #[error("it closed the connection during the handshake")]
    Closed,
    #[error("it does not speak this protocol: {0}")]
    Stranger(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<LinkFrameError> for HandshakeError {
    fn from(err: LinkFrameError) -> Self {
        HandshakeError::Stranger(err.to_string())
    }
}

impl From<prost::DecodeError> for HandshakeError {
    fn from(err: prost::DecodeError) -> Self {
        HandshakeError::Stranger(err.to_string())
    }
}

/// Which side proves itself: a proof of one side is none of the other.
#[derive(Clone, Copy)]
enum Side {
    Dial,
    Accept,
}

/// The dialling side, to its end or its deadline.
pub(super) async fn dial<S>(socket: &mut S, me: &Identity, to: &Member) -> Result<Proven, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talk = Talk::new(socket);
    in_time(async move {
        let mine = me.hello();
        talk.send(HELLO, &mine).await?;
        let theirs = LinkHello::decode(talk.receive(HELLO).await?)?;
        if let Err(reason) = me.check(&theirs).and_then(|()| me.check_dialled(&theirs, to)) {
            return Err(talk.refuse(&theirs, reason).await);
        }
        if !me.is_proof(Side::Accept, &mine, &theirs, &theirs.proof) {
            return Err(talk.refuse(&theirs, me.other_secret(&theirs)).await);
        }
        talk.send(PROOF, &LinkProof { proof: me.proof(Side::Dial, &mine, &theirs) }).await?;
        let peer = Peer { id: to.id.clone(), kind: to.kind, incarnation: theirs.incarnation };
        Ok(Proven { peer, read: talk.read })
    })
    .await
}

/// The accepting side, to its end or its deadline.
pub(super) async fn accept<S>(socket: &mut S, me: &Identity, members: &[Member]) -> Result<Proven, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talk = Talk::new(socket);
    in_time(async move {
        let theirs = LinkHello::decode(talk.receive(HELLO).await?)?;
        let peer = match me.check(&theirs).and_then(|()| me.check_dialler(&theirs, members)) {
            Ok(peer) => peer,
            Err(reason) => return Err(talk.refuse(&theirs, reason).await),
        };
        let mut mine = me.hello();
        mine.proof = me.proof(Side::Accept, &theirs, &mine);
        talk.send(HELLO, &mine).await?;
        let proof = LinkProof::decode(talk.receive(PROOF).await?)?.proof;
        if !me.is_proof(Side::Dial, &theirs, &mine, &proof) {
            return Err(talk.refuse(&theirs, me.other_secret(&theirs)).await);
        }
        Ok(Proven { peer, read: talk.read })
    })
    .await
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await.unwrap_or(Err(HandshakeError::Late))
}

impl Identity {
    pub(super) fn new(config: &LinkConfig) -> Self {
        Self {
            id: config.id.clone(),
            kind: config.kind,
            incarnation: config.incarnation,
            zone: config.zone.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &config.secret.key("link")),
        }
    }

    fn hello(&self) -> LinkHello {
        // The nonce comes from the system and not from the seeded source: nothing but the proof depends on it, and nobody may guess it.
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system has random bytes");
        LinkHello {
            protocol_version: PROTOCOL_VERSION,
            zone: self.zone.clone(),
            process: self.id.to_string(),
            incarnation: self.incarnation,
            nonce: Bytes::copy_from_slice(&nonce),
            proof: Bytes::new(),
        }
    }

    /// What both sides ask of the other's hello.
    fn check(&self, theirs: &LinkHello) -> Result<(), String> {
        let (me, peer) = (&self.id, printable(&theirs.process));
        if theirs.protocol_version != PROTOCOL_VERSION {
            let version = theirs.protocol_version;
            return Err(format!("{me} speaks link protocol {PROTOCOL_VERSION}, {peer} speaks {version}; run the same version everywhere"));
        }
        if theirs.zone != self.zone {
            return Err(format!(
                "{me} is of zone `{}`, {peer} of zone `{}`; check the zone file of both",
                self.zone,
                printable(&theirs.zone)
            ));
        }
        if theirs.nonce.len() != NONCE_BYTES {
            return Err(format!("{peer} sent a nonce of {} bytes", theirs.nonce.len()));
        }
        Ok(())
    }

    fn check_dialled(&self, theirs: &LinkHello, to: &Member) -> Result<(), String> {
        if theirs.process == to.id.0 {
            return Ok(());
        }
        Err(format!(
            "{} expects {} at {}, but {} is there; check its address in the zone file",
            self.id,
            to.id,
            to.at(),
            printable(&theirs.process)
        ))
    }

    fn check_dialler(&self, theirs: &LinkHello, members: &[Member]) -> Result<Peer, String> {
        let Some(member) = members.iter().find(|member| member.id.0 == theirs.process) else {
            let peer = printable(&theirs.process);
            return Err(format!("{} knows no process `{peer}` in zone `{}`; run the same zone file everywhere", self.id, self.zone));
        };
        if !member.kind.dials().contains(&self.kind) {
            return Err(format!(
                "{} is a {}, and {} is a {}, which does not dial a {}",
                self.id, self.kind, member.id, member.kind, self.kind
            ));
        }
        Ok(Peer { id: member.id.clone(), kind: member.kind, incarnation: theirs.incarnation })
    }

    fn other_secret(&self, theirs: &LinkHello) -> String {
        format!("{} and {} have different zone secrets; give both the same", self.id, printable(&theirs.process))
    }

    fn proof(&self, side: Side, dial: &LinkHello, accept: &LinkHello) -> Bytes {
        Bytes::copy_from_slice(hmac::sign(&self.key, &proven_bytes(side, dial, accept)).as_ref())
    }

    /// Takes the same time whatever the proof is.
    fn is_proof(&self, side: Side, dial: &LinkHello, accept: &LinkHello, proof: &[u8]) -> bool {
        hmac::verify(&self.key, &proven_bytes(side, dial, accept), proof).is_ok()
    }
}

/// What a proof proves: the side and both hellos, each with its length before it, so that no two conversations have the same bytes.
fn proven_bytes(side: Side, dial: &LinkHello, accept: &LinkHello) -> Vec<u8> {
    let side: &[u8] = match side {
        Side::Dial => b"dial",
        Side::Accept => b"accept",
    };
    let without_proof = |hello: &LinkHello| LinkHello { proof: Bytes::new(), ..hello.clone() }.encode_to_vec();
    let mut bytes = Vec::with_capacity(256);
    for field in [side, &without_proof(dial), &without_proof(accept)] {
        bytes.put_u64_le(field.len() as u64);
        bytes.put_slice(field);
    }
    bytes
}

/// A stranger's text, fit for a log line.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.chars().take(CHARS_MAX).map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// The frames of a handshake on a socket, of which no more than [`HANDSHAKE_BYTES_MAX`] bytes are read.
struct Talk<'a, S> {
    socket: &'a mut S,
    read: BytesMut,
    left: usize,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Talk<'a, S> {
    fn new(socket: &'a mut S) -> Self {
        Self { socket, read: BytesMut::with_capacity(HANDSHAKE_BYTES_MAX), left: HANDSHAKE_BYTES_MAX }
    }

    async fn send(&mut self, kind: u16, message: &impl Message) -> io::Result<()> {
        let frame = LinkFrame { kind, flags: 0, id: 0, body: message.encode_to_vec().into() };
        let mut wire = BytesMut::with_capacity(frame.wire_len());
        frame.put_head(&mut wire);
        wire.put_slice(&frame.body);
        self.socket.write_all(&wire).await
    }

    /// The body of the next frame, which has to be of this kind.
    async fn receive(&mut self, kind: u16) -> Result<Bytes, HandshakeError> {
        let frame = self.frame().await?;
        match frame.kind {
            REFUSED => Err(HandshakeError::RefusedByPeer(printable(&LinkRefused::decode(frame.body)?.reason))),
            other if other == kind => Ok(frame.body),
            other => Err(HandshakeError::Stranger(format!("frame {other:#06x} in the handshake"))),
        }
    }

    async fn frame(&mut self) -> Result<LinkFrame, HandshakeError> {
        loop {
            // Before the split, which makes room for what is announced.
            if let Some(prefix) = self.read.first_chunk::<4>()
                && HANDSHAKE_BYTES_MAX < u32::from_le_bytes(*prefix) as usize
            {
                return Err(HandshakeError::Stranger(format!("{} bytes announced in the handshake", u32::from_le_bytes(*prefix))));
            }
            if let Some(frame) = LinkFrame::split(&mut self.read)? {
                return Ok(frame);
            }
            if self.left == 0 {
                return Err(HandshakeError::Stranger(format!("more than {HANDSHAKE_BYTES_MAX} bytes in the handshake")));
            }
            match self.socket.read_buf(&mut (&mut self.read).limit(self.left)).await? {
                0 => return Err(HandshakeError::Closed),
                count => self.left -= count,
            }
        }
    }

    /// Tells the other side why not.
    async fn refuse(&mut self, theirs: &LinkHello, reason: String) -> HandshakeError {
        // If it does not get to know, it is this side's log that says why.
        let _ = self.send(REFUSED, &LinkRefused { reason: reason.clone() }).await;
        let _ = self.socket.shutdown().await;
        HandshakeError::Refused { claimed: printable(&theirs.process), reason }
    }
}

#[cfg(test)]
mod tests;
