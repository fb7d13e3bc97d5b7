//! The verbs.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use napi::bindgen_prelude::{BigInt, External, Uint8Array};
use napi::{Either, Result};
use napi_derive::napi;
use parking_lot::Mutex;
use serde_json::Value as Json;
use zmsg_core::config::{Config, ConfigInput, NumberUnit, TimestampFormat};
use zmsg_core::engine::{LoadOptions, Migrations, ReadOptions, SourceOptions, WriteOptions, Zmsg};
use zmsg_core::error::{Error, Result as CoreResult};

use crate::completions::Calls;
use crate::errors::to_js;
use crate::front::Slip;
use crate::loading::Life;
use crate::replies::Reply;
use crate::tasks::TaskList;
use crate::times::{Time, delay, duration, ttl};

/// An open engine, in the environment that opened it.
pub struct Engine {
    // A panic inside the engine leaves it usable: its own locks do not poison.
    zmsg: AssertUnwindSafe<Zmsg>,
    calls: Arc<Calls>,
    slip: Arc<Slip>,
}

/// The number of a call, and whether a signal may cancel it.
#[napi(object)]
pub struct Call {
    pub id: u32,
    pub cancellable: bool,
    pub timeout: Option<Either<f64, String>>,
}

impl Engine {
    /// The engine and the calls of the environment that opened it.
    pub fn new(zmsg: Zmsg, calls: Arc<Calls>) -> Engine {
        Engine { zmsg: AssertUnwindSafe(zmsg), calls, slip: Arc::default() }
    }

    /// The engine itself, for what does no I/O.
    pub fn zmsg(&self) -> &Zmsg {
        &self.zmsg
    }

    /// Where the warrant of the last hit is written.
    pub fn slip(&self) -> &Arc<Slip> {
        &self.slip
    }

    /// Starts a verb as the call that JavaScript numbered.
    pub fn start<F>(&self, call: Call, work: impl FnOnce(Zmsg) -> F) -> Result<()>
    where
        F: Future<Output = CoreResult<Reply>> + Send + 'static,
    {
        let timeout: Option<Duration> = duration(&call.timeout, "timeout")?;
        let zmsg = self.zmsg.with_timeout(timeout).admitted();
        self.calls.start(call.id, call.cancellable, work(zmsg)).map_err(to_js)
    }

    /// The same for what `close` does not wait for, because it waits for `close` or its like.
    pub fn watch<F>(&self, call: Call, work: impl FnOnce(Zmsg) -> F) -> Result<()>
    where
        F: Future<Output = CoreResult<Reply>> + Send + 'static,
    {
        let timeout = duration(&call.timeout, "timeout")?;
        let zmsg = self.zmsg.with_timeout(timeout);
        self.calls.start(call.id, call.cancellable, work(zmsg)).map_err(to_js)
    }
}

/// A configuration that was read and checked.
pub struct Settings(Config);

/// Reads a configuration: a file if one is named, the environment, and arguments as JSON text.
#[napi(catch_unwind)]
pub fn config_read(
    file: Option<String>,
    base: Option<&External<Settings>>,
    arguments: String,
) -> Result<External<Settings>> {
    let arguments = match serde_json::from_str(&arguments) {
        Ok(Json::Object(arguments)) => arguments,
        _ => return Err(to_js(Error::config("the configuration is not an object of settings"))),
    };
    let config = match base {
        Some(base) => base.0.overridden(&arguments, NumberUnit::Milliseconds),
        None => Config::resolve(ConfigInput {
            file: file.map(PathBuf::from),
            arguments,
            numbers: NumberUnit::Milliseconds,
            ..ConfigInput::default()
        }),
    };
    config.map(|config| External::new(Settings(config))).map_err(to_js)
}

/// The settings as JSON text, without passwords.
#[napi(catch_unwind)]
pub fn config_describe(settings: &External<Settings>) -> Result<String> {
    Ok(settings.0.describe().to_string())
}

#[napi(catch_unwind)]
pub fn open(calls: &External<Arc<Calls>>, call: Call, settings: &External<Settings>) -> Result<()> {
    let config = settings.0.clone();
    let (int8, timestamps, journal) = (config.int8.word(), config.timestamps.word(), config.journal.word());
    let work =
        async move { Ok(Reply::Opened { engine: Zmsg::open(config).await?, int8, timestamps, journal }) };
    calls.start(call.id, call.cancellable, work).map_err(to_js)
}

