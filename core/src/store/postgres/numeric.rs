//! PostgreSQL's binary `numeric`: digits to the base of 10,000, exact in both directions of the point.

use std::fmt::Write as _;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITE: u16 = 0xD000;
const MINUS_INFINITE: u16 = 0xF000;

/// The decimal text with exactly the scale that the server displays; `None` if the bytes are not a numeric.
///
/// Layout: digit count, weight of the first digit, sign, display scale (16 bits each), then the digits.
pub(super) fn to_text(raw: &[u8]) -> Option<String> {
    let word = |index: usize| raw.get(index * 2..index * 2 + 2).map(|it| u16::from_be_bytes([it[0], it[1]]));
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)?);
    match sign {
        NAN => return Some("NaN".to_owned()),
        INFINITE => return Some("Infinity".to_owned()),
        MINUS_INFINITE => return Some("-Infinity".to_owned()),
        0 | NEGATIVE => {}
        _ => return None,
    }
    let digits: Vec<u16> = (0..usize::from(count)).map(|index| word(4 + index)).collect::<Option<_>>()?;
    if raw.len() != 8 + digits.len() * 2 || digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let digit =
        |position: i32| usize::try_from(position).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
    let mut text = String::with_capacity(digits.len() * 4 + 8);
    if sign == NEGATIVE {
        text.push('-');
    }
    let weight = i32::from(weight);
    let _ = write!(text, "{}", if weight < 0 { 0 } else { digit(0) });
    for position in 1..=weight {
        let _ = write!(text, "{:04}", digit(position));
    }
    push_fraction(&mut text, usize::from(scale), |index| digit(weight + 1 + index));
    Some(text)
}

fn push_fraction(text: &mut String, scale: usize, digit: impl Fn(i32) -> u16) {
    if scale == 0 {
        return;
    }
    text.push('.');
    let end = text.len() + scale;
    for index in 0.. {
        if text.len() >= end {
            break;
        }
        let _ = write!(text, "{:04}", digit(index));
    }
    text.truncate(end);
}

/// A decimal text as an integer, if it is one and fits 64 bits; `12.50e1` is 125.
pub(super) fn to_integer(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return (!whole.is_empty() || !fraction.is_empty()).then_some(0);
    }
    let shift = exponent.parse::<i64>().ok()? - fraction.len() as i64;
    let digits = if shift < 0 {
        let cut = digits.len().checked_sub(usize::try_from(-shift).ok()?)?;
        digits[cut..].bytes().all(|digit| digit == b'0').then(|| digits[..cut].to_owned())?
    } else if shift <= 19 {
        format!("{digits}{}", "0".repeat(shift as usize))
    } else {
        return None;
    };
    format!("{}{digits}", if negative { "-" } else { "" }).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_recognised_in_every_spelling() {
        for (text, want) in [
            ("0", Some(0)),
            ("-0.00", Some(0)),
            ("12.50e1", Some(125)),
            ("1.5", None),
            ("1e3", Some(1_000)),
            ("1000e-3", Some(1)),
            ("1e-1", None),
            ("+007", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1e999999", None),
            ("0e999999", Some(0)),
            ("NaN", None),
            ("Infinity", None),
        ] {
            assert_eq!(to_integer(text), want, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_numeric_are_refused() {
        for raw in [&[][..], &[0; 7], &[0, 1, 0, 0, 0, 0, 0, 0], &[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
            assert_eq!(to_text(raw), None);
        }
        assert_eq!(to_text(&[0, 0, 0, 0, 0, 0, 0, 2]).as_deref(), Some("0.00"));
        // 0.0001 has one digit, of weight -1.
        assert_eq!(to_text(&[0, 1, 0xff, 0xff, 0x40, 0, 0, 4, 0, 1]).as_deref(), Some("-0.0001"));
        // 12345678.9
        assert_eq!(
            to_text(&[0, 3, 0, 1, 0, 0, 0, 1, 4, 0xd2, 22, 46, 35, 40]).as_deref(),
            Some("12345678.9")
        );
    }
}
