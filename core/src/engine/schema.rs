//! Migrations of the user's schema.

use std::path::Path;

use super::Zmsg;
use crate::base::service;
use crate::error::Result;
use crate::store::migrations::{self, Migration, MigrationReport};

/// Migrations that were loaded and not yet run.
pub struct Migrations {
    zmsg: Zmsg,
    loaded: Vec<Migration>,
}

impl Zmsg {
    /// Loads every `*.sql` of a directory, in name order. Nothing runs until [`Migrations::migrate`].
    ///
    /// # Errors
    /// `Config` naming the path if it cannot be read or holds no such file.
    pub fn load_dir(&self, path: &Path) -> Result<Migrations> {
        Ok(self.loaded(migrations::load_dir(path)?))
    }

    /// Loads one file; its name is the migration's name.
    ///
    /// # Errors
    /// As [`Zmsg::load_dir`].
    pub fn load(&self, path: &Path) -> Result<Migrations> {
        Ok(self.loaded(vec![migrations::load_file(path)?]))
    }

    /// Loads a text under a name.
    ///
    /// # Errors
    /// `Config` if the text or the name cannot be a migration.
    pub fn load_sql(&self, text: &str, name: &str) -> Result<Migrations> {
        Ok(self.loaded(vec![Migration::from_text(text, name)?]))
    }

    fn loaded(&self, loaded: Vec<Migration>) -> Migrations {
        Migrations { zmsg: self.clone(), loaded }
    }
}

impl Migrations {
    /// Applies what this database has not had, each in a transaction of its own, while other processes wait.
    ///
    /// # Errors
    /// `Config` naming a file that was changed after it had been applied; `Store` naming the file and line that
    /// PostgreSQL refused. Files before that one stay applied. `Timeout` applies to waiting for another process, not to
    /// the statements: a migration takes the time it takes.
    pub async fn migrate(self) -> Result<MigrationReport> {
        let Migrations { zmsg, loaded } = self;
        let call = zmsg.enter()?;
        let deadline = zmsg.deadline();
        service::detached(async move {
            let _call = call;
            zmsg.state.store.migrate(&loaded, deadline).await
        })
        .await
    }
}
