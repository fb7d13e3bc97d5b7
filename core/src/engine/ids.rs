//! New ids. No I/O: PostgreSQL granted them ahead of time.

use super::Zmsg;
use crate::error::Result;

impl Zmsg {
    /// A new id as `prefix_number`, unique among all processes on the same database.
    ///
    /// # Errors
    /// `Task` for a prefix that is empty, longer than 64 bytes or holds NUL; `Id` if PostgreSQL has been away for longer
    /// than the grant; `Closed`.
    pub fn next_id(&self, prefix: &str) -> Result<String> {
        self.check_open()?;
        self.state.ids.next_id(prefix)
    }

    /// A new id as a bare number: 63 bits, growing within the process.
    ///
    /// # Errors
    /// `Id` and `Closed` as [`Zmsg::next_id`].
    pub fn next_id_number(&self) -> Result<i64> {
        self.check_open()?;
        self.state.ids.next_number()
    }
}
