//! Sources, precedence, errors, and that nothing shows a password.

use std::collections::BTreeMap;
use std::io::Write;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;

const DSN: &str = "postgresql://user:canary@localhost/zmsg?sslmode=disable";
/// As the documentation shows it.
const DOCUMENTED: &str = r#"
postgres_dsn: "postgresql://user:pass@localhost/zmsg?sslmode=disable"
redis_addr: "localhost:6379"        # or redis:// rediss:// unix://, or a list of cluster nodes
l1_max_cost: 104857600              # bytes held by L1, keys and overhead counted
batch_interval: 5s
batch_size: 1000                    # distinct rows that trigger an early flush
default_ttl: 24h
queue:
  addr: "localhost:6379"            # default: redis_addr
  concurrency: 10
  task_delay: 1s                    # default delay of cache_and_delay_store
"#;

fn environment(variables: &[(&str, &str)]) -> EnvironmentSource {
    EnvironmentSource::Given(
        variables.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
    )
}

fn from(file: &str, variables: &[(&str, &str)], arguments: Json) -> Result<Config> {
    let mut yaml = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    yaml.write_all(file.as_bytes()).unwrap();
    Config::resolve(ConfigInput {
        file: Some(yaml.path().to_owned()),
        environment: environment(variables),
        arguments: arguments.as_object().unwrap().clone(),
        numbers: NumberUnit::Seconds,
    })
}

fn with(key: &str, value: Json) -> Result<Config> {
    let mut arguments = json!({ "postgres_dsn": DSN });
    arguments[key] = value;
    from("", &[], arguments)
}

/// The error's text; checks its kind and that no password is in it.
fn refused(result: Result<Config>) -> String {
    let error = result.expect_err("this configuration is refused");
    let text = format!("{error} {error:?}");
    assert_eq!(error.kind(), ErrorKind::Config, "{text}");
    assert!(!text.contains("canary"), "{text}");
    error.to_string()
}

#[test]
fn the_documented_file_loads_and_says_the_defaults() {
    let documented = from(DOCUMENTED, &[], json!({})).unwrap();
    let dsn = json!({ "postgres_dsn": "postgresql://user:pass@localhost/zmsg?sslmode=disable" });
    let defaults = from("", &[], dsn).unwrap();
    assert_eq!(documented.describe(), defaults.describe());
    assert_eq!(documented.batch_size, 1_000);
    assert_eq!(documented.queue.task_delay, Duration::from_secs(1));
}

#[test]
fn every_default_of_the_catalogue_is_in_force_and_described() {
    let described = from("", &[], json!({ "postgres_dsn": DSN })).unwrap().describe();
    let mut keys: Vec<String> = Vec::new();
    for (key, value) in described.as_object().unwrap() {
        match value {
            Json::Object(group) => keys.extend(group.keys().map(|name| format!("{key}.{name}"))),
            _ => keys.push(key.clone()),
        }
    }
    keys.sort();
    let mut names: Vec<&str> = Config::catalogue().iter().map(|setting| setting.name).collect();
    names.sort_unstable();
    assert_eq!(keys, names);
    for setting in Config::catalogue().iter().filter(|setting| !setting.default.is_empty()) {
        let value = described.pointer(&format!("/{}", setting.name.replace('.', "/"))).unwrap();
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let same = shown == setting.default
            || shown == format!("redis://{}", setting.default)
            || parse_duration(&shown).ok() == parse_duration(setting.default).ok()
                && parse_duration(&shown).is_ok();
        assert!(same, "{}: {shown} is not {}", setting.name, setting.default);
    }
}

#[test]
fn arguments_win_over_environment_and_environment_over_file() {
    let file = format!(
        "postgres_dsn: \"{DSN}\"\nl1_ttl: 1s\ntimeout: 1s\nqueue:\n  concurrency: 1\nbatch_size: 7\n"
    );
    let variables =
        [("ZMSG_TIMEOUT", "2s"), ("ZMSG_L1_TTL", "2s"), ("ZMSG_QUEUE__CONCURRENCY", "2"), ("PATH", "x")];
    let config = from(&file, &variables, json!({ "l1_ttl": 3, "queue": { "concurrency": 3 } })).unwrap();
    assert_eq!(config.l1_ttl, Duration::from_secs(3));
    assert_eq!(config.timeout, Duration::from_secs(2));
    assert_eq!((config.queue.concurrency, config.batch_size), (3, 7));
    let again = config
        .overridden(json!({ "batchSize": 8.0, "l1Ttl": 250 }).as_object().unwrap(), NumberUnit::Milliseconds);
    let again = again.unwrap();
    assert_eq!((again.batch_size, again.l1_ttl, again.queue.concurrency), (8, Duration::from_millis(250), 3));
}

