//! The key-value pairs of a GGUF header, with lookups that say what is missing or mistyped.

use std::path::Path;

use rustc_hash::FxHashMap;

use super::reader::Reader;
use crate::error::{Error, Result};

/// A header's key-value pairs.
///
/// `find_*` gives `None` where the key is absent; the plain form makes that an error. Both fail with
/// [`Status::ModelInvalid`](crate::error::Status::ModelInvalid), naming file and key, where the value is
/// of another type or out of range.
#[derive(Debug)]
pub struct Metadata {
    file: String,
    values: FxHashMap<String, Value>,
}

/// Many strings in two allocations: a vocabulary has hundreds of thousands.
#[derive(Debug, Default)]
pub struct StringList {
    text: String,
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f32),
    Double(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    Strings(StringList),
    /// An array of a type that no lookup asks for (64-bit or unsigned numbers that do not fit, bools).
    Other(&'static str),
}

/// The numbers of the value types.
mod code {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

impl StringList {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.text[start..end])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

impl Metadata {
    /// Reads `count` pairs. Errors name the key; the caller adds the file.
    pub(super) fn read(reader: &mut Reader, count: u64, path: &Path) -> Result<Self> {
        // A pair takes at least a length, a type and one byte.
        reader.expect(count, 13, "the metadata")?;
        let mut values = FxHashMap::default();
        for index in 0..count {
            let key = reader
                .string("a metadata key")
                .map_err(|e| e.within(format_args!("metadata pair {index} of {count}")))?;
            let value = read_value(reader).map_err(|e| e.within(format_args!("metadata key '{key}'")))?;
            if values.insert(key.clone(), value).is_some() {
                return Err(Error::model(format!("metadata key '{key}' appears twice")));
            }
        }
        Ok(Metadata { file: path.display().to_string(), values })
    }

    /// The file's path, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether the key is there, whatever its type.
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A non-negative integer of any width.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.required(key, self.find_u64(key)?)
    }

    /// A non-negative integer of any width, if the key is there.
    pub fn find_u64(&self, key: &str) -> Result<Option<u64>> {
        self.find(key, "a non-negative integer", |v| match v {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        })
    }

    /// A number, as f32.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, self.find_f32(key)?)
    }

    /// A number, as f32, if the key is there.
    pub fn find_f32(&self, key: &str) -> Result<Option<f32>> {
        self.find(key, "a number", |v| match v {
            Value::Float(x) => Some(*x),
            Value::Double(x) => Some(*x as f32),
            Value::Unsigned(n) => Some(*n as f32),
            Value::Signed(n) => Some(*n as f32),
            _ => None,
        })
    }

    /// A truth value, if the key is there.
    pub fn find_bool(&self, key: &str) -> Result<Option<bool>> {
        self.find(key, "true or false", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.find_str(key)?)
    }

    /// A string, if the key is there.
    pub fn find_str(&self, key: &str) -> Result<Option<&str>> {
        self.find(key, "a string", |v| match v {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<&StringList> {
        self.required(key, self.find_strings(key)?)
    }

    /// An array of strings, if the key is there.
    pub fn find_strings(&self, key: &str) -> Result<Option<&StringList>> {
        self.find(key, "an array of strings", |v| match v {
            Value::Strings(list) => Some(list),
            _ => None,
        })
    }

    /// An array of integers that fit into i32, of any width in the file.
    pub fn i32s(&self, key: &str) -> Result<&[i32]> {
        self.required(key, self.find_i32s(key)?)
    }

    /// An array of integers that fit into i32, if the key is there.
    pub fn find_i32s(&self, key: &str) -> Result<Option<&[i32]>> {
        self.find(key, "an array of 32-bit integers", |v| match v {
            Value::Ints(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// An array of 32-bit floats.
    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        self.required(key, self.find_f32s(key)?)
    }

    /// An array of 32-bit floats, if the key is there.
    pub fn find_f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.find(key, "an array of 32-bit floats", |v| match v {
            Value::Floats(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    fn find<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        take(value).map(Some).ok_or_else(|| {
            let found = value.describe();
            Error::model(format!("{}: metadata key '{key}' is {found}, not {wanted}", self.file))
        })
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::model(format!("{}: metadata key '{key}' is missing", self.file)))
    }
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Value::Unsigned(n) => format!("the integer {n}"),
            Value::Signed(n) => format!("the integer {n}"),
            Value::Float(x) => format!("the number {x}"),
            Value::Double(x) => format!("the number {x}"),
            Value::Bool(b) => b.to_string(),
            Value::Text(_) => "a string".into(),
            Value::Ints(_) => "an array of integers".into(),
            Value::Floats(_) => "an array of floats".into(),
            Value::Strings(_) => "an array of strings".into(),
            Value::Other(name) => format!("an {name}"),
        }
    }
}

fn read_value(reader: &mut Reader) -> Result<Value> {
    const WHAT: &str = "its value";
    let kind = reader.u32("its type")?;
    Ok(match kind {
        code::U8 => Value::Unsigned(u8::from_le_bytes(reader.bytes(WHAT)?).into()),
        code::I8 => Value::Signed(i8::from_le_bytes(reader.bytes(WHAT)?).into()),
        code::U16 => Value::Unsigned(u16::from_le_bytes(reader.bytes(WHAT)?).into()),
        code::I16 => Value::Signed(i16::from_le_bytes(reader.bytes(WHAT)?).into()),
        code::U32 => Value::Unsigned(u32::from_le_bytes(reader.bytes(WHAT)?).into()),
        code::I32 => Value::Signed(i32::from_le_bytes(reader.bytes(WHAT)?).into()),
        code::U64 => Value::Unsigned(u64::from_le_bytes(reader.bytes(WHAT)?)),
        code::I64 => Value::Signed(i64::from_le_bytes(reader.bytes(WHAT)?)),
        code::F32 => Value::Float(f32::from_le_bytes(reader.bytes(WHAT)?)),
        code::F64 => Value::Double(f64::from_le_bytes(reader.bytes(WHAT)?)),
        code::BOOL => Value::Bool(read_bool(reader)?),
        code::STRING => Value::Text(reader.string(WHAT)?),
        code::ARRAY => read_array(reader)?,
        other => return Err(Error::model(format!("has value type {other}, which does not exist"))),
    })
}

fn read_bool(reader: &mut Reader) -> Result<bool> {
    match reader.bytes::<1>("its value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(Error::model(format!("is a truth value of {other}, not 0 or 1"))),
    }
}

fn read_array(reader: &mut Reader) -> Result<Value> {
    const WHAT: &str = "its array";
    let kind = reader.u32("its element type")?;
    let count = reader.u64("its length")?;
    let bytes = match kind {
        code::U8 | code::I8 | code::BOOL => 1,
        code::U16 | code::I16 => 2,
        code::U32 | code::I32 | code::F32 => 4,
        code::U64 | code::I64 | code::F64 | code::STRING => 8,
        code::ARRAY => return Err(Error::unsupported("is an array of arrays, which is not supported")),
        other => return Err(Error::model(format!("has element type {other}, which does not exist"))),
    };
    reader.expect(count, bytes, WHAT)?;
    match kind {
        code::U8 => ints(reader, count, |b: [u8; 1]| u8::from_le_bytes(b).into()),
        code::I8 => ints(reader, count, |b: [u8; 1]| i8::from_le_bytes(b).into()),
        code::U16 => ints(reader, count, |b: [u8; 2]| u16::from_le_bytes(b).into()),
        code::I16 => ints(reader, count, |b: [u8; 2]| i16::from_le_bytes(b).into()),
        code::U32 => ints(reader, count, |b: [u8; 4]| u32::from_le_bytes(b).into()),
        code::I32 => ints(reader, count, |b: [u8; 4]| i32::from_le_bytes(b).into()),
        // Beyond i64 nothing fits into i32 either.
        code::U64 => {
            ints(reader, count, |b: [u8; 8]| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX))
        }
        code::I64 => ints(reader, count, |b: [u8; 8]| i64::from_le_bytes(b)),
        code::F32 => {
            let mut list = Vec::new();
            for _ in 0..count {
                list.push(f32::from_le_bytes(reader.bytes(WHAT)?));
            }
            Ok(Value::Floats(list))
        }
        code::STRING => {
            let mut list = StringList::default();
            for index in 0..count {
                reader
                    .append_string(&mut list.text, "a string")
                    .map_err(|e| e.within(format_args!("element {index} of {count}")))?;
                // A header is far smaller than 4 GiB.
                list.ends.push(list.text.len() as u32);
            }
            Ok(Value::Strings(list))
        }
        code::BOOL => {
            for _ in 0..count {
                read_bool(reader)?;
            }
            Ok(Value::Other("array of truth values"))
        }
        _ => {
            for _ in 0..count {
                reader.bytes::<8>(WHAT)?;
            }
            Ok(Value::Other("array of float64"))
        }
    }
}

/// Reads `count` integers of `N` bytes; kept if all fit into i32.
fn ints<const N: usize>(reader: &mut Reader, count: u64, widen: fn([u8; N]) -> i64) -> Result<Value> {
    let mut list = Vec::new();
    let mut fits = true;
    for _ in 0..count {
        match i32::try_from(widen(reader.bytes("its array")?)) {
            Ok(n) if fits => list.push(n),
            Ok(_) => {}
            Err(_) => {
                fits = false;
                list = Vec::new();
            }
        }
    }
    Ok(if fits { Value::Ints(list) } else { Value::Other("array of integers beyond 32 bits") })
}
