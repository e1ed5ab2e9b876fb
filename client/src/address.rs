//! Where a gate listens, as people write it: `127.0.0.1:7000`, `tcp://`, `tls://`, `ws://`, `wss://`.

use std::{fmt, str::FromStr};

/// How bytes travel to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Frames on a plain TCP stream; what an address without a scheme means.
    Tcp,
    /// Frames on a TLS stream.
    Tls,
    /// Frames in the binary messages of a WebSocket.
    Ws,
    /// The same, with TLS below.
    Wss,
}

impl Scheme {
    /// As it is written before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Tls => "tls",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// Whether the server has to prove who it is.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Scheme::Tls | Scheme::Wss)
    }

    /// Whether frames travel in WebSocket messages.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }
}

/// The address of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// How bytes travel.
    pub scheme: Scheme,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// What a WebSocket asks for, with its leading `/`. Only of use there.
    pub path: String,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no address of a gate: {reason} (write 127.0.0.1:7000, tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT or wss://HOST:PORT)"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = |reason| AddressError { text: text.to_owned(), reason };
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Tcp, text),
            Some(("tcp", rest)) => (Scheme::Tcp, rest),
            Some(("tls", rest)) => (Scheme::Tls, rest),
            Some(("ws", rest)) => (Scheme::Ws, rest),
            Some(("wss", rest)) => (Scheme::Wss, rest),
            Some(_) => return Err(refuse("unknown scheme")),
        };
        let (place, path) = match rest.find('/') {
            Some(slash) if scheme.is_websocket() => rest.split_at(slash),
            Some(_) => return Err(refuse("only a WebSocket has a path")),
            None => (rest, "/"),
        };
        let (host, port) = place.rsplit_once(':').ok_or_else(|| refuse("the port is missing"))?;
        let host = match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']').ok_or_else(|| refuse("`[` is not closed"))?,
            None if host.contains(':') => return Err(refuse("write an IPv6 address in brackets")),
            None => host,
        };
        if host.is_empty() {
            return Err(refuse("the host is missing"));
        }
        let port = port.parse().map_err(|_| refuse("the port is no number from 0 to 65535"))?;
        Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let path = if self.scheme.is_websocket() { self.path.as_str() } else { "" };
        write!(to, "{}://{open}{}{close}:{}{path}", self.scheme.name(), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_it_prints() {
        for (text, printed) in [
            ("127.0.0.1:7000", "tcp://127.0.0.1:7000"),
            ("tcp://zone.example:1", "tcp://zone.example:1"),
            ("tls://[::1]:7443", "tls://[::1]:7443"),
            ("ws://localhost:7001", "ws://localhost:7001/"),
            ("wss://zone.example:443/play", "wss://zone.example:443/play"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, reason) in [
            ("localhost", "port is missing"),
            ("http://a:1", "unknown scheme"),
            ("::1:7000", "brackets"),
            (":7000", "host is missing"),
            ("a:70000", "no number"),
            ("tcp://a:1/x", "only a WebSocket"),
            ("[::1:1", "not closed"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
