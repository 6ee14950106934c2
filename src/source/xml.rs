//! Reads attributes of an XML document: ThorImage's, OME's and Bruker's descriptions need no more.

use std::ops::ControlFlow;

use quick_xml::events::{BytesStart, Event};

/// Shows every element, in the order of the document, until told to stop.
///
/// # Errors
/// XML that cannot be read, or what `take` refuses.
pub(super) fn elements(
    xml: &str,
    mut take: impl FnMut(&BytesStart<'_>) -> Result<ControlFlow<()>, String>,
) -> Result<(), String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                if take(&element)?.is_break() {
                    return Ok(());
                }
            }
            Ok(Event::Eof) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(format!("is not XML at byte {}: {e}", reader.error_position())),
        }
    }
}

/// The attribute of the first element of that name.
///
/// # Errors
/// XML that cannot be read.
pub(super) fn attribute(xml: &str, element: &str, key: &str) -> Result<Option<String>, String> {
    let mut found = None;
    elements(xml, |e| {
        if e.local_name().as_ref() != element {
            return Ok(ControlFlow::Continue(()));
        }
        found = value_of(e, key)?;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// An attribute of an element.
///
/// # Errors
/// XML that cannot be read.
pub(super) fn value_of(element: &BytesStart<'_>, key: &str) -> Result<Option<String>, String> {
    let found = element.try_get_attribute(key).map_err(|e| format!("is not XML: {e}"))?;
    Ok(found.map(|a| a.value.into_owned()))
}
