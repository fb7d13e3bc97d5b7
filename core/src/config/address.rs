//! Redis addresses: what people write, made into URLs.
//!
//! Errors never repeat the text: it may hold a password.

use std::fmt;

use serde_json::Value as Json;

use super::secret::{HIDDEN, Secret, redact};

/// Where a Redis is: one URL, or several nodes of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisAddr {
    /// `redis://`, `rediss://` or `unix://` URL.
    Single(Secret),
    /// `redis://` or `rediss://` URLs of some nodes; the others are found through them.
    Cluster(Vec<Secret>),
}

/// The port that Redis listens on unless told otherwise.
const DEFAULT_PORT: u16 = 6379;
/// More seed nodes than any cluster needs.
const MOST_NODES: usize = 1_000;
const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];

impl RedisAddr {
    /// Reads `host`, `host:port`, `[::1]:6379`, a URL, or several of them separated by commas. A comma inside a
    /// password is written `%2C`.
    pub(crate) fn parse(text: &str) -> Result<RedisAddr, &'static str> {
        let nodes = split_nodes(text);
        match nodes.as_slice() {
            [one] => Ok(RedisAddr::Single(node(one)?)),
            several => RedisAddr::cluster(several),
        }
    }

    /// Reads a text or a list of texts; a list is a cluster even if it names one node.
    pub(crate) fn from_json(value: &Json) -> Result<RedisAddr, &'static str> {
        match value {
            Json::String(text) => RedisAddr::parse(text),
            Json::Array(nodes) => {
                let nodes: Option<Vec<&str>> = nodes.iter().map(Json::as_str).collect();
                RedisAddr::cluster(&nodes.ok_or("a node of the list is not a text")?)
            }
            _ => Err("it is neither a text nor a list"),
        }
    }

    fn cluster(nodes: &[&str]) -> Result<RedisAddr, &'static str> {
        if nodes.is_empty() || nodes.len() > MOST_NODES {
            return Err("the list of nodes must name 1 to 1000 nodes");
        }
        let nodes: Vec<Secret> = nodes.iter().map(|text| node(text)).collect::<Result<_, _>>()?;
        let scheme = |url: &Secret| url.expose().split_once("://").map(|(scheme, _)| scheme.to_owned());
        let first = scheme(&nodes[0]);
        if first.as_deref() == Some("unix") {
            return Err("a cluster cannot be reached through a unix socket");
        }
        if nodes.iter().any(|url| scheme(url) != first) {
            return Err("all nodes of a cluster must have the same scheme");
        }
        Ok(RedisAddr::Cluster(nodes))
    }

    /// The URLs.
    pub fn urls(&self) -> &[Secret] {
        match self {
            RedisAddr::Single(url) => std::slice::from_ref(url),
            RedisAddr::Cluster(urls) => urls,
        }
    }

    /// The address without its passwords: a text, or a list of them for a cluster.
    pub fn describe(&self) -> Json {
        match self {
            RedisAddr::Single(url) => redact(url.expose()).into(),
            RedisAddr::Cluster(urls) => urls.iter().map(|url| redact(url.expose())).collect(),
        }
    }
}

impl fmt::Debug for RedisAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Json::String(text) => f.write_str(&text),
            other => write!(f, "{other}"),
        }
    }
}

/// Splits at commas; where URLs are given, only at those that a scheme follows.
fn split_nodes(text: &str) -> Vec<&str> {
    if !text.contains("://") {
        return text.split(',').map(str::trim).collect();
    }
    let mut nodes = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',') {
        let next = text[comma + 1..].trim_start();
        if SCHEMES.iter().any(|scheme| next.starts_with(scheme)) {
            nodes.push(text[start..comma].trim());
            start = comma + 1;
        }
    }
    nodes.push(text[start..].trim());
    nodes
}

