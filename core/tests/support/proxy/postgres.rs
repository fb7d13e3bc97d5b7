//! PostgreSQL's messages, version 3: a type byte, a length that counts itself, a body. The first one has no type byte.

use std::collections::HashMap;

use super::message::{Kind, Message};

const SSL_REQUEST: u32 = 80_877_103;

/// What a client says. It remembers the texts of prepared statements, so that running one by its name can be matched.
#[derive(Default)]
pub struct Frontend {
    started: bool,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
}

impl Frontend {
    /// The first message of the buffer, if all of it is there.
    pub fn take(&mut self, buffer: &mut Vec<u8>) -> Option<Message> {
        let bytes = whole(buffer, usize::from(self.started))?;
        if !self.started {
            // One byte would answer it, which is no message; and what follows could not be read.
            assert_ne!(number(&bytes[4..]), SSL_REQUEST, "the proxy reads along: use sslmode=disable");
            self.started = true;
            return Some(Message { kind: Kind::Startup, text: String::new(), bytes });
        }
        let kind = match bytes[0] {
            b'Q' => Kind::Query,
            b'P' => Kind::Parse,
            b'B' => Kind::Bind,
            b'E' => Kind::Execute,
            b'S' => Kind::Sync,
            other => Kind::Other(other),
        };
        let text = self.text(kind, &bytes[5..]);
        Some(Message { kind, text, bytes })
    }

    fn text(&mut self, kind: Kind, body: &[u8]) -> String {
        match kind {
            Kind::Query => string(body).0,
            Kind::Parse => {
                let (name, rest) = name(body);
                let text = string(rest).0;
                self.statements.insert(name.to_vec(), text.clone());
                text
            }
            Kind::Bind => {
                let (portal, rest) = name(body);
                let text = self.statements.get(name(rest).0).cloned().unwrap_or_default();
                self.portals.insert(portal.to_vec(), text.clone());
                text
            }
            Kind::Execute => self.portals.get(name(body).0).cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// What a server says.
pub fn take_from_server(buffer: &mut Vec<u8>) -> Option<Message> {
    let bytes = whole(buffer, 1)?;
    let kind = match bytes[0] {
        b'C' => Kind::CommandComplete,
        b'Z' => Kind::ReadyForQuery,
        b'E' => Kind::ErrorResponse,
        b'D' => Kind::DataRow,
        other => Kind::Other(other),
    };
    let text = match kind {
        Kind::CommandComplete => string(&bytes[5..]).0,
        Kind::ErrorResponse => String::from_utf8_lossy(&bytes[5..]).into_owned(),
        _ => String::new(),
    };
    Some(Message { kind, text, bytes })
}

fn whole(buffer: &mut Vec<u8>, head: usize) -> Option<Vec<u8>> {
    let length = head + number(buffer.get(head..head + 4)?) as usize;
    if buffer.len() < length {
        return None;
    }
    let rest = buffer.split_off(length);
    Some(std::mem::replace(buffer, rest))
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The bytes up to a zero, and what follows it.
fn name(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).expect("a name ends with a zero byte");
    (&bytes[..end], &bytes[end + 1..])
}

fn string(bytes: &[u8]) -> (String, &[u8]) {
    let (text, rest) = name(bytes);
    (String::from_utf8_lossy(text).into_owned(), rest)
}
