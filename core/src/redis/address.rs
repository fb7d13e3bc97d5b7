//! What a user may write as an address, and the files of TLS.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates,
};

use crate::error::{Error, Result};
use crate::redis::RedisSettings;

/// Reads `host`, `host:port`, `[v6]:port`, a socket's path, or a `redis://`, `rediss://`, `unix://` URL.
pub(super) fn parse(text: &str, dead_after: Duration) -> Result<ConnectionInfo> {
    let url = to_url(text.trim());
    let info = url.as_str().into_connection_info().map_err(|error| {
        // The crate's own words about a URL are fixed phrases; its detail may quote a part, so it is left out.
        Error::config(format!(
            "redis_addr {:?}: {}; write host:port, redis://user:password@host:port/0, rediss://… or unix:///path",
            shown(text.trim()),
            reason(&error)
        ))
    })?;
    // RESP3, because the connection then notices a server that went away even when nothing is being sent.
    let settings = info.redis_settings().clone();
    let settings =
        if url.contains("protocol=") { settings } else { settings.set_protocol(ProtocolVersion::RESP3) };
    let tcp = TcpSettings::default().set_nodelay(true);
    // A peer that vanished without a word would otherwise hold the connection for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(dead_after);
    #[cfg(not(target_os = "linux"))]
    let _ = dead_after;
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

fn to_url(text: &str) -> String {
    if text.contains("://") {
        text.to_owned()
    } else if text.starts_with('/') {
        format!("unix://{text}")
    } else if text.matches(':').count() > 1 && !text.contains(['[', '@']) {
        // A bare IPv6 address; with a port it has to wear brackets.
        format!("redis://[{text}]")
    } else {
        format!("redis://{text}")
    }
}

fn reason(error: &::redis::RedisError) -> String {
    let text = error.to_string();
    let phrase = text.split(" - ").next().unwrap_or_default().to_owned();
    phrase.trim_end_matches(": ").to_owned()
}

/// The address without what may be a secret: everything before `@` and behind `?`.
pub(super) fn shown(text: &str) -> &str {
    let from = text.rfind('@').map_or(0, |at| at + 1);
    let rest = &text[from..];
    &rest[..rest.find('?').unwrap_or(rest.len())]
}

/// `host:port`, `[v6]:port` or a path.
pub(super) fn endpoint(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if host.contains(':') => {
            format!("[{host}]:{port}")
        }
        other => other.to_string(),
    }
}

/// The certificates named by the settings.
pub(super) fn certificates(settings: &RedisSettings) -> Result<TlsCertificates> {
    let root_cert = settings.tls_ca.as_deref().map(|path| read("tls_ca", path)).transpose()?;
    let client_tls = match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read("tls_cert", cert)?, client_key: read("tls_key", key)? })
        }
        (None, None) => None,
        _ => return Err(Error::config("tls_cert and tls_key go together; one of them is missing")),
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        Error::config(format!("{setting}: cannot read {}: {error}", path.display())).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn at(text: &str) -> String {
        endpoint(parse(text, Duration::from_secs(1)).unwrap().addr())
    }

    #[test]
    fn every_form_of_an_address() {
        assert_eq!(at("localhost:6380"), "localhost:6380");
        assert_eq!(at("localhost"), "localhost:6379");
        assert_eq!(at(" 10.0.0.1:1 "), "10.0.0.1:1");
        assert_eq!(at("[::1]:6380"), "[::1]:6380");
        assert_eq!(at("::1"), "[::1]:6379");
        assert_eq!(at("redis://[fe80::1]:7"), "[fe80::1]:7");
        assert_eq!(at("rediss://cache.example"), "cache.example:6379");
        assert_eq!(at("unix:///run/redis.sock?db=2"), "/run/redis.sock");
        assert_eq!(at("/run/redis.sock"), "/run/redis.sock");
        assert_eq!(at("user:p%40ss@host:9"), "host:9");
    }

    #[test]
    fn credentials_and_database_are_taken() {
        let info = parse("redis://ann:p%40ss@host:9/3", Duration::from_secs(1)).unwrap();
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("ann"), Some("p@ss"), 3));
        assert_eq!(redis.protocol(), ProtocolVersion::RESP3);
        let old = parse("redis://host?protocol=resp2", Duration::from_secs(1)).unwrap();
        assert_eq!(old.redis_settings().protocol(), ProtocolVersion::RESP2);
    }

    #[test]
    fn a_bad_address_is_named_without_its_password() {
        for bad in [
            "redis://u:canary@host:port",
            "http://u:canary@host",
            "redis://:canary@host/db",
            "u:canary@host:99999",
            "redis://host?protocol=canary",
            "unix://?pass=canary",
            "",
            "redis://",
            "rediss://u:canary@host#canary",
        ] {
            let error = parse(bad, Duration::from_secs(1)).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            let text = error.to_string();
            assert!(!text.replace("host#canary", "").contains("canary"), "{text}");
            assert!(text.contains("redis_addr") && text.contains("host:port"), "{text}");
        }
    }
}
