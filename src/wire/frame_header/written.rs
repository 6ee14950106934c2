//! A header as it was written: values as they stand, inline, before anything judges them.
//!
//! serde_json takes memory only for escapes in keys and values known here, for unknown values nested two deep, and for syntax errors.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::word::Word;

/// List entries that are kept; more are counted only.
pub(super) const LIST_MAX: usize = 4;

/// One value as it was written.
#[derive(Clone, Copy, Default)]
pub(super) enum Leaf {
    /// Absent, or `null`.
    #[default]
    Nothing,
    Whole(i128),
    Float(f64),
    Text(Word),
    Flag(bool),
    List,
    Other,
}

/// A list as it was written.
#[derive(Clone, Copy, Default)]
pub(super) struct List {
    pub items: [Leaf; LIST_MAX],
    pub length: usize,
}

/// The known keys.
#[derive(Clone, Copy)]
enum Key {
    Htype,
    Dtype,
    Type,
    Shape,
    Frame,
    TimestampNs,
    TimeStamp,
    Clock,
    Stamp,
    Source,
    Series,
    Channels,
    Plane,
    Order,
    Endianness,
    Encoding,
    Ndattr,
    Valid,
    Stimulus,
    Animal,
    Unknown,
}

/// Every key as it is written; all others are ignored.
const KEYS: [(&str, Key); 21] = [
    ("htype", Key::Htype),
    ("dtype", Key::Dtype),
    ("type", Key::Type),
    ("shape", Key::Shape),
    ("frame", Key::Frame),
    ("timestamp_ns", Key::TimestampNs),
    ("timeStamp", Key::TimeStamp),
    ("clock", Key::Clock),
    ("stamp", Key::Stamp),
    ("source", Key::Source),
    ("series", Key::Series),
    ("channels", Key::Channels),
    ("plane", Key::Plane),
    ("order", Key::Order),
    ("endianness", Key::Endianness),
    // The example in the `array-1.0` note is spelt this way.
    ("endianess", Key::Endianness),
    ("encoding", Key::Encoding),
    ("ndattr", Key::Ndattr),
    ("valid", Key::Valid),
    ("stimulus", Key::Stimulus),
    ("animal", Key::Animal),
];

/// The keys of a frame header that are read; a header may have others.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(KEYS.iter().find(|(name, _)| *name == text).map_or(Key::Unknown, |(_, key)| *key))
            }
        }
        json.deserialize_identifier(Name)
    }
}

/// A header as it was written.
#[derive(Default)]
pub(super) struct Written {
    pub htype: Leaf,
    pub htypes: List,
    pub dtype: Leaf,
    pub kind: Leaf,
    pub shape: Leaf,
    pub sides: List,
    pub frame: Leaf,
    pub timestamp_ns: Leaf,
    pub timestamp_s: Leaf,
    pub clock: Leaf,
    pub stamp: Leaf,
    pub source: Leaf,
    pub series: Leaf,
    pub channels: Leaf,
    pub names: List,
    pub plane: Leaf,
    pub order: Leaf,
    pub endianness: Leaf,
    pub encoding: Leaf,
    pub valid: Leaf,
    pub stimulus: Leaf,
    pub animal: Leaf,
    pub from_area_detector: bool,
}

/// Fills [`Written`] from a JSON object.
pub(super) struct Fill<'w>(pub &'w mut Written);

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let w = self.0;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Htype => w.htype = map.next_value_seed(Take(Some(&mut w.htypes)))?,
                Key::Shape => w.shape = map.next_value_seed(Take(Some(&mut w.sides)))?,
                Key::Channels => w.channels = map.next_value_seed(Take(Some(&mut w.names)))?,
                Key::Dtype => w.dtype = map.next_value_seed(Take(None))?,
                Key::Type => w.kind = map.next_value_seed(Take(None))?,
                Key::Frame => w.frame = map.next_value_seed(Take(None))?,
                Key::TimestampNs => w.timestamp_ns = map.next_value_seed(Take(None))?,
                Key::TimeStamp => w.timestamp_s = map.next_value_seed(Take(None))?,
                Key::Clock => w.clock = map.next_value_seed(Take(None))?,
                Key::Stamp => w.stamp = map.next_value_seed(Take(None))?,
                Key::Source => w.source = map.next_value_seed(Take(None))?,
                Key::Series => w.series = map.next_value_seed(Take(None))?,
                Key::Plane => w.plane = map.next_value_seed(Take(None))?,
                Key::Order => w.order = map.next_value_seed(Take(None))?,
                Key::Endianness => w.endianness = map.next_value_seed(Take(None))?,
                Key::Encoding => w.encoding = map.next_value_seed(Take(None))?,
                Key::Valid => w.valid = map.next_value_seed(Take(None))?,
                Key::Stimulus => w.stimulus = map.next_value_seed(Take(None))?,
                Key::Animal => w.animal = map.next_value_seed(Take(None))?,
                Key::Ndattr => {
                    map.next_value::<IgnoredAny>()?;
                    w.from_area_detector = true;
                }
                Key::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Takes one value as it stands; entries of a list go into the given list, if any.
struct Take<'l>(Option<&'l mut List>);

impl<'de> DeserializeSeed<'de> for Take<'_> {
    type Value = Leaf;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Leaf, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Take(None))
    }
}

impl<'de> Visitor<'de> for Take<'_> {
    type Value = Leaf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Leaf, E> {
        Ok(Leaf::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Leaf, E> {
        Ok(Leaf::Flag(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Leaf, E> {
        Ok(Leaf::Whole(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Leaf, E> {
        Ok(Leaf::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Leaf, E> {
        Ok(Leaf::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Leaf, E> {
        Ok(Leaf::Text(Word::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaf, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Leaf, A::Error> {
        let Some(into) = self.0 else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Leaf::Other);
        };
        *into = List::default();
        while into.length < LIST_MAX {
            let Some(item) = list.next_element::<Leaf>()? else { return Ok(Leaf::List) };
            into.items[into.length] = item;
            into.length += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            into.length += 1;
        }
        Ok(Leaf::List)
    }
}
