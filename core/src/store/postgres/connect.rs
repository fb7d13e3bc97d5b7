//! One connection: how it is opened and checked, the statements prepared on it, and whether its state is known.

use std::collections::HashMap;
use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_postgres::config::SslNegotiation;
use tokio_postgres::{AsyncMessage, Client, Config, Connection as Wire, Error as PgError};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{self, TlsFiles};
use super::error::{Failure, Stage, refused};
use super::statement::Prepared;
use super::{PostgresSettings, tls};
use crate::base::Deadline;
use crate::base::clock::now;
use crate::base::service::{self, Driver};
use crate::error::{Error, ErrorKind, Result};

/// Statements kept prepared on one connection; at the bound all are dropped and the hot ones come back.
const MAX_PREPARED: usize = 256;
/// How long the server gets to act on a cancel request.
const CANCEL_GRACE: Duration = Duration::from_millis(500);
const OLDEST_SERVER: u32 = 12;

/// Opens connections to one database.
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    place: String,
    timeout: Duration,
}

impl Connector {
    /// Reads the settings; no I/O but the certificate files.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Connector> {
        let files = TlsFiles {
            ca: settings.tls_ca.clone(),
            cert: settings.tls_cert.clone(),
            key: settings.tls_key.clone(),
        };
        let dsn = dsn::parse(settings.dsn.expose(), files)?;
        let direct = dsn.config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = tls::connector(dsn.mode, &dsn.files, direct)?;
        let place = dsn::place(&dsn.config);
        Ok(Connector { config: dsn.config, tls, place, timeout: settings.connect_timeout })
    }

    /// Opens a connection within the connect timeout.
    pub(super) async fn connect(&self) -> Result<Connection> {
        // Boxed: the handshakes of the driver are by far the largest future here, and every caller would carry it.
        let handshake = Box::pin(self.config.connect(self.tls.clone()));
        let connecting = Deadline::after(self.timeout).run("", handshake).await;
        let (client, wire) = match connecting {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(self.refusal(&error)),
            Err(_) => return Err(self.unreachable(&format!("no answer within {:?}", self.timeout), true)),
        };
        self.check_session(&wire)?;
        let (notified, heard) = watch::channel(());
        let driver = Driver::start(drive(wire, notified));
        Ok(Connection {
            client,
            statements: Mutex::default(),
            condemned: AtomicBool::new(false),
            in_doubt: false,
            idle_since: now(),
            tls: self.tls.clone(),
            heard,
            _driver: driver,
        })
    }

    fn refusal(&self, error: &PgError) -> Error {
        if let Some(refusal) = error.as_db_error() {
            return refused(refusal, &format!("a connection at {}", self.place), Stage::Text);
        }
        let cause = error.source().map(|cause| cause.to_string());
        let mut why = cause.unwrap_or_else(|| error.to_string());
        if why.contains("does not support TLS") {
            // The DSN may not have named a mode: then TLS is what a server elsewhere is reached with.
            why.push_str(
                "; a server on another host is reached over verified TLS unless the DSN has sslmode=disable",
            );
        }
        // A handshake or a password that failed will fail again; a socket may not.
        let socket =
            error.source().is_some_and(|it| it.is::<std::io::Error>()) && !error.to_string().contains("TLS");
        self.unreachable(&why, socket || error.is_closed())
    }

    fn unreachable(&self, why: &str, retryable: bool) -> Error {
        let message = format!("cannot connect to PostgreSQL at {}: {why}", self.place);
        Error::new(ErrorKind::Store, message).with_retryable(retryable)
    }

    /// The server reports these at the start of a session; a pooler may leave some out.
    fn check_session<S, T>(&self, wire: &Wire<S, T>) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let version = wire.parameter("server_version").unwrap_or_default();
        let major =
            version.split(|it: char| !it.is_ascii_digit()).next().and_then(|it| it.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST_SERVER) {
            let why = format!("it runs version {version}; zmsg needs PostgreSQL {OLDEST_SERVER} or newer");
            return Err(self.unreachable(&why, false));
        }
        if wire.parameter("standard_conforming_strings").is_some_and(|it| it != "on") {
            return Err(self.unreachable(
                "standard_conforming_strings is off; zmsg reads SQL by the standard's rules",
                false,
            ));
        }
        Ok(())
    }
}

