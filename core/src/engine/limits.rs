//! What is refused before any I/O.

use bytes::Bytes;

use super::WriteOptions;
use crate::cache::MOST_TAGS;
use crate::config::Config;
use crate::error::{Error, Result};

/// A key is 1 to `max_key_bytes` bytes of UTF-8; any character is allowed.
pub(super) fn check_key(config: &Config, key: &str) -> Result<()> {
    check_text(config, "key", key)
}

fn check_text(config: &Config, what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::task(format!("the {what} is empty; a {what} has at least one character")));
    }
    if text.len() > config.max_key_bytes {
        let start: String = text.chars().take(32).collect();
        return Err(Error::task(format!(
            "the {what} {start:?}… has {} bytes; the limit is {} (max_key_bytes)",
            text.len(),
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

/// A prefix of keys: any text that is no longer than a key. The empty one is of all keys.
pub(super) fn check_prefix(config: &Config, prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check_key(config, prefix) }
}

/// Tags are as long as keys, and at most [`MOST_TAGS`].
pub(super) fn check_tags<T: AsRef<str>>(config: &Config, tags: &[T]) -> Result<()> {
    if tags.len() > MOST_TAGS {
        return Err(Error::task(format!("{} tags were given; an entry has at most {MOST_TAGS}", tags.len())));
    }
    tags.iter().try_for_each(|tag| check_text(config, "tag", tag.as_ref()))
}

/// The name of a lock is as long as a key.
pub(super) fn check_name(config: &Config, name: &str) -> Result<()> {
    check_text(config, "name of a lock", name)
}

/// The options of a write to the caches alone.
pub(super) fn check_write(verb: &str, config: &Config, options: &WriteOptions) -> Result<()> {
    if !options.invalidates.is_empty() || !options.bloom_keys.is_empty() {
        return Err(Error::task(format!(
            "{verb} takes no invalidates and no bloom_keys: it runs no task; use del for other keys"
        )));
    }
    check_tags(config, &options.tags)
}
