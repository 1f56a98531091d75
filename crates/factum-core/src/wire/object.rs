//! A JSON object as it is written: member by member, values that are JSON already going in as they are.
//!
//! It knows how JSON looks and nothing of what is written. Each name must be given once.

use std::{fmt, sync::Arc};

/// A JSON object that grows.
pub(super) struct Object(Vec<u8>);

impl Object {
    /// An object of about `bytes` bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Self(text)
    }

    /// A member whose value is a text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    /// A member whose value is a text, as `value` is shown.
    pub(super) fn shown(&mut self, name: &str, value: impl fmt::Display) {
        self.text(name, &value.to_string());
    }

    /// A member whose value is a whole number.
    pub(super) fn number(&mut self, name: &str, value: impl Into<u64>) {
        self.raw(name, &value.into().to_string());
    }

    /// A member whose value is the JSON text `json`.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A member whose value is a list of texts.
    pub(super) fn texts(&mut self, name: &str, values: &[Arc<str>]) {
        self.name(name);
        serde_json::to_writer(&mut self.0, values).expect("every text is JSON");
    }

    /// A member whose value is an object.
    pub(super) fn object<'a>(
        &mut self,
        name: &str,
        members: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        self.name(name);
        self.0.push(b'{');
        for (name, json) in members {
            self.raw(name, json);
        }
        self.0.push(b'}');
    }

    /// The object's text.
    pub(super) fn finish(mut self) -> String {
        self.0.push(b'}');
        String::from_utf8(self.0).expect("only texts were written")
    }

    fn name(&mut self, name: &str) {
        // No value ends with an opening brace, so this is the first member.
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.quoted(name);
        self.0.push(b':');
    }

    fn quoted(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("every text is JSON");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_as_json() {
        let mut object = Object::with_capacity(0);
        object.text("a \"quoted\" name", "line\nbreak");
        object.object("empty", []);
        object.object("inner", [("x", "[1.0]"), ("y", "{}")]);
        object.number("n", 7_u32);
        assert_eq!(
            object.finish(),
            r#"{"a \"quoted\" name":"line\nbreak","empty":{},"inner":{"x":[1.0],"y":{}},"n":7}"#
        );
        assert_eq!(Object::with_capacity(9).finish(), "{}");
    }
}
