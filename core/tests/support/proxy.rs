//! A TCP proxy in front of PostgreSQL that cuts a connection around its COMMIT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
}

/// A proxy; it lives as long as the test's runtime.
#[derive(Clone)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicU8,
    cuts_made: AtomicU32,
    refuse: AtomicBool,
    refuse_after_cut: AtomicBool,
}

impl Proxy {
    /// A proxy in front of the server that the DSN names first.
    pub async fn start(dsn: &str) -> Proxy {
        let config: tokio_postgres::Config = dsn.parse().expect("a DSN");
        let host = match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(_) => {
                panic!("the proxy needs a TCP address in ZMSG_POSTGRES_DSN")
            }
        };
        let server = (host, config.get_ports().first().copied().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Proxy { address: listener.local_addr().expect("an address"), state: Arc::default() };
        let state = proxy.state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !state.refuse.load(Ordering::SeqCst) {
                    let server = TcpStream::connect((server.0.as_str(), server.1)).await.expect("the server");
                    tokio::spawn(relay(client, server, state.clone()));
                }
            }
        });
        proxy
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

/// Moves whole messages to the server and bytes back; both sockets close when this returns.
async fn relay(mut client: TcpStream, mut server: TcpStream, state: Arc<State>) {
    let (mut from_client, mut from_server) = (Vec::new(), vec![0; 16 * 1024]);
    let mut started = false;
    let mut swallow = false;
    loop {
        tokio::select! {
            read = client.read_buf(&mut from_client) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                while let Some(message) = take_message(&mut from_client, &mut started) {
                    if is_commit(&message) {
                        let cut = state.take_cut();
                        if cut == Cut::BeforeCommit as u8 {
                            return;
                        }
                        swallow = cut == Cut::AfterCommit as u8;
                    }
                    if server.write_all(&message).await.is_err() {
                        return;
                    }
                }
            }
            read = server.read(&mut from_server) => match read {
                Ok(length @ 1..) if !swallow => {
                    if client.write_all(&from_server[..length]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}

/// The first complete message; the startup message has no type byte.
fn take_message(buffer: &mut Vec<u8>, started: &mut bool) -> Option<Vec<u8>> {
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
