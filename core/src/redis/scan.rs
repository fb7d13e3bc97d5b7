//! Walking over the keys of a server, and looking at the beginning of what is there.

use ::redis::{Value, cmd};
use bytes::Bytes;

use crate::base::Deadline;
use crate::error::{Error, Result};
use crate::redis::Redis;
use crate::redis::commands::to_bytes;
use crate::redis::link::{Link, Repeat};

impl Redis {
    /// One step of SCAN: the cursor of the next one, "0" after the last, and keys that fit the glob. What is there all the
    /// time is seen at least once.
    ///
    /// # Errors
    /// `Config` on a cluster, whose nodes would have to be walked over one by one while keys move between them.
    pub(crate) async fn scan(
        &self,
        cursor: &[u8],
        glob: &str,
        count: usize,
        deadline: Deadline,
    ) -> Result<(Bytes, Vec<Bytes>)> {
        if matches!(self.0.link, Link::Cluster { .. }) {
            return Err(Error::config(
                "redis_addr is a cluster, on which the keys of a prefix cannot be listed; group them by a tag instead",
            ));
        }
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(glob).arg("COUNT").arg(count);
        let answer = self.send(&scan, Repeat::Safe, deadline).await?;
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
