//! A TCP proxy in front of a server: it cuts a connection around its COMMIT, goes down and comes back, or falls silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// Where the next COMMIT is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
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

/// A proxy; it lives as long as the test's runtime.
#[derive(Clone)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: (String, u16),
    /// Whether the bytes are PostgreSQL's, so that a COMMIT can be recognised.
    reads_along: bool,
    cut: AtomicU8,
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
        Proxy::to((host, config.get_ports().first().copied().unwrap_or(5432)), true).await
    }

    /// A proxy in front of the Redis at `host:port`.
    pub async fn to_redis(addr: &str) -> Proxy {
        let (host, port) = addr.rsplit_once(':').expect("the proxy needs host:port in ZMSG_REDIS_ADDR");
        let port = port.parse().expect("the proxy needs host:port in ZMSG_REDIS_ADDR");
        Proxy::to((host.to_owned(), port), false).await
    }

    async fn to(server: (String, u16), reads_along: bool) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            server,
            reads_along,
            cut: AtomicU8::new(Cut::Nowhere as u8),
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

    /// Cuts the next COMMIT, once.
    pub fn arm(&self, cut: Cut) {
        self.state.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// From the next cut on, no connection is accepted.
    pub fn refuse_after_cut(&self) {
        self.state.refuse_after_cut.store(true, Ordering::SeqCst);
    }

    /// How many COMMITs were cut.
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
    /// What to do about a COMMIT that passes now.
    fn take_cut(&self) -> u8 {
        let cut = self.cut.swap(Cut::Nowhere as u8, Ordering::SeqCst);
        if cut != Cut::Nowhere as u8 {
            self.cuts_made.fetch_add(1, Ordering::SeqCst);
            self.refuse.fetch_or(self.refuse_after_cut.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        cut
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.refuse.load(Ordering::SeqCst) {
            // Subscribed here: an order given after this moment concerns the connection.
            let orders = state.order.subscribe();
            tokio::spawn(serve(client, orders, state.clone()));
        }
    }
}

async fn serve(mut client: TcpStream, mut orders: watch::Receiver<Order>, state: Arc<State>) {
    let dead = tokio::select! {
        dead = relay(&mut client, &state) => dead,
        _ = orders.changed() => matches!(*orders.borrow_and_update(), Order::PlayDead),
    };
    if dead {
        let mut swallowed = vec![0; 4096];
        loop {
            tokio::select! {
                read = client.read(&mut swallowed) => if !matches!(read, Ok(1..)) { return },
                _ = orders.changed() => if matches!(*orders.borrow_and_update(), Order::Close) { return },
            }
        }
    }
}

/// Moves whole messages to the server and bytes back. Returns whether the client's side should play dead; else both
/// sockets are closed.
async fn relay(client: &mut TcpStream, state: &State) -> bool {
    let (host, port) = &state.server;
    let Ok(mut server) = TcpStream::connect((host.as_str(), *port)).await else { return false };
    let (mut from_client, mut from_server) = (Vec::new(), vec![0; 16 * 1024]);
    let mut started = false;
    let (mut swallow, mut hold) = (false, false);
    loop {
        tokio::select! {
            read = client.read_buf(&mut from_client) => {
                if !matches!(read, Ok(1..)) {
                    return false;
                }
                if state.silent.load(Ordering::SeqCst) {
                    return true;
                }
                while let Some(message) = take_message(&mut from_client, &mut started, state.reads_along) {
                    if state.reads_along && is_commit(&message) {
                        let cut = state.take_cut();
                        if cut == Cut::BeforeCommit as u8 {
                            return false;
                        }
                        swallow = cut == Cut::AfterCommit as u8;
                        hold = cut == Cut::HoldAnswer as u8;
                    }
                    if server.write_all(&message).await.is_err() {
                        return false;
                    }
                }
            }
            read = server.read(&mut from_server) => match read {
                Ok(1..) if hold || state.silent.load(Ordering::SeqCst) => return true,
                Ok(length @ 1..) if !swallow => {
                    if client.write_all(&from_server[..length]).await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }
}

/// The first complete message, or whatever there is; the startup message has no type byte.
fn take_message(buffer: &mut Vec<u8>, started: &mut bool, whole_messages: bool) -> Option<Vec<u8>> {
    if !whole_messages {
        return (!buffer.is_empty()).then(|| std::mem::take(buffer));
    }
    let head = usize::from(*started);
    let length = buffer.get(head..head + 4)?;
    let whole = head + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if buffer.len() < whole {
        return None;
    }
    *started = true;
    let rest = buffer.split_off(whole);
    Some(std::mem::replace(buffer, rest))
}

fn is_commit(message: &[u8]) -> bool {
    message.first() == Some(&b'Q') && message[5..].starts_with(b"COMMIT")
}
