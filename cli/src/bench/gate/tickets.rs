//! Whoever guesses at resume tickets: each connection shows as many as a gate bears of one client.

use std::sync::{Arc, atomic::Ordering};

use bytes::{Bytes, BytesMut};
use proto::{
    Frame,
    client::{Fault, Resume},
    frame,
    kinds::{ClientMessage, Direction},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use super::client::Shared;

/// Who guesses at once.
const GUESSERS: usize = 32;
/// Guesses of one connection: one more, and the gate closes it.
const GUESSES: usize = 20;
/// As long as a ticket of ours.
const TICKET_BYTES: usize = 94;

/// Shows tickets until the time is over; each answer counts as a frame.
pub(super) async fn forge(shared: &Arc<Shared>, until: Instant) {
    let guessers: Vec<_> = (0..GUESSERS)
        .map(|_| {
            let shared = shared.clone();
            tokio::spawn(async move {
                while Instant::now() < until {
                    let guessed = timeout_at(until, guess(&shared)).await;
                    if let Ok(Err(_)) = guessed {
                        shared.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for guesser in guessers {
        _ = guesser.await;
    }
}

async fn guess(shared: &Shared) -> anyhow::Result<()> {
    let mut stream = shared.connect().await?;
    let ticket = Bytes::from(vec![7; TICKET_BYTES]);
    let resume = Frame::encode(1, &Resume { protocol_version: proto::PROTOCOL_VERSION, ticket, received: 0 });
    stream.write_all(&resume.bytes().repeat(GUESSES)).await?;
    let (mut buffer, mut answers) = (BytesMut::new(), 0);
    while answers < GUESSES {
        while let Some(frame) = frame::split(&mut buffer, Direction::ToClient)? {
            answers += usize::from(frame.kind() == Fault::KIND);
        }
        anyhow::ensure!(answers == GUESSES || 0 < stream.read_buf(&mut buffer).await?, "closed");
    }
    shared.frames.fetch_add(answers as u64, Ordering::Relaxed);
    Ok(())
}
