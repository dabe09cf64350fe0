//! "Did you mean …?"

/// The name of `names` that is most like `given`, if one is like it at all.
pub(crate) fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&given.to_lowercase(), name);
    names
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_a_name_that_is_like_it() {
        assert_eq!(nearest("jitny", ["jitney", "general"]), Some("jitney"));
        assert_eq!(nearest("xyz", ["jitney", "general"]), None);
    }
}
