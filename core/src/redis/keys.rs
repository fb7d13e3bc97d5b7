//! The layout of the key space.
//!
//! ```text
//! N:v:{.KEY}   a key's record
//! N:t:{.TAG}   the version of a tag      N:l:{.NAME}  a lock; with :token behind it, the last token it gave
//! N:m:NAME     the engine's own            N:q:{.NAME}:PART   a part of a queue
//!                                          N:b:{.NAME}:PART   a part of a Bloom filter
//! ```
//! The user's whole key is inside the hash tag, so everything that belongs to one key lies in one slot of a cluster. The
//! dot keeps the tag from being empty, because an empty tag does not count and the letters before it would decide. A key
//! that holds `}` only shortens the tag, for all its companions alike. As the letter after the namespace tells the kinds
//! apart, no user key can be one of the engine's.

/// The keys of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Keyspace {
    value_prefix: Box<str>,
    engine_prefix: Box<str>,
    tag_prefix: Box<str>,
    lock_prefix: Box<str>,
    queue_prefix: Box<str>,
    bloom_prefix: Box<str>,
}

impl Keyspace {
    /// The keys below `namespace`, which holds no braces.
    pub(crate) fn new(namespace: &str) -> Keyspace {
        debug_assert!(!namespace.contains(['{', '}']), "the configuration refuses braces");
        Keyspace {
            value_prefix: format!("{namespace}:v:{{.").into(),
            engine_prefix: format!("{namespace}:m:").into(),
            tag_prefix: format!("{namespace}:t:").into(),
            lock_prefix: format!("{namespace}:l:").into(),
            queue_prefix: format!("{namespace}:q:").into(),
            bloom_prefix: format!("{namespace}:b:").into(),
        }
    }

    /// Where the cached value of a user's key lies.
    pub(crate) fn value(&self, key: &str) -> String {
        let mut full = String::with_capacity(self.value_prefix.len() + key.len() + 1);
        full.push_str(&self.value_prefix);
        full.push_str(key);
        full.push('}');
        full
    }

    /// The user's key whose value lies there; `None` if none does.
    pub(crate) fn user_key<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&*self.value_prefix)?.strip_suffix('}')
    }

    /// The glob of SCAN that fits the values of the user's keys that begin with `prefix`.
    pub(crate) fn values_with(&self, prefix: &str) -> String {
        let mut pattern = String::new();
        for letter in self.value_prefix.chars().chain(prefix.chars()) {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('*');
        pattern
    }

    /// Where the version of a tag lies.
    pub(crate) fn tag(&self, tag: &str) -> String {
        format!("{}{{.{tag}}}", self.tag_prefix)
    }

    /// Where a lock lies, and the last token that it gave.
    pub(crate) fn lock(&self, name: &str) -> [String; 2] {
        let lock = format!("{}{{.{name}}}", self.lock_prefix);
        [lock.clone(), lock + ":token"]
    }

    /// Where a part of a queue lies; all parts of one queue in one slot.
    pub(crate) fn queue(&self, name: &str, part: &str) -> String {
        format!("{}{{.{name}}}:{part}", self.queue_prefix)
    }

    /// Where a part of a family's Bloom filter lies; all parts of one family in one slot.
    pub(crate) fn bloom(&self, family: &str, part: &str) -> String {
        format!("{}{{.{family}}}:{part}", self.bloom_prefix)
    }

    /// Where something of the engine's own lies.
    pub(crate) fn engine(&self, name: &str) -> String {
        format!("{}{name}", self.engine_prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Redis Cluster's rule: what lies between the first `{` and the first `}` after it, unless that is nothing.
    fn hash_tag(key: &str) -> &str {
        let Some(open) = key.find('{') else { return key };
        let rest = &key[open + 1..];
        match rest.find('}') {
            Some(close) if close > 0 => &rest[..close],
            _ => key,
        }
    }

    const HOSTILE: &[&str] = &[
        "a\r\nSET b c",
        "*",
        "feed_?[a-z]",
        "{}",
        "}{",
        "{a}b",
        "}",
        "a}b{c}",
        "zmsg:v:{.a}",
        "zmsg:m:generation",
        "\0",
        "\u{10ffff}é漢",
        ".",
        " ",
        "a",
    ];

    #[test]
    fn companions_share_a_slot_and_no_two_keys_meet() {
        let space = Keyspace::new("zmsg");
        let mut seen = HashSet::new();
        for key in HOSTILE {
            let value = space.value(key);
            let fence = value.replacen(":v:", ":f:", 1);
            assert_eq!(hash_tag(&value), hash_tag(&fence), "{key:?}");
            assert!(hash_tag(&value).starts_with('.'), "{key:?}");
            assert!(!value.starts_with(&*space.engine_prefix), "{key:?}");
            assert!(seen.insert(value), "{key:?}");
        }
        assert_eq!(space.value("feed_1"), "zmsg:v:{.feed_1}");
        assert_eq!(space.engine("generation"), "zmsg:m:generation");
        assert_eq!(space.tag("user:7"), "zmsg:t:{.user:7}");
        let [lock, token] = space.lock("a}b");
        assert_eq!((&*lock, &*token), ("zmsg:l:{.a}b}", "zmsg:l:{.a}b}:token"));
        assert_eq!(hash_tag(&lock), hash_tag(&token));
        assert_eq!(space.values_with("a*[b]?\\c"), "zmsg:v:{.a\\*\\[b\\]\\?\\\\c*");
        assert!(HOSTILE.iter().all(|key| space.user_key(&space.value(key)) == Some(key)));
        assert_eq!(space.user_key("zmsg:m:generation"), None);
        assert_eq!(space.queue("default", "due"), "zmsg:q:{.default}:due");
        assert_eq!(space.bloom("00ff", "1-2"), "zmsg:b:{.00ff}:1-2");
    }

    proptest! {
        #[test]
        fn any_key_keeps_its_companions_in_its_slot(key in ".*", other in ".*") {
            let space = Keyspace::new("n:v");
            let value = space.value(&key);
            let fence = value.replacen(":v:{", ":f:{", 1);
            prop_assert_eq!(hash_tag(&value), hash_tag(&fence));
            prop_assert_eq!(value == space.value(&other), key == other);
            prop_assert_ne!(value, space.engine(&other));
        }
    }
}
