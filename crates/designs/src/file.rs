//! A boards file: its text read and checked, and what can be said of one that is wrong.

use crate::check::{Complaint, check, check_distinct};
use crate::design::Design;
use crate::error::{Error, Result};
use crate::place::{KeyPath, line_of};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A boards file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) design: Vec<Design>,
}

/// A boards file that cannot be used.
#[derive(Debug, Clone)]
pub struct BadFile {
    path: PathBuf,
    error: Arc<Error>,
    names: Vec<String>,
}

impl BadFile {
    pub(crate) fn new(path: &Path, error: Error, text: &str) -> Self {
        Self { path: path.to_owned(), error: Arc::new(error), names: names(text) }
    }

    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub fn error(&self) -> &Arc<Error> {
        &self.error
    }

    /// The names of designs, aliases and variants that can be made out in it.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Reads the designs of the file at `path`, which has to be distinct from those `beside` it.
pub(crate) fn read<'a>(
    path: &Path,
    text: &str,
    beside: impl Iterator<Item = &'a Design> + Clone,
) -> Result<Vec<Design>> {
    let file: File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Error::Catalogue {
            path: path.to_owned(),
            line: line_of(text, offset),
            key: KeyPath::at(text, offset).to_string(),
            message: error.message().to_owned(),
        }
    })?;
    for (index, design) in file.design.iter().enumerate() {
        let at = KeyPath::default().key("design").index(index);
        check(design, &at)
            .and_then(|()| beside.clone().try_for_each(|other| check_distinct(design, &at, other)))
            .and_then(|()| {
                file.design[..index].iter().try_for_each(|other| check_distinct(design, &at, other))
            })
            .map_err(|Complaint { key, message }| Error::Catalogue {
                path: path.to_owned(),
                line: key.line(text),
                key: key.to_string(),
                message: format!("{message} (design {:?})", design.name),
            })?;
    }
    Ok(file.design)
}

/// The text of the file at `path`.
pub(crate) fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source: Arc::new(source),
        remedy: "",
    })
}

/// The names that can be made out in a file, however wrong it is.
fn names(text: &str) -> Vec<String> {
    let (root, _) = DeTable::parse_recoverable(text);
    let designs = root.get_ref().get("design").and_then(|designs| designs.get_ref().as_array());
    let mut names = Vec::new();
    for design in designs.into_iter().flatten().filter_map(|design| design.get_ref().as_table()) {
        let array = |key| design.get(key).and_then(|value| value.get_ref().as_array()).into_iter().flatten();
        names.extend(design.get("name").and_then(|name| string(name.get_ref())));
        names.extend(array("aliases").filter_map(|alias| string(alias.get_ref())));
        let variants = array("variants").filter_map(|variant| variant.get_ref().as_table()?.get("name"));
        names.extend(variants.filter_map(|name| string(name.get_ref())));
    }
    names
}

fn string(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_out_whatever_is_wrong() {
        let text = "[[design]]\nname = \"a\"\naliases = [\"b\", 7]\nvariants = [{ name = \"c\" }, 3]\nsurprise = 1\n";
        assert_eq!(names(text), ["a", "b", "c"]);
        assert_eq!(names(&format!("{text}\n[[design]]\nname = \"d\"\nlink = {{\n")), ["a", "b", "c", "d"]);
        for nonsense in ["", "\u{0}", "design = 3", "[design]\nname = \"x\"", "[[design]]\nname = 3"] {
            assert_eq!(names(nonsense), [] as [&str; 0], "{nonsense:?}");
        }
    }
}
