//! JSON Schemas of the types that a file is read into, for editors that check and explain it while it is written.
//!
//! Why it exists: a type and its documentation say what a file may hold, so nothing is written twice. What it must never do: refuse
//! what the program accepts. It may accept more: bounds and contradictions are found by the program.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};

/// The schema of `T`, as text, in the newest draft that taplo reads.
pub fn schema_of<T: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    Plain.transform(&mut schema);
    format!("{:#}\n", schema.to_value())
}

/// Descriptions without the links of the code's documentation.
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        if let Some(text) = schema.get("description").and_then(|text| text.as_str()) {
            let text = text.replace("[`", "`").replace("`]", "`");
            schema.insert("description".to_owned(), text.into());
        }
        transform_subschemas(self, schema);
    }
}
