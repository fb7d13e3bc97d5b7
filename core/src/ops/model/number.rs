//! Numbers as at school: digits in a row, of any length, with PostgreSQL's display scale.

use std::cmp::Ordering;
use std::iter::repeat_n;

use crate::value::Value;

#[derive(Clone, PartialEq, Debug)]
pub(in crate::ops) struct Number {
    negative: bool,
    /// The last digit first; no zero at the end.
    digits: Vec<u8>,
    scale: usize,
}

impl Number {
    pub(in crate::ops) fn of(value: &Value) -> Number {
        match value {
            Value::Null => Number::parse("0"),
            Value::Int(it) => Number::parse(&it.to_string()),
            Value::Decimal(it) => Number::parse(it.as_str()),
            other => panic!("{other:?} is no number"),
        }
    }

    fn parse(text: &str) -> Number {
        let text = text.to_lowercase();
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (_, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let scale = fraction.len() as i64 - exponent.parse::<i64>().expect("an exponent");
        let zeros = repeat_n(0, usize::try_from(-scale).unwrap_or(0));
        let read = mantissa.bytes().rev().filter(u8::is_ascii_digit).map(|it| it - b'0');
        Number::made(text.starts_with('-'), zeros.chain(read).collect(), usize::try_from(scale).unwrap_or(0))
    }

    fn made(negative: bool, mut digits: Vec<u8>, scale: usize) -> Number {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Number { negative: negative && !digits.is_empty(), digits, scale }
    }

    pub(in crate::ops) fn negated(&self) -> Number {
        Number::made(!self.negative, self.digits.clone(), self.scale)
    }

    pub(in crate::ops) fn plus(&self, other: &Number) -> Number {
        let scale = self.scale.max(other.scale);
        let (a, b) = (self.digits_at(scale), other.digits_at(scale));
        if self.negative == other.negative {
            return Number::made(self.negative, sum(&a, &b), scale);
        }
        match compare(&a, &b) {
            Ordering::Less => Number::made(other.negative, difference(&b, &a), scale),
            _ => Number::made(self.negative, difference(&a, &b), scale),
        }
    }

    pub(in crate::ops) fn times(&self, other: &Number) -> Number {
        let mut digits = Vec::new();
        for (place, factor) in other.digits.iter().enumerate() {
            let mut row = vec![0; place];
            (0..*factor).for_each(|_| row = sum(&row, &[&vec![0; place][..], &self.digits].concat()));
            digits = sum(&digits, &row);
        }
        Number::made(self.negative != other.negative, digits, self.scale + other.scale)
    }

    /// Whether the server's largest integer type holds it.
    pub(in crate::ops) fn is_int8(&self) -> bool {
        let digits: String = self.digits.iter().rev().map(|it| char::from(b'0' + it)).collect();
        let sign = if self.negative { "-" } else { "" };
        self.scale == 0 && format!("{sign}0{digits}").parse::<i64>().is_ok()
    }

    fn digits_at(&self, scale: usize) -> Vec<u8> {
        repeat_n(0, scale - self.scale).chain(self.digits.iter().copied()).collect()
    }
}

fn digit(of: &[u8], at: usize) -> u8 {
    of.get(at).copied().unwrap_or(0)
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let places = (0..a.len().max(b.len())).rev();
    places.map(|at| digit(a, at).cmp(&digit(b, at))).find(|it| it.is_ne()).unwrap_or(Ordering::Equal)
}

fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carried = 0;
    let add = |at| {
        let both = digit(a, at) + digit(b, at) + carried;
        carried = both / 10;
        both % 10
    };
    (0..=a.len().max(b.len())).map(add).collect()
}

/// `a` is not less than `b`.
fn difference(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrowed = 0;
    let subtract = |at| {
        let left = 10 + digit(a, at) - digit(b, at) - borrowed;
        borrowed = 1 - left / 10;
        left % 10
    };
    (0..a.len()).map(subtract).collect()
}
