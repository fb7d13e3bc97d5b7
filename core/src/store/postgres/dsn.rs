//! From a DSN to a driver's configuration and a TLS choice, without ever showing a piece of the DSN.
//!
//! The driver's parser reads most of it; what it does not know (`verify-ca`, `verify-full`, certificates) is taken
//! out before. Its messages may quote the DSN, so none of them is passed on.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::error::{Error, Result};

/// How far the server is trusted, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    /// Encrypted if the server can, not verified.
    Prefer,
    /// Encrypted, not verified.
    Require,
    /// The certificate's chain is verified.
    VerifyCa,
    /// The chain and the host's name are verified.
    VerifyFull,
}

/// Certificates, by path.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// A DSN, understood.
#[derive(Debug)]
pub(super) struct Dsn {
    pub(super) config: Config,
    pub(super) mode: TlsMode,
    pub(super) files: TlsFiles,
}

/// Every option that the driver or we understand.
const OPTIONS: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

const FORM: &str = "expected postgresql://user:password@host:5432/database?sslmode=disable or \
                    \"host=… port=… user=… password=… dbname=…\"; percent-encode special characters of a password in a URL";

fn malformed(why: &str) -> Error {
    Error::config(format!("postgres_dsn: {why}; {FORM}"))
}

/// Reads a URL or key=value words. `files` holds what the configuration names; the DSN's own paths win.
pub(super) fn parse(text: &str, mut files: TlsFiles) -> Result<Dsn> {
    let text = text.trim();
    if text.is_empty() {
        return Err(malformed("it is empty"));
    }
    let (rest, ssl) = take_ssl(text)?;
    let mut config: Config = rest.parse().map_err(|_| malformed("it cannot be read"))?;
    let mut given = None;
    for (key, value) in ssl {
        match (key.as_str(), value) {
            ("sslmode", mode) => given = Some(tls_mode(&mode)?),
            ("sslrootcert", path) if path == "system" => files.ca = None,
            ("sslrootcert", path) => files.ca = Some(path.into()),
            ("sslcert", path) => files.cert = Some(path.into()),
            (_, path) => files.key = Some(path.into()),
        }
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        default_host(&mut config);
    }
    if config.get_application_name().is_none() {
        config.application_name("zmsg");
    }
    find_out_dead_sockets(&mut config, &rest);
    let mode = effective_mode(given, &config, &files);
    config.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    Ok(Dsn { config, mode, files })
}

/// Where the server is, for messages: `host:port`, several with commas.
pub(super) fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let mut places: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", port(index)),
            Host::Tcp(name) => format!("{name}:{}", port(index)),
            Host::Unix(path) => format!("{}/.s.PGSQL.{}", path.display(), port(index)),
        })
        .collect();
    if places.is_empty() {
        places =
            config.get_hostaddrs().iter().enumerate().map(|(at, ip)| format!("{ip}:{}", port(at))).collect();
    }
    places.join(", ")
}

/// A peer that is gone without a word is found out within a minute, where the DSN says nothing else; the system's own
/// answer is hours. What the DSN says must be looked up in its text: the driver does not tell its defaults from it.
fn find_out_dead_sockets(config: &mut Config, text: &str) {
    let says = |option: &str| text.contains(&format!("{option}="));
    if !says("keepalives_idle") {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if !says("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if !says("keepalives_retries") {
        config.keepalives_retries(3);
    }
    if !says("tcp_user_timeout") {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
}

/// libpq's rule for a DSN without a host: the usual socket if this machine has it, else localhost.
fn default_host(config: &mut Config) {
    let sockets = std::path::Path::new("/var/run/postgresql");
    if sockets.is_dir() {
        config.host_path(sockets)
    } else {
        config.host("localhost")
    };
}

fn tls_mode(text: &str) -> Result<TlsMode> {
    Ok(match text {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => return Err(malformed("sslmode must be disable, prefer, require, verify-ca or verify-full")),
    })
}

/// Without sslmode: verified for a server elsewhere, opportunistic on this machine. As in libpq, `require` with a CA
/// file verifies the chain.
fn effective_mode(given: Option<TlsMode>, config: &Config, files: &TlsFiles) -> TlsMode {
    match given {
        Some(TlsMode::Require) if files.ca.is_some() => TlsMode::VerifyCa,
        Some(mode) => mode,
        None if stays_on_this_machine(config) => TlsMode::Prefer,
        None => TlsMode::VerifyFull,
    }
}

fn stays_on_this_machine(config: &Config) -> bool {
    let local_name = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        Host::Unix(_) => true,
    };
    match config.get_hostaddrs() {
        [] => config.get_hosts().iter().all(local_name),
        addresses => addresses.iter().all(IpAddr::is_loopback),
    }
}

/// Takes the options out that the driver does not know; the rest is a DSN for the driver.
fn take_ssl(text: &str) -> Result<(String, Vec<(String, String)>)> {
    let url = ["postgresql://", "postgres://"].iter().find_map(|prefix| text.strip_prefix(prefix));
    match url {
        Some(rest) => take_from_url(rest),
        None if text.contains("://") => Err(malformed("the scheme must be postgresql://")),
        None => take_from_words(text),
    }
}

fn is_ssl(key: &str) -> bool {
    matches!(key, "sslmode" | "sslrootcert" | "sslcert" | "sslkey")
}

fn take_from_url(rest: &str) -> Result<(String, Vec<(String, String)>)> {
    let (credentials, place) = match rest.split_once('@') {
        Some((credentials, place)) => (format!("{credentials}@"), place),
        None => (String::new(), rest),
    };
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    if place.contains('@') {
        // The text before this `@` is a piece of a password, not a host that a message could name.
        return Err(malformed("it has more than one @; write %40 for an @ in the password"));
    }
    let (mut kept, mut ssl) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| malformed("an option after ? has no ="))?;
        check_option(key)?;
        if is_ssl(key) {
            let value =
                percent_decode_str(value).decode_utf8().map_err(|_| malformed("an option is not UTF-8"))?;
            ssl.push((key.to_owned(), value.into_owned()));
        } else {
            kept.push(pair);
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("postgresql://{credentials}{place}{query}"), ssl))
}

