//! stub
use zmsg_core::engine::Zmsg;
pub struct Engine(pub Zmsg);
