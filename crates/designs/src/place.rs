//! Where in a boards file something is: from a key to its line, and from a byte to its key.

use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key in a file: `design[0].peripherals[2].offset`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The key `name` of this table.
    pub(crate) fn key(mut self, name: &str) -> Self {
        self.0.push(Step::Key(name.to_owned()));
        self
    }

    /// Element `index` of this array.
    pub(crate) fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    /// The line of `text` that the key is on; if it is not there, that of the innermost table around it that is.
    pub(crate) fn line(&self, text: &str) -> usize {
        let Ok(root) = DeTable::parse(text) else { return 1 };
        let mut at = root.span().start;
        let mut table = Some(root.get_ref());
        let mut value: Option<&DeValue<'_>> = None;
        for step in &self.0 {
            let next = match step {
                Step::Key(name) => {
                    table.and_then(|table| table.get_key_value(name.as_str())).map(|(key, v)| (key.span(), v))
                }
                Step::Index(index) => {
                    value.and_then(DeValue::as_array).and_then(|a| a.get(*index)).map(|v| (v.span(), v))
                }
            };
            let Some((span, found)) = next else { break };
            at = span.start;
            value = Some(found.get_ref());
            table = found.get_ref().as_table();
        }
        line_of(text, at)
    }

    /// The innermost key of `text` whose value has byte `offset` in it, or that is itself there.
    pub(crate) fn at(text: &str, offset: usize) -> Self {
        let mut path = Self::default();
        if let Ok(root) = DeTable::parse(text) {
            descend_table(root.get_ref(), offset, &mut path.0);
        }
        path
    }
}

/// The line of byte `offset` of `text`, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    1 + text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
}

fn descend_table(table: &DeTable<'_>, offset: usize, path: &mut Vec<Step>) -> bool {
    table.iter().any(|(key, value)| {
        path.push(Step::Key(key.get_ref().to_string()));
        let here = contains(&key.span(), offset) || descend(value, offset, path);
        if !here {
            path.pop();
        }
        here
    })
}

fn descend(value: &Spanned<DeValue<'_>>, offset: usize, path: &mut Vec<Step>) -> bool {
    let inside = match value.get_ref() {
        DeValue::Table(table) => descend_table(table, offset, path),
        DeValue::Array(array) => array.iter().enumerate().any(|(index, element)| {
            path.push(Step::Index(index));
            let here = descend(element, offset, path);
            if !here {
                path.pop();
            }
            here
        }),
        _ => false,
    };
    inside || contains(&value.span(), offset)
}

fn contains(span: &Range<usize>, offset: usize) -> bool {
    span.contains(&offset)
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if position == 0 => f.write_str(name)?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[[design]]\nname = \"a\"\n\n[[design]]\nname = \"b\"\nperipherals = [\n  { kind = \"xadc\", bar = 7 },\n]\n";

    #[test]
    fn a_key_has_a_line() {
        let second = KeyPath::default().key("design").index(1);
        assert_eq!(second.clone().key("name").line(TEXT), 5);
        let peripheral = second.clone().key("peripherals").index(0);
        assert_eq!(peripheral.clone().key("bar").line(TEXT), 7);
        assert_eq!(peripheral.key("size").line(TEXT), 7, "not there: the table around it");
        assert_eq!(second.key("missing").line(TEXT), 4);
        assert_eq!(KeyPath::default().key("x").line("not toml"), 1);
    }

    #[test]
    fn a_byte_has_a_key() {
        let at = |needle: &str| KeyPath::at(TEXT, TEXT.find(needle).unwrap()).to_string();
        assert_eq!(at("\"b\""), "design[1].name");
        assert_eq!(at("7 }"), "design[1].peripherals[0].bar");
        assert_eq!(at("bar"), "design[1].peripherals[0].bar");
        assert_eq!(KeyPath::at(TEXT, TEXT.len() + 10).to_string(), "");
        assert_eq!(line_of(TEXT, usize::MAX), 9);
    }
}
