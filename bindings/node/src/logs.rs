//! The engine's log on its way to the loggers of JavaScript.
//!
//! The `log` crate has one logger per process; it hands each line of zmsg to every environment that asked for it.

use std::sync::{Arc, Once, Weak};

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;

use crate::completions::Calls;

static SINKS: Mutex<Vec<(Weak<Calls>, LevelFilter)>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();

struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("zmsg")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warn",
            log::Level::Info => "info",
            log::Level::Debug | log::Level::Trace => "debug",
        };
        for (calls, threshold) in SINKS.lock().iter() {
            if let Some(calls) = calls.upgrade().filter(|_| record.level() <= *threshold) {
                calls.log(level, record.args().to_string());
            }
        }
    }

    fn flush(&self) {}
}

/// Sends lines of at least this level to the environment; `None` stops it.
pub fn forward(calls: &Arc<Calls>, level: Option<LevelFilter>) {
    INSTALL.call_once(|| {
        // Refused only if another logger is there already, which then has the lines.
        let _ = log::set_logger(&Forward);
    });
    let mut sinks = SINKS.lock();
    sinks.retain(|(sink, _)| sink.upgrade().is_some_and(|sink| !Arc::ptr_eq(&sink, calls)));
    if let Some(level) = level {
        sinks.push((Arc::downgrade(calls), level));
    }
    log::set_max_level(sinks.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::Off));
}