#[test]
fn unknown_keys_name_the_nearest_and_their_source() {
    let message = refused(from("postgres_dns: \"x=canary\"", &[], json!({})));
    assert!(message.contains("did you mean postgres_dsn?") && message.contains(".yaml"), "{message}");
    let message = refused(from("queue:\n  adr: x", &[], json!({})));
    assert!(message.contains("did you mean queue.addr?"), "{message}");
    let message = refused(from("", &[("ZMSG_QUEUE_ADDR", "canary")], json!({})));
    assert!(
        message.contains("did you mean ZMSG_QUEUE__ADDR?") && message.contains("ZMSG_QUEUE_ADDR"),
        "{message}"
    );
    let message = refused(with("redisAdr", json!("canary")));
    assert!(
        message.contains("did you mean redisAddr?") && message.contains("argument redisAdr"),
        "{message}"
    );
    let message = refused(from("", &[("ZMSG_ZZZZ", "")], json!({})));
    assert!(message.contains("unknown environment variable"), "{message}");
    refused(with("queue", json!(5)));
    refused(with("postgresDsn", json!(DSN)));
}

#[test]
fn variables_of_tools_are_left_alone() {
    let variables =
        [("ZMSG_POSTGRES_DSN", DSN), ("ZMSG_SOAK", "1"), ("ZMSG_CRASH", "x:1"), ("ZMSG_BENCH_N", "5")];
    from("", &variables, json!({})).unwrap();
    refused(from("", &[("ZMSG_POSTGRES_DSN", DSN), ("ZMSG_SOAKS", "1")], json!({})));
}

#[test]
fn a_missing_database_says_how_to_name_it() {
    for config in [
        from("", &[], json!({})),
        with("postgres_dsn", json!(null)),
        from("", &[("ZMSG_POSTGRES_DSN", "")], json!({})),
    ] {
        let message = refused(config);
        assert!(message.contains("ZMSG_POSTGRES_DSN") && message.contains("file"), "{message}");
    }
    assert!(refused(with("embedded", json!(true))).contains("not part of this version"));
    with("embedded", json!(false)).unwrap();
}

#[test]
fn an_empty_redis_address_runs_without_redis() {
    for config in [
        with("redis_addr", json!(null)),
        with("redis_addr", json!("")),
        from("redis_addr:\n", &[("ZMSG_POSTGRES_DSN", DSN)], json!({})),
        from("", &[("ZMSG_POSTGRES_DSN", DSN), ("ZMSG_REDIS_ADDR", "")], json!({})),
    ] {
        let config = config.unwrap();
        assert!(config.redis_addr.is_none() && config.queue_addr().is_none());
    }
    let config = from("redis_addr:\n  - a:1\n  - b:2\n", &[("ZMSG_POSTGRES_DSN", DSN)], json!({})).unwrap();
    assert_eq!(config.describe()["redis_addr"], json!(["redis://a:1", "redis://b:2"]));
    assert_eq!(config.describe()["queue"]["addr"], config.describe()["redis_addr"]);
}

#[test]
fn numbers_without_a_unit_are_for_arguments_only() {
    let dsn = ("ZMSG_POSTGRES_DSN", DSN);
    assert!(refused(from("timeout: 5", &[dsn], json!({}))).contains("write 5s"));
    assert!(refused(from("", &[dsn, ("ZMSG_TIMEOUT", "5")], json!({}))).contains("\"5s\""));
    assert_eq!(with("timeout", json!(0.25)).unwrap().timeout, Duration::from_millis(250));
    assert_eq!(with("default_ttl", json!("never")).unwrap().default_ttl, Ttl::Never);
    assert_eq!(with("default_ttl", json!(90)).unwrap().default_ttl, Ttl::For(Duration::from_secs(90)));
}