/// Moves a connection's bytes until it ends. Notifications may come at any time, and say that there were some.
async fn drive<S, T>(mut wire: Wire<S, T>, notified: watch::Sender<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| wire.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(_)) => notified.send_replace(()),
            // As the driver would have said it.
            Ok(AsyncMessage::Notice(notice)) => {
                log::info!(target: "tokio_postgres::connection", "{}: {}", notice.severity(), notice.message());
            }
            Ok(_) => {}
            // Whoever uses the connection hears of its end as an error of the call.
            Err(error) => return log::debug!("a PostgreSQL connection ended: {error}"),
        }
    }
}

/// An open connection.
///
/// While something runs on it its state is in doubt; only what ends cleanly lifts that. So a call that is dropped, or
/// fails half-way, never leaves an open transaction or an unread answer to the next one.
pub(super) struct Connection {
    client: Client,
    statements: Mutex<HashMap<Arc<str>, Arc<Prepared>>>,
    condemned: AtomicBool,
    in_doubt: bool,
    idle_since: Instant,
    tls: MakeRustlsConnect,
    heard: watch::Receiver<()>,
    _driver: Driver,
}

impl Connection {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Something starts on this connection.
    pub(super) fn begin(&mut self) {
        self.in_doubt = true;
    }

    /// It ended, and the session is idle and outside of a transaction.
    pub(super) fn end(&mut self) {
        self.in_doubt = false;
        self.idle_since = now();
    }

    /// Whether it can be given to somebody else.
    pub(super) fn is_good(&self) -> bool {
        !self.in_doubt && !self.condemned.load(Ordering::Acquire) && !self.client.is_closed()
    }

    /// Time since it was last used.
    pub(super) fn idle(&self) -> Duration {
        now().saturating_duration_since(self.idle_since)
    }

    /// A round trip; an error if the connection is gone.
    pub(super) async fn check(&mut self) -> Result<(), Failure> {
        self.command("").await
    }

    /// Runs a text without parameters outside of a transaction, and prepares nothing.
    pub(super) async fn command(&mut self, text: &str) -> Result<(), Failure> {
        self.begin();
        self.client.batch_execute(text).await?;
        self.end();
        Ok(())
    }

    /// Changes with every notification, and is closed with the connection.
    pub(super) fn heard(&self) -> watch::Receiver<()> {
        self.heard.clone()
    }

    /// The statement, if it is prepared here.
    pub(super) fn prepared(&self, sql: &str) -> Option<Arc<Prepared>> {
        self.statements.lock().get(sql).cloned()
    }

    /// Keeps a prepared statement.
    pub(super) fn keep(&self, sql: Arc<str>, prepared: Arc<Prepared>) {
        let mut statements = self.statements.lock();
        if statements.len() >= MAX_PREPARED {
            statements.clear();
        }
        statements.insert(sql, prepared);
    }

    /// Forgets every prepared statement and every type that the driver looked up.
    pub(super) fn forget_statements(&self) {
        self.statements.lock().clear();
        self.client.clear_type_cache();
    }

    /// Nobody may have it any more.
    pub(super) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }

    /// Asks the server to stop what runs here. Best effort, within [`CANCEL_GRACE`]; it goes on by itself, and whoever
    /// wants to know the end of the statement waits for what is returned. The connection is used up: the request may
    /// arrive late and would hit whatever runs then.
    pub(super) fn cancel(&self) -> impl Future<Output = ()> + Send + use<> {
        self.condemn();
        let (token, tls) = (self.client.cancel_token(), self.tls.clone());
        let asked = service::detached(async move {
            if let Ok(Err(error)) = Deadline::after(CANCEL_GRACE).run("", token.cancel_query(tls)).await {
                log::debug!("a cancel request could not be sent: {error}");
            }
            Ok(())
        });
        async move { drop(asked.await) }
    }

    /// How long to wait for the end of a cancelled statement.
    pub(super) fn cancel_grace() -> Deadline {
        Deadline::after(CANCEL_GRACE)
    }
}
