//! A number with PostgreSQL's display scale: what its `numeric` makes of `+` and `*`, to the last digit.

use crate::value::{Decimal, Value};

/// More digits behind the point than anybody counts in, and few enough that two scales never overflow.
const MAX_SCALE: u16 = 60;

/// `digits / 10^scale`. As in PostgreSQL a sum has the larger scale of the two, a product both together.
///
/// With scale 0 it fits 64 bits: an integer of the server is checked, so one that is too large is never made here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exact {
    digits: i128,
    scale: u16,
}

impl Exact {
    pub(crate) const ZERO: Exact = Exact { digits: 0, scale: 0 };
    pub(crate) const ONE: Exact = Exact { digits: 1, scale: 0 };

    /// `None` if it cannot be held.
    #[inline]
    fn new(digits: i128, scale: u16) -> Option<Exact> {
        let fits = if scale == 0 { i64::try_from(digits).is_ok() } else { scale <= MAX_SCALE };
        fits.then_some(Exact { digits, scale })
    }

    /// An int or a decimal; `None` if it has too many digits, is not finite, or is something else.
    pub(crate) fn of(value: &Value) -> Option<Exact> {
        match value {
            Value::Int(it) => Exact::new(i128::from(*it), 0),
            Value::Decimal(it) => Exact::parse(it.as_str()),
            _ => None,
        }
    }

    /// As the server reads it: `1.5e3` has scale 0, `1000e-3` has scale 3.
    fn parse(text: &str) -> Option<Exact> {
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = 0_i128;
        for byte in whole.bytes().chain(fraction.bytes()) {
            // No digit is in NaN and in the infinities.
            let digit = char::from(byte).to_digit(10)?;
            digits = digits.checked_mul(10)?.checked_add(i128::from(digit))?;
        }
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
        match u16::try_from(scale) {
            Ok(scale) => Exact::new(sign * digits, scale),
            Err(_) => Exact::new(sign * shifted(digits, u32::try_from(-scale).ok()?)?, 0),
        }
    }

    /// `None` if the sum cannot be held.
    #[inline]
    pub(crate) fn plus(self, other: Exact) -> Option<Exact> {
        let scale = self.scale.max(other.scale);
        Exact::new(self.digits_at(scale)?.checked_add(other.digits_at(scale)?)?, scale)
    }

    /// `None` if the product cannot be held.
    #[inline]
    pub(crate) fn times(self, other: Exact) -> Option<Exact> {
        Exact::new(self.digits.checked_mul(other.digits)?, self.scale + other.scale)
    }

    /// `None` for the smallest integer, whose opposite is none.
    pub(crate) fn negated(self) -> Option<Exact> {
        Exact::new(self.digits.checked_neg()?, self.scale)
    }

    /// Int for scale 0, else a decimal with exactly `scale` digits behind the point.
    pub(crate) fn to_value(self) -> Value {
        if self.scale == 0 {
            return Value::Int(self.digits as i64);
        }
        let scale = usize::from(self.scale);
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.digits.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let text = format!("{sign}{whole}.{fraction}");
        Value::Decimal(Decimal::parse(&text).expect("digits around a point are a decimal"))
    }

    /// Whether it has no digits behind the point.
    pub(crate) fn is_integer(self) -> bool {
        self.scale == 0
    }

    /// The digits it has with a scale that is not less.
    #[inline]
    fn digits_at(self, scale: u16) -> Option<i128> {
        shifted(self.digits, u32::from(scale - self.scale))
    }
}

/// `digits · 10^by`; zero stays zero by however much.
#[inline]
fn shifted(digits: i128, by: u32) -> Option<i128> {
    if by == 0 || digits == 0 { Some(digits) } else { digits.checked_mul(10_i128.checked_pow(by)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Option<Exact> {
        Exact::of(&Value::Decimal(Decimal::parse(text).unwrap()))
    }

    fn int(it: i64) -> Exact {
        Exact::of(&it.into()).unwrap()
    }

    fn text(it: Exact) -> String {
        match it.to_value() {
            Value::Int(it) => it.to_string(),
            Value::Decimal(it) => it.to_string(),
            other => panic!("{other:?} is no number"),
        }
    }

    #[test]
    fn decimals_are_read_as_the_server_reads_them() {
        for (from, to) in [
            ("1.50", "1.50"),
            ("1.5e3", "1500"),
            ("1.50e1", "15.0"),
            ("1000e-3", "1.000"),
            ("+007", "7"),
            ("-.5", "-0.5"),
            ("5.", "5"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("0e999999", "0"),
            ("0e-60", &format!("0.{}", "0".repeat(60))),
            ("-9223372036854775808", "-9223372036854775808"),
            ("170141183460469231731687303715884105727e-1", "17014118346046923173168730371588410572.7"),
        ] {
            assert_eq!(decimal(from).map(text).as_deref(), Some(to), "{from}");
        }
    }

    #[test]
    fn what_cannot_be_held_is_none() {
        for from in [
            "NaN",
            "Infinity",
            "-Infinity",
            "9223372036854775808",
            "1e19",
            "1e999999",
            "1e-999999",
            "0e-61",
            "1e-61",
            "170141183460469231731687303715884105728e-1",
            &"9".repeat(40),
        ] {
            assert_eq!(decimal(from), None, "{from}");
        }
        for other in [Value::Null, true.into(), 1.0.into(), "1".into()] {
            assert_eq!(Exact::of(&other), None, "{other:?}");
        }
    }

    #[test]
    fn integers_keep_to_64_bits() {
        let (least, most) = (int(i64::MIN), int(i64::MAX));
        assert_eq!(least.negated(), None);
        assert_eq!(most.negated().map(text).as_deref(), Some("-9223372036854775807"));
        assert_eq!(most.plus(Exact::ONE), None);
        assert_eq!(least.plus(most).map(text).as_deref(), Some("-1"));
        assert_eq!(least.times(int(-1)), None);
        assert_eq!(least.times(Exact::ONE), Some(least));
        assert_eq!(most.times(Exact::ZERO), Some(Exact::ZERO));
        assert!(most.is_integer() && !decimal("1.0").unwrap().is_integer());
        // With a fraction it is no integer of the server any more.
        let most = most.plus(decimal("0.0").unwrap()).unwrap();
        assert_eq!(most.plus(most).map(text).as_deref(), Some("18446744073709551614.0"));
    }

    #[test]
    fn scales_grow_up_to_their_limit() {
        let (half, tiny) = (decimal("0.5").unwrap(), decimal("1e-60").unwrap());
        assert_eq!(half.plus(decimal("1.50").unwrap()).map(text).as_deref(), Some("2.00"));
        assert_eq!(half.times(decimal("1.50").unwrap()).map(text).as_deref(), Some("0.750"));
        assert_eq!(tiny.times(half), None);
        assert_eq!(tiny.plus(half), None, "60 digits do not fit");
        assert_eq!(tiny.plus(Exact::ZERO), Some(tiny));
        assert_eq!(tiny.plus(tiny).and_then(Exact::negated).map(text).unwrap().len(), 63);
        assert_eq!(tiny.times(int(i64::MIN)).map(text).unwrap().len(), 63);
    }
}
