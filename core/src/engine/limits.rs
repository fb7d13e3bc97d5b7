//! What is refused before any I/O.

use bytes::Bytes;

use crate::config::Config;
use crate::error::{Error, Result};

/// A key is 1 to `max_key_bytes` bytes of UTF-8; any character is allowed.
pub(super) fn check_key(config: &Config, key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::task("the key is empty; a key has at least one character"));
    }
    if key.len() > config.max_key_bytes {
        let start: String = key.chars().take(32).collect();
        return Err(Error::task(format!(
            "the key {start:?}… has {} bytes; the limit is {} (max_key_bytes)",
            key.len(),
            config.max_key_bytes
        )));
    }
    Ok(())
}

/// A value is at most `max_value_bytes` long.
pub(super) fn check_data(config: &Config, key: &str, data: &Bytes) -> Result<()> {
    if data.len() > config.max_value_bytes {
        return Err(Error::task(format!(
            "the value for key {key:?} has {} bytes; the limit is {} (max_value_bytes)",
            data.len(),
            config.max_value_bytes
        )));
    }
    Ok(())
}