#[napi(catch_unwind)]
pub fn close(engine: &External<Engine>, call: Call) -> Result<()> {
    engine.watch(call, |zmsg| async move { zmsg.close().await.map(|()| Reply::Unit) })
}

#[napi(catch_unwind)]
pub fn is_closed(engine: &External<Engine>) -> Result<bool> {
    Ok(engine.zmsg.is_closed())
}

/// How a read goes about a source that fails or takes long.
#[napi(object)]
pub struct Read {
    pub stale: Option<bool>,
    pub soft_timeout: Option<Either<f64, String>>,
}

impl Read {
    /// As the core wants it.
    fn options(&self) -> Result<ReadOptions> {
        Ok(ReadOptions { stale: self.stale, soft_timeout: delay(&self.soft_timeout, "softTimeout")? })
    }
}

#[napi(catch_unwind)]
pub fn get(engine: &External<Engine>, call: Call, key: String, required: bool, read: Read) -> Result<()> {
    let options = read.options()?;
    engine.start(call, move |zmsg| async move {
        Ok(Reply::Data(match required {
            true => Some(zmsg.get_required_with(&key, options).await?),
            false => zmsg.get_with(&key, options).await?,
        }))
    })
}

#[napi(catch_unwind)]
pub fn db_hit(engine: &External<Engine>, call: Call, key: String) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.db_hit(&key).await.map(Reply::Bool) })
}

#[napi(catch_unwind)]
pub fn get_many(engine: &External<Engine>, call: Call, keys: Vec<String>, read: Read) -> Result<()> {
    let options = read.options()?;
    engine.start(call, move |zmsg| async move { zmsg.get_many_with(&keys, options).await.map(Reply::Many) })
}

/// Bytes from a Buffer, or text as UTF-8.
pub type Data = Either<Uint8Array, String>;

/// The bytes of the engine's own.
pub fn bytes(data: Data) -> Bytes {
    match data {
        Either::A(array) => Bytes::copy_from_slice(&array),
        Either::B(text) => Bytes::from(text),
    }
}

#[napi(catch_unwind)]
pub fn cache_only(
    engine: &External<Engine>,
    call: Call,
    key: String,
    data: Data,
    life: Time,
    tags: Vec<String>,
) -> Result<()> {
    let options = WriteOptions { ttl: ttl(&life, "ttl")?, tags, ..WriteOptions::default() };
    let data = bytes(data);
    engine.start(call, |zmsg| async move { zmsg.cache_only(&key, data, options).await.map(|()| Reply::Unit) })
}

/// The lists among the options of a write.
#[napi(object)]
pub struct Lists {
    pub invalidates: Vec<String>,
    pub tags: Vec<String>,
    pub bloom_keys: Vec<String>,
}

impl Lists {
    /// With a life, the options of a write.
    pub fn options(self, life: &Time) -> Result<WriteOptions> {
        Ok(WriteOptions {
            ttl: ttl(life, "ttl")?,
            invalidates: self.invalidates,
            tags: self.tags,
            bloom_keys: self.bloom_keys,
        })
    }
}

#[napi(catch_unwind)]
pub fn cache_and_store(
    engine: &External<Engine>,
    call: Call,
    key: Option<String>,
    data: Option<Data>,
    tasks: &External<TaskList>,
    life: Time,
    lists: Lists,
) -> Result<()> {
    let options = lists.options(&life)?;
    let (data, tasks) = (data.map(bytes), tasks.all());
    engine.start(call, |zmsg| async move {
        zmsg.cache_and_store(key.as_deref(), data, tasks, options)
            .await
            .map(|done| Reply::Receipt(done, texts(&zmsg)))
    })
}

#[napi(catch_unwind)]
pub fn del(engine: &External<Engine>, call: Call, key: String) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.del(&key).await.map(|()| Reply::Unit) })
}

#[napi(catch_unwind)]
pub fn del_store(
    engine: &External<Engine>,
    call: Call,
    key: Option<String>,
    tasks: &External<TaskList>,
    invalidates: Vec<String>,
    bloom_keys: Vec<String>,
) -> Result<()> {
    let options = WriteOptions { invalidates, bloom_keys, ..WriteOptions::default() };
    let tasks = tasks.all();
    engine.start(call, |zmsg| async move {
        zmsg.del_store(key.as_deref(), tasks, options).await.map(|done| Reply::Receipt(done, texts(&zmsg)))
    })
}

