//! A value as bytes: in the journal, in the dead letters, as a part of what identifies a cell.
//!
//! A tag, then the content; lengths and counts are variable-length integers (LEB128). Two values have the same bytes if
//! and only if they are of the same type and equal bit by bit, so that bytes can be compared in place of values. What is
//! read may have been written by anybody: nothing here panics or allocates more than the input is long.

use std::sync::Arc;

use super::{Decimal, Value};

/// Lists nest no deeper.
const MAX_DEPTH: usize = 100;

/// Appends a number in as few bytes as it takes.
#[inline]
pub(crate) fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number; small magnitudes take few bytes.
#[inline]
pub(crate) fn write_signed(number: i64, out: &mut Vec<u8>) {
    write_varint(((number << 1) ^ (number >> 63)) as u64, out);
}

/// Appends bytes with their length before them.
#[inline]
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a value.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    let mut tagged = |tag: u8, content: &[u8]| {
        out.push(tag);
        out.extend_from_slice(content);
    };
    match value {
        Value::Null => out.push(0),
        Value::Bool(it) => out.push(1 + u8::from(*it)),
        Value::Int(it) => {
            out.push(3);
            write_signed(*it, out);
        }
        Value::Float(it) => tagged(4, &it.to_bits().to_le_bytes()),
        Value::Decimal(it) => {
            out.push(5);
            write_bytes(it.as_str().as_bytes(), out);
        }
        Value::Text(it) => {
            out.push(6);
            write_bytes(it.as_bytes(), out);
        }
        Value::Bytes(it) => {
            out.push(7);
            write_bytes(it, out);
        }
        Value::Uuid(it) => tagged(8, it),
        Value::Date(it) => tagged(9, &it.to_le_bytes()),
        Value::Time(it) => tagged(10, &it.to_le_bytes()),
        Value::Timestamp(it) => tagged(11, &it.to_le_bytes()),
        Value::TimestampTz(it) => tagged(12, &it.to_le_bytes()),
        Value::Interval { months, days, micros } => {
            tagged(13, &months.to_le_bytes());
            out.extend_from_slice(&days.to_le_bytes());
            out.extend_from_slice(&micros.to_le_bytes());
        }
        Value::List(items) => {
            out.push(14);
            write_varint(items.len() as u64, out);
            items.iter().for_each(|item| write_value(item, out));
        }
        Value::Json(it) => {
            out.push(15);
            write_bytes(it.as_bytes(), out);
        }
    }
}

/// Reads what the functions above wrote; `None` if the bytes are something else.
#[derive(Clone)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A count of things that take at least one byte each.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok().filter(|count| *count <= self.0.len())
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn value(&mut self) -> Option<Value> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Option<Value> {
        Some(match self.byte()? {
            0 => Value::Null,
            tag @ (1 | 2) => Value::Bool(tag == 2),
            3 => Value::Int(self.signed()?),
            4 => Value::Float(f64::from_bits(u64::from_le_bytes(self.array()?))),
            5 => Value::Decimal(Decimal::parse(self.text()?).ok()?),
            6 => Value::Text(self.text()?.into()),
            7 => Value::Bytes(self.bytes()?.into()),
            8 => Value::Uuid(self.array()?),
            9 => Value::Date(i32::from_le_bytes(self.array()?)),
            10 => Value::Time(i64::from_le_bytes(self.array()?)),
            11 => Value::Timestamp(i64::from_le_bytes(self.array()?)),
            12 => Value::TimestampTz(i64::from_le_bytes(self.array()?)),
            13 => Value::Interval {
                months: i32::from_le_bytes(self.array()?),
                days: i32::from_le_bytes(self.array()?),
                micros: i64::from_le_bytes(self.array()?),
            },
            14 if depth < MAX_DEPTH => {
                let count = self.count()?;
                let items: Option<Arc<[Value]>> = (0..count).map(|_| self.value_at(depth + 1)).collect();
                Value::List(items?)
            }
            15 => Value::Json(self.text()?.into()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![
                Just(Value::Null),
                any::<bool>().prop_map(Value::Bool),
                any::<i64>().prop_map(Value::Int),
                any::<f64>().prop_filter("equal to itself", |it| !it.is_nan()).prop_map(Value::Float),
                "-?[0-9]{1,40}(\\.[0-9]{0,9})?".prop_map(|it| Value::Decimal(Decimal::parse(&it).unwrap())),
                ".{0,20}".prop_map(Value::text),
                any::<Vec<u8>>().prop_map(Value::bytes),
                any::<[u8; 16]>().prop_map(Value::Uuid),
                any::<i32>().prop_map(Value::Date),
                any::<i64>().prop_map(Value::TimestampTz),
                (any::<i32>(), any::<i32>(), any::<i64>())
                    .prop_map(|(months, days, micros)| Value::Interval { months, days, micros }),
                Just(Value::Json("{\"a\": 1}".into())),
            ];
        leaf.prop_recursive(3, 20, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::from))
    }

    proptest! {
        #[test]
        fn values_come_back(value in values(), number in any::<i64>()) {
            let mut out = Vec::new();
            write_value(&value, &mut out);
            write_signed(number, &mut out);
            let mut reader = Reader::new(&out);
            prop_assert!(reader.value() == Some(value));
            prop_assert_eq!(reader.signed(), Some(number));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn other_bytes_do_not_panic(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            while reader.value().is_some() {}
        }
    }

    #[test]
    fn a_count_beyond_the_input_allocates_nothing() {
        let mut out = vec![14];
        write_varint(u64::MAX, &mut out);
        assert!(Reader::new(&out).value().is_none());
        assert!(Reader::new(&[0x80; 11]).varint().is_none());
    }
}
