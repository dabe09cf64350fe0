//! 32-bit registers of one thing: a BAR, configuration space, or a part of one that has a name.

use crate::failure::{Failure, Kind};
use crate::slot::Slot;
use jitney::vfio::Region;
use std::sync::Arc;

/// Registers, by their offset in bytes.
#[derive(Debug, Clone)]
pub struct Window {
    slot: Arc<Slot<Region>>,
    name: String,
    /// Where it begins in the region, in bytes.
    start: u64,
    size: u64,
    /// Name and offset of single registers.
    names: Vec<(String, u64)>,
    /// Whether an access takes long: a request to whoever has the card.
    slow: bool,
}

impl Window {
    /// All of `region`, which is in `slot`.
    #[must_use]
    pub fn of(slot: Arc<Slot<Region>>, region: &Region) -> Self {
        let (name, size) = (region.name().to_owned(), region.size());
        Self { slot, name, start: 0, size, names: Vec::new(), slow: region.registers().is_none() }
    }

    /// The part of it that has a name.
    #[must_use]
    pub fn part(self, name: &str, start: u64, size: u64, names: Vec<(String, u64)>) -> Self {
        Self { name: format!("{name} in {}", self.name), start, size, names, ..self }
    }

    /// Which registers of which card they are.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where it begins in its region, in bytes.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Whether an access takes long: a request to whoever has the card.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        self.slow
    }

    /// The region that they are in.
    #[must_use]
    pub const fn region(&self) -> &Arc<Slot<Region>> {
        &self.slot
    }

    /// The names of single registers, where they are known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    /// Where the register of `bytes` bytes at this offset is in the region, if all of it is in here.
    ///
    /// # Errors
    /// [`Kind::OutOfBounds`].
    #[inline]
    pub fn at(&self, offset: u64, bytes: u64) -> Result<u64, Failure> {
        if offset.checked_add(bytes).is_some_and(|end| end <= self.size) {
            return Ok(self.start + offset);
        }
        Err(self.outside(offset, bytes))
    }

    #[cold]
    fn outside(&self, offset: u64, bytes: u64) -> Failure {
        let Self { name, size, .. } = self;
        let what = format!("{bytes} bytes at {offset:#x} are outside of {name}, which has {size:#x} bytes");
        Failure::new(Kind::OutOfBounds, what)
    }

    /// The offset of the register that is called `name`.
    ///
    /// # Errors
    /// [`Kind::NotFound`], with a list of those that there are.
    pub fn offset_of(&self, name: &str) -> Result<u64, Failure> {
        let found = self.names.iter().find(|(own, _)| own == name);
        found.map(|(_, offset)| *offset).ok_or_else(|| {
            let there = match &self.names[..] {
                [] => "its registers have no names here; use offsets".to_owned(),
                _ => format!("there are {}", self.names().collect::<Vec<_>>().join(", ")),
            };
            Failure::new(Kind::NotFound, format!("{} has no register {name:?}: {there}", self.name))
        })
    }
}
