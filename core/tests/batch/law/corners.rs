//! Corners, each with its name.
