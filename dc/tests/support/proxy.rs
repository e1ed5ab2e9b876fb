//! A TCP proxy on loopback between a client and a server: it can answer late, cut what is open, and take nothing.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Connections at once at most; one more is closed.
const CONNECTIONS_MAX: usize = 64;
/// What comes within this of what came before is of one message.
const ONE_MESSAGE: Duration = Duration::from_millis(20);

/// Ends with its connections when it is dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    delay_ms: AtomicU64,
    refuses: AtomicBool,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy of a port of 127.0.0.1.
    pub fn of(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let (delay_ms, refuses, ended, open) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { server: SocketAddr::from(([127, 0, 0, 1], port)), delay_ms, refuses, ended, open });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                accepting.pass(&client);
            }
        });
        Self { port: own, shared }
    }

    /// Every message to the server waits for so long.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Closes what is open.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Takes no connections, or takes them again.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port))); // or it waits for one more
        self.cut();
    }
}

impl Shared {
    fn pass(self: &Arc<Self>, client: &TcpStream) {
        let mut open = self.open.lock().unwrap();
        if self.refuses.load(Ordering::SeqCst) || 2 * CONNECTIONS_MAX <= open.len() {
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        for stream in [client, &server] {
            stream.set_nodelay(true).unwrap();
            open.push(stream.try_clone().unwrap());
        }
        for (from, to, delayed) in [(client, &server, true), (&server, client, false)] {
            let (from, to, shared) = (from.try_clone().unwrap(), to.try_clone().unwrap(), self.clone());
            std::thread::spawn(move || shared.copy(from, to, delayed));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, delayed: bool) {
        let mut bytes = vec![0; 64 * 1024];
        let mut last = Instant::now() - 2 * ONE_MESSAGE;
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if delayed && ONE_MESSAGE < last.elapsed() {
                std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst)));
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
            last = Instant::now();
        }
        for stream in [from, to] {
            let address = (stream.local_addr().ok(), stream.peer_addr().ok());
            drop(stream.shutdown(Shutdown::Both));
            self.open.lock().unwrap().retain(|open| (open.local_addr().ok(), open.peer_addr().ok()) != address);
        }
    }
}
