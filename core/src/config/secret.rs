//! Texts that never show themselves, and connection strings with their passwords taken out.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer};

/// What stands where a secret was.
pub(crate) const HIDDEN: &str = "***";

/// A text whose Debug, Display and serialised form show nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself; only a driver's connect call needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// Words of a connection string whose values may be shown. A list of what is harmless, so that a misspelt
/// `pasword=…` stays hidden too.
const HARMLESS: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "db",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "port",
    "protocol",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// A connection string, URL or key=value words, with `***` for every password; what cannot be read for certain
/// becomes `***` as a whole.
pub fn redact(text: &str) -> String {
    let shown = if text.contains("://") { redact_url(text) } else { redact_words(text) };
    shown.unwrap_or_else(|| HIDDEN.to_owned())
}

/// `scheme://user:password@host:port/path?name=value`.
fn redact_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') {
        return None;
    }
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority_end);
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    // A raw `/`, `?` or `#` inside a password moves its end, and the `@`, behind the authority.
    if rest.contains('@') || path.contains('#') && !path.ends_with("#insecure") {
        return None;
    }
    let mut shown = format!("{scheme}://");
    let hosts = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => {
            let (user, password) = user_info.split_once(':').map_or((user_info, None), |(u, p)| (u, Some(p)));
            if percent_decode_str(user).any(|byte| byte == b':' || byte == b'@') {
                return None;
            }
            shown.push_str(user);
            if password.is_some() {
                shown.push(':');
                shown.push_str(HIDDEN);
            }
            shown.push('@');
            hosts
        }
        None => authority,
    };
    if !hosts.split(',').all(is_host_and_port) {
        return None;
    }
    shown.push_str(hosts);
    shown.push_str(path);
    if let Some(query) = query {
        shown.push('?');
        let pairs: Vec<String> = query.split('&').map(redact_pair).collect();
        shown.push_str(&pairs.join("&"));
    }
    Some(shown)
}

/// Whether what follows the host's colon is a port: in `postgresql://user:password` it is not.
fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .map_or((rest, "?"), |(host, rest)| (host, rest.strip_prefix(':').unwrap_or(rest))),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let host_fits = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte));
    host_fits && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn redact_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if HARMLESS.contains(&name) => pair.to_owned(),
        Some((name, _)) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            format!("{name}={HIDDEN}")
        }
        _ => HIDDEN.to_owned(),
    }
}

/// `name=value name='quoted \' value'`, as libpq reads them.
fn redact_words(text: &str) -> Option<String> {
    let mut shown: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let after = after.trim_start();
        let length = value_length(after)?;
        let value = if HARMLESS.contains(&name) { &after[..length] } else { HIDDEN };
        shown.push(format!("{name}={value}"));
        rest = after[length..].trim_start();
    }
    if shown.is_empty() { None } else { Some(shown.join(" ")) }
}

/// Bytes of the value that `text` begins with, quotes included.
fn value_length(text: &str) -> Option<usize> {
    let quoted = text.starts_with('\'');
    let mut escaped = false;
    for (index, char) in text.char_indices().skip(usize::from(quoted)) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => return Some(index + 1),
            char if !quoted && char.is_whitespace() => return Some(index),
            _ => {}
        }
    }
    if quoted || escaped { None } else { Some(text.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_harmless_is_shown() {
        for (text, shown) in [
            (
                "postgresql://app:canary@db:5432/feeds?sslmode=require",
                "postgresql://app:***@db:5432/feeds?sslmode=require",
            ),
            ("postgresql://app@h1:1,h2:2/feeds", "postgresql://app@h1:1,h2:2/feeds"),
            (
                "postgresql:///feeds?host=/run/pg&password=canary",
                "postgresql:///feeds?host=/run/pg&password=***",
            ),
            ("postgresql://u:c%40nary%2F@[::1]:5432/d", "postgresql://u:***@[::1]:5432/d"),
            (
                "host=db user=app password=canary dbname='my db'",
                "host=db user=app password=*** dbname='my db'",
            ),
            ("host=db password = 'can\\'ary x' port=1", "host=db password=*** port=1"),
            ("redis://:canary@cache:6379/1", "redis://:***@cache:6379/1"),
            ("unix:///run/redis.sock?db=1&pass=canary", "unix:///run/redis.sock?db=1&pass=***"),
            ("rediss://cache:6380/#insecure", "rediss://cache:6380/#insecure"),
        ] {
            assert_eq!(redact(text), shown, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_for_certain_is_hidden() {
        for text in [
            "canary",
            "",
            "postgresql://app:canary",
            "postgresql://app:can/ary@db/feeds",
            "postgresql://app:can?ary@db/feeds",
            "postgresql://app:can#ary@db/feeds",
            "postgresql://app%3Acanary@db/feeds",
            "://app:canary@db",
            "host=db password=can ary",
            "host=db password='canary",
            "password=canary\\",
            "redis://cache:canary",
        ] {
            assert_eq!(redact(text), HIDDEN, "{text}");
        }
        for text in [
            "postgresql://u@h/d?pass%77ord=canary",
            "host=h pasword=canary",
            "redis://a:can@nary@h:1",
            "postgresql://h/d?canary",
        ] {
            assert!(!redact(text).contains("nary"), "{text}: {}", redact(text));
        }
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("canary");
        assert_eq!(
            format!("{secret:?} {secret} {}", serde_json::to_string(&secret).unwrap()),
            "*** *** \"***\""
        );
    }
}
