//! The crate's errors, told as ours.

use std::time::Duration;

use ::redis::{ErrorKind as Kind, RedisError};

use crate::base::Deadline;
use crate::error::{Error, ErrorKind};

/// Why a command gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The crate or the server said so.
    Reported(RedisError),
    /// No answer within the time of one command.
    Silent(Duration),
    /// The caller's deadline passed first.
    Late(Deadline),
}

impl Failure {
    /// Whether the user may not run this one command.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Failure::Reported(error) if error.code() == Some("NOPERM"))
    }

    /// Whether a command did nothing because of some of its keys: the user may not reach them, or they lie apart. What ended
    /// a script that had begun is something else.
    pub(super) fn is_about_keys(&self) -> bool {
        let began = matches!(self, Failure::Reported(error) if is_forbidden_in_script(error));
        self.is_forbidden() && !began || self.is_about_slots()
    }

    /// Whether its keys lie in several slots of a cluster.
    pub(super) fn is_about_slots(&self) -> bool {
        matches!(self, Failure::Reported(error) if error.code() == Some("CROSSSLOT"))
    }

    /// Whether there is something else than a string under the key.
    pub(super) fn is_of_another_type(&self) -> bool {
        matches!(self, Failure::Reported(error) if error.code() == Some("WRONGTYPE"))
    }

    /// Whether the server would rather have the script's text.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Failure::Reported(error) if error.code() == Some("NOSCRIPT"))
    }

    /// The error of a command.
    pub(super) fn of_command(self, endpoint: &str) -> Error {
        match self {
            Failure::Late(deadline) => deadline.error(&format!("waiting for Redis at {endpoint}")),
            Failure::Silent(after) => {
                let told = format!("Redis at {endpoint} did not answer within {after:?}");
                Error::new(ErrorKind::Cache, told).with_silent()
            }
            Failure::Reported(error) => {
                let told = Error::new(ErrorKind::Cache, format!("Redis at {endpoint}: {}", describe(&error)));
                let told = if was_never_sent(&error) { told.with_unsent() } else { told };
                if error.is_io_error() { told.with_silent() } else { told }
            }
        }
    }

    /// The error of subscribing to a channel.
    pub(super) fn at_subscribe(self, endpoint: &str, channel: &str) -> Error {
        if self.is_forbidden() {
            return Error::config(format!(
                "redis_addr: the user may not SUBSCRIBE to {channel} of Redis at {endpoint}; \
                 grant +subscribe and &{channel}"
            ));
        }
        self.at_connect(endpoint)
    }

    /// The error of the first command after connecting.
    pub(super) fn at_connect(self, endpoint: &str) -> Error {
        match self {
            Failure::Late(_) => Error::new(
                ErrorKind::Cache,
                format!("cannot reach Redis at {endpoint}: it did not answer in time"),
            ),
            Failure::Reported(error)
                if error.kind() == Kind::AuthenticationFailed || needs_password(&error) =>
            {
                Error::config(format!("redis_addr: Redis at {endpoint} refused the user or the password"))
            }
            Failure::Reported(error) if error.kind() == Kind::RESP3NotSupported => Error::config(format!(
                "Redis at {endpoint} does not know RESP3; zmsg needs Redis 6 or later \
                 (behind a proxy, add ?protocol=resp2 to the URL)"
            )),
            Failure::Reported(error) if error.kind() == Kind::InvalidClientConfig => {
                Error::config(format!("redis_addr: {}", describe(&error)))
            }
            Failure::Reported(error) => Error::new(
                ErrorKind::Cache,
                format!("cannot reach Redis at {endpoint}: {}", describe(&error)),
            ),
            silent => silent.of_command(endpoint),
        }
    }
}

fn needs_password(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

pub(super) const FORBIDDEN_IN_SCRIPT: &str = "the user may not run a command, or reach a key, of a script";

/// What happened, without the server's own text, which may quote an argument.
fn describe(error: &RedisError) -> String {
    if error.is_io_error() {
        // Words of the operating system or of TLS.
        return error.to_string();
    }
    if is_forbidden_in_script(error) {
        return FORBIDDEN_IN_SCRIPT.to_owned();
    }
    match (error.category(), error.code()) {
        (_, Some("NOPERM")) => "the user may not run this command, or reach its keys (NOPERM)".to_owned(),
        ("", Some(code)) => code.to_owned(),
        (category, Some(code)) => format!("{category} ({code})"),
        (category, None) => category.to_owned(),
    }
}

/// Whether the user's rights ended a script; Redis 7.0 and its successors have their own words for it, and no code.
fn is_forbidden_in_script(error: &RedisError) -> bool {
    error.detail().is_some_and(|text| {
        text.contains("user executing the script can't") || text.contains("ACL failure in script")
    })
}

/// Whether the command certainly never left: there was no connection to send it on.
pub(super) fn was_never_sent(error: &RedisError) -> bool {
    error.is_connection_refusal()
}

/// Whether the connection is what failed, with the command sent or not.
pub(super) fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.is_timeout()
}
