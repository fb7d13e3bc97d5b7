//! What an operation says, as Redis holds it: typed, so that whoever runs it, in whatever language, binds what was given.
//!
//! ```text
//! 1                        version
//! timeout in ms            LEB128, 0 is the worker's own
//! key                      count 0 or 1, then the text
//! further keys             count, texts
//! statements               count; each: SQL, count of parameters, values
//! ```
//! Redis content is untrusted input: what is none of these is an error that names it, never a panic. A later version is
//! told apart from damage, and both end among the dead letters.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::Rendered;
use crate::store::dead_letters::Tasks;
use crate::value::Value;
use crate::value::codec::{Reader, write_bytes, write_value, write_varint};

const VERSION: u8 = 1;

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Body {
    /// The time of one try; `None` is the worker's own.
    pub timeout: Option<Duration>,
    pub key: Option<String>,
    pub invalidates: Vec<String>,
    pub statements: Vec<Rendered>,
}

impl Body {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        write_varint(self.timeout.map_or(0, |it| it.as_millis().max(1) as u64), &mut out);
        write_varint(self.key.iter().len() as u64, &mut out);
        self.key.iter().for_each(|key| write_bytes(key.as_bytes(), &mut out));
        write_varint(self.invalidates.len() as u64, &mut out);
        self.invalidates.iter().for_each(|key| write_bytes(key.as_bytes(), &mut out));
        write_varint(self.statements.len() as u64, &mut out);
        for statement in &self.statements {
            write_bytes(statement.sql.as_bytes(), &mut out);
            write_varint(statement.params.len() as u64, &mut out);
            statement.params.iter().for_each(|value| write_value(value, &mut out));
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Body> {
        match bytes {
            [VERSION, rest @ ..] => Body::read(rest).ok_or_else(|| unreadable("it is damaged")),
            [version, ..] => {
                Err(unreadable(&format!("it is of version {version}, and this is version {VERSION}")))
            }
            [] => Err(unreadable("it is empty")),
        }
    }

    fn read(bytes: &[u8]) -> Option<Body> {
        let mut reader = Reader::new(bytes);
        let timeout = reader.varint()?;
        let mut keys = texts(&mut reader)?;
        let (key, more) = (keys.pop(), keys.pop());
        let invalidates = texts(&mut reader)?;
        let mut statements = Vec::new();
        for _ in 0..reader.count()? {
            let sql = reader.text()?.into();
            let count = reader.count()?;
            let params: Option<Vec<Value>> = (0..count).map(|_| reader.value()).collect();
            statements.push(Rendered { sql, params: params?.into() });
        }
        let whole = more.is_none() && reader.is_empty() && !statements.is_empty();
        let timeout = (timeout > 0).then(|| Duration::from_millis(timeout));
        whole.then_some(Body { timeout, key, invalidates, statements })
    }
}

fn texts(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    (0..reader.count()?).map(|_| reader.text().map(str::to_owned)).collect()
}

fn unreadable(why: &str) -> Error {
    Error::new(ErrorKind::Queue, format!("a delayed write in Redis cannot be read: {why}"))
        .with_retryable(false)
}

/// Reads the tasks of a dead letter, which are a body.
pub(crate) fn read_letter(tasks: &[u8]) -> Result<Tasks> {
    let Body { key, invalidates, statements, .. } = Body::decode(tasks)?;
    Ok(Tasks { statements, keys: key.into_iter().chain(invalidates).collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body() -> Body {
        let values =
            [Value::Int(i64::MIN), Value::Uuid([7; 16]), Value::bytes(&[0, 1][..]), Value::TimestampTz(-1)];
        Body {
            timeout: Some(Duration::from_millis(1_500)),
            key: Some("k\0é".to_owned()),
            invalidates: vec!["a".to_owned(), String::new()],
            statements: vec![
                Rendered { sql: "UPDATE t SET a = $1".into(), params: values.into() },
                Rendered { sql: "DELETE FROM t".into(), params: [].into() },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let plain = Body { timeout: None, key: None, invalidates: Vec::new(), ..body() };
        for body in [body(), plain] {
            assert_eq!(Body::decode(&body.encode()).unwrap(), body);
        }
    }

    #[test]
    fn another_version_and_anything_cut_are_errors() {
        let text = body().encode();
        let mut later = text.clone();
        later[0] = 2;
        assert!(Body::decode(&later).unwrap_err().message().contains("version 2"));
        for length in 0..text.len() {
            let error = Body::decode(&text[..length]).unwrap_err();
            assert!(error.kind() == ErrorKind::Queue && !error.retryable(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Body::decode(&bytes);
            bytes.insert(0, VERSION);
            let _ = Body::decode(&bytes);
        }
    }
}
