//! A login process between fakes: a dc with accounts and roles in memory, a center that says yes, a gate that a test speaks through.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::{
    ClientMessage, Frame,
    client::{Fault, Role},
    event::{Event, event::Body},
    internal::{
        AccountCreate, AccountFind, AccountReply, CallFaultCode, Done, EventsAppend, EventsStored, PlayerEnter, PlayerEntered, RoleCreate,
        RoleDelete, RoleListCall, RoleListed, RoleReply, SessionAuthenticated, SessionClaim, SessionClaimed, SessionEnded, SessionOpened,
    },
    link::{Call, DELIVER, LinkFrame, Notice},
    record::PlayerRecord,
};
use service::{
    Handler, IncomingCall, Link, Links, Process, ProcessKind,
    config::{CacheConfig, LoginConfig, ProcessId, Zone},
    link::fault,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// How long a test waits for what must come.
pub const WITHIN: Duration = Duration::from_secs(20);

/// What dc has, and what it was asked to do with answers.
#[derive(Default)]
pub struct Dc {
    pub accounts: HashMap<String, AccountReply>,
    pub roles: Vec<(u64, Role)>,
    pub records: Vec<PlayerRecord>,
    /// How often it was asked for roles.
    pub role_lists: usize,
    /// The accounts that it was asked for.
    pub finds: Vec<String>,
    /// Answers of `AccountFind` are held back until so many wait.
    pub hold: usize,
    held: Vec<IncomingCall>,
}

impl Dc {
    /// How many answers of `AccountFind` are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Gives the answers that are held back, and holds none from now on.
    pub fn release(&mut self) -> usize {
        self.hold = 0;
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        held.into_iter().for_each(|call| self.find(call));
        count
    }

    fn find(&self, call: IncomingCall) {
        let reply = call.parse().map(|find: AccountFind| self.accounts.get(&find.name).cloned().unwrap_or_default());
        call.answer::<AccountFind>(reply);
    }

    fn on_call(&mut self, call: IncomingCall) {
        match call.kind {
            AccountFind::KIND => {
                self.finds.push(call.parse::<AccountFind>().unwrap().name);
                self.held.push(call);
                if self.hold <= self.held.len() {
                    std::mem::take(&mut self.held).into_iter().for_each(|call| self.find(call));
                }
            }
            AccountCreate::KIND => {
                let create: AccountCreate = call.parse().unwrap();
                let account = self.accounts.len() as u64 + 1;
                let reply = AccountReply { account, name: create.name, password_hash: create.password_hash, ..AccountReply::default() };
                if self.accounts.contains_key(&reply.name) {
                    return call.answer::<AccountCreate>(Err(fault(CallFaultCode::CallNameTaken, "taken")));
                }
                self.accounts.insert(reply.name.clone(), reply.clone());
                call.answer::<AccountCreate>(Ok(reply));
            }
            RoleListCall::KIND => {
                let list: RoleListCall = call.parse().unwrap();
                self.role_lists += 1;
                let own = self.roles.iter().filter(|(account, _)| *account == list.account);
                call.answer::<RoleListCall>(Ok(RoleListed { roles: own.map(|(_, role)| role.clone()).collect() }));
            }
            RoleCreate::KIND => {
                let create: RoleCreate = call.parse().unwrap();
                let record = create.record.unwrap();
                let refusal = if self.roles.iter().any(|(_, role)| role.name == record.name) {
                    Some(CallFaultCode::CallNameTaken)
                } else if create.roles_max as usize <= self.roles.len() {
                    Some(CallFaultCode::CallLimit)
                } else {
                    None
                };
                if let Some(code) = refusal {
                    return call.answer::<RoleCreate>(Err(fault(code, "no")));
                }
                let player = 100 + self.roles.len() as u64;
                let role = Role { player, name: record.name.clone(), level: record.level, map: record.map.clone(), ..Role::default() };
                self.roles.push((record.account, role.clone()));
                self.records.push(record);
                call.answer::<RoleCreate>(Ok(RoleReply { role: Some(role) }));
            }
            RoleDelete::KIND => {
                let delete: RoleDelete = call.parse().unwrap();
                self.roles.retain(|(_, role)| role.player != delete.player);
                call.answer::<RoleDelete>(Ok(Done {}));
            }
            _ => call.unknown(),
        }
    }
}

/// What center was asked, and whether it refuses.
#[derive(Default)]
pub struct Center {
    pub claims: Vec<SessionClaim>,
    pub enters: Vec<PlayerEnter>,
    pub refuses_enter: Option<CallFaultCode>,
    /// Claims for which there is room; none: for all.
    pub room: Option<usize>,
    /// Claims are kept here instead of being answered.
    pub held_claims: Option<Vec<IncomingCall>>,
}

impl Center {
    fn on_call(&mut self, call: IncomingCall) {
        match call.kind {
            SessionClaim::KIND => {
                let claim: SessionClaim = call.parse().unwrap();
                if self.room == Some(0) && !claim.passes || self.room.is_some() && !claim.first && !claim.passes {
                    return call.answer::<SessionClaim>(Err(fault(CallFaultCode::CallZoneFull, "full")));
                }
                self.room = self.room.map(|room| room.saturating_sub(1));
                self.claims.push(claim);
                if let Some(held) = &mut self.held_claims {
                    return held.push(call);
                }
                call.answer::<SessionClaim>(Ok(SessionClaimed { session_epoch: self.claims.len() as u64 }));
            }
            PlayerEnter::KIND => {
                self.enters.push(call.parse().unwrap());
                let answer = match self.refuses_enter {
                    None => Ok(PlayerEntered::default()),
                    Some(code) => Err(fault(code, "no")),
                };
                call.answer::<PlayerEnter>(answer);
            }
            _ => call.unknown(),
        }
    }
}

/// What reaches the gate.
#[derive(Debug)]
pub enum Seen {
    Authenticated(u64, SessionAuthenticated),
    Client(u64, Frame),
}

enum Fake {
    Dc(Arc<Mutex<Dc>>),
    Center(Arc<Mutex<Center>>),
    Gate(mpsc::UnboundedSender<Seen>),
    Logsvc(Arc<Mutex<Vec<String>>>),
}

/// An event in a few words: its session, its kind, and what matters of it.
fn in_words(event: &Event) -> Option<String> {
    let what = match event.body.as_ref()? {
        Body::AccountRegistered(registered) => format!("account_registered {}", registered.account_name),
        Body::LoginStep(step) => format!("login_step {} {} {}", step.step, step.ok, step.detail),
        Body::RoleChanged(changed) => format!("role_changed {}", changed.what),
        Body::FaultShown(shown) => format!("fault_shown {}", shown.code().as_str_name()),
        _ => return None,
    };
    Some(format!("{} {what}", event.session))
}

fn note(logged: &Mutex<Vec<String>>, call: IncomingCall) {
    let batch: EventsAppend = call.parse().unwrap();
    let highest_sequence = (batch.first_sequence + batch.events.len() as u64).saturating_sub(1);
    logged.lock().unwrap().extend(batch.events.iter().filter_map(in_words));
    call.answer::<EventsAppend>(Ok(EventsStored { highest_sequence }));
}

impl Handler for Fake {
    async fn on_up(&self, _: &Link) {}

    async fn on_down(&self, _: &Link) {}

    async fn on_frame(&self, _: &Link, frame: LinkFrame) {
        let Fake::Gate(seen) = self else { return };
        let saw = match frame.kind {
            DELIVER => Seen::Client(frame.id, Frame::from_bytes(frame.body).unwrap()),
            SessionAuthenticated::KIND => Seen::Authenticated(frame.id, prost::Message::decode(frame.body).unwrap()),
            _ => return,
        };
        let _ = seen.send(saw);
    }

    async fn on_call(&self, _: &Link, call: IncomingCall) {
        match self {
            Fake::Dc(dc) => dc.lock().unwrap().on_call(call),
            Fake::Center(center) => center.lock().unwrap().on_call(call),
            Fake::Logsvc(logged) => note(logged, call),
            Fake::Gate(_) => call.unknown(),
        }
    }
}

/// A login process and those around it.
pub struct World {
    pub dc: Arc<Mutex<Dc>>,
    pub center: Arc<Mutex<Center>>,
    pub login: Process,
    /// What logsvc was sent, in a few words each.
    pub logged: Arc<Mutex<Vec<String>>>,
    zone: Zone,
    data: tempfile::TempDir,
    running: JoinHandle<anyhow::Result<()>>,
    others: Vec<Process>,
    to_login: Option<Link>,
    seen: mpsc::UnboundedReceiver<Seen>,
    sees: mpsc::UnboundedSender<Seen>,
}

impl World {
    /// Everything is up and linked.
    pub async fn start(config: LoginConfig) -> World {
        Self::login_alone(config).await.with_others().await
    }

    /// As [`World::start`], with a cache whose URL is in the data folder.
    pub async fn start_with_cache(config: LoginConfig, cache: impl FnOnce(&Path) -> CacheConfig) -> World {
        Self::login_with(config, cache).await.with_others().await
    }

    async fn with_others(mut self) -> World {
        let world = &mut self;
        world.start_dc().await;
        world.start_center().await;
        world.ready().await;
        world.start_gate().await;
        self
    }

    /// Nobody but the login.
    pub async fn login_alone(config: LoginConfig) -> World {
        Self::login_with(config, |_| CacheConfig::None).await
    }

    async fn login_with(config: LoginConfig, cache: impl FnOnce(&Path) -> CacheConfig) -> World {
        let mut zone = Zone::for_test(service::config::DEV_ZONE).unwrap();
        zone.players.queue_pass.insert("gm_anna".into());
        zone.processes.get_mut(&ProcessId("login-1".into())).unwrap().role = service::config::Role::Login(config);
        let data = tempfile::tempdir().unwrap();
        zone.cache = cache(data.path());
        let login = Process::for_test(&zone, "login-1", data.path());
        let running = tokio::spawn(login::run(login.clone()));
        let (sees, seen) = mpsc::unbounded_channel();
        let (dc, center, logged) = Default::default();
        World { dc, center, login, logged, zone, data, running, others: Vec::new(), to_login: None, seen, sees }
    }

    pub async fn start_dc(&mut self) {
        let dc = Arc::clone(&self.dc);
        self.start_fake("dc-1", Fake::Dc(dc)).await;
    }

    pub async fn start_center(&mut self) {
        let center = Arc::clone(&self.center);
        self.start_fake("center-1", Fake::Center(center)).await;
    }

    pub async fn start_logsvc(&mut self) {
        let logged = Arc::clone(&self.logged);
        self.start_fake("logsvc-1", Fake::Logsvc(logged)).await;
    }

    pub async fn ready(&self) {
        tokio::time::timeout(WITHIN, self.login.ready.ready()).await.expect("the login becomes ready");
    }

    async fn start_gate(&mut self) {
        let links = self.start_fake("gate-1", Fake::Gate(self.sees.clone())).await;
        self.to_login = Some(links.wait(ProcessKind::Login, WITHIN).await.unwrap());
    }

    async fn start_fake(&mut self, id: &str, fake: Fake) -> Links {
        let process = Process::for_test(&self.zone, id, self.data.path());
        let links = Links::start(&process, Arc::new(fake)).await.unwrap();
        self.others.push(process);
        links
    }

    /// The gate opens a session.
    pub fn open(&self, session: u64, address: &str) {
        self.open_as(session, &SessionOpened { address: address.into(), ..SessionOpened::default() });
    }

    /// The gate opens a session that it knows more of.
    pub fn open_as(&self, session: u64, opened: &SessionOpened) {
        self.gate().notify(session, opened).unwrap();
    }

    /// The gate ends a session.
    pub fn end(&self, session: u64) {
        self.gate().notify(session, &SessionEnded::default()).unwrap();
    }

    /// A client of the gate sends a request.
    pub fn send<M: ClientMessage>(&self, session: u64, seq: u32, message: &M) {
        self.gate().forward(session, Frame::encode(seq, message)).unwrap();
    }

    /// What reaches the gate next.
    pub async fn next(&mut self) -> Seen {
        tokio::time::timeout(WITHIN, self.seen.recv()).await.expect("something comes").expect("the gate lives")
    }

    /// The next frame for a client, which must be this answer to this request.
    pub async fn answer<M: ClientMessage>(&mut self, session: u64, seq: u32) -> M {
        match self.next().await {
            Seen::Client(to, frame) => {
                let said = frame.info().map(|info| proto::kinds::body_to_json(info.kind, &frame.body()));
                assert_eq!((to, frame.seq(), frame.kind()), (session, seq, M::KIND), "{frame:?} {said:?}");
                frame.decode().unwrap()
            }
            other => panic!("{other:?} instead of an answer"),
        }
    }

    /// Registers, logs in, and makes a role with the account's name.
    pub async fn play(&mut self, session: u64, name: &str) -> Role {
        use proto::client::{CreateRole, LoggedIn, Login, Register, Registered, RoleCreated};
        self.open(session, "192.0.2.1");
        self.send(session, 1, &Register { account: name.into(), password: "correct horse".into() });
        let _: Registered = self.answer(session, 1).await;
        self.send(session, 2, &Login { account: name.into(), password: "correct horse".into() });
        assert!(matches!(self.next().await, Seen::Authenticated(to, _) if to == session));
        let _: LoggedIn = self.answer(session, 2).await;
        self.send(session, 3, &CreateRole { name: name.into() });
        let created: RoleCreated = self.answer(session, 3).await;
        created.role.unwrap()
    }

    /// The fault that answers a login.
    pub async fn login_fault(&mut self, session: u64, account: &str, password: &str) -> Fault {
        self.send(session, 9, &proto::client::Login { account: account.into(), password: password.into() });
        self.answer(session, 9).await
    }

    /// Asks the login to stop, and waits until it has.
    pub async fn stop(self) {
        self.login.tasks.stop_token().cancel();
        tokio::time::timeout(WITHIN, self.running).await.expect("it stops").unwrap().unwrap();
    }

    fn gate(&self) -> &Link {
        self.to_login.as_ref().expect("the gate is started")
    }
}

/// As good as a live one, but with hashes that cost next to nothing.
pub fn config() -> LoginConfig {
    LoginConfig {
        hashers: 2,
        logins_per_s: None,
        queue_max: 64,
        queue_grace: Duration::from_secs(60),
        argon2_memory_kib: 64,
        argon2_passes: 1,
        failures_per_minute: 10,
    }
}
