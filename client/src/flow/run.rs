//! Plays one flow, step by step.

use std::time::Duration;

use bytes::Bytes;
use proto::{
    ClientMessage, Frame, KindInfo, PROTOCOL_VERSION,
    client::{Fault, Hello, Resume, Welcome},
    kinds,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    Zone, given,
    matching::{differences, matches},
    peer::{Peer, Peers},
    raw::duration,
    report::{Difference, Failure},
    search::{Search, json_of},
    step::{Action, Expected, Flow, Step},
    vars::{self, Vars},
    walk,
};
use crate::random::Random;

/// How long a GM command may take.
const GM_WITHIN: Duration = Duration::from_secs(20);

/// What is wrong with a step.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) differences: Vec<Difference>,
}

impl Problem {
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    fn negated(mut self) -> Self {
        self.text = format!("no {}", self.text);
        self
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { text, differences: Vec::new() }
    }
}

/// A flow that is being played.
pub(crate) struct Play<'a> {
    pub(crate) zone: &'a Zone,
    pub(crate) vars: Vars,
    pub(crate) peers: Peers,
}

pub(crate) async fn run(zone: &Zone, flow: &Flow) -> Result<(), Failure> {
    let mut play = Play { zone, vars: Vars::default(), peers: Peers::new(flow.clients.iter()) };
    let mut random = Random::fresh();
    for name in &flow.given.fresh {
        play.vars.set_fresh(name, &mut random);
    }
    for name in &flow.given.ids {
        let id = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        play.vars.set(name, format!("{id:032x}").into());
    }
    play.vars.set("resume_window", format!("{}ms", zone.resume_window.as_millis()).into());
    if let Err(problem) = given::make(&mut play, flow).await {
        return Err(play.failure(0, None, problem));
    }
    for (index, step) in flow.steps.iter().enumerate() {
        if let Err(problem) = play.step(step).await {
            return Err(play.failure(index + 1, Some(step), problem));
        }
    }
    Ok(())
}

