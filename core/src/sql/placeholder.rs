//! Where the `?` and `??` of a text are, and the text with `$n` and `?` in their place.

use std::fmt::Write;

use super::lexer::{Kind, Token, is_word};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u32,
    literal: bool,
}

/// The places of one text, ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placeholders {
    places: Vec<Place>,
    params: usize,
}

impl Placeholders {
    /// Takes the token if it is one of ours.
    pub fn note(&mut self, token: Token) {
        let literal = match token.kind {
            Kind::Param => false,
            Kind::Question => true,
            _ => return,
        };
        // Texts are at most 1 MiB.
        self.places.push(Place { at: token.start as u32, literal });
        self.params += usize::from(!literal);
    }

    /// The number of parameters.
    pub fn params(&self) -> usize {
        self.params
    }

    /// Appends `text` to `out`; parameter `i` (from 0) becomes `$number(i)`.
    ///
    /// A space keeps `$1` apart from what could swallow it or be swallowed: in `LIMIT?` it would become a part of
    /// the identifier, in `?1` another number.
    pub fn render(&self, text: &str, number: impl Fn(usize) -> u32, out: &mut String) {
        let (mut from, mut index) = (0, 0);
        for place in &self.places {
            let at = place.at as usize;
            out.push_str(&text[from..at]);
            if place.literal {
                out.push('?');
                from = at + 2;
                continue;
            }
            if out.as_bytes().last().is_some_and(|it| is_word(*it)) {
                out.push(' ');
            }
            // Writing to a String cannot fail.
            let _ = write!(out, "${}", number(index));
            index += 1;
            from = at + 1;
            if text.as_bytes().get(from).is_some_and(|it| is_word(*it)) {
                out.push(' ');
            }
        }
        out.push_str(&text[from..]);
    }
}
