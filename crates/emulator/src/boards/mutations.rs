//! Each file of the catalogue with a mistake in it: it is refused with file, line and key, or it serves boards that are
//! what the file then says. What it says is read by another reader than that of the crate.

use super::Board;
use crate::NoHost;
use crate::config_space::{ConfigSpace, SIZE};
use crate::function::Function;
use jitney_designs::{Catalogue, Error};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

/// What a value becomes: other numbers, other words, other types.
const VALUES: [&str; 26] = [
    "0",
    "1",
    "3",
    "5",
    "6",
    "7",
    "-1",
    "255",
    "256",
    "0x1000",
    "0x1_0001",
    "0x7fff_ffff_ffff_ffff",
    "2.5",
    "true",
    "\"\"",
    "\"ram\"",
    "\"xdma\"",
    "\"qdma\"",
    "\"stream\"",
    "\"10ee:7011\"",
    "\"10ee:*\"",
    "[]",
    "[1, 2]",
    "{}",
    "{ base = 0, size = 4096 }",
    "1979-05-27",
];

/// Where a key and its value are in a file.
#[derive(Debug, Clone)]
struct Entry {
    key: Range<usize>,
    value: Range<usize>,
}

/// All keys of a file, those of inline tables too.
fn entries(text: &str) -> Vec<Entry> {
    fn of_table(table: &DeTable<'_>, found: &mut Vec<Entry>) {
        for (key, value) in table {
            found.push(Entry { key: key.span(), value: value.span() });
            of_value(value, found);
        }
    }
    fn of_value(value: &Spanned<DeValue<'_>>, found: &mut Vec<Entry>) {
        match value.get_ref() {
            DeValue::Table(table) => of_table(table, found),
            DeValue::Array(array) => array.iter().for_each(|element| of_value(element, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    of_table(DeTable::parse(text).unwrap().get_ref(), &mut found);
    found
}

/// A mistake in a file.
#[derive(Debug, Clone)]
enum Mistake {
    /// A key is not there.
    Drop,
    /// A key has another name.
    Rename,
    /// A value is another one.
    Change(&'static str),
    /// A line is there twice.
    Twice,
    /// A character is not there.
    Cut,
}

fn mistake() -> impl Strategy<Value = Mistake> {
    prop_oneof![
        2 => Just(Mistake::Drop),
        1 => Just(Mistake::Rename),
        6 => prop::sample::select(&VALUES[..]).prop_map(Mistake::Change),
        1 => Just(Mistake::Twice),
        1 => Just(Mistake::Cut),
    ]
}

fn with_mistake(text: &str, entry: &Entry, mistake: &Mistake) -> String {
    let mut text = text.to_owned();
    match mistake {
        Mistake::Drop => {
            let rest = &text[entry.value.end..];
            let comma = if rest.starts_with(", ") { 2 } else { 0 };
            text.replace_range(entry.key.start..entry.value.end + comma, "");
        }
        Mistake::Rename => text.insert_str(entry.key.start, "un"),
        Mistake::Change(value) => text.replace_range(entry.value.clone(), value),
        Mistake::Twice => {
            let start = text[..entry.key.start].rfind('\n').map_or(0, |at| at + 1);
            let end = text[start..].find('\n').map_or(text.len(), |at| start + at + 1);
            let line = text[start..end].to_owned();
            text.insert_str(start, &line);
        }
        Mistake::Cut => {
            text.remove(entry.value.start);
        }
    }
    text
}

/// Compares a card with what the file says about it.
fn agrees(said: &Value, name: &str, card: &impl Function) -> Result<(), TestCaseError> {
    let description = card.description();
    let mut config = vec![0; SIZE];
    let space =
        ConfigSpace::new(description).map_err(|what| TestCaseError::fail(format!("{name}: {what}")))?;
    space.read(0, &mut config, false).unwrap();
    let word = |at: usize| u16::from_le_bytes([config[at], config[at + 1]]);
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_integer);

    let pci: Vec<&str> = said["pci"].as_array().unwrap().iter().map(|ids| ids.as_str().unwrap()).collect();
    let ids = format!("{:04x}:{:04x}", word(0), word(2));
    let meant = |own: &str| own.to_lowercase() == ids || own.to_lowercase() == format!("{}:*", &ids[..4]);
    prop_assert!(pci.iter().any(|own| meant(own)), "{}: {} of {:?}", name, ids, pci);
    if let Some(subsystem) = said.get("subsystem").and_then(Value::as_str).filter(|own| !own.contains('*')) {
        prop_assert_eq!(format!("{:04x}:{:04x}", word(0x2c), word(0x2e)), subsystem.to_lowercase());
    }
    if let Some(device) = number(said, "usual_device") {
        let exact = pci.iter().any(|own| own.ends_with(&ids[5..]));
        prop_assert!(i64::from(word(2)) == device || exact, "{}", name);
    }
    let class = u32::from_le_bytes([config[9], config[10], config[11], 0]);
    prop_assert_eq!(i64::from(class), number(said, "class").unwrap_or(0x05_0000), "{}", name);
    if let Some(revisions) = said.get("revisions").and_then(Value::as_array).filter(|own| !own.is_empty()) {
        prop_assert!(revisions.iter().any(|own| own.as_integer() == Some(config[8].into())), "{}", name);
    }

    let size = |bar: i64| description.bars[usize::try_from(bar).unwrap()].map_or(0, |bar| bar.size);
    if let Some(dma) = said.get("dma") {
        let bar = number(dma, "bar").unwrap();
        let xdma = dma["ip"].as_str() == Some("xdma");
        prop_assert_eq!(size(bar), if xdma { 0x1_0000 } else { 0x4_0000 }, "{}", name);
        let mut word = [0; 4];
        card.read(usize::try_from(bar).unwrap(), 0, &mut word);
        let stream = u32::from(dma.get("interface").and_then(Value::as_str) == Some("stream"));
        let some = number(dma, "h2c") != Some(0);
        let identifier = if xdma && some { 0x1fc0_0006 | stream << 15 } else { 0 };
        prop_assert_eq!(u32::from_le_bytes(word), identifier, "{}", name);
    }
    for peripheral in said.get("peripherals").and_then(Value::as_array).into_iter().flatten() {
        let end = number(peripheral, "offset").unwrap() + number(peripheral, "size").unwrap_or(0x1000);
        let bar = number(peripheral, "bar").unwrap();
        prop_assert!(size(bar) >= u64::try_from(end).unwrap(), "{}: BAR {}", name, bar);
    }
    let lanes = said.get("link").and_then(|link| number(link, "lanes"));
    prop_assert_eq!(i64::from(description.link.1), lanes.unwrap_or(4), "{}", name);
    Ok(())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let catalogue = match Catalogue::of_text("wrong.toml", text) {
        Ok(catalogue) => catalogue,
        Err(Error::Catalogue { path, line, key, message }) => {
            prop_assert!(path.ends_with("wrong.toml") && !message.is_empty());
            // What is no TOML has no keys.
            let is_toml = toml::from_str::<toml::Table>(text).is_ok();
            prop_assert!(!key.is_empty() || !is_toml, "line {}: {}", line, message);
            prop_assert!((1..=text.lines().count() + 1).contains(&line), "line {}", line);
            return Ok(());
        }
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    };
    let said: toml::Table = toml::from_str(text).unwrap();
    let none = Vec::new();
    let said = said.get("design").and_then(Value::as_array).unwrap_or(&none);
    prop_assert_eq!(said.len(), catalogue.designs().count());
    for (said, design) in said.iter().zip(catalogue.designs()) {
        prop_assert_eq!(said["name"].as_str(), Some(&*design.name));
        let plugged = Board::from(Arc::clone(design)).plug_into(Arc::new(NoHost));
        let plugged = plugged.map_err(|error| TestCaseError::fail(format!("{}: {error}", design.name)))?;
        agrees(said, &design.name, &plugged)?;
    }
    Ok(())
}

#[test]
fn the_files_as_they_are_agree_with_their_boards() {
    for (name, text) in Catalogue::built_in_files() {
        check(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(entries(text).len() > 20, "{name}");
    }
}

proptest! {
    #[test]
    fn a_file_with_a_mistake_is_refused_or_served_as_it_says(
        file: prop::sample::Index,
        at: prop::sample::Index,
        mistake in mistake(),
    ) {
        let files: Vec<_> = Catalogue::built_in_files().collect();
        let (_, text) = file.get(&files);
        let entries = entries(text);
        check(&with_mistake(text, at.get(&entries), &mistake))?;
    }
}
