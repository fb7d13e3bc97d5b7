//! The masters of a cluster: which there are, which run each of them is of, and a connection of one's own to each.
//!
//! The crate finds the node of a key by itself and tells nobody when it has connected to another one. So a survey asks every
//! master for its run, the history of its data, and whom it takes for a master. Whoever is named by one has to answer as
//! well, so that two views of a cluster that comes apart are one that is not whole. What was found is one [`Server`]: its
//! run is a digest over all of them, and its number moves with every change of it, and with every connection of the crate's
//! that is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Client, Cmd, ConnectionAddr, PushInfo, PushKind, RedisResult, Value, cmd};
use futures_util::future::{join_all, try_join, try_join_all};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::base::{Clock, Deadline};
use crate::redis::commands::find_in_info;
use crate::redis::connection::{Connection, Server};
use crate::redis::failure::Failure;

/// Where a node is: host and port.
pub(super) type Node = (String, u16);

/// The masters, and the way to each.
pub(super) struct Masters {
    /// The nodes that the configuration names; the others are reached as they are.
    seeds: Vec<Client>,
    connect_timeout: Duration,
    command_timeout: Duration,
    clock: Clock,
    state: Mutex<State>,
    server: watch::Sender<Server>,
}

#[derive(Default)]
struct State {
    connections: BTreeMap<Node, Arc<Connection>>,
    /// The masters of the last survey.
    known: Vec<Node>,
    /// Whether that survey went well.
    whole: bool,
}

/// What one node says.
struct View {
    /// Its run and the history of its data; empty if it may not be asked.
    run: String,
    masters: BTreeSet<Node>,
}

impl Masters {
    /// None known yet.
    pub(super) fn new(seeds: Vec<Client>, connect_timeout: Duration, command_timeout: Duration) -> Masters {
        Masters {
            seeds,
            connect_timeout,
            command_timeout,
            clock: Clock::system(),
            state: Mutex::default(),
            server: watch::Sender::new(Server { number: 1, run: "".into(), is_current: true }),
        }
    }

    /// The cluster as the last survey saw it.
    pub(super) fn server(&self) -> watch::Receiver<Server> {
        self.server.subscribe()
    }

    /// What the crate has to be told to call when something comes over one of its connections, which is only their end.
    pub(super) fn on_push(&self) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
        let server = self.server.clone();
        move |push| {
            if push.kind == PushKind::Disconnection {
                server.send_modify(next);
            }
            Ok(())
        }
    }

    /// Commands go over other connections from here on.
    pub(super) fn note_loss(&self) {
        self.server.send_modify(next);
    }

    /// The masters of the last survey, in order.
    pub(super) fn known(&self) -> Vec<Node> {
        self.state.lock().known.clone()
    }

    /// How to reach a node, for who wants a connection of another kind.
    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        Ok(self.connection(node)?.client().clone())
    }

    /// Sends a command to one node.
    pub(super) async fn send(&self, node: &Node, cmd: &Cmd, deadline: Deadline) -> Result<Value, Failure> {
        let connection = self.connection(node).map_err(Failure::Reported)?;
        let answer = self.limited(&connection, deadline, connection.send(cmd)).await?;
        answer.extract_error().map_err(Failure::Reported)
    }

    /// Publishes at each of these nodes what is meant for it.
    pub(super) async fn publish(
        &self,
        channel: &str,
        messages: &[(Node, Vec<u8>)],
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let all = messages.iter().map(async |(node, message)| {
            let mut publish = cmd("PUBLISH");
            publish.arg(channel).arg(&message[..]);
            self.send(node, &publish, deadline).await
        });
        try_join_all(all).await.map(|_| ())
    }

    /// Asks all masters who they are.
    ///
    /// # Errors
    /// If one that is named does not answer, or none does.
    pub(super) async fn survey(&self, deadline: Deadline) -> Result<(), Failure> {
        let found = self.ask_all(deadline).await;
        let mut state = self.state.lock();
        state.whole = found.is_ok();
        // Nobody has to hear of it: as long as it is so the beats do not come back.
        self.server.send_if_modified(|server| {
            server.is_current = found.is_ok();
            false
        });
        let views = found?;
        let masters: Vec<Node> = views.keys().cloned().collect();
        let moved = masters != state.known;
        state.connections.retain(|node, _| views.contains_key(node));
        state.known = masters;
        // What is known of them and the number move together.
        self.server.send_if_modified(|server| {
            let run = digest(views.into_values());
            let moved = moved || *server.run != *run;
            if moved {
                *server = Server { number: server.number + 1, run: run.into(), is_current: true };
            }
            moved
        });
        Ok(())
    }

    /// What each master says. Where to begin is not known for sure: of these, who is no master need not answer.
    async fn ask_all(&self, deadline: Deadline) -> Result<BTreeMap<Node, View>, Failure> {
        let (mut views, mut failures) = (BTreeMap::new(), BTreeMap::new());
        let mut next = self.beginning();
        while !next.is_empty() {
            let answers = join_all(next.iter().map(|node| self.ask(node, deadline))).await;
            for (node, answer) in next.into_iter().zip(answers) {
                match answer {
                    Ok(view) => drop(views.insert(node, view)),
                    Err(failure) => drop(failures.insert(node, failure)),
                }
            }
            next = named(&views);
            if let Some(failure) = next.iter().find_map(|node| failures.remove(node)) {
                return Err(failure);
            }
            next.retain(|node| !views.contains_key(node));
        }
        let masters = named(&views);
        views.retain(|node, _| masters.contains(node));
        match failures.into_values().next() {
            Some(failure) if views.is_empty() => Err(failure),
            _ => Ok(views),
        }
    }

    fn beginning(&self) -> BTreeSet<Node> {
        let state = self.state.lock();
        let seeds = self.seeds.iter().filter_map(|seed| place(seed.get_connection_info().addr()));
        let known = state.known.iter().cloned();
        if state.whole { known.collect() } else { known.chain(seeds).collect() }
    }

    async fn ask(&self, node: &Node, deadline: Deadline) -> Result<View, Failure> {
        let connection = self.connection(node).map_err(Failure::Reported)?;
        let (mut history, mut slots) = (cmd("INFO"), cmd("CLUSTER"));
        history.arg("replication");
        slots.arg("SLOTS");
        let asking = try_join(connection.send(&history), connection.send(&slots));
        let (history, slots) = self.limited(&connection, deadline, asking).await?;
        let history = match history.extract_error() {
            Ok(info) => find_in_info(&info, "master_replid").unwrap_or_default(),
            Err(error) if error.code() == Some("NOPERM") => String::new(),
            Err(error) => return Err(Failure::Reported(error)),
        };
        let slots = slots.extract_error().map_err(Failure::Reported)?;
        // Read last: the connection may have been made for these very questions.
        let run = connection.server().borrow().run.to_string();
        Ok(View { run: if run.is_empty() { run } else { run + &history }, masters: masters_of(slots, node) })
    }

    async fn limited<T>(
        &self,
        connection: &Connection,
        deadline: Deadline,
        work: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Failure> {
        match deadline.at_most(self.command_timeout).run("", work).await {
            Ok(done) => done.map_err(Failure::Reported),
            Err(_) => {
                connection.renew();
                let late = deadline.passed();
                Err(if late { Failure::Late(deadline) } else { Failure::Silent(self.command_timeout) })
            }
        }
    }

    fn connection(&self, node: &Node) -> RedisResult<Arc<Connection>> {
        let mut state = self.state.lock();
        if let Some(connection) = state.connections.get(node) {
            return Ok(connection.clone());
        }
        let seed = self.seeds[0].get_connection_info();
        let client = Client::open(seed.clone().set_addr(moved_to(seed.addr(), node)))?;
        let connection = Arc::new(Connection::new(client, self.connect_timeout, self.clock.clone()));
        state.connections.insert(node.clone(), connection.clone());
        Ok(connection)
    }
}

