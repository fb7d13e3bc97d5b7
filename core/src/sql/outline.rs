//! What a statement is, as far as clauses and repeatable reads need to know: its verb, and which clauses it has.

use super::lexer::{Kind, Token};

/// The main verb of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    /// VALUES, TABLE, SHOW.
    OtherRead,
    Explain,
    /// BEGIN, COMMIT and their like.
    Transaction,
    /// What concerns the connection and no row: SET, RESET, PREPARE, DECLARE and their like.
    Session,
    /// Everything else, DDL above all.
    Other,
}

/// The outline of one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline {
    pub verb: Verb,
    pub on_conflict: bool,
    pub returning: bool,
    /// SELECT INTO, a CTE that writes, EXPLAIN ANALYZE of a write.
    pub writes: bool,
}

impl Outline {
    /// Whether nothing but (possibly volatile) functions can make the statement write.
    pub fn is_read(&self) -> bool {
        matches!(self.verb, Verb::Select | Verb::OtherRead | Verb::Explain) && !self.writes
    }

    /// Whether it concerns the connection and no row.
    pub fn is_of_session(&self) -> bool {
        self.verb == Verb::Session
    }
}

/// Follows the tokens of a statement.
pub(super) struct Sketch {
    outline: Outline,
    verb_known: bool,
    with: bool,
    explain_analyze: bool,
    create: bool,
    depth: i32,
    /// BEGIN ATOMIC and CASE that are open in a function body; its semicolons separate nothing of ours.
    body: u32,
    /// The last two tokens, upper case where a keyword matters.
    before: [Mark; 2],
}

/// A token as the sketch remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Start,
    With,
    Recursive,
    Comma,
    On,
    Conflict,
    Begin,
    Open,
    Other,
}

impl Sketch {
    pub fn new() -> Sketch {
        let outline = Outline { verb: Verb::Other, on_conflict: false, returning: false, writes: false };
        Sketch {
            outline,
            verb_known: false,
            with: false,
            explain_analyze: false,
            create: false,
            depth: 0,
            body: 0,
            before: [Mark::Start; 2],
        }
    }

    /// Whether a semicolon here would end the statement.
    pub fn at_top(&self) -> bool {
        self.depth <= 0 && self.body == 0
    }

    pub fn outline(mut self) -> Outline {
        if self.outline.verb == Verb::Explain && !self.explain_analyze {
            self.outline.writes = false;
        }
        self.outline
    }

    /// The next token; comments are none.
    pub fn push(&mut self, token: Token, text: &str) {
        let mark = match token.kind {
            Kind::Open => {
                self.depth += 1;
                Mark::Open
            }
            Kind::Close => {
                self.depth -= 1;
                Mark::Other
            }
            Kind::Other(b',') => Mark::Comma,
            Kind::Word => self.word(&text[token.start..token.end]),
            _ => Mark::Other,
        };
        let in_conflict = self.before == [Mark::On, Mark::Conflict] && self.depth <= 1;
        let continues = mark == Mark::Open || mark == Mark::On || is(text, token, "DO");
        self.outline.on_conflict |= in_conflict && continues;
        self.before = [self.before[1], mark];
    }

    fn word(&mut self, word: &str) -> Mark {
        // Longer than every keyword below: nothing to compare.
        if word.len() > 10 {
            return Mark::Other;
        }
        let mut buffer = [0u8; 10];
        let upper = &mut buffer[..word.len()];
        upper.copy_from_slice(word.as_bytes());
        upper.make_ascii_uppercase();
        let upper: &[u8] = upper;
        self.note_body(upper);
        self.note_verb(upper);
        self.note_write(upper);
        match upper {
            b"RETURNING" if self.depth == 0 => {
                self.outline.returning = true;
                Mark::Other
            }
            b"WITH" => Mark::With,
            b"RECURSIVE" => Mark::Recursive,
            b"ON" => Mark::On,
            b"CONFLICT" => Mark::Conflict,
            b"BEGIN" => Mark::Begin,
            _ => Mark::Other,
        }
    }

    /// `BEGIN ATOMIC … END` in CREATE FUNCTION; a CASE within it has an END of its own.
    fn note_body(&mut self, word: &[u8]) {
        match word {
            b"CREATE" if self.before[1] == Mark::Start => self.create = true,
            b"ATOMIC" if self.create && self.before[1] == Mark::Begin => self.body += 1,
            b"CASE" if self.body > 0 => self.body += 1,
            b"END" if self.body > 0 => self.body -= 1,
            _ => {}
        }
    }

    /// The first keyword, or after WITH the first one that is not a name of the WITH list. EXPLAIN keeps looking
    /// for what it explains, to know whether ANALYZE would write.
    fn note_verb(&mut self, word: &[u8]) {
        let listed = matches!(self.before[1], Mark::With | Mark::Recursive | Mark::Comma);
        let first = self.before.iter().all(|it| matches!(it, Mark::Start | Mark::Open)) && !self.with;
        if self.verb_known || !(first || (self.with && self.depth <= 0 && !listed)) {
            return;
        }
        let verb = match word {
            b"WITH" if first => {
                self.with = true;
                return;
            }
            b"SELECT" => Verb::Select,
            b"INSERT" => Verb::Insert,
            b"UPDATE" => Verb::Update,
            b"DELETE" => Verb::Delete,
            b"MERGE" => Verb::Merge,
            b"VALUES" | b"TABLE" => Verb::OtherRead,
            _ if self.with => return,
            b"SHOW" => Verb::OtherRead,
            b"EXPLAIN" => Verb::Explain,
            b"BEGIN" | b"START" | b"COMMIT" | b"END" | b"ROLLBACK" | b"ABORT" | b"SAVEPOINT" | b"RELEASE" => {
                Verb::Transaction
            }
            b"SET" | b"RESET" | b"DISCARD" | b"PREPARE" | b"DEALLOCATE" | b"EXECUTE" | b"LISTEN"
            | b"UNLISTEN" | b"LOAD" | b"DECLARE" | b"FETCH" | b"MOVE" | b"CLOSE" => Verb::Session,
            _ => Verb::Other,
        };
        self.verb_known = true;
        self.outline.verb = verb;
    }

    /// Verbs that write within a read. They are keywords where a statement can begin: after `(`, or after EXPLAIN.
    fn note_write(&mut self, word: &[u8]) {
        let writes = match word {
            b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" => match self.outline.verb {
                Verb::Explain => true,
                _ => self.before[1] == Mark::Open,
            },
            b"INTO" => self.depth == 0 && self.outline.verb == Verb::Select,
            b"CREATE" | b"EXECUTE" | b"REFRESH" => self.outline.verb == Verb::Explain,
            _ => false,
        };
        self.outline.writes |= writes;
        self.explain_analyze |= matches!(word, b"ANALYZE" | b"ANALYSE") && self.outline.verb == Verb::Explain;
    }
}

fn is(text: &str, token: Token, word: &str) -> bool {
    token.kind == Kind::Word && text[token.start..token.end].eq_ignore_ascii_case(word)
}
