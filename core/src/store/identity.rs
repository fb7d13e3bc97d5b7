//! Which database this is, told apart from its copies.
//!
//! The row of `zmsg_identity` travels with every copy: `CREATE DATABASE … TEMPLATE`, a dump that is restored elsewhere. So
//! the cluster's system identifier and the database's OID go into it as well, which only a physical copy shares. That is
//! what a standby is, and after a failover it is the same database.

use super::Store;
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::sql;
use crate::value::Value;

/// 128 bits that two databases do not have in common.
pub(crate) type Identity = [u8; 16];

const OF_CLUSTER: &str = "SELECT md5(concat_ws(':', i.database_id, d.oid, c.system_identifier))::uuid \
     FROM zmsg_identity i, pg_database d, pg_control_system() c WHERE d.datname = current_database()";

/// Where the cluster does not say who it is: without the right to ask, or another server that speaks like PostgreSQL.
const OF_NAME: &str = "SELECT md5(concat_ws(':', i.database_id, d.oid))::uuid \
     FROM zmsg_identity i, pg_database d WHERE d.datname = current_database()";

/// Asks the database for its identity, once its own tables are there.
///
/// # Errors
/// What the database says; `Store` if `zmsg_identity` has no row.
pub(crate) async fn identity(store: &dyn Store, deadline: Deadline) -> Result<Identity> {
    let rows = match store.query(&sql(OF_CLUSTER, &[])?, deadline).await {
        Err(error) if matches!(error.sqlstate(), Some("42501" | "42883")) => {
            store.query(&sql(OF_NAME, &[])?, deadline).await?
        }
        rows => rows?,
    };
    match rows.first().map(|row| row.values.as_slice()) {
        Some([Value::Uuid(identity)]) => Ok(*identity),
        _ => {
            let message = "the table zmsg_identity has no row; it should have exactly one";
            Err(Error::new(ErrorKind::Store, message))
        }
    }
}
