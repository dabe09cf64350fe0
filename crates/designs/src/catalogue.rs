//! The designs that are known, from the files that come with the crate and from the user's own.
//!
//! # A boards file
//!
//! A boards file is TOML with one `[[design]]` for each design. Say that a card with the ids of Vivado's defaults and
//! your own subsystem has an XDMA with one channel each way in front of 256 KiB of block RAM, a GPIO and an XADC:
//!
//! ```
//! # let text = r#"
//! [[design]]
//! name = "my_filter"                 # unique; replaces a built-in design of the same name
//! board = "NiteFury"
//! pci = ["10ee:7024"]                # "10ee:*" accepts any device id; several are possible
//! subsystem = "1234:0001"            # without it any subsystem is accepted
//! dma = { ip = "xdma", bar = 2, h2c = 1, c2h = 1, interface = "memory-mapped", width = 128 }
//! memory = { kind = "block-ram", base = 0, size = 0x4_0000 }
//! peripherals = [                    # a frame has 0x1000 bytes unless `size` says otherwise
//!   { kind = "axi-gpio", bar = 0, offset = 0x0000, note = "filter coefficients" },
//!   { kind = "xadc", bar = 0, offset = 0x1000, from_revision = 1 },
//!   { kind = "other", bar = 0, offset = 0x2000, size = 0x100, note = "the filter" },
//! ]
//! link = { gt_per_s = 5.0, lanes = 4 }
//! note = "What a user should know besides."
//! # "#;
//! # let file = std::env::temp_dir().join(format!("boards-{}.toml", std::process::id()));
//! # std::fs::write(&file, text)?;
//! # let catalogue = jitney_designs::Catalogue::built_in().with_file(&file)?;
//! # std::fs::remove_file(&file)?;
//! # assert_eq!(catalogue.design("my_filter").unwrap().peripherals.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The kinds of peripherals are those of [`Kind`](crate::Kind), in kebab case. Where cards of a design differ,
//! `variants` give each its board name and memory: by the PCI revision (`revisions = [1, 2]`), by the number of
//! channels that the XDMA has (`h2c = 1`), or by a word in a register, which `id_word` locates:
//!
//! ```
//! # let text = r#"
//! [[design]]
//! name = "my_two_boards"
//! board = "one of two"
//! pci = ["10ee:7024"]
//! subsystem = "1234:0002"
//! id_word = { bar = 0, offset = 0x0, version_offset = 0x8 }
//! dma = { ip = "xdma", bar = 2 }
//! variants = [
//!   { word = "BIG1", board = "the large one", memory = { base = 0, size = 0x4000_0000 } },
//!   { word = "SML1", board = "the small one", memory = { base = 0, size = 0x1000_0000 } },
//! ]
//! # "#;
//! # let file = std::env::temp_dir().join(format!("two-boards-{}.toml", std::process::id()));
//! # std::fs::write(&file, text)?;
//! # jitney_designs::Catalogue::built_in().with_file(&file)?;
//! # std::fs::remove_file(&file)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A file with an unknown key, overlapping peripherals, or two designs that one card could be is refused with the
//! line and the key. Users' files are read from `$XDG_CONFIG_HOME/jitney/boards/*.toml` (without the variable, from
//! `~/.config/jitney/boards/*.toml`) and from the files and folders that the environment variable `JITNEY_BOARDS`
//! names, with `:` between them. They win over what is built in.

use crate::check::{Complaint, check, check_distinct};
use crate::design::Design;
use crate::error::{Error, Result};
use crate::ids::CardIds;
use crate::place::{KeyPath, line_of};
use crate::user_files;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// The files that come with the crate, one for each family of boards.
const BUILT_IN: [(&str, &str); 8] = [
    ("nitefury.toml", include_str!("../catalogue/nitefury.toml")),
    ("tef1001.toml", include_str!("../catalogue/tef1001.toml")),
    ("tosing.toml", include_str!("../catalogue/tosing.toml")),
    ("xcku5p.toml", include_str!("../catalogue/xcku5p.toml")),
    ("as02mc04.toml", include_str!("../catalogue/as02mc04.toml")),
    ("u200.toml", include_str!("../catalogue/u200.toml")),
    ("versal.toml", include_str!("../catalogue/versal.toml")),
    ("other.toml", include_str!("../catalogue/other.toml")),
];

static BUILT_IN_DESIGNS: LazyLock<Vec<Arc<Design>>> = LazyLock::new(|| {
    let mut designs = Vec::new();
    for (name, text) in BUILT_IN {
        add(&mut designs, Path::new(name), text).unwrap_or_else(|error| unreachable!("built in: {error}"));
    }
    designs
});

/// The designs that are known.
#[derive(Debug, Clone)]
pub struct Catalogue {
    users: Vec<Arc<Design>>,
}

impl Catalogue {
    /// The designs that come with the crate.
    #[must_use]
    pub fn built_in() -> Self {
        Self { users: Vec::new() }
    }

    /// The designs that come with the crate and those of the user's files in the usual places, see the
    /// [module](self).
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or that `JITNEY_BOARDS` names and is not there,
    /// [`Error::Catalogue`] for one that is wrong.
    pub fn load() -> Result<Self> {
        user_files::usual(|name| std::env::var_os(name))?.iter().try_fold(Self::built_in(), Self::with_file)
    }

    /// The same with the designs of one more boards file, which win over those that are built in.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Catalogue`] if it is wrong, or has a design that another of
    /// the user's files has.
    pub fn with_file(mut self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
            remedy: "",
        })?;
        add(&mut self.users, path, &text)?;
        Ok(self)
    }

    /// All designs, the user's first. A built-in one that the user replaces is not among them.
    pub fn designs(&self) -> impl Iterator<Item = &Arc<Design>> {
        let replaced = |design: &Design| self.users.iter().any(|own| own.is_named(&design.name));
        self.users.iter().chain(BUILT_IN_DESIGNS.iter().filter(move |design| !replaced(design)))
    }

    /// The design that has `name` as its name or an alias.
    #[must_use]
    pub fn design(&self, name: &str) -> Option<&Arc<Design>> {
        self.designs().find(|design| design.is_named(name))
    }

    /// The designs whose ids a card has, the one that wins first. Those with an [`id_word`](Design::id_word) have to be
    /// confirmed by it.
    pub fn candidates(&self, card: CardIds) -> impl Iterator<Item = &Arc<Design>> {
        self.designs().filter(move |design| design.matches(card))
    }
}

/// A boards file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    design: Vec<Design>,
}

/// Adds the designs of the file at `path` to those that are on the same footing.
fn add(designs: &mut Vec<Arc<Design>>, path: &Path, text: &str) -> Result<()> {
    let file: File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Error::Catalogue {
            path: path.to_owned(),
            line: line_of(text, offset),
            key: KeyPath::at(text, offset).to_string(),
            message: error.message().to_owned(),
        }
    })?;
    for (index, design) in file.design.into_iter().enumerate() {
        let at = KeyPath::default().key("design").index(index);
        check(&design, &at)
            .and_then(|()| designs.iter().try_for_each(|earlier| check_distinct(&design, &at, earlier)))
            .map_err(|Complaint { key, message }| Error::Catalogue {
                path: path.to_owned(),
                line: key.line(text),
                key: key.to_string(),
                message: format!("{message} (design {:?})", design.name),
            })?;
        designs.push(Arc::new(design));
    }
    Ok(())
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
