//! What the engines of this program say in their logs.

use std::sync::{Mutex, Once};

use log::{Level, LevelFilter, Log, Metadata, Record};

static SAID: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

struct Listener;

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn && metadata.target().starts_with("zmsg_core")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            // Shown with a test that fails.
            println!("{}: {text}", record.level());
            SAID.lock().unwrap().push((record.level(), text));
        }
    }

    fn flush(&self) {}
}

/// Listens from now on.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Listener).unwrap();
        log::set_max_level(LevelFilter::Warn);
    });
}

/// Whether a line of this level has all of these in it. The words must be of this test alone.
pub fn has(level: Level, words: &[&str]) -> bool {
    let said = SAID.lock().unwrap();
    said.iter().any(|(at, text)| *at == level && words.iter().all(|word| text.contains(word)))
}