fn next(server: &mut Server) {
    server.number += 1;
}

/// Everybody whom somebody takes for a master.
fn named(views: &BTreeMap<Node, View>) -> BTreeSet<Node> {
    views.values().flat_map(|view| view.masters.iter().cloned()).collect()
}

/// One word for all runs; empty if one of them is not known.
fn digest(views: impl Iterator<Item = View>) -> String {
    let mut runs: Vec<String> = views.map(|view| view.run).collect();
    if runs.iter().any(String::is_empty) {
        return String::new();
    }
    runs.sort();
    Sha256::digest(runs.join(" ")).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// The masters in the answer to CLUSTER SLOTS: `[first, last, [host, port, …], replicas…]` for each range. A node that does
/// not know its own host is where it was asked.
fn masters_of(slots: Value, asked: &Node) -> BTreeSet<Node> {
    let Value::Array(ranges) = slots else { return BTreeSet::new() };
    let master = |range: &Value| {
        let Value::Array(range) = range else { return None };
        let Some(Value::Array(node)) = range.get(2) else { return None };
        let (host, Some(Value::Int(port))) = (node.first()?, node.get(1)) else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
            Value::SimpleString(host) if !host.is_empty() => host.clone(),
            _ => asked.0.clone(),
        };
        Some((host, u16::try_from(*port).ok()?))
    };
    ranges.iter().filter_map(master).collect()
}

fn place(addr: &ConnectionAddr) -> Option<Node> {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        _ => None,
    }
}

/// The same kind of connection to another place.
fn moved_to(addr: &ConnectionAddr, (host, port): &Node) -> ConnectionAddr {
    match addr.clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host.clone(), *port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn range(first: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), text("id")]);
        let replica = Value::Array(vec![text("replica"), Value::Int(1), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(first + 9), master, replica])
    }

    #[test]
    fn the_masters_of_the_ranges_are_read_and_what_is_none_is_passed_over() {
        let ranges = vec![
            range(0, text("a"), 7_000),
            range(10, text("b"), 7_001),
            range(20, text("a"), 7_000),
            range(30, text(""), 7_002),
            range(40, Value::Nil, 7_003),
            range(50, text("c"), 70_000),
            Value::Array(vec![]),
            Value::Nil,
        ];
        let found = masters_of(Value::Array(ranges), &("asked".to_owned(), 1));
        let expected = [("a", 7_000), ("asked", 7_002), ("asked", 7_003), ("b", 7_001)];
        assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)).into());
        assert!(masters_of(Value::Nil, &("asked".to_owned(), 1)).is_empty());
    }

    #[test]
    fn a_digest_tells_runs_apart_whoever_has_them_and_knows_nothing_where_one_is_not_known() {
        let of = |runs: &[&str]| {
            digest(runs.iter().map(|run| View { run: (*run).to_owned(), masters: BTreeSet::new() }))
        };
        assert_eq!(of(&["a1", "b2"]), of(&["b2", "a1"]));
        assert_ne!(of(&["a1", "b2"]), of(&["a1", "b3"]));
        assert_ne!(of(&["a1", "b2"]), of(&["a1"]));
        assert!(of(&["a1", "b2"]).bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(of(&["a1", ""]), "");
    }
}
