//! Where clients come in: the listeners, and who is let past them. Nothing is allocated for a connection that is refused here.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use proto::{
    Frame,
    client::{Closing, FaultCode},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use service::{
    config::{GateConfig, TlsConfig},
    net::{self, TcpListener, TcpStream},
};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::{
    connection::{self, Caller, HANDSHAKE_WITHIN},
    gate::Gate,
    limits::AddressPlace,
    transport::Accepted,
};

/// After a failed accept (most often: no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes for a client that has no room for them, which the kernel takes nevertheless.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// One listener.
pub(crate) struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    websocket: bool,
}

impl Door {
    /// `clients` or `websocket`, as in the zone file.
    pub(crate) fn name(&self) -> &'static str {
        if self.websocket { "websocket" } else { "clients" }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Reads certificates and listens.
///
/// # Errors
/// When a certificate or key can't be read, or an address is taken.
pub(crate) fn open(config: &GateConfig) -> anyhow::Result<Vec<Door>> {
    let door = |address: SocketAddr, tls: Option<&TlsConfig>, websocket: bool| {
        let tls = tls.map(acceptor).transpose()?;
        let listener = net::listen(address)?;
        anyhow::Ok(Door { listener, tls, websocket })
    };
    let mut doors = vec![door(config.clients, config.tls.as_ref(), false)?];
    if let Some(address) = config.websocket {
        doors.push(door(address, config.tls_websocket.as_ref(), true)?);
    }
    Ok(doors)
}

/// The provider is named, so that no other crate's choice can change it.
fn acceptor(tls: &TlsConfig) -> anyhow::Result<TlsAcceptor> {
    let certificate = service::fs::read(&tls.certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .with_context(|| format!("read the certificate chain in {}", tls.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_slice(&service::fs::read(&tls.key)?)
        .with_context(|| format!("read the private key in {}", tls.key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("use the certificate in {} with the key in {}", tls.certificate.display(), tls.key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Lets clients in until the gate stops.
pub(crate) async fn serve(gate: Arc<Gate>, door: Door) {
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = gate.process.tasks.stopped() => return,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                is_failing = false;
                admit(&gate, &door, stream, from).await;
            }
            Err(err) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!("failed to accept a client on {}: {err}", door.name());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Addresses first: what an address has too much is refused at once, and costs the budget of the others nothing. Who is over the
/// budget waits in the kernel's backlog; beyond that the kernel refuses.
async fn admit(gate: &Arc<Gate>, door: &Door, stream: TcpStream, from: SocketAddr) {
    let Some(place) = gate.addresses.enter(from.ip()) else {
        gate.metrics.accepts_refused.increment(1);
        return turn_away(door, stream);
    };
    while let Err(wait) = take_token(gate) {
        tokio::select! {
            biased;
            () = gate.process.tasks.stopped() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
    gate.metrics.accepts.increment(1);
    spawn(gate, door, stream, from, place);
}

fn take_token(gate: &Gate) -> Result<(), Duration> {
    gate.accepts.lock().expect("no holder panics").take(Instant::now())
}

fn spawn(gate: &Arc<Gate>, door: &Door, stream: TcpStream, from: SocketAddr, place: AddressPlace) {
    if let Err(err) = stream.set_nodelay(true).and_then(|()| net::limit_unsent(&stream, UNSENT_BYTES_MAX)) {
        return tracing::debug!(address = %from, "failed to set up a connection: {err}");
    }
    let caller = Caller {
        address: from.ip().to_canonical(),
        deadline: Instant::now() + HANDSHAKE_WITHIN,
        tls: door.tls.clone(),
        websocket: door.websocket,
    };
    let (gate, counted) = (gate.clone(), gate.connections.token());
    let tasks = gate.process.tasks.clone();
    tasks.spawn_one_of_many(async move {
        connection::run(gate, Accepted::Tcp(stream), caller).await;
        drop((place, counted));
    });
}

/// Says why, where that takes no handshake, if the kernel takes it at once.
fn turn_away(door: &Door, stream: TcpStream) {
    if door.websocket || door.tls.is_some() {
        return;
    }
    let text = "too many connections from this address".to_owned();
    let closing = Frame::encode(0, &Closing { code: FaultCode::TooManyConnections.into(), text, resumable: false });
    if let Ok(mut stream) = stream.into_std() {
        // It stays non-blocking; whoever floods is owed no more.
        _ = stream.write(closing.bytes());
    }
}
