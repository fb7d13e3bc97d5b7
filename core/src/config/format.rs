//! Settings that are one of a few words.

/// What int8 columns are in Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Int8Format {
    /// `bigint`.
    #[default]
    Bigint,
    /// Text.
    String,
    /// `number`; a value that is not exact raises.
    Number,
}

/// What timestamps are in Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampFormat {
    /// `Date`, in milliseconds.
    #[default]
    Date,
    /// Text, with microseconds.
    String,
}

impl Int8Format {
    /// Of a word that the catalogue allows.
    pub(super) fn from_word(word: &str) -> Int8Format {
        match word {
            "string" => Int8Format::String,
            "number" => Int8Format::Number,
            _ => Int8Format::Bigint,
        }
    }

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Int8Format::Bigint => "bigint",
            Int8Format::String => "string",
            Int8Format::Number => "number",
        }
    }
}

impl TimestampFormat {
    /// Of a word that the catalogue allows.
    pub(super) fn from_word(word: &str) -> TimestampFormat {
        if word == "string" { TimestampFormat::String } else { TimestampFormat::Date }
    }

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            TimestampFormat::Date => "date",
            TimestampFormat::String => "string",
        }
    }
}

/// What a write to the database does while Redis cannot be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCacheDown {
    /// It commits, together with a row from which any process tells Redis later.
    #[default]
    Available,
    /// It fails before the database is touched.
    Strict,
}

impl OnCacheDown {
    /// Of a word that the catalogue allows.
    pub(super) fn from_word(word: &str) -> OnCacheDown {
        if word == "strict" { OnCacheDown::Strict } else { OnCacheDown::Available }
    }

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            OnCacheDown::Available => "available",
            OnCacheDown::Strict => "strict",
        }
    }
}

/// What an acknowledged aggregated write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JournalClass {
    /// The end of the process, however it ends.
    #[default]
    Journal,
    /// A loss of power as well.
    JournalFsync,
    /// Nothing: it is in memory until it is flushed.
    Memory,
}

impl JournalClass {
    /// Of a word that the catalogue allows.
    pub(super) fn from_word(word: &str) -> JournalClass {
        match word {
            "journal_fsync" => JournalClass::JournalFsync,
            "memory" => JournalClass::Memory,
            _ => JournalClass::Journal,
        }
    }

    /// The word in the configuration, and in receipts.
    pub fn word(self) -> &'static str {
        match self {
            JournalClass::Journal => "journal",
            JournalClass::JournalFsync => "journal_fsync",
            JournalClass::Memory => "memory",
        }
    }
}

/// What is done with a delayed write that Redis did not accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFallback {
    /// The call fails.
    #[default]
    Error,
    /// It runs at once, out of order with what waits.
    Sync,
}

impl QueueFallback {
    pub(super) fn from_word(word: &str) -> QueueFallback {
        match word {
            "sync" => QueueFallback::Sync,
            _ => QueueFallback::Error,
        }
    }

    /// As the configuration writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            QueueFallback::Error => "error",
            QueueFallback::Sync => "sync",
        }
    }
}
