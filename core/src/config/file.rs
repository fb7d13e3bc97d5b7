//! The configuration file: YAML, read into plain values.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::secret::redact;
use crate::error::{Error, Result};

/// More than any configuration needs.
const MOST_BYTES: u64 = 1 << 20;

/// The keys of the file; an empty file has none.
pub(super) fn read(path: &Path) -> Result<Map<String, Json>> {
    refuse_addresses(path)?;
    let refuse =
        |problem: String| Error::config(format!("the configuration file {} {problem}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
        .map_err(|why| refuse(format!("cannot be read: {why}")))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(refuse("is longer than 1 MiB".to_owned()));
    }
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match parse(&text).map_err(&refuse)? {
        Json::Object(map) => Ok(map),
        Json::Null => Ok(Map::new()),
        _ => Err(refuse("does not hold keys; write \"key: value\" lines".to_owned())),
    }
}

/// Who comes from another driver gives a DSN first. It is no path, and its password must not be shown as one.
fn refuse_addresses(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if !text.contains("://") && !text.contains("password=") {
        return Ok(());
    }
    Err(Error::config(format!(
        "{} is the address of a server, not the path of a configuration file; give it as postgres_dsn or redis_addr",
        redact(&text)
    )))
}

/// Parses YAML. The parser's own message is left out, except for a key that stands twice: it may quote the text, and
/// the text holds a password.
fn parse(text: &str) -> Result<Json, String> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let place = match error.location() {
            Some(place) => format!("line {}, column {}", place.line(), place.column()),
            None => "an unknown line".to_owned(),
        };
        let problem = match error {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("the key {key:?} stands twice")
            }
            _ => "not valid YAML (texts that hold any of : # * & ! % @ { [ need quotes)".to_owned(),
        };
        format!("is wrong at {place}: {problem}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_place_of_a_path_is_named_without_its_password() {
        for address in ["postgresql://u:canary@h/db", "redis://:canary@h", "host=h password=canary"] {
            let error = read(Path::new(address)).unwrap_err().to_string();
            assert!(!error.contains("canary") && error.contains("postgres_dsn"), "{error}");
        }
    }
}