fn take_from_words(text: &str) -> Result<(String, Vec<(String, String)>)> {
    let (mut kept, mut ssl) = (String::new(), Vec::new());
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| malformed("a word has no ="))?;
        check_option(key.trim())?;
        let (value, after) = word_value(after.trim_start())?;
        if is_ssl(key.trim()) {
            ssl.push((key.trim().to_owned(), value));
        } else {
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            kept.push_str(&format!("{}='{quoted}' ", key.trim()));
        }
        rest = after.trim_start();
    }
    Ok((kept, ssl))
}

/// One value as libpq reads it, `'…'` with backslashes or up to the next blank, and what follows.
fn word_value(text: &str) -> Result<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, it)) = chars.next() {
        match it {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            it if !quoted && it.is_whitespace() => return Ok((value, &text[at..])),
            it => value.push(it),
        }
    }
    if quoted { Err(malformed("a quoted value does not end")) } else { Ok((value, "")) }
}

fn check_option(key: &str) -> Result<()> {
    if OPTIONS.contains(&key) {
        return Ok(());
    }
    let near = |known: &&&str| (strsim::jaro_winkler(key, known) * 1e6) as u64;
    let nearest = OPTIONS.iter().max_by_key(near).copied().unwrap_or_default();
    // What resembles no option may be a piece of a password and is not shown.
    Err(if strsim::jaro_winkler(key, nearest) > 0.85 {
        Error::config(format!("postgres_dsn: unknown option {key:?}; did you mean {nearest:?}?"))
    } else {
        malformed(&format!("it has an unknown option; known are {}", OPTIONS.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dsn> {
        parse(text, TlsFiles::default())
    }

    #[test]
    fn both_forms_say_the_same() {
        for text in [
            "postgresql://me:p%40ss@db.example:6432/feeds?sslmode=verify-ca&sslrootcert=/a%20b.pem",
            "host=db.example port = 6432 user=me password='p@ss' dbname=feeds sslmode=verify-ca sslrootcert='/a b.pem'",
        ] {
            let dsn = read(text).unwrap();
            assert_eq!(place(&dsn.config), "db.example:6432");
            assert_eq!(dsn.config.get_password(), Some(&b"p@ss"[..]));
            assert_eq!(dsn.config.get_dbname(), Some("feeds"));
            assert_eq!((dsn.mode, dsn.files.ca), (TlsMode::VerifyCa, Some("/a b.pem".into())));
        }
    }

    #[test]
    fn the_network_is_verified_unless_told_otherwise() {
        let mode = |text| read(text).unwrap().mode;
        assert_eq!(mode("postgresql://db.example/x"), TlsMode::VerifyFull);
        assert_eq!(mode("postgresql://127.0.0.1/x"), TlsMode::Prefer);
        assert_eq!(mode("postgresql://[::1]/x"), TlsMode::Prefer);
        assert_eq!(mode("host=/tmp"), TlsMode::Prefer);
        assert_eq!(mode("postgresql://db.example/x?sslmode=require"), TlsMode::Require);
        assert_eq!(mode("host=db.example sslmode=require sslrootcert=/ca"), TlsMode::VerifyCa);
        assert_eq!(mode("host=db.example sslmode=disable"), TlsMode::Disable);
    }

    #[test]
    fn no_message_shows_a_piece_of_a_password() {
        for text in [
            "postgresql://me:canary@ry@host/db",
            "postgresql://me:canary@host:port/db",
            "postgresql://me:canary@host/db?canary",
            "postgresql://me:canary@host/db?canary=1",
            "mysql://me:canary@host/db",
            "host=h password=my canary",
            "host=h password='canary",
            "host=h password=x canary=1",
            "canary",
            "host=h port=canary",
            "",
        ] {
            let error = read(text).expect_err(text);
            assert!(!format!("{error} {error:?}").contains("canary"), "{text}: {error}");
        }
    }

    #[test]
    fn dead_sockets_are_found_out_unless_told_otherwise() {
        let seconds = |text: &str| {
            let config = read(text).unwrap().config;
            let interval = config.get_keepalives_interval().unwrap().as_secs();
            let user = config.get_tcp_user_timeout().map(|it| it.as_secs());
            (config.get_keepalives_idle().as_secs(), interval, config.get_keepalives_retries(), user)
        };
        assert_eq!(seconds("host=h"), (30, 10, Some(3), Some(30)));
        let told = "keepalives_idle=7200&keepalives_interval=5&keepalives_retries=9&tcp_user_timeout=0";
        assert_eq!(seconds(&format!("postgresql://h/db?{told}")), (7200, 5, Some(9), None));
        let told =
            "host=h keepalives_idle = 7200 keepalives_interval=5 keepalives_retries=9 tcp_user_timeout=7";
        let (idle, interval, retries, _) = seconds(told);
        assert_eq!((idle, interval, retries), (7200, 5, Some(9)));
    }

    #[test]
    fn a_typo_is_answered_with_the_nearest_option() {
        let error = read("postgresql://host/db?sslmod=require").unwrap_err();
        assert!(error.message().contains("did you mean \"sslmode\""), "{error}");
    }
}
