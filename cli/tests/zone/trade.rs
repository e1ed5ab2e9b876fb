//! An open trade when center dies, and when the gate of one of the two does: both learn that it is over, and can trade anew.

use bytes::Bytes;
use client::{Client, ClientOptions, Event, Events, Fault, Reconnect, RequestError};
use proto::client::{FaultCode, TradeState};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{PATIENCE, Zone};

#[test]
fn zone_tells_both_that_an_open_trade_is_over_when_center_or_a_gate_died() {
    let zone = Zone::start_with_two_gates();
    let gates = ["gate-1", "gate-2"].map(|id| zone.address(id, "clients"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("start the runtime");
    runtime.block_on(async {
        let mut ann = Trader::enter(&gates[0], &gates[1], "ann", "Ann").await;
        let mut bob = Trader::enter(&gates[1], &gates[0], "bob", "Bob").await;

        let lost = open(&ann, &mut bob, 1).await;
        tokio::task::block_in_place(|| zone.kill_and_wait("center-1"));
        for trader in [&ann, &bob] {
            let fault = asked(|| trader.client.trade_confirm(lost.id.clone(), lost.revision)).await.expect_err("center has no trade");
            assert_eq!((fault.code, fault.text.contains("it is over")), (FaultCode::NotFound, true), "{fault}");
        }

        let cut_off = open(&ann, &mut bob, 2).await;
        tokio::task::block_in_place(|| zone.kill_and_wait("gate-1"));
        for trader in [&mut ann, &mut bob] {
            let ended = trader.until("TradeEnded", |event| match event {
                Event::TradeEnded(ended) if ended.id == cut_off.id => Some(ended),
                _ => None,
            });
            assert_eq!(ended.await.code(), FaultCode::NotNow);
        }
        open(&ann, &mut bob, 3).await;
    });
    assert!(zone.stop().success());
}

/// Opens a trade, of which both are shown the same.
async fn open(one: &Trader, other: &mut Trader, number: u8) -> TradeState {
    let id = Bytes::copy_from_slice(&[number; 16]);
    let opened = asked(|| one.client.trade_open(id.clone(), other.name)).await.unwrap_or_else(|fault| panic!("open a trade: {fault}"));
    let shown = other.until("TradeState", |event| match event {
        Event::TradeState(state) if state.id == id => Some(state),
        _ => None,
    });
    assert_eq!((shown.await.revision, opened.with.as_str()), (opened.revision, other.name));
    opened
}

/// Asks again as long as the zone says when to.
async fn asked<A, F: Future<Output = Result<A, RequestError>>>(ask: impl Fn() -> F) -> Result<A, Fault> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(RequestError::Fault(Fault { retry: Some(retry), .. })) if Instant::now() < deadline => sleep(retry).await,
            Err(RequestError::Fault(fault)) => return Err(fault),
            // A session that goes on at another gate has no answers of the one before.
            Err(error) => assert!(Instant::now() < deadline, "the zone does not answer: {error}"),
        }
    }
}

struct Trader {
    client: Client,
    events: Events,
    name: &'static str,
}

impl Trader {
    /// `other`: the gate where it resumes if its own is gone.
    async fn enter(gate: &str, other: &str, account: &str, name: &'static str) -> Self {
        let gates = vec![other.parse().expect("an address")];
        let options = ClientOptions { reconnect: Some(Reconnect { gates, ..Reconnect::default() }), ..ClientOptions::default() };
        let (client, events) = Client::connect(&gate.parse().expect("an address"), options).await.expect("connect");
        client.register(account, "correct horse").await.expect("register");
        client.login(account, "correct horse").await.expect("log in");
        let role = client.create_role(name).await.expect("create a role");
        client.enter(role.player).await.expect("enter");
        Self { client, events, name }
    }

    /// The next event that is wanted, passing over others.
    async fn until<A>(&mut self, what: &str, wanted: impl Fn(Event) -> Option<A>) -> A {
        let next = async {
            loop {
                let event = self.events.next().await.unwrap_or_else(|| panic!("{}: the session is over", self.name));
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("{}: no {what}", self.name))
    }
}
