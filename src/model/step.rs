//! How a step of preprocessing that is not carried out stands in a manifest: `registration = "off"` in place of its table.
//!
//! Why it exists: an absent table means the step's defaults, so that old and short manifests load; without a word for "off", a
//! model that was trained without a step would be run with it.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word.
const OFF: &str = "off";

/// Writes the step's table, or `"off"`.
pub(super) fn serialize<T: Serialize, S: Serializer>(step: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match step {
        Some(step) => step.serialize(serializer),
        None => serializer.serialize_str(OFF),
    }
}

/// Reads what [`serialize`] writes.
pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    from.deserialize_any(Step(PhantomData))
}

/// The schema of what [`serialize`] writes.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "const": OFF }] })
}

struct Step<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Step<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with the step's parameters, or \"off\"")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        if word == OFF { Ok(None) } else { Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}
