//! One connection: two directions that move whole messages, and what becomes of both sockets at the end.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::message::{Framing, Side};
use super::rule::{Action, Rule};
use super::{Order, State};

/// How the moving of bytes ends.
enum End {
    Close,
    Reset,
    /// The client's connection stays open and is never answered; the server's is closed.
    PlayDead,
    /// Both stay open.
    Blackhole,
}

/// What a rule keeps from its destination.
struct Held {
    rule: Rule,
    /// Messages that the rules have seen, and how many bytes of them were delivered.
    bytes: Vec<u8>,
    sent: usize,
    /// What was said since.
    later: Vec<u8>,
}

struct Link {
    state: Arc<State>,
    /// One per direction, and not among a direction's own variables: they outlive it.
    held: [Mutex<Option<Held>>; 2],
}

/// Serves a client until its end. An order that is given from now on concerns it.
pub(super) async fn serve(mut client: TcpStream, mut orders: watch::Receiver<Order>, state: Arc<State>) {
    let (host, port) = &state.server;
    let Ok(mut server) = TcpStream::connect((host.as_str(), *port)).await else { return };
    let link = Link { state, held: Default::default() };
    let end = {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.split(), server.split());
        tokio::select! {
            end = link.pump(Side::Client, &mut from_client, &mut to_server) => end,
            end = link.pump(Side::Server, &mut from_server, &mut to_client) => end,
            _ = orders.changed() => match *orders.borrow_and_update() {
                Order::PlayDead => End::PlayDead,
                Order::GoOn | Order::Close => End::Close,
            }
        }
    };
    let (client_over, over) = watch::channel(false);
    tokio::join!(
        async {
            end_client(client, &end, orders).await;
            client_over.send_replace(true);
        },
        link.end_server(server, &end, over)
    );
}

impl Link {
    /// Moves one direction until it ends.
    async fn pump(&self, side: Side, source: &mut ReadHalf<'_>, sink: &mut WriteHalf<'_>) -> End {
        let mut framing = Framing::of(self.state.protocol, side);
        let mut buffer = Vec::new();
        loop {
            // A read takes what there is room for, and a flight should come in one.
            buffer.reserve(64 * 1024);
            if !matches!(source.read_buf(&mut buffer).await, Ok(1..)) {
                return End::Close;
            }
            if self.state.is_silent() {
                return End::PlayDead;
            }
            // What came in one read goes out in one write.
            let mut passing = Vec::new();
            while let Some(message) = framing.take(&mut buffer) {
                let Some(rule) = self.state.rule_for(side, &message) else {
                    passing.extend(message.bytes);
                    continue;
                };
                let stopped = part(&rule, &mut passing, message.bytes);
                if sink.write_all(&passing).await.is_err() {
                    return End::Close;
                }
                passing = match rule.action() {
                    Action::Close | Action::Refuse => return End::Close,
                    Action::Reset => return End::Reset,
                    Action::Blackhole => return End::Blackhole,
                    Action::Delay(duration) => {
                        tokio::time::sleep(duration).await;
                        stopped
                    }
                    Action::Hold => {
                        let held = Held { rule, bytes: stopped, sent: 0, later: std::mem::take(&mut buffer) };
                        match self.hold(side, held, source, sink).await {
                            Some(later) => buffer = later,
                            None => return End::Close,
                        }
                        Vec::new()
                    }
                };
            }
            if sink.write_all(&passing).await.is_err() {
                return End::Close;
            }
        }
    }

    /// Waits for the release and delivers. Returns what was said meanwhile, or nothing if the source is gone.
    async fn hold(
        &self,
        side: Side,
        held: Held,
        source: &mut ReadHalf<'_>,
        sink: &mut WriteHalf<'_>,
    ) -> Option<Vec<u8>> {
        let rule = held.rule.clone();
        self.held(side, |place| *place = Some(held));
        let mut more = [0; 4096];
        loop {
            tokio::select! {
                () = rule.released() => break,
                read = source.read(&mut more) => match read {
                    Ok(length @ 1..) => self.held(side, |held| {
                        held.iter_mut().for_each(|held| held.later.extend(&more[..length]));
                    }),
                    _ => return None,
                }
            }
        }
        self.deliver(side, sink).await?;
        let later = self.held(side, Option::take).map(|held| held.later);
        rule.settle();
        later
    }

    /// Writes what is held and keeps count, so that another may go on where this one is interrupted.
    async fn deliver(&self, side: Side, sink: &mut WriteHalf<'_>) -> Option<()> {
        loop {
            let rest = self.held(side, |held| held.as_ref().map(|held| held.bytes[held.sent..].to_vec()))?;
            if rest.is_empty() {
                return Some(());
            }
            let written = sink.write(&rest).await.ok()?;
            self.held(side, |held| held.iter_mut().for_each(|held| held.sent += written));
        }
    }

    async fn end_server(&self, mut server: TcpStream, end: &End, mut client_over: watch::Receiver<bool>) {
        if let Some(answer) = self.held(Side::Server, Option::take) {
            // Nobody is there to hear it.
            answer.rule.settle();
        }
        let request = self.held(Side::Client, |held| held.as_ref().map(|held| held.rule.clone()));
        match request {
            Some(rule) => {
                rule.released().await;
                self.held(Side::Client, |held| {
                    held.iter_mut().for_each(|held| held.bytes.extend(std::mem::take(&mut held.later)));
                });
                let _ = self.deliver(Side::Client, &mut server.split().1).await;
                finish(server).await;
                rule.settle();
            }
            None => match end {
                End::Close | End::Reset => finish(server).await,
                End::PlayDead => {}
                End::Blackhole => {
                    tokio::select! {
                        () = swallow(&mut server) => {}
                        _ = client_over.wait_for(|over| *over) => {}
                    }
                }
            },
        }
    }

    fn held<T>(&self, side: Side, work: impl FnOnce(&mut Option<Held>) -> T) -> T {
        work(&mut self.held[side as usize].lock().expect("nobody panics in here"))
    }
}

/// Parts what the rule stops from what still passes.
fn part(rule: &Rule, passing: &mut Vec<u8>, message: Vec<u8>) -> Vec<u8> {
    if rule.lets_the_message_pass() {
        passing.extend(message);
        Vec::new()
    } else if rule.takes_the_flight() {
        passing.extend(message);
        std::mem::take(passing)
    } else {
        message
    }
}

async fn end_client(mut client: TcpStream, end: &End, mut orders: watch::Receiver<Order>) {
    match end {
        End::Close => {}
        End::Reset => client.set_zero_linger().expect("an open socket"),
        End::PlayDead | End::Blackhole => {
            tokio::select! {
                () = swallow(&mut client) => {}
                _ = orders.wait_for(|order| matches!(order, Order::Close)) => {}
            }
        }
    }
}

/// Says that nothing follows, and hears the server out: to close with an unread answer could cost it what we sent.
async fn finish(mut server: TcpStream) {
    if server.shutdown().await.is_ok() {
        swallow(&mut server).await;
    }
}

/// Reads to the end and does nothing with it.
async fn swallow(stream: &mut TcpStream) {
    let mut swallowed = vec![0; 4096];
    while matches!(stream.read(&mut swallowed).await, Ok(1..)) {}
}
