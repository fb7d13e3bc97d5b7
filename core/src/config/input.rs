//! The three places that settings come from, made into one list of given values, the strongest last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::catalogue::{self, SETTINGS, Setting};
use super::duration::NumberUnit;
use super::file;
use super::given::{Given, Origin};
use super::secret::redact;
use super::suggest::nearest;
use crate::error::{Error, Result};

/// Variables that begin with `ZMSG_` and belong to tools around the engine, not to its configuration. A star stands
/// for any ending.
pub const RESERVED_ENVIRONMENT: &[&str] =
    &["ZMSG_SOAK", "ZMSG_SEED", "ZMSG_CRASH", "ZMSG_BENCH_*", "ZMSG_TEST_*"];

const PREFIX: &str = "ZMSG_";

/// What a configuration is made from. Arguments win over the environment, the environment over the file.
#[derive(Debug, Clone, Default)]
pub struct ConfigInput {
    /// A YAML file; `None` reads none.
    pub file: Option<PathBuf>,
    /// The `ZMSG_*` variables. Default: those of the process.
    pub environment: EnvironmentSource,
    /// Arguments by key, in snake_case or camelCase; groups are objects.
    pub arguments: Map<String, Json>,
    /// What a bare number means where a time is asked. Default: seconds.
    pub numbers: NumberUnit,
}

/// Where environment variables are read from.
#[derive(Debug, Clone, Default)]
pub enum EnvironmentSource {
    /// The process.
    #[default]
    Process,
    /// This map; an empty one is no environment at all.
    Given(BTreeMap<String, String>),
}

/// Every value given by file, environment and arguments, in this order, so that applying them one after another lets
/// the strongest win.
pub(super) fn collect(input: &ConfigInput) -> Result<Vec<Given>> {
    let mut given = match &input.file {
        Some(path) => from_file(path)?,
        None => Vec::new(),
    };
    given.extend(from_environment(&input.environment)?);
    given.extend(from_arguments(&input.arguments, input.numbers)?);
    Ok(given)
}

fn from_file(path: &Path) -> Result<Vec<Given>> {
    let origin = Origin::File(path.to_owned());
    flatten(&file::read(path)?, |_| origin.clone(), NumberUnit::default())
}

/// The values of a call's arguments.
pub(super) fn from_arguments(arguments: &Map<String, Json>, numbers: NumberUnit) -> Result<Vec<Given>> {
    flatten(arguments, |key| Origin::Argument(key.to_owned()), numbers)
}

/// Resolves the keys of a map, groups included.
fn flatten(
    map: &Map<String, Json>,
    origin: impl Fn(&str) -> Origin,
    numbers: NumberUnit,
) -> Result<Vec<Given>> {
    let mut found = Vec::new();
    for (key, value) in map {
        if !is_group(key) {
            found.push((key.clone(), value.clone()));
            continue;
        }
        match value {
            Json::Object(group) => {
                found.extend(group.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())))
            }
            Json::Null => {}
            _ => return Err(not_a_group(key, &origin(key))),
        }
    }
    let mut given: Vec<Given> = Vec::new();
    for (key, value) in found {
        let origin = origin(&key);
        let setting = by_key(&key).ok_or_else(|| unknown_key(&key, &origin))?;
        if given.iter().any(|earlier| earlier.setting.name == setting.name) {
            return Err(Error::config(format!("{} is given twice", setting.name)).with("source", origin));
        }
        // A null is "not given", except where it switches a tier off.
        if !value.is_null() || setting.name == "redis_addr" {
            given.push(Given { setting, value, origin, numbers });
        }
    }
    Ok(given)
}

fn from_environment(source: &EnvironmentSource) -> Result<Vec<Given>> {
    let mut given = Vec::new();
    for (variable, text) in variables(source)? {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.environment() == variable) else {
            return Err(unknown_variable(&variable));
        };
        // Compose files pass empty variables on; only for the cache is "empty" something to say.
        if !text.trim().is_empty() || setting.name == "redis_addr" {
            let origin = Origin::Environment(variable);
            given.push(Given { setting, value: Json::String(text), origin, numbers: NumberUnit::default() });
        }
    }
    Ok(given)
}

/// The variables that concern the engine, sorted by name.
fn variables(source: &EnvironmentSource) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    match source {
        EnvironmentSource::Given(map) => {
            found.extend(map.iter().map(|(name, text)| (name.clone(), text.clone())))
        }
        EnvironmentSource::Process => {
            for (name, text) in std::env::vars_os() {
                let Ok(name) = name.into_string() else { continue };
                if name.starts_with(PREFIX) {
                    let text = text.into_string().map_err(|_| {
                        Error::config(format!(
                            "the environment variable {name} is not valid UTF-8; set it to UTF-8 text"
                        ))
                    })?;
                    found.insert(name, text);
                }
            }
        }
    }
    found.retain(|name, _| name.starts_with(PREFIX) && !is_reserved(name));
    Ok(found)
}

fn is_reserved(variable: &str) -> bool {
    RESERVED_ENVIRONMENT.iter().any(|reserved| match reserved.strip_suffix('*') {
        Some(beginning) => variable.starts_with(beginning),
        None => variable == *reserved,
    })
}

fn by_key(key: &str) -> Option<&'static Setting> {
    catalogue::find(key).or_else(|| SETTINGS.iter().find(|setting| setting.camel_case() == key))
}

fn is_group(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name.split_once('.').is_some_and(|(group, _)| group == key))
}

fn not_a_group(key: &str, origin: &Origin) -> Error {
    let members: Vec<&str> = SETTINGS
        .iter()
        .filter_map(|setting| setting.name.split_once('.'))
        .filter(|it| it.0 == key)
        .map(|it| it.1)
        .collect();
    Error::config(format!("{key} is not a group; it takes the keys {}", members.join(", ")))
        .with("source", origin)
}

fn unknown_key(key: &str, origin: &Origin) -> Error {
    let camel = key.bytes().any(|byte| byte.is_ascii_uppercase());
    let names: Vec<String> = SETTINGS
        .iter()
        .map(|setting| if camel { setting.camel_case() } else { setting.name.to_owned() })
        .collect();
    let known = nearest(key, names.iter().map(String::as_str));
    unknown("configuration key", key, known, origin)
}

fn unknown_variable(variable: &str) -> Error {
    let names: Vec<String> = SETTINGS.iter().map(Setting::environment).collect();
    // Compared without the prefix: six shared letters would make any two names look alike.
    let bare = names.iter().map(|name| &name[PREFIX.len()..]);
    let known = nearest(&variable[PREFIX.len()..], bare).map(|name| format!("{PREFIX}{name}"));
    unknown("environment variable", variable, known.as_deref(), &Origin::Environment(variable.to_owned()))
}

fn unknown(what: &str, given: &str, known: Option<&str>, origin: &Origin) -> Error {
    // A whole address may stand where a key should.
    let given = if given.contains("://") { redact(given) } else { given.to_owned() };
    let shown: String = given.chars().take(80).collect();
    let hint = match known {
        Some(name) => format!("did you mean {name}?"),
        None => "the documentation lists the known ones".to_owned(),
    };
    Error::config(format!("unknown {what} {shown:?}; {hint}")).with("source", origin)
}
