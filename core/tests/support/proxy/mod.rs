//! A TCP proxy in front of PostgreSQL or Redis that reads along and does harm at a message that the test names.
//!
//! ```text
//! client ──▶ read ──▶ whole messages ──▶ rules ──▶ write ──▶ server      and the same from server to client
//! ```
//! A [`Rule`] is a trigger (the n-th message that matches, before or after it passes) and an [`Action`]. It is applied
//! once, unless it says [`Trigger::each`]. The rules see a message once, in the order in which they were given; the
//! first that takes it is applied. Orders (`cut_all`, `down`, `silence`, …) do not look at messages: they count for the
//! connections that are open at that moment.
//!
//! What a rule holds of a client's words belongs to the network, not to the client: it outlives the client's connection
//! and reaches the server when the test releases it. So a flush can be stuck on its way while its sender tries again.
//!
//! The proxy reads no TLS. It lives as long as the test's runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

mod message;
mod postgres;
mod redis;
mod relay;
mod rule;

pub use message::{Kind, Message};
use message::{Protocol, Side};
pub use rule::{Action, Rule, Trigger, commit, commit_answer, from_client, from_server};

/// Where the next COMMIT is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not at all.
    Nowhere,
    /// The COMMIT never reaches the server.
    BeforeCommit,
    /// The server has answered the COMMIT, and the answer never reaches the client.
    AfterCommit,
    /// The server has answered the COMMIT, and the answer is held back for ever; the connection stays open.
    HoldAnswer,
}

/// A proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: (String, u16),
    protocol: Protocol,
    rules: std::sync::Mutex<Vec<Rule>>,
    /// What `arm` gave last, which the next `arm` replaces.
    armed: std::sync::Mutex<Option<Rule>>,
    cuts_made: AtomicU32,
    refuse: AtomicBool,
    refuse_after_cut: AtomicBool,
    silent: AtomicBool,
    /// What the connections that are open now should do.
    order: watch::Sender<Order>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// An order counts for the connections that are open when it is given.
#[derive(Clone, Copy)]
enum Order {
    GoOn,
    Close,
    /// Swallow everything from now on, and never close.
    PlayDead,
}

impl Proxy {
    /// A proxy in front of the PostgreSQL that the DSN names first.
    pub async fn start(dsn: &str) -> Proxy {
        let config: tokio_postgres::Config = dsn.parse().expect("a DSN");
        let host = match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(_) => {
                panic!("the proxy needs a TCP address in ZMSG_POSTGRES_DSN")
            }
        };
        Proxy::to((host, config.get_ports().first().copied().unwrap_or(5432)), Protocol::Postgres).await
    }

    /// A proxy in front of the Redis at `host:port`.
    pub async fn to_redis(addr: &str) -> Proxy {
        let (host, port) = addr.rsplit_once(':').expect("the proxy needs host:port in ZMSG_REDIS_ADDR");
        let port = port.parse().expect("the proxy needs host:port in ZMSG_REDIS_ADDR");
        Proxy::to((host.to_owned(), port), Protocol::Redis).await
    }

    async fn to(server: (String, u16), protocol: Protocol) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            server,
            protocol,
            rules: Default::default(),
            armed: Default::default(),
            cuts_made: AtomicU32::new(0),
            refuse: AtomicBool::new(false),
            refuse_after_cut: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            order: watch::Sender::new(Order::GoOn),
            accepting: Mutex::new(None),
        });
        *state.accepting.lock().await = Some(tokio::spawn(accept(listener, state.clone())));
        Proxy { address, state }
    }

    /// Does something at a message, for every connection from now on.
    pub fn rule(&self, trigger: Trigger, action: Action) -> Rule {
        let rule = Rule::new(trigger, action);
        self.state.rules.lock().expect("nobody panics in here").push(rule.clone());
        rule
    }

    /// Cuts the next COMMIT, once. Replaces what was armed before.
    pub fn arm(&self, cut: Cut) {
        let rule = match cut {
            Cut::Nowhere => None,
            Cut::BeforeCommit => Some(self.rule(commit(), Action::Close)),
            Cut::AfterCommit => Some(self.rule(commit_answer(), Action::Close)),
            Cut::HoldAnswer => Some(self.rule(commit_answer(), Action::Blackhole)),
        };
        let before = std::mem::replace(&mut *self.state.armed.lock().expect("nobody panics in here"), rule);
        before.iter().for_each(Rule::cancel);
    }

    /// From the next cut on, no connection is accepted.
    pub fn refuse_after_cut(&self) {
        self.state.refuse_after_cut.store(true, Ordering::SeqCst);
    }

    /// Connections are welcome again, after [`Action::Refuse`] or [`Proxy::refuse_after_cut`].
    pub fn accept_again(&self) {
        self.state.refuse_after_cut.store(false, Ordering::SeqCst);
        self.state.refuse.store(false, Ordering::SeqCst);
    }

    /// How many connections were ended at a message.
    pub fn cuts_made(&self) -> u32 {
        self.state.cuts_made.load(Ordering::SeqCst)
    }

    /// Closes every connection; new ones are welcome.
    pub fn cut_all(&self) {
        self.state.order.send_replace(Order::Close);
    }

    /// As a server that was killed: every connection is closed and new ones are refused by the system.
    pub async fn down(&self) {
        if let Some(accepting) = self.state.accepting.lock().await.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.cut_all();
    }

    /// Back at the same address.
    pub async fn up(&self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        *self.state.accepting.lock().await = Some(tokio::spawn(accept(listener, self.state.clone())));
    }

    /// Whether connections are accepted and never answered. One that said something meanwhile stays dead for good.
    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// The connections that are open now never answer again, as if the network had forgotten them; new ones work.
    pub fn forget_open(&self) {
        self.state.order.send_replace(Order::PlayDead);
    }
}

impl State {
    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// The rule to apply to a message that passes now.
    fn rule_for(&self, side: Side, message: &Message) -> Option<Rule> {
        let rules = self.rules.lock().expect("nobody panics in here");
        // All of them count what they see.
        let takers: Vec<&Rule> = rules.iter().filter(|rule| rule.takes(side, message)).collect();
        let rule = (*takers.first()?).clone();
        self.note(rule.action());
        rule.fire();
        Some(rule)
    }

    fn note(&self, action: Action) {
        if matches!(action, Action::Delay(_) | Action::Hold) {
            return;
        }
        self.cuts_made.fetch_add(1, Ordering::SeqCst);
        let refuse = action == Action::Refuse || self.refuse_after_cut.load(Ordering::SeqCst);
        self.refuse.fetch_or(refuse, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.refuse.load(Ordering::SeqCst) {
            // Subscribed here: an order given after this moment concerns the connection.
            let orders = state.order.subscribe();
            tokio::spawn(relay::serve(client, orders, state.clone()));
        }
    }
}
