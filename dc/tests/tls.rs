//! TLS to the databases (`mysql.ca`, `redis.ca`), with servers that have certificates: dc trusts whom it was told to trust and nobody else,
//! and says what is wrong.

#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/program.rs"]
mod program;
#[path = "../../service/tests/support/redis.rs"]
mod redis;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mariadb::MariaDb;
use program::{Folder, Program, WITHIN, log};
use proto::{
    internal::{AccountCreate, RoleCreate},
    record::PlayerRecord,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis::Redis;
use service::ProcessKind;

/// An authority, and a server's certificate that it has signed, in files.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// `host`: whose certificate it signs.
    fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own_key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(Vec::new()).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = own.self_signed(&own_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &Issuer::new(own, own_key)).unwrap();
        for (name, pem) in [("ca.pem", ca.pem()), ("server.pem", server.pem()), ("server.key", key.serialize_pem())] {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Arguments of a server: these names of options, for the certificate and its key.
    fn arguments(&self, certificate: &str, key: &str) -> Vec<String> {
        let [server, server_key] = ["server.pem", "server.key"].map(|name| self.file(name).display().to_string());
        vec![certificate.into(), server, key.into(), server_key]
    }
}

/// A MariaDB that takes nobody without TLS; its arguments are `--option=value`.
fn mariadb_with(authority: &Authority) -> MariaDb {
    let arguments = authority.arguments("--ssl-cert", "--ssl-key");
    let joined: Vec<String> = arguments.chunks(2).map(|pair| pair.join("=")).collect();
    let mut arguments: Vec<&str> = joined.iter().map(String::as_str).collect();
    arguments.push("--require-secure-transport=ON");
    MariaDb::start_with(&arguments)
}

fn with_ca(server: &MariaDb, ca: &Path) -> Folder {
    Folder::new(&[("mysql__ca", &ca.display().to_string())]).on(&server.database("zone_tls", server.port))
}

/// Why dc does not start.
async fn refused(folder: &Folder) -> String {
    assert!(Program::start_under(&[], folder, &[]).await.is_err(), "dc starts");
    log(folder)
}

async fn make_role(dc: &Program) {
    let create = AccountCreate { name: "alice".into(), password_hash: "hash".into() };
    let account = dc.links.call(ProcessKind::Dc, &create, WITHIN).await.unwrap().account;
    let record = PlayerRecord { account, name: "Ann".into(), map: "meadow".into(), ..PlayerRecord::default() };
    dc.links.call(ProcessKind::Dc, &RoleCreate { record: Some(record), roles_max: 4 }, WITHIN).await.unwrap();
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < WITHIN, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_trusted_if_its_authority_is_and_it_is_who_it_says() {
    if let Some(why) = MariaDb::missing() {
        return println!("skipped: {why}");
    }
    let (authority, other) = (Authority::new("127.0.0.1"), Authority::new("127.0.0.1"));
    let server = mariadb_with(&authority);
    let folder = with_ca(&server, &authority.file("ca.pem"));
    let dc = Program::start(&folder, &[]).await;
    make_role(&dc).await;
    eventually("it is in the database", || server.sql("SELECT name FROM zone_tls.players") == "Ann").await;
    dc.kill().await;

    let why = refused(&with_ca(&server, &other.file("ca.pem"))).await;
    assert!(why.contains("invalid peer certificate") && why.contains("`mysql.ca`"), "{why}");
    let why = refused(&with_ca(&server, &authority.file("server.key"))).await;
    assert!(why.contains("read `mysql.ca`") && why.contains("server.key has no certificate"), "{why}");
    let why = refused(&Folder::new(&[]).on(&server.database("zone_tls", server.port))).await;
    assert!(why.contains("Access denied") || why.contains("insecure transport"), "{why}");

    let elsewhere = Authority::new("db.example.org");
    let server = mariadb_with(&elsewhere);
    let why = refused(&with_ca(&server, &elsewhere.file("ca.pem"))).await;
    assert!(why.contains("not valid for name"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_without_tls_is_not_spoken_to_when_tls_is_wanted() {
    if let Some(why) = MariaDb::missing() {
        return println!("skipped: {why}");
    }
    let authority = Authority::new("127.0.0.1");
    let server = MariaDb::start_with(&["--skip-ssl"]);
    let why = refused(&with_ca(&server, &authority.file("ca.pem"))).await;
    assert!(why.contains("the server has to have TLS"), "{why}");
}

/// A Redis with TLS at a port of its own.
fn redis_with(authority: &Authority) -> Option<(Redis, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ca = authority.file("ca.pem").display().to_string();
    let mut arguments = authority.arguments("--tls-cert-file", "--tls-key-file");
    arguments.extend(["--tls-port".into(), port.to_string(), "--tls-ca-cert-file".into(), ca, "--tls-auth-clients".into(), "no".into()]);
    Some((Redis::start_with(&arguments)?, port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_trusted_if_its_authority_is() {
    let authority = Authority::new("127.0.0.1");
    let Some((redis, port)) = redis_with(&authority) else { return };
    let folder = Folder::new(&[]).with_cache(&redis.url("rediss", port), &authority.file("ca.pem"));
    let dc = Program::start(&folder, &[]).await;
    make_role(&dc).await;
    eventually("it is in the cache", || redis.ask(&["KEYS", "*:name:ann"]).starts_with("*1")).await;
    dc.kill().await;
}

/// It is a cache: dc goes on without it, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_another_authority_is_gone_on_without() {
    let (authority, other) = (Authority::new("127.0.0.1"), Authority::new("127.0.0.1"));
    let Some((redis, port)) = redis_with(&authority) else { return };
    let folder = Folder::new(&[]).with_cache(&redis.url("rediss", port), &other.file("ca.pem"));
    let dc = Program::start(&folder, &[]).await;
    make_role(&dc).await;
    eventually("it goes on without", || log(&folder).contains("going on without the cache")).await;
    eventually("it says why", || log(&folder).contains("invalid peer certificate")).await;
    assert!(redis.ask(&["KEYS", "*"]).starts_with("*0"), "nothing was sent to it");
    dc.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_for_a_url_without_tls_is_a_mistake() {
    let authority = Authority::new("127.0.0.1");
    let folder = Folder::new(&[]).with_cache("redis://127.0.0.1:1/0", &authority.file("ca.pem"));
    let why = refused(&folder).await;
    assert!(why.contains("`redis.ca` is for TLS") && why.contains("rediss://"), "{why}");
}
