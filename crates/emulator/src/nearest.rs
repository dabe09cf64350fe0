//! "Did you mean …?"

/// The name that is most like what was given: one that contains it, else the one that is spelled most like it.
pub(crate) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> &'a str {
    let given = given.to_lowercase();
    let likeness = |name: &&str| {
        let name = name.to_lowercase();
        let contains = !given.is_empty() && name.contains(&given);
        strsim::jaro_winkler(&given, &name) + f64::from(u8::from(contains))
    };
    names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}
