//! The narrow interface: bytes in, bytes out.

use std::time::Duration;

use ::redis::{Cmd, Value, cmd};
use bytes::Bytes;

use crate::base::{Deadline, clock};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::redis::failure::Failure;
use crate::redis::link::Repeat;

/// A Lua script, sent as its digest once the server knows it.
pub(crate) struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    /// From its text; its header says what it needs and why it is safe.
    pub(crate) fn new(text: &'static str) -> Script {
        Script { text, digest: ::redis::Script::new(text).get_hash().to_owned() }
    }
}

impl Redis {
    /// The strings under the keys, in order; what is missing or no string is `None`. One round trip per node.
    pub(crate) async fn get_many(
        &self,
        keys: impl ExactSizeIterator<Item: AsRef<str>>,
        deadline: Deadline,
    ) -> Result<Vec<Option<Bytes>>> {
        let count = keys.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut mget = cmd("MGET");
        for key in keys {
            mget.arg(key.as_ref());
        }
        match self.send(&mget, Repeat::Safe, deadline).await? {
            Value::Array(values) if values.len() == count => Ok(values.into_iter().map(to_bytes).collect()),
            other => Err(self.unexpected("MGET", &other)),
        }
    }

    /// The string under one key.
    pub(crate) async fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Bytes>> {
        // MGET, because GET fails where somebody else put a list.
        let mut mget = cmd("MGET");
        mget.arg(key);
        match self.send(&mget, Repeat::Safe, deadline).await? {
            Value::Array(mut values) if values.len() == 1 => Ok(values.pop().and_then(to_bytes)),
            other => Err(self.unexpected("MGET", &other)),
        }
    }

    /// Redis' clock in microseconds since 1970. In a cluster, that of one and the same node, so that every process
    /// means the same clock.
    pub(crate) async fn time_us(&self, deadline: Deadline) -> Result<u64> {
        let answer = self.send_to_first(&cmd("TIME"), deadline).await?;
        let parts: Option<(u64, u64)> = match &answer {
            Value::Array(parts) => match parts.as_slice() {
                [seconds, micros] => number(seconds).zip(number(micros)),
                _ => None,
            },
            _ => None,
        };
        let us = parts.and_then(|(seconds, micros)| seconds.checked_mul(1_000_000)?.checked_add(micros));
        us.ok_or_else(|| self.unexpected("TIME", &answer))
    }

    /// A round trip.
    pub(crate) async fn ping(&self, deadline: Deadline) -> Result<Duration> {
        let start = clock::now();
        self.send(&cmd("PING"), Repeat::Safe, deadline).await?;
        Ok(clock::now().duration_since(start))
    }

    /// Runs a script that answers with a number.
    pub(crate) async fn eval_int(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<i64> {
        let answer = self.eval(script, keys, args, deadline).await?;
        number(&answer).ok_or_else(|| self.unexpected("EVAL", &answer))
    }

    /// Runs a script that answers with one string.
    pub(crate) async fn eval_bytes(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Bytes> {
        match self.eval(script, keys, args, deadline).await? {
            Value::BulkString(bytes) => Ok(bytes.into()),
            other => Err(self.unexpected("EVAL", &other)),
        }
    }

    /// Publishes a message on a channel; in a cluster at one of the masters, each of which has every listener.
    pub(crate) async fn publish(&self, channel: &str, message: &[u8], deadline: Deadline) -> Result<()> {
        let mut publish = cmd("PUBLISH");
        publish.arg(channel).arg(message);
        match self.0.link.masters() {
            None => self.send(&publish, Repeat::Never, deadline).await.map(|_| ()),
            Some(_) => self.send_to_first(&publish, deadline).await.map(|_| ()),
        }
    }

    /// Runs a script that answers with a list of numbers and strings; a number is given as its digits.
    pub(crate) async fn eval_list(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Vec<Bytes>> {
        let text = |value: &Value| match value {
            Value::Int(int) => Some(int.to_string().into()),
            Value::BulkString(bytes) => Some(bytes.clone().into()),
            _ => None,
        };
        let answer = self.eval(script, keys, args, deadline).await?;
        let list = match &answer {
            Value::Array(values) => values.iter().map(text).collect(),
            _ => None,
        };
        list.ok_or_else(|| self.unexpected("EVAL", &answer))
    }

    /// What INFO says under a name; `None` if it may not be asked, or does not say. In a cluster, of one of its nodes.
    pub(crate) async fn info(&self, section: &str, name: &str, within: Duration) -> Result<Option<String>> {
        let mut info = cmd("INFO");
        info.arg(section);
        match self.send_within(&info, Repeat::Safe, Deadline::after(within), within).await {
            Ok(answer) => Ok(find_in_info(&answer, name)),
            Err(failure) if failure.is_forbidden() => Ok(None),
            Err(failure) => Err(failure.of_command(self.endpoint())),
        }
    }

    async fn eval(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Value> {
        let answer = self.eval_or_fail(script, keys, args, deadline).await;
        answer.map_err(|failure| failure.of_command(self.endpoint()))
    }

    pub(super) async fn eval_or_fail(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Value, Failure> {
        let run = |how: &str, what: &str| {
            let bytes =
                keys.iter().map(|key| key.len()).chain(args.iter().map(|arg| arg.len())).sum::<usize>();
            // Room for the names of command and script and the number of keys as well.
            let mut eval = Cmd::with_capacity(3 + keys.len() + args.len(), 24 + what.len() + bytes);
            eval.arg(how).arg(what).arg(keys.len());
            for key in keys {
                eval.arg(key);
            }
            for arg in args {
                eval.arg(arg);
            }
            eval
        };
        let within = self.0.command_timeout;
        let by_digest = run("EVALSHA", &script.digest);
        match self.send_within(&by_digest, Repeat::Never, deadline, within).await {
            // The server forgot it in a restart, or never knew it.
            Err(failure) if failure.is_unknown_script() => {
                // Boxed, as every call would carry the room for it.
                Box::pin(self.send_within(&run("EVAL", script.text), Repeat::Never, deadline, within)).await
            }
            answer => answer,
        }
    }

    pub(super) fn unexpected(&self, command: &str, answer: &Value) -> Error {
        let shape = match answer {
            Value::Nil => "nil",
            Value::Int(_) => "a number",
            Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
            Value::Array(_) => "an array of another shape",
            _ => "something else",
        };
        Error::new(ErrorKind::Cache, format!("Redis at {} answered {command} with {shape}", self.endpoint()))
    }
}

pub(super) fn no_node(endpoint: &str) -> Error {
    Error::new(ErrorKind::Cache, format!("Redis at {endpoint} has no node to subscribe at"))
}

pub(super) fn to_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

pub(super) fn number<N: std::str::FromStr + TryFrom<i64>>(value: &Value) -> Option<N> {
    match value {
        Value::Int(int) => N::try_from(*int).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}

/// A line of the answer to INFO, which is a map of them where there are several nodes.
pub(super) fn find_in_info(answer: &Value, name: &str) -> Option<String> {
    match answer {
        Value::BulkString(bytes) => line_of_info(&String::from_utf8_lossy(bytes), name),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => line_of_info(text, name),
        Value::Map(pairs) => pairs.iter().find_map(|(_, value)| find_in_info(value, name)),
        Value::Array(values) => values.iter().find_map(|value| find_in_info(value, name)),
        _ => None,
    }
}

fn line_of_info(info: &str, name: &str) -> Option<String> {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}