/// One node as a URL.
fn node(text: &str) -> Result<Secret, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a node is empty");
    }
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("it holds a space or a control character");
    }
    let url = match text.split_once("://") {
        None => format!("redis://{}", host_and_port(text)?),
        Some((scheme, rest)) => {
            match scheme {
                "unix" => unix(rest)?,
                "redis" | "rediss" => url(rest)?,
                _ => return Err("its scheme is none of redis://, rediss://, unix://"),
            }
            text.to_owned()
        }
    };
    // What cannot be shown without its password is not an address that a driver would read the way it was meant.
    if redact(&url) == HIDDEN {
        return Err(
            "its parts cannot be told apart; percent-encode special characters of the user and password",
        );
    }
    Ok(Secret::new(url))
}

fn unix(path_and_query: &str) -> Result<(), &'static str> {
    if path_and_query.starts_with('/') { Ok(()) } else { Err("write the path of the socket as unix:///path") }
}

/// Checks what follows `redis://`.
fn url(rest: &str) -> Result<(), &'static str> {
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host_and_port(host)?;
    let path = &tail[..tail.find(['?', '#']).unwrap_or(tail.len())];
    let database = path.strip_prefix('/').unwrap_or(path);
    if database.bytes().all(|byte| byte.is_ascii_digit()) && database.len() <= 5 {
        Ok(())
    } else {
        Err("what follows the slash must be the number of a database")
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, with the port filled in.
fn host_and_port(text: &str) -> Result<String, &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the bracket of an IPv6 address is not closed")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| "there is no IPv6 address in the brackets")?;
        let port = if after.is_empty() {
            None
        } else {
            Some(after.strip_prefix(':').ok_or("a colon must follow the bracket")?)
        };
        (format!("[{host}]"), port)
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("write an IPv6 address in brackets, as [::1]:6379");
            }
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.contains('@') {
        return Err("a user or password needs the form redis://user:password@host:port");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("the port is not a number from 1 to 65535")?,
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_become_urls() {
        for (text, urls) in [
            ("localhost:6379", vec!["redis://localhost:6379"]),
            ("cache", vec!["redis://cache:6379"]),
            ("[::1]:7000", vec!["redis://[::1]:7000"]),
            ("[::1]", vec!["redis://[::1]:6379"]),
            ("redis://:p@cache/2", vec!["redis://:p@cache/2"]),
            ("rediss://u:p@cache:6380", vec!["rediss://u:p@cache:6380"]),
            ("unix:///run/redis.sock?db=1", vec!["unix:///run/redis.sock?db=1"]),
            ("a:1, b:2,c", vec!["redis://a:1", "redis://b:2", "redis://c:6379"]),
            ("redis://:x,y@a:1,redis://b:2", vec!["redis://:x,y@a:1", "redis://b:2"]),
        ] {
            let addr = RedisAddr::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(addr.urls().iter().map(Secret::expose).collect::<Vec<_>>(), urls, "{text}");
        }
        assert!(matches!(RedisAddr::from_json(&json!(["a:1"])), Ok(RedisAddr::Cluster(_))));
        let secret = RedisAddr::parse("redis://:canary@a:1").unwrap();
        assert_eq!(format!("{secret:?}"), "redis://:***@a:1");
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for bad in [
            "",
            ":6379",
            "canary:port",
            "canary:0",
            "canary:65536",
            "::1",
            "[canary]:1",
            "[::1",
            "[::1]6379",
            "http://canary",
            "redis://",
            "redis://:canary",
            "redis://u:can/ary@h:1",
            "u:canary@h",
            "redis://h/canary",
            "unix://canary",
            "a,,b",
            "can ary",
            "redis://a:1,b:2",
            "redis://a:1,rediss://b:1",
            "can\nary",
            "redis://u:can#ary@h",
        ] {
            let why = RedisAddr::parse(bad).expect_err(bad);
            assert!(!why.contains("ary"), "{bad}: {why}");
        }
        for bad in [json!([]), json!(["a", 1]), json!(7), json!({}), json!(["unix:///a", "unix:///b"])] {
            assert!(RedisAddr::from_json(&bad).is_err(), "{bad}");
        }
    }
}
