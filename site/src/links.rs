//! Whether the links of a folder of pages lead somewhere: to a file of it, and to a place in that if they name one.

use anyhow::Context;
use html5gum::{Token, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pages: usize,
    /// Links within the folder.
    pub(crate) links: usize,
    pub(crate) broken: Vec<String>,
}

/// What a page has of interest.
#[derive(Debug, Default)]
struct Page {
    links: BTreeSet<String>,
    places: BTreeSet<String>,
}

/// The page with all pages in it, for printing, and the one for addresses that are not there: their links are other pages' own.
const OF_OTHERS: [&str; 2] = ["print.html", "404.html"];

/// Looks at every link of every page below `folder`. Those to other machines are not followed.
pub(crate) fn look(folder: &Path) -> anyhow::Result<Found> {
    let mut pages = BTreeMap::new();
    collect(folder, &mut pages)?;
    let mut found = Found { pages: pages.len(), ..Found::default() };
    for (path, page) in &pages {
        if OF_OTHERS.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for link in &page.links {
            if link.contains("://") || link.starts_with("mailto:") || link.starts_with("data:") {
                continue;
            }
            found.links += 1;
            let (file, place) = link.split_once('#').map_or((link.as_str(), None), |(f, p)| (f, Some(p)));
            let target = match file {
                "" => path.clone(),
                file => plain(&path.with_file_name("").join(file)),
            };
            let is_there = match (pages.get(&target), place) {
                (Some(page), Some(place)) => page.places.contains(place),
                (None, Some(_)) => false,
                (_, None) => target.is_file(),
            };
            if !is_there {
                let page = path.strip_prefix(folder).unwrap_or(path);
                found.broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    Ok(found)
}

fn collect(folder: &Path, pages: &mut BTreeMap<PathBuf, Page>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            pages.insert(path, page(&text));
        }
    }
    Ok(())
}

fn page(text: &str) -> Page {
    let mut page = Page::default();
    for Ok(token) in Tokenizer::new(text) {
        let Token::StartTag(tag) = token else { continue };
        for (name, value) in &tag.attributes {
            let value = String::from_utf8_lossy(value).into_owned();
            match &name[..] {
                b"href" | b"src" => page.links.insert(value),
                b"id" => page.places.insert(value),
                _ => continue,
            };
        }
    }
    page
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_file_and_a_place_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        write(
            "a.html",
            r#"<a href="sub/b.html#here">1</a> <a href="x.png">2</a> <a href="https://e.org/x">3</a>"#,
        );
        write("sub/b.html", r##"<h1 id="here">b</h1> <a href="../a.html">4</a> <a href="#here">5</a>"##);
        write("x.png", "");
        let found = look(folder.path()).unwrap();
        assert_eq!((found.pages, found.links, found.broken), (2, 4, vec![]));
        write("a.html", r#"<a href="sub/b.html#there">1</a> <a href="y.png">2</a>"#);
        assert_eq!(look(folder.path()).unwrap().broken, ["a.html: sub/b.html#there", "a.html: y.png"]);
    }
}
