//! Generated statements whose generator knows where it put its placeholders, and what text must stay as it is.
//!
//! `ZMSG_SOAK=n` runs n million statements from a new seed; a failure prints the seed, `ZMSG_SEED` repeats it.

use fastrand::Rng;
use zmsg_core::sql::sql;

/// Characters that mean something to a lexer, and some that do not.
const ALPHABET: &[char] = &[
    '?', '\'', '"', '$', '1', 'a', 'E', 'e', 'U', '&', '-', '/', '*', '\\', '%', 's', '|', '@', ';', '(',
    ')', '\n', ' ', 'é', '.', ':', '_',
];

struct Statement {
    source: String,
    rendered: String,
    params: usize,
}

impl Statement {
    fn both(&mut self, text: &str) {
        self.source.push_str(text);
        self.rendered.push_str(text);
    }

    fn param(&mut self) {
        self.params += 1;
        self.source.push('?');
        self.rendered.push_str(&format!("${}", self.params));
    }

    fn literal(&mut self, source: &str, rendered: &str) {
        self.source.push_str(source);
        self.rendered.push_str(rendered);
    }
}

fn noise(rng: &mut Rng, without: &[&str]) -> String {
    let mut text: String = (0..rng.usize(0..9)).map(|_| ALPHABET[rng.usize(0..ALPHABET.len())]).collect();
    while let Some(bad) = without.iter().find(|bad| text.contains(**bad)) {
        text = text.replace(*bad, "");
    }
    text
}

/// Space, which may be a comment.
fn space(rng: &mut Rng) -> String {
    match rng.u8(0..8) {
        0 => format!(" --{}\n", noise(rng, &["\n"])),
        1 => format!(" /*{}*/ ", noise(rng, &["/", "*"])),
        2 => format!(
            " /*{}/*{}*/{}*/ ",
            noise(rng, &["/", "*"]),
            noise(rng, &["/", "*"]),
            noise(rng, &["/", "*"])
        ),
        3 => "\n\t".to_owned(),
        _ => " ".to_owned(),
    }
}

/// A backslash escapes whatever follows; a quote inside is escaped in one of the two ways.
fn escape_body(rng: &mut Rng) -> String {
    let mut body = noise(rng, &["\\", "'"]);
    for _ in 0..rng.usize(0..3) {
        let pair = ["\\'", "\\\\", "''", "\\?", "\\n"][rng.usize(0..5)];
        body.push_str(pair);
        body.push_str(&noise(rng, &["\\", "'"]));
    }
    body
}

/// Something in which `?` is text.
fn opaque(rng: &mut Rng) -> String {
    match rng.u8(0..8) {
        0 => format!("'{}'", noise(rng, &[]).replace('\'', "''")),
        1 => format!("E'{}'", escape_body(rng)),
        2 => format!("e'{}'\n'{}'", escape_body(rng), escape_body(rng)),
        3 => format!("U&'{}'", noise(rng, &["\\"]).replace('\'', "''")),
        4 => format!("\"q{}\"", noise(rng, &[]).replace('"', "\"\"")),
        5 => format!("$${}$$", noise(rng, &["$"])),
        6 => format!("$a1${}$$ $b$$a1$", noise(rng, &["$"])),
        _ => format!("U&\"q{}\"", noise(rng, &["\\"]).replace('"', "\"\"")),
    }
}

fn piece(rng: &mut Rng, out: &mut Statement) {
    match rng.u8(0..12) {
        0..3 => out.param(),
        3..6 => out.both(&opaque(rng)),
        6 => out.literal("a ?? 'k'", "a ? 'k'"),
        7 => out.literal("a ??| b", "a ?| b"),
        8 => {
            out.both("(f(");
            out.param();
            out.both("::int8)||");
            out.param();
            out.both("||x$1)");
        }
        9 => out.both(["a$b$", "_é$1", "1.5e10", ".5", "a % s", "0x1F", "E", "t.c"][rng.usize(0..8)]),
        10 => {
            out.both("ARRAY[");
            out.param();
            out.both(", ");
            piece(rng, out);
            out.both("]");
        }
        _ => {
            out.both("x=");
            out.param();
        }
    }
}

fn statement(rng: &mut Rng) -> Statement {
    let mut out = Statement { source: String::new(), rendered: String::new(), params: 0 };
    out.both("SELECT");
    for index in 0..rng.usize(1..8) {
        out.both(&space(rng));
        if index > 0 {
            out.both(",");
            out.both(&space(rng));
        }
        piece(rng, &mut out);
    }
    if rng.bool() {
        out.both(&space(rng));
        out.both(";");
        out.both(&space(rng));
    }
    out
}

fn check(count: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for index in 0..count {
        let wanted = statement(&mut rng);
        let task = sql(&wanted.source, ())
            .unwrap_or_else(|it| panic!("seed {seed}, {index}: {it}\n{}", wanted.source));
        let rendered = task.render();
        assert_eq!(rendered.params.len(), wanted.params, "seed {seed}, {index}: {}", wanted.source);
        assert_eq!(*rendered.sql, *wanted.rendered, "seed {seed}, {index}");
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn generated_placeholders_are_found() {
    check(100_000, setting("ZMSG_SEED").unwrap_or(7));
    if let Some(millions) = setting("ZMSG_SOAK") {
        let seed = fastrand::u64(..);
        check(millions as usize * 1_000_000, setting("ZMSG_SEED").unwrap_or(seed));
    }
}

#[test]
fn no_text_panics_or_loses_a_character() {
    let mut rng = Rng::with_seed(setting("ZMSG_SEED").unwrap_or(11));
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let text: String = (0..rng.usize(0..16)).map(|_| ALPHABET[rng.usize(0..ALPHABET.len())]).collect();
        let Ok(task) = sql(&text, ()) else {
            refused += 1;
            continue;
        };
        taken += 1;
        let rendered = task.render();
        let marks = rendered.sql.chars().filter(|it| !it.is_whitespace()).count();
        let literals = text.matches('?').count();
        assert!(marks + literals >= text.chars().filter(|it| !it.is_whitespace()).count(), "{text:?}");
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
}
