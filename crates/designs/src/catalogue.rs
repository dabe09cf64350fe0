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
//!   { name = "filter", kind = "other", bar = 0, offset = 0x2000, size = 0x100, note = "four taps" },
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
//! # Where they are
//!
//! Files ending in `.toml` are read from these folders, and win over those before them, first the built-in designs:
//!
//! 1. `/usr/share/jitney/boards`, where packages put them,
//! 2. `/etc/jitney/boards`, the machine's own,
//! 3. `$XDG_CONFIG_HOME/jitney/boards` (without the variable, `~/.config/jitney/boards`), the user's,
//! 4. files and folders that the environment variable `JITNEY_BOARDS` names, with `:` between them.
//!
//! To win is to take the place of a design of the same name, and to be asked first what a card is.
//!
//! A file with an unknown key, overlapping peripherals, or two designs that one card could be is refused with the line
//! and the key. It does not hold up what has nothing to do with it: the [`Catalogue`] keeps the error for whoever asks
//! for one of the boards that the file names ([`Catalogue::bad_file`]).

use crate::design::Design;
use crate::error::Result;
use crate::file::{self, BadFile};
use crate::ids::CardIds;
use crate::user_files::{self, Layer};
use std::path::{Path, PathBuf};
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

static BUILT_IN_DESIGNS: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let mut designs: Vec<Known> = Vec::new();
    for (name, text) in BUILT_IN {
        let new = file::read(Path::new(name), text, designs.iter().map(|known| &*known.design));
        let new = new.unwrap_or_else(|error| unreachable!("built in: {error}"));
        designs.extend(new.into_iter().map(|design| Known { design: Arc::new(design), file: None }));
    }
    designs
});

/// A design and where it is from.
#[derive(Debug, Clone)]
pub struct Known {
    /// The design.
    pub design: Arc<Design>,
    /// The boards file that it is in; `None` for a built-in one.
    pub file: Option<PathBuf>,
}

/// The designs that are known.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Those of users' files, the layer that wins first.
    layers: Vec<(Layer, Vec<Known>)>,
    bad: Vec<(Layer, BadFile)>,
    without_built_in: bool,
}

impl Catalogue {
    /// The designs that come with the crate.
    #[must_use]
    pub fn built_in() -> Self {
        Self::default()
    }

    /// The designs of one boards file, and no others.
    ///
    /// # Errors
    /// As [`with_file`](Self::with_file).
    pub fn of_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::of_text(&path, &file::text(path.as_ref())?)
    }

    /// The designs of a boards file's text, and no others; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Catalogue`](crate::Error::Catalogue) if it is wrong.
    pub fn of_text(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let mut catalogue = Self { without_built_in: true, ..Self::default() };
        catalogue.add(Layer::Named, path.as_ref(), text)?;
        Ok(catalogue)
    }

    /// The designs that come with the crate and those of the files in the usual places, see the [module](self). A
    /// file that is wrong is a [`bad_file`](Self::bad_files).
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) for what `JITNEY_BOARDS` names and cannot be found.
    pub fn load() -> Result<Self> {
        let found = user_files::usual(Path::new("/"), |name| std::env::var_os(name))?;
        let files = found.files.iter();
        let mut catalogue =
            files.fold(Self::built_in(), |catalogue, (layer, path)| catalogue.with_usual(*layer, path));
        let closed = found.closed.into_iter();
        catalogue.bad.extend(closed.map(|(layer, path, error)| (layer, BadFile::new(&path, error, ""))));
        Ok(catalogue)
    }

    /// The same with the designs of one more boards file, which win over all others but those that were added like
    /// this.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it cannot be read, [`Error::Catalogue`](crate::Error::Catalogue) if it
    /// is wrong, or has a design that another file that was added has.
    pub fn with_file(mut self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        self.add(Layer::Named, path, &file::text(path)?)?;
        Ok(self)
    }

    fn with_usual(mut self, layer: Layer, path: &Path) -> Self {
        let text = file::text(path);
        let added = text.as_ref().map_err(Clone::clone).and_then(|text| self.add(layer, path, text));
        if let Err(error) = added {
            let bad = BadFile::new(path, error, text.as_deref().unwrap_or_default());
            self.bad.push((layer, bad));
        }
        self
    }

    fn add(&mut self, layer: Layer, path: &Path, text: &str) -> Result<()> {
        let at = self.layers.partition_point(|(other, _)| *other > layer);
        if self.layers.get(at).is_none_or(|(other, _)| *other != layer) {
            self.layers.insert(at, (layer, Vec::new()));
        }
        let beside = &mut self.layers[at].1;
        let new = file::read(path, text, beside.iter().map(|known| &*known.design))?;
        let known = |design| Known { design: Arc::new(design), file: Some(path.to_owned()) };
        beside.extend(new.into_iter().map(known));
        Ok(())
    }

    /// All designs with where each is from, those that win first. One that another takes the place of is not among
    /// them.
    pub fn known(&self) -> impl Iterator<Item = &Known> {
        let built_in = if self.without_built_in { &[] } else { &BUILT_IN_DESIGNS[..] };
        let layers = move || self.layers.iter().map(|(_, layer)| &layer[..]).chain([built_in]);
        let is_replaced = move |known: &Known, depth: usize| {
            layers().take(depth).flatten().any(|above| above.design.is_named(&known.design.name))
        };
        layers()
            .enumerate()
            .flat_map(move |(depth, layer)| layer.iter().filter(move |known| !is_replaced(known, depth)))
    }

    /// All designs, those that win first.
    pub fn designs(&self) -> impl Iterator<Item = &Arc<Design>> {
        self.known().map(|known| &known.design)
    }

    /// The built-in boards files, each with its name, to begin one of one's own with.
    pub fn built_in_files() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.into_iter()
    }

    /// The design that has `name` as its name or an alias, or that has a variant of this name.
    #[must_use]
    pub fn design(&self, name: &str) -> Option<&Arc<Design>> {
        self.designs().find(|design| design.is_named(name))
    }

    /// The designs whose ids a card has, the one that wins first. Those with an [`id_word`](Design::id_word) have to
    /// be confirmed by it.
    pub fn candidates(&self, card: CardIds) -> impl Iterator<Item = &Arc<Design>> {
        self.designs().filter(move |design| design.matches(card))
    }

    /// The files and folders in the usual places that cannot be used.
    pub fn bad_files(&self) -> impl Iterator<Item = &BadFile> {
        self.bad.iter().map(|(_, bad)| bad)
    }

    /// The file that names a design, alias or variant `name` and cannot be used, unless one that wins over it has it.
    #[must_use]
    pub fn bad_file(&self, name: &str) -> Option<&BadFile> {
        let named = |bad: &BadFile| bad.names().iter().any(|own| own == name);
        let (layer, bad) = self.bad.iter().filter(|(_, bad)| named(bad)).max_by_key(|(layer, _)| *layer)?;
        let mut above = self.layers.iter().filter(|(other, _)| other > layer).flat_map(|(_, known)| known);
        (!above.any(|known| known.design.is_named(name))).then_some(bad)
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
