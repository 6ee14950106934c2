//! Reads one attribute of an XML document: ThorImage's `Experiment.xml` and OME's descriptions need no more.

use quick_xml::events::{BytesStart, Event};

/// The attribute of the first element of that name.
///
/// # Errors
/// XML that cannot be read.
pub(super) fn attribute(xml: &str, element: &str, key: &str) -> Result<Option<String>, String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Start(e) | Event::Empty(e)) if e.local_name().as_ref() == element => {
                return value_of(&e, key);
            }
            Ok(Event::Eof) => return Ok(None),
            Ok(_) => {}
            Err(e) => return Err(format!("is not XML at byte {}: {e}", reader.error_position())),
        }
    }
}

fn value_of(element: &BytesStart<'_>, key: &str) -> Result<Option<String>, String> {
    let found = element.try_get_attribute(key).map_err(|e| format!("is not XML: {e}"))?;
    Ok(found.map(|a| a.value.into_owned()))
}
