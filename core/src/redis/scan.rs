//! Walking over the keys of a server, or of every master of a cluster, and looking at the beginning of what is there.

use ::redis::{Value, cmd};
use bytes::Bytes;

use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::redis::commands::to_bytes;
use crate::redis::link::Repeat;
use crate::redis::masters::{Masters, Node};

/// A walk over keys.
pub(crate) struct Scan {
    glob: String,
    count: usize,
    walk: Walk,
}

/// How far it has come.
enum Walk {
    /// To this cursor of the server; `None` at the end.
    Single(Option<Bytes>),
    /// To this cursor of the last of the masters that are left.
    Cluster {
        cursor: Bytes,
        left: Vec<Node>,
        /// Who had which slots at the beginning.
        layout: Vec<(Node, String)>,
    },
}

const BEGINNING: Bytes = Bytes::from_static(b"0");

impl Redis {
    /// Begins a walk over the keys that fit the glob, in steps of about `count` keys.
    ///
    /// # Errors
    /// `Cache`, to be tried again, if slots of a cluster are being moved from one master to another.
    pub(crate) async fn scan(&self, glob: String, count: usize, deadline: Deadline) -> Result<Scan> {
        let walk = match self.0.link.masters() {
            None => Walk::Single(Some(BEGINNING)),
            Some(masters) => {
                self.look(deadline).await?;
                let layout = self.layout(masters, deadline).await?;
                let left = layout.iter().map(|(node, _)| node.clone()).collect();
                Walk::Cluster { cursor: BEGINNING, left, layout }
            }
        };
        Ok(Scan { glob, count, walk })
    }

    /// One step of a walk; `None` after the last one. What is there all the time is seen at least once.
    ///
    /// # Errors
    /// As [`Redis::scan`]: what was moved meanwhile may not have been seen.
    pub(crate) async fn scan_on(&self, scan: &mut Scan, deadline: Deadline) -> Result<Option<Vec<Bytes>>> {
        let Scan { glob, count, walk } = scan;
        let step = |cursor: &[u8]| {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&*glob).arg("COUNT").arg(*count);
            scan
        };
        match (walk, self.0.link.masters()) {
            (Walk::Single(cursor), _) => {
                let Some(from) = cursor.take() else { return Ok(None) };
                let answer = self.send(&step(&from), Repeat::Safe, deadline).await?;
                let (next, keys) = self.read_step(answer)?;
                *cursor = (next != BEGINNING).then_some(next);
                Ok(Some(keys))
            }
            (Walk::Cluster { cursor, left, layout }, Some(masters)) => {
                let Some(node) = left.last() else {
                    let same = self.layout(masters, deadline).await? == *layout;
                    return if same { Ok(None) } else { Err(self.moving()) };
                };
                let answer = masters.send(node, &step(cursor), deadline).await;
                let answer = answer.map_err(|failure| failure.of_command(self.endpoint()))?;
                let (next, keys) = self.read_step(answer)?;
                if next == BEGINNING {
                    left.pop();
                }
                *cursor = next;
                Ok(Some(keys))
            }
            (Walk::Cluster { .. }, None) => Ok(None),
        }
    }

    /// Which slots each master says are its own.
    async fn layout(&self, masters: &Masters, deadline: Deadline) -> Result<Vec<(Node, String)>> {
        let mut ask = cmd("CLUSTER");
        ask.arg("NODES");
        let mut layout = Vec::new();
        for node in masters.known() {
            let answer = masters.send(&node, &ask, deadline).await;
            let answer = answer.map_err(|failure| failure.of_command(self.endpoint()))?;
            let text = match &answer {
                Value::BulkString(text) => String::from_utf8_lossy(text),
                Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.into(),
                _ => return Err(self.unexpected("CLUSTER NODES", &answer)),
            };
            let own = own_slots(&text);
            // One that comes or goes is in brackets.
            if own.contains('[') {
                return Err(self.moving());
            }
            layout.push((node, own));
        }
        Ok(layout)
    }

    fn moving(&self) -> Error {
        let endpoint = self.endpoint();
        let why =
            format!("slots of the cluster at {endpoint} are being moved between its masters; try again");
        Error::new(ErrorKind::Cache, why)
    }

    fn read_step(&self, answer: Value) -> Result<(Bytes, Vec<Bytes>)> {
        let Value::Array(parts) = answer else { return Err(self.unexpected("SCAN", &answer)) };
        match <[Value; 2]>::try_from(parts) {
            Ok([Value::BulkString(next), Value::Array(keys)]) => {
                Ok((next.into(), keys.into_iter().filter_map(to_bytes).collect()))
            }
            _ => Err(self.unexpected("SCAN", &Value::Nil)),
        }
    }

    /// The first bytes of the string under a key; empty if there is none, or something else.
    pub(crate) async fn get_start(&self, key: &str, length: usize, deadline: Deadline) -> Result<Bytes> {
        let mut range = cmd("GETRANGE");
        range.arg(key).arg(0).arg(length.saturating_sub(1));
        match self.send_within(&range, Repeat::Safe, deadline, self.0.command_timeout).await {
            Ok(answer) => Ok(to_bytes(answer).unwrap_or_default()),
            Err(failure) if failure.is_of_another_type() => Ok(Bytes::new()),
            Err(failure) => Err(failure.of_command(self.endpoint())),
        }
    }
}

/// What the node that was asked says of itself in the answer to CLUSTER NODES: in each line the id, the place, the flags,
/// the master, three numbers, the state of the link, and then the slots.
fn own_slots(answer: &str) -> String {
    let own =
        answer.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")));
    own.map(|line| line.split(' ').skip(8).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_which_slots_are_its_own() {
        let answer = "07c 127.0.0.1:1@10001 slave e7d 0 1426238317239 4 connected\n\
                      67e 127.0.0.1:2@10002,host master - 0 1426238316232 2 connected 5461-10922\n\
                      e7d 127.0.0.1:3@10003 myself,master - 0 0 1 connected 0-5460 7000 [93-<-292]\n";
        assert_eq!(own_slots(answer), "0-5460 7000 [93-<-292]");
        assert_eq!(own_slots("nonsense\n"), "");
    }
}
