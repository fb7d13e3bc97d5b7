//! Where journals are, if the configuration does not say.

use std::ffi::OsString;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::postgres::database_of;

/// Tells databases apart before they can be asked: SHA-256 of servers and name.
pub(crate) type Fingerprint = [u8; 32];

/// The folder for a configuration's database, and the database's fingerprint.
pub(crate) fn of(config: &Config) -> Result<(PathBuf, Fingerprint)> {
    let (name, place) = database_of(&config.postgres_dsn)?;
    let fingerprint: Fingerprint = Sha256::digest(place.as_bytes()).into();
    let dir = match &config.journal_dir {
        Some(dir) => dir.clone(),
        None => default_dir(&name, &fingerprint, &|variable| std::env::var_os(variable))?,
    };
    Ok((dir, fingerprint))
}

/// `$XDG_STATE_HOME/zmsg/NAME-HASH`, or the same under `~/.local/state` (XDG Base Directory Specification 0.8).
fn default_dir(
    name: &str,
    fingerprint: &Fingerprint,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| {
        Error::config(
            "there is no place for the journal of aggregated writes, because neither XDG_STATE_HOME nor HOME is an \
             absolute path; set journal_dir or journal: memory",
        )
    })?;
    let plain = |it: char| if it.is_ascii_alphanumeric() || matches!(it, '-' | '_') { it } else { '_' };
    let name: String = name.chars().take(63).map(plain).collect();
    let hash: String = fingerprint.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Ok(state.join("zmsg").join(format!("{name}-{hash}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_after_the_database() {
        let only =
            |name: &'static str, value: &'static str| move |it: &str| (it == name).then(|| value.into());
        let dir = |variable: &dyn Fn(&str) -> Option<OsString>| default_dir("feed/../x", &[7; 32], variable);
        assert_eq!(dir(&only("XDG_STATE_HOME", "/s")).unwrap(), PathBuf::from("/s/zmsg/feed____x-07070707"));
        assert_eq!(
            dir(&only("HOME", "/h")).unwrap(),
            PathBuf::from("/h/.local/state/zmsg/feed____x-07070707")
        );
        let error = dir(&only("HOME", "relative")).unwrap_err();
        assert!(error.message().contains("set journal_dir or journal: memory"), "{error}");
    }
}
