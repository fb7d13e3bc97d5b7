//! Operations that fail by themselves.
