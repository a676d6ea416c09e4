//! What the raw types are made of: values that know their place, and numbers with units.

use std::{
    borrow::Cow,
    fmt,
    marker::PhantomData,
    ops::{Deref, Range},
    time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        Error, MapAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

use super::units;

/// A value and where it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A table. serde's derived types would also take an array of the values in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Table<T>(T);

impl<T> Deref for Table<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(TableVisitor(PhantomData)).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// One of the words of an enum; anything but a string is refused as such.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for WordVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                T::deserialize(StrDeserializer::new(text))
            }
        }
        deserializer.deserialize_str(WordVisitor(PhantomData)).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Word<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A leaf that is written as a string and has one reading.
macro_rules! text_leaf {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:expr, $pattern:expr, $expecting:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;
                impl Visitor<'_> for TextVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        $parse(text).map($name).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(TextVisitor)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // A variable of the environment may stand for any part of it.
                json_schema!({ "type": "string", "pattern": concat!("^(", $pattern, ")$|\\$\\{") })
            }
        }
    };
}

text_leaf! {
    /// `"512KiB"`, in bytes.
    Size(usize),
    units::parse_size,
    "[0-9]+(B|kB|MB|GB|KiB|MiB|GiB)",
    "a size; write a number with a unit, such as \"512KiB\" or \"1MiB\" (B, kB, MB, GB, KiB, MiB, GiB)"
}

text_leaf! {
    /// `"500ms"`
    Time(Duration),
    units::parse_time,
    "[0-9]+(ms|s|m|h|d)",
    "a duration; write a number with a unit, such as \"500ms\" or \"10s\" (ms, s, m, h, d; at most 365d)"
}

text_leaf! {
    /// `"25s"` or `"off"`
    TimeOrOff(Option<Duration>),
    |text| if text == "off" { Some(None) } else { units::parse_time(text).map(Some) },
    "off|[0-9]+(ms|s|m|h|d)",
    "a duration; write \"off\" or a number with a unit, such as \"500ms\" or \"10s\" (ms, s, m, h, d; at most 365d)"
}

text_leaf! {
    /// `"8MiB"` or `"off"`
    SizeOrOff(Option<usize>),
    |text| if text == "off" { Some(None) } else { units::parse_size(text).map(Some) },
    "off|[0-9]+(B|kB|MB|GB|KiB|MiB|GiB)",
    "a size; write \"off\" or a number with a unit, such as \"512KiB\" or \"1MiB\" (B, kB, MB, GB, KiB, MiB, GiB)"
}

text_leaf! {
    /// `"50/s"`
    MessageRate((u64, Duration)),
    units::parse_rate,
    "[0-9]+/[smh]",
    "a rate; write a number and a time, such as \"50/s\" or \"600/m\" (s, m, h)"
}

text_leaf! {
    /// `"1MiB/s"`
    ByteRate((u64, Duration)),
    units::parse_byte_rate,
    "[0-9]+(B|kB|MB|GB|KiB|MiB|GiB)/[smh]",
    "a rate; write a size and a time, such as \"64KiB/s\" or \"10MiB/m\" (s, m, h)"
}

text_leaf! {
    /// 64 hexadecimal digits
    Sha256([u8; 32]),
    |text: &str| data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok(),
    "[0-9A-Fa-f]{64}",
    "a SHA-256; write its 64 hexadecimal digits, as `sha256sum` prints them"
}

/// A whole number that is not negative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub(super) usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number; write it without quotes and unit, such as 4")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Count, E> {
                let count = usize::try_from(number);
                count.map(Count).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_i64(CountVisitor)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// A whole number or `"off"`
#[derive(Clone, Copy, Debug)]
pub(super) struct CountOrOff(pub(super) Option<usize>);

impl<'de> Deserialize<'de> for CountOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountOrOffVisitor;
        impl Visitor<'_> for CountOrOffVisitor {
            type Value = CountOrOff;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number; write \"off\" or a number without quotes and unit, such as 4")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<CountOrOff, E> {
                let count = usize::try_from(number);
                count
                    .map(|count| CountOrOff(Some(count)))
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CountOrOff, E> {
                let off = (text == "off").then_some(CountOrOff(None));
                off.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(CountOrOffVisitor)
    }
}

impl JsonSchema for CountOrOff {
    fn schema_name() -> Cow<'static, str> {
        "CountOrOff".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "off" }, { "type": "integer", "minimum": 1 }] })
    }
}

/// `workers`
#[derive(Clone, Copy, Debug)]
pub(super) enum Workers {
    Auto,
    Count(usize),
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WorkersVisitor;
        impl Visitor<'_> for WorkersVisitor {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of workers; write \"auto\" or a whole number, such as 4")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Workers, E> {
                let count = usize::try_from(number);
                count.map(Workers::Count).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Workers, E> {
                let auto = (text == "auto").then_some(Workers::Auto);
                auto.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(WorkersVisitor)
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}