#[napi(catch_unwind)]
pub fn sql_exec(engine: &External<Engine>, call: Call, tasks: &External<TaskList>) -> Result<()> {
    let tasks = tasks.all();
    engine.start(call, |zmsg| async move {
        zmsg.sql_exec(tasks).await.map(|done| Reply::Exec(done, texts(&zmsg)))
    })
}

#[napi(catch_unwind)]
pub fn query(engine: &External<Engine>, call: Call, task: &External<TaskList>) -> Result<()> {
    let task = task.one("query")?;
    engine
        .start(call, |zmsg| async move { zmsg.query(task).await.map(|rows| Reply::Rows(rows, texts(&zmsg))) })
}

#[napi(catch_unwind)]
pub fn next_id(engine: &External<Engine>, prefix: String) -> Result<String> {
    engine.zmsg.next_id(&prefix).map_err(to_js)
}

#[napi(catch_unwind)]
pub fn next_id_number(engine: &External<Engine>) -> Result<BigInt> {
    engine.zmsg.next_id_number().map(BigInt::from).map_err(to_js)
}

#[napi(catch_unwind)]
pub fn source(
    engine: &External<Engine>,
    pattern: String,
    task: &External<TaskList>,
    life: Life,
    refresh_ahead: Option<f64>,
    bloom: bool,
    keys: Option<&External<TaskList>>,
) -> Result<()> {
    let LoadOptions { ttl, absent_ttl, stale_ttl, soft_timeout } = life.options()?;
    let keys = keys.map(|keys| keys.one("keys")).transpose()?;
    let options = SourceOptions { ttl, absent_ttl, stale_ttl, refresh_ahead, soft_timeout, bloom, keys };
    engine.zmsg.source(&pattern, task.one("source")?, options).map_err(to_js)
}

#[napi(catch_unwind)]
pub fn health(engine: &External<Engine>, call: Call) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.health().await.and_then(|health| report(&health)) })
}

#[napi(catch_unwind)]
pub fn stats(engine: &External<Engine>) -> Result<String> {
    serde_json::to_string(&engine.zmsg.stats()).map_err(|error| to_js(unreportable(error)))
}

/// Migrations that were loaded and not yet run.
pub struct Loaded(AssertUnwindSafe<Mutex<Option<Migrations>>>);

impl Loaded {
    fn handle(loaded: CoreResult<Migrations>) -> Result<External<Loaded>> {
        Ok(External::new(Loaded(AssertUnwindSafe(Mutex::new(Some(loaded.map_err(to_js)?))))))
    }
}

#[napi(catch_unwind)]
pub fn load_dir(engine: &External<Engine>, path: String) -> Result<External<Loaded>> {
    Loaded::handle(engine.zmsg.load_dir(Path::new(&path)))
}

#[napi(catch_unwind)]
pub fn load(engine: &External<Engine>, path: String) -> Result<External<Loaded>> {
    Loaded::handle(engine.zmsg.load(Path::new(&path)))
}

#[napi(catch_unwind)]
pub fn load_sql(engine: &External<Engine>, text: String, name: String) -> Result<External<Loaded>> {
    Loaded::handle(engine.zmsg.load_sql(&text, &name))
}

/// Runs what was loaded, once.
#[napi(catch_unwind)]
pub fn migrate(engine: &External<Engine>, call: Call, loaded: &External<Loaded>) -> Result<()> {
    let loaded =
        loaded.0.lock().take().ok_or_else(|| to_js(Error::task("these migrations were run already")))?;
    engine.start(call, |_| async move { loaded.migrate().await.and_then(|done| report(&done)) })
}

/// Whether the configuration wants timestamps as text.
pub fn texts(zmsg: &Zmsg) -> bool {
    zmsg.config().timestamps == TimestampFormat::String
}

/// A report as JSON text.
pub fn report(report: &impl serde::Serialize) -> CoreResult<Reply> {
    serde_json::to_string(report).map(Reply::Json).map_err(unreportable)
}

fn unreportable(error: serde_json::Error) -> Error {
    Error::new(zmsg_core::error::ErrorKind::Internal, "a report could not be written as JSON")
        .with_source(error)
}