impl Play<'_> {
    fn failure(&self, number: usize, step: Option<&Step>, problem: Problem) -> Failure {
        let client = step.map(|step| step.client.clone()).unwrap_or_default();
        Failure {
            step: number,
            line: step.map_or(0, |step| step.line),
            source: step.map(|step| step.source.clone()).unwrap_or_default(),
            problem: problem.text,
            differences: problem.differences,
            last_received: self.peers.last_received(&client),
            client,
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Problem> {
        let client = step.client.as_str();
        self.connect_at_first(step).await?;
        let got = match &step.action {
            Action::Connect { gate, greet } => self.connect(client, *gate, *greet, step.within).await.map(|()| Value::Null)?,
            Action::Resume { gate, ticket, received } => {
                self.resume(client, *gate, ticket.as_ref(), received.as_ref()).await.map(|()| Value::Null)?
            }
            Action::Send { kind, with, times } => {
                let fields = self.vars.fill(with)?;
                for _ in 0..*times {
                    self.send(client, kind, fields.clone())?;
                }
                Value::Null
            }
            Action::SendFrame { kind, body } => self.send_frame(client, *kind, body).map(|()| Value::Null)?,
            Action::SendBytes { bytes } => self.send_bytes(client, bytes).map(|()| Value::Null)?,
            Action::Expect(expected) => self.expect(client, expected, step.within).await?,
            Action::ExpectNone(expected) => self.expect_none(client, expected, step.within).await.map(|()| Value::Null)?,
            Action::ExpectClosed => self.expect_closed(client, step.within).await.map(|()| Value::Null)?,
            Action::Close => {
                self.peers.get(client).close();
                Value::Null
            }
            Action::Forget => {
                self.peers.get(client).inbox.clear();
                Value::Null
            }
            Action::Wait { terms } => self.wait(terms).await.map(|()| Value::Null)?,
            Action::Gm { command, arguments, reason, pattern, refused } => self.gm(command, arguments, reason, pattern, *refused).await?,
            Action::Walk { target } => Box::pin(walk::walk(self, client, target, step.within)).await?,
            Action::See { pattern } => self.see(client, pattern, step.within).await?,
            Action::SeeNone { pattern } => self.see_none(client, pattern, step.within).await.map(|()| Value::Null)?,
            Action::Repeat { steps, every, until } => Box::pin(self.repeat(client, steps, *every, until, step.within)).await?,
        };
        self.capture(step, &got)
    }

    fn capture(&mut self, step: &Step, got: &Value) -> Result<(), Problem> {
        for (name, path) in &step.capture {
            let value = vars::at(got, path).ok_or_else(|| format!("capture `{name}`: the message has no `{path}`: {got}"))?;
            self.vars.set(name, value.clone());
        }
        Ok(())
    }

    /// A client connects with its first step, unless that step says how.
    async fn connect_at_first(&mut self, step: &Step) -> Result<(), Problem> {
        let says_how = matches!(step.action, Action::Connect { .. } | Action::Resume { .. } | Action::Close);
        if step.client.is_empty() || says_how || !self.peers.get(&step.client).is_new() {
            return Ok(());
        }
        self.connect(&step.client, 1, true, step.within).await
    }

    pub(crate) async fn connect(&mut self, client: &str, gate: usize, greet: bool, within: Duration) -> Result<(), Problem> {
        let zone = self.zone;
        self.peers.get(client).open(zone, gate).await.map_err(|error| error.to_string())?;
        if !greet {
            return Ok(());
        }
        self.send(client, Hello::INFO, json!({"protocol_version": PROTOCOL_VERSION, "client": zone.connect.program}))?;
        let welcome = Expected { kind: Welcome::INFO, pattern: Value::Null, next: true, answer: false };
        self.expect(client, &welcome, within).await.map(drop)
    }

    async fn resume(&mut self, client: &str, gate: usize, ticket: Option<&Value>, received: Option<&Value>) -> Result<(), Problem> {
        let session = self.peers.get(client).session().clone();
        let newest = session.ticket.as_deref().map(proto::json::hex::encode);
        let ticket = match (ticket, newest) {
            (Some(value), _) => self.vars.fill(value)?,
            (None, Some(ticket)) => ticket.into(),
            (None, None) => return Err(format!("`{client}` has no resume ticket").into()),
        };
        let received = received.map_or(Ok(session.received.into()), |value| self.vars.fill(value))?;
        let zone = self.zone;
        self.peers.get(client).open(zone, gate).await.map_err(|error| error.to_string())?;
        self.send(client, Resume::INFO, json!({"protocol_version": PROTOCOL_VERSION, "ticket": ticket, "received": received}))
    }

    pub(crate) fn send(&mut self, client: &str, kind: &KindInfo, fields: Value) -> Result<(), Problem> {
        let body = kinds::body_from_json(kind.kind, fields).map_err(|error| error.to_string())?;
        self.send_frame(client, kind.kind, &body)
    }

    fn send_frame(&mut self, client: &str, kind: u16, body: &Bytes) -> Result<(), Problem> {
        let peer = self.peers.get(client);
        let connection = peer.connection().ok_or_else(|| no_connection(client))?;
        let seq = connection.next_seq();
        connection.queue_bytes(Frame::from_body(kind, seq, body).bytes()).map_err(|error| error.to_string())?;
        peer.last_seq = seq;
        Ok(())
    }

    fn send_bytes(&mut self, client: &str, bytes: &[u8]) -> Result<(), Problem> {
        let connection = self.peers.get(client).connection().ok_or_else(|| no_connection(client))?;
        connection.queue_bytes(bytes).map_err(|error| error.to_string().into())
    }

    async fn expect(&mut self, client: &str, expected: &Expected, within: Duration) -> Result<Value, Problem> {
        let pattern = self.vars.fill(&expected.pattern)?;
        let until = Instant::now() + within;
        let mut search = Search::new(expected, &pattern);
        loop {
            let peer = self.peers.get(client);
            if let Some(found) = search.go_on(peer)? {
                return Ok(found);
            }
            if let Some(reason) = &peer.ended {
                return Err(search.failed(&format!("did not come; the connection has ended: {reason}")));
            }
            if !self.peers.pump(until).await {
                return Err(search.failed(&format!("came within {within:?}")).negated());
            }
        }
    }

    async fn expect_none(&mut self, client: &str, expected: &Expected, within: Duration) -> Result<(), Problem> {
        let pattern = self.vars.fill(&expected.pattern)?;
        let until = Instant::now() + within;
        loop {
            let peer = self.peers.get(client);
            let of_kind = peer.inbox.iter().filter(|frame| frame.kind() == expected.kind.kind);
            if let Some(json) = of_kind.filter_map(json_of).find(|json| matches(&pattern, json)) {
                return Err(format!("a {} came that must not: {json}", expected.kind.name).into());
            }
            if !self.peers.pump(until).await {
                return Ok(());
            }
        }
    }

    async fn expect_closed(&mut self, client: &str, within: Duration) -> Result<(), Problem> {
        let until = Instant::now() + within;
        while self.peers.get(client).ended.is_none() {
            if !self.peers.pump(until).await {
                return Err(format!("the gate did not close the connection within {within:?}").into());
            }
        }
        Ok(())
    }

    async fn wait(&mut self, terms: &[String]) -> Result<(), Problem> {
        let mut total = Duration::ZERO;
        for term in terms {
            total = total.saturating_add(duration(&self.vars.text(term)?)?);
        }
        let until = Instant::now() + total;
        while Instant::now() < until {
            // A busy client makes this return often; whoever is connected stays served.
            self.peers.pump(until).await;
        }
        Ok(())
    }

    async fn gm(&mut self, command: &str, arguments: &Value, reason: &str, pattern: &Value, refused: bool) -> Result<Value, Problem> {
        let gm = self.zone.gm.clone().ok_or_else(|| "the flow uses `gm` and does not say `needs: { gm: true }`".to_owned())?;
        let (command, reason) = (self.vars.text(command)?, self.vars.text(reason)?);
        let (arguments, pattern) = (self.vars.fill(arguments)?, self.vars.fill(pattern)?);
        let ran = timeout(GM_WITHIN, gm.run(&command, arguments, &reason)).await;
        let answer = match (ran.map_err(|_| format!("the command was not done within {GM_WITHIN:?}"))?, refused) {
            (Ok(answer), false) => answer,
            (Err(text), true) => text.into(),
            (Ok(answer), true) => return Err(format!("the command was not refused: {answer}").into()),
            (Err(text), false) => return Err(format!("the command was refused: {text}").into()),
        };
        let differences = differences(&pattern, &answer);
        if differences.is_empty() { Ok(answer) } else { Err(Problem { text: "the command's answer differs:".into(), differences }) }
    }

    async fn see(&mut self, client: &str, pattern: &Value, within: Duration) -> Result<Value, Problem> {
        let pattern = self.vars.fill(pattern)?;
        let until = Instant::now() + within;
        loop {
            let peer = self.peers.get(client);
            if let Some(seen) = seen(peer).find(|entity| matches(&pattern, entity)) {
                return Ok(seen);
            }
            if !self.peers.pump(until).await {
                let all: Vec<Value> = seen(self.peers.get(client)).collect();
                let nearest = all.iter().map(|entity| differences(&pattern, entity)).min_by_key(Vec::len).unwrap_or_default();
                let text = format!("no such entity was seen within {within:?}; of the {} that are visible the nearest differs:", all.len());
                return Err(Problem { text, differences: nearest });
            }
        }
    }

    async fn see_none(&mut self, client: &str, pattern: &Value, within: Duration) -> Result<(), Problem> {
        let pattern = self.vars.fill(pattern)?;
        let until = Instant::now() + within;
        loop {
            let peer = self.peers.get(client);
            // Who has not been told of the world yet sees nothing, which shows nothing.
            let knows_world = !peer.world.cells().is_empty();
            let still = seen(peer).find(|entity| matches(&pattern, entity));
            if still.is_none() && knows_world {
                return Ok(());
            }
            if !self.peers.pump(until).await {
                let still = still.map_or("the client was told of no world".to_owned(), |seen| format!("it is still seen: {seen}"));
                return Err(format!("after {within:?} {still}").into());
            }
        }
    }

    async fn repeat(
        &mut self,
        client: &str,
        steps: &[Step],
        every: Duration,
        until: &Expected,
        within: Duration,
    ) -> Result<Value, Problem> {
        let pattern = self.vars.fill(&until.pattern)?;
        let give_up = Instant::now() + within;
        let mut search = Search::new(until, &pattern);
        loop {
            // What is repeated may be refused (out of reach, not yet): only the end counts.
            self.peers.get(client).inbox.retain(|frame| frame.kind() != Fault::KIND);
            search.restart();
            if let Some(found) = search.go_on(self.peers.get(client))? {
                return Ok(found);
            }
            if give_up < Instant::now() {
                return Err(search.failed(&format!("came within {within:?}")).negated());
            }
            for step in steps {
                Box::pin(self.step(step)).await.map_err(|problem| problem.about(&format!("repeated step in line {}", step.line)))?;
            }
            let next = Instant::now() + every;
            while self.peers.pump(next).await {}
        }
    }
}

pub(crate) fn seen(peer: &Peer) -> impl Iterator<Item = Value> {
    peer.world.entities().filter_map(|entity| serde_json::to_value(entity).ok())
}

fn no_connection(client: &str) -> String {
    format!("`{client}` has no connection; `connect` or `resume` first")
}
