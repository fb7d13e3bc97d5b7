//! What passes the proxy, as far as a test may want to tell it apart.

use super::{postgres, redis};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL, from the client.
    Startup,
    Query,
    Parse,
    Bind,
    Execute,
    Sync,
    /// PostgreSQL, from the server.
    CommandComplete,
    ReadyForQuery,
    ErrorResponse,
    DataRow,
    /// PostgreSQL, anything else, by its type byte.
    Other(u8),
    /// Redis.
    Command,
    Reply,
    Push,
}

/// One message.
pub struct Message {
    pub kind: Kind,
    /// The SQL of Query, Parse, Bind and Execute, the tag of CommandComplete, the words of a Redis command; else empty.
    pub text: String,
    /// As it came.
    pub bytes: Vec<u8>,
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// Whose messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
    Redis,
}

/// Cuts one direction of one connection into messages.
pub enum Framing {
    Frontend(postgres::Frontend),
    Backend,
    Commands,
    Replies,
}

impl Framing {
    pub fn of(protocol: Protocol, side: Side) -> Framing {
        match (protocol, side) {
            (Protocol::Postgres, Side::Client) => Framing::Frontend(postgres::Frontend::default()),
            (Protocol::Postgres, Side::Server) => Framing::Backend,
            (Protocol::Redis, Side::Client) => Framing::Commands,
            (Protocol::Redis, Side::Server) => Framing::Replies,
        }
    }

    /// The first message of the buffer, if all of it is there.
    pub fn take(&mut self, buffer: &mut Vec<u8>) -> Option<Message> {
        match self {
            Framing::Frontend(frontend) => frontend.take(buffer),
            Framing::Backend => postgres::take_from_server(buffer),
            Framing::Commands => redis::take_from_client(buffer),
            Framing::Replies => redis::take_from_server(buffer),
        }
    }
}