#[test]
fn wrong_values_name_key_form_and_source() {
    for (key, value, form) in [
        ("l1_max_cost", json!("many"), "whole number"),
        ("l1_max_cost", json!("100"), "whole number"),
        ("l1_max_cost", json!(-1), "whole number"),
        ("l1_max_cost", json!(1.5), "whole number"),
        ("l1_max_cost", json!(1e300), "whole number"),
        ("l1_max_cost", json!(true), "whole number"),
        ("pool_size", json!(0), "from 1 to"),
        ("timeout", json!("soon"), "\"5s\""),
        ("timeout", json!(0), "greater than zero"),
        ("timeout", json!(-1), "greater than zero"),
        ("timeout", json!("never"), "\"5s\""),
        ("timeout", json!("2d"), "to 24h"),
        ("timeout", json!([]), "\"5s\""),
        ("default_ttl", json!("always"), "\"never\""),
        ("id_grant", json!("10ms"), "from 1s"),
        ("ttl_jitter", json!(0.6), "0.5"),
        ("ttl_jitter", json!(-0.1), "0.5"),
        ("start_degraded", json!("yes"), "true or false"),
        ("start_degraded", json!("true"), "true or false"),
        ("namespace", json!("a b"), "letters"),
        ("namespace", json!(""), "letters"),
        ("namespace", json!("x".repeat(65)), "letters"),
        ("namespace", json!("{a}"), "letters"),
        ("int8", json!("float"), "\"bigint\""),
        ("timestamps", json!(1), "\"date\""),
        ("tls_ca", json!(""), "a path"),
        ("postgres_dsn", json!("canary"), "postgresql://"),
        ("postgres_dsn", json!("mysql://u:canary@h/d"), "postgresql://"),
        ("postgres_dsn", json!({ "password": "canary" }), "postgresql://"),
        ("redis_addr", json!("redis://u:can/canary@h"), "unix://"),
        ("redis_addr", json!({ "canary": 1 }), "host:port"),
    ] {
        let message = refused(with(key, value.clone()));
        let complete = message.contains(form) && message.contains(key) && message.contains("argument");
        assert!(complete, "{key} = {value}: {message}");
    }
    assert!(refused(with("tls_cert", json!("/c.pem"))).contains("tls_key"));
    assert!(refused(with("tls_key", json!("/k.pem"))).contains("tls_cert"));
}

#[test]
fn a_variable_is_text_and_read_as_what_the_setting_is() {
    let variables = [
        ("ZMSG_POSTGRES_DSN", DSN),
        ("ZMSG_START_DEGRADED", "True"),
        ("ZMSG_POOL_SIZE", " 3 "),
        ("ZMSG_TTL_JITTER", "0"),
    ];
    let config = from("", &variables, json!({})).unwrap();
    assert!(config.start_degraded && config.pool_size == 3 && config.ttl_jitter == 0.0);
    for (name, text) in [("ZMSG_POOL_SIZE", "3.5"), ("ZMSG_START_DEGRADED", "1"), ("ZMSG_TTL_JITTER", "nan")]
    {
        assert!(refused(from("", &[(name, text)], json!({}))).contains(name));
    }
}

#[test]
fn files_that_are_no_configuration_say_where() {
    for (file, part) in [
        ("postgres_dsn: [canary", "line"),
        ("postgres_dsn: *canary", "line 1"),
        ("timeout: 5s\ntimeout: 6s", "\"timeout\" stands twice"),
        ("- canary", "key: value"),
        ("just canary", "key: value"),
        ("postgres_dsn: \"canary\n", "line"),
        ("postgres_dsn: !!binary canary", "line 1"),
    ] {
        let message = refused(from(file, &[], json!({})));
        assert!(message.contains(part) && message.contains(".yaml"), "{file}: {message}");
    }
    assert!(refused(Config::load("/nowhere/zmsg.yaml")).contains("/nowhere/zmsg.yaml"));
    assert!(refused(Config::load("/")).contains("cannot be read"));
    assert!(refused(from(&format!("#{}", "x".repeat(1 << 20)), &[], json!({}))).contains("1 MiB"));
}

#[test]
fn nothing_shows_a_password() {
    let config = with("redis_addr", json!(["redis://:canary@a:1", "redis://u:canary@b:2"])).unwrap();
    let queue = json!({ "queue": { "addr": "rediss://:canary@q" } });
    let config = config.overridden(queue.as_object().unwrap(), NumberUnit::Seconds).unwrap();
    for text in [
        format!("{config:?}"),
        config.describe().to_string(),
        format!("{:?}", config.queue),
        format!("{:?}", config.redis_addr),
    ] {
        assert!(!text.contains("canary") && text.contains("***"), "{text}");
    }
    assert_eq!(config.describe()["postgres_dsn"], "postgresql://user:***@localhost/zmsg?sslmode=disable");
    assert_eq!(config.postgres_dsn.expose(), DSN);
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(file in "[ -~\n]{0,80}", name in "ZMSG_[A-Z_]{0,12}", text in ".{0,20}") {
        let _ = from(&file, &[(name.as_str(), text.as_str())], json!({ "redis_addr": text, "timeout": text }));
    }

    #[test]
    fn a_password_in_a_url_never_shows(password in "[!-~]{6,20}") {
        let marked = format!("QQ{password}QQ");
        for text in [format!("postgresql://u:{marked}@h/d"), format!("host=h password={marked} user=u"),
            format!("postgresql://h/d?password={marked}"), format!("redis://:{marked}@h:1")] {
            let shown = redact(&text);
            prop_assert!(!shown.contains("QQ"), "{} -> {}", text, shown);
        }
    }
}

#[test]
fn an_absent_environment_is_an_empty_map() {
    let input = ConfigInput {
        environment: EnvironmentSource::Given(BTreeMap::new()),
        arguments: json!({ "postgres_dsn": DSN }).as_object().unwrap().clone(),
        ..ConfigInput::default()
    };
    Config::resolve(input).unwrap();
}
