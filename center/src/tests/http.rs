//! The GM API over HTTP.

use std::{net::SocketAddr, sync::Arc};

use proto::internal::{Done, SceneMute};
use serde_json::{Value, json};
use service::net;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{WITHIN, Zone};
use crate::gm::{Gm, auth, http};

struct Api(SocketAddr);

impl Api {
    async fn of(zone: &Zone) -> Self {
        *zone.dc.gm_hash.lock().unwrap() = auth::hash("correct horse".into()).await.unwrap();
        let listener = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let router = http::router(Arc::new(Gm::new(zone.center.clone())));
        tokio::spawn(async move {
            axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        Self(address)
    }

    async fn ask(&self, what: &str, token: &str, body: &str) -> (u16, Value) {
        let mut stream = net::connect(self.0, WITHIN).await.unwrap();
        let length = body.len();
        let request = format!(
            "{what} HTTP/1.1\r\nhost: center\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn login(&self, name: &str, password: &str) -> (u16, Value) {
        self.ask("POST /gm/login", "", &json!({"name": name, "password": password}).to_string()).await
    }

    async fn run(&self, token: &str, order: Value) -> (u16, Value) {
        self.ask("POST /gm/run", token, &order.to_string()).await
    }
}

#[tokio::test]
async fn a_gm_logs_in_reads_the_registry_and_runs_what_the_role_allows() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let api = Api::of(&zone).await;
    let (status, login) = api.login("hilda", "correct horse").await;
    assert_eq!((status, &login["role"], &login["expires_s"]), (200, &json!("helper"), &json!(900)));
    let token = login["token"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    let (status, commands) = api.ask("GET /gm/commands", "", "").await;
    assert_eq!((status, commands.as_array().unwrap().len()), (200, 16));
    let (status, online) = api.run(token, json!({"command": "online"})).await;
    assert_eq!((status, &online["result"]["players"][0]["name"]), (200, &json!("Player1")));
    let mute = api.run(token, json!({"command": "mute", "arguments": {"name": "Player1", "for": "10m"}, "reason": "caps"}));
    let ((status, muted), ()) = tokio::join!(mute, async { zone.scene.asked::<SceneMute>().await.1.answer::<SceneMute>(Ok(Done {})) });
    assert_eq!((status, &muted["audit"]), (200, &json!(7)));
    assert!(zone.dc.log().contains(&"audit mute by hilda because caps".to_owned()));
    let (status, refused) = api.run(token, json!({"command": "announce", "arguments": {"text": "hi"}})).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("forbidden")));
    let (status, refused) = api.run(token, json!({"command": "kick", "arguments": {"nmae": "Player1"}})).await;
    assert_eq!((status, refused["error"]["text"].as_str().unwrap().contains("`nmae`")), (400, true));
    assert_eq!(api.run(token, json!({"command": "kick", "arguments": {"name": "Nobody"}})).await.0, 404);
}

#[tokio::test]
async fn who_is_not_logged_in_gets_nothing() {
    let zone = Zone::start().await;
    let api = Api::of(&zone).await;
    assert_eq!(api.run("", json!({"command": "online"})).await.0, 401);
    assert_eq!(api.run("guess", json!({"command": "online"})).await.0, 401);
    let wrong = api.login("hilda", "wrong horse").await;
    assert_eq!(wrong.0, 401);
    assert_eq!(api.login("nobody", "wrong horse").await, wrong, "an unknown name looks the same");
    assert_eq!(api.ask("POST /gm/login", "", "no json").await.0, 400);
    for _ in 0..8 {
        api.login("hilda", "wrong horse").await;
    }
    assert_eq!(api.login("hilda", "correct horse").await.0, 429);
}
