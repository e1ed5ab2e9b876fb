//! HTTP to the zone's admin ports: one short connection a request, JSON both ways, and lines as they come.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use service::config::ProcessConfig;

use crate::prometheus;

/// How long connecting may take: the ports are on the zone's own network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("read the answer ({}) as JSON", self.status))
    }

    /// A counter or gauge in a body that came from `/metrics`: [`prometheus::sum`].
    pub(crate) fn metric(&self, name: &str) -> f64 {
        prometheus::sum(&String::from_utf8_lossy(&self.body), name)
    }
}

/// Where a process of this machine that listens at `address` is reached.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// Where the admin port of a process is reached: at its host, if the zone file names one, or else on this machine.
pub(crate) async fn admin(config: &ProcessConfig) -> anyhow::Result<SocketAddr> {
    let addresses = admins(config).await?;
    Ok(*addresses.first().expect("a host that resolves has an address"))
}

/// As [`admin`], for an entry with replicas: all of them, each at an address of the host that they share.
pub(crate) async fn admins(config: &ProcessConfig) -> anyhow::Result<Vec<SocketAddr>> {
    let Some(host) = &config.host else { return Ok(vec![reachable(config.admin)]) };
    let resolved = tokio::time::timeout(CONNECT_TIMEOUT, service::net::resolve(host, config.admin.port())).await;
    let resolved = resolved.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    resolved.with_context(|| {
        let variable = config.replica_of.as_ref().unwrap_or(&config.id.0).to_uppercase().replace('-', "_");
        format!("find the host of {}; where it has another name, say so in ZONE__PROCESSES__{variable}__HOST", config.id)
    })
}

/// GETs a path.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let request = Request::get(path).body(Full::default()).with_context(|| format!("make a request for {path}"))?;
    whole(address, request).await
}

/// POSTs JSON, with a bearer token if there is one.
pub(crate) async fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &serde_json::Value) -> anyhow::Result<Answer> {
    let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::from(body.to_string())).with_context(|| format!("make a request for {path}"))?;
    whole(address, request).await
}

/// GETs a path and hands over each line as it comes, until the other side ends or `on_line` says so with `false`.
pub(crate) async fn lines(address: SocketAddr, path: &str, mut on_line: impl FnMut(&str) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let request = Request::get(path).body(Full::default()).with_context(|| format!("make a request for {path}"))?;
    let mut response = open(address, request).await?;
    if !response.status().is_success() {
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        // `{"error": "..."}` says it to people; what is no such answer is shown as it is.
        let told = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|body| Some(body["error"].as_str()?.to_owned()));
        match told {
            Some(why) => bail!("{why}"),
            None => bail!("{address} answers {status}: {}", String::from_utf8_lossy(&body).trim()),
        }
    }
    let mut rest = BytesMut::new();
    while let Some(part) = response.body_mut().frame().await {
        rest.extend_from_slice(&part.context("read from the zone")?.into_data().unwrap_or_default());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end);
            rest.advance(1);
            if !on_line(&String::from_utf8_lossy(&line))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A value as it stands in a query string.
pub(crate) fn escaped(value: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    value.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn whole(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let read = async {
        let response = open(address, request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|err| anyhow::anyhow!("read the answer of {address}: {err}"))?.to_bytes();
        Ok(Answer { status, body })
    };
    tokio::time::timeout(ANSWER_TIMEOUT, read).await.with_context(|| format!("{address} did not answer within {ANSWER_TIMEOUT:?}"))?
}

async fn open(address: SocketAddr, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
    let stream = service::net::connect(address, CONNECT_TIMEOUT).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response: there is one request a connection.
    tokio::spawn(connection);
    request.headers_mut().insert(header::HOST, address.to_string().parse().expect("an address is a header value"));
    sender.send_request(request).await.with_context(|| format!("ask {address}"))
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn values_are_escaped_for_a_query() {
        assert_eq!(escaped("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }
}
