//! Which cards an owner opens, and how.

use crate::environment;
use crate::runtime::RuntimeFolder;
use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{
    CardAddress, Error, ErrorKind, IommuInterface, OpenOptions, OpenedSpace, Result, open_all_with,
};
use std::slice;

/// Which cards a process wants to own, and how it opens them.
#[derive(Debug, Clone, Default)]
pub struct OwnerOptions {
    /// These. If there are none, those that `JITNEY_CARDS` names; else every card that can be seen and had.
    pub cards: Vec<CardAddress>,
    /// By which interface of the kernel; else `JITNEY_IOMMU` says.
    pub iommu: Option<IommuInterface>,
    /// Each in an address space of its own: see [`OpenOptions::isolate`].
    pub isolate: bool,
}

impl OwnerOptions {
    /// Opens them. There may be none.
    ///
    /// A card that nobody named is left out, with a warning in the log, if it is somebody else's, or cannot be opened by
    /// this user or in the safe way.
    ///
    /// # Errors
    /// What opening a card says that was named; what opening the cards that can be seen says, if none of them can be had.
    /// Then none stays open.
    pub fn open(&self) -> Result<Vec<OpenedSpace>> {
        let options =
            OpenOptions { iommu: self.interface()?, isolate: self.isolate, refuse_strangers: false };
        match self.addresses()? {
            (cards, true) => open_all_with(&cards, options),
            (cards, false) => open_visible(cards, OpenOptions { refuse_strangers: true, ..options }),
        }
    }

    /// By which interface of the kernel.
    pub(crate) fn interface(&self) -> Result<IommuInterface> {
        self.iommu.map_or_else(environment::iommu_interface, Ok)
    }

    /// Where the cards are, and whether somebody has named them.
    pub(crate) fn addresses(&self) -> Result<(Vec<CardAddress>, bool)> {
        if !self.cards.is_empty() {
            return Ok((self.cards.clone(), true));
        }
        match environment::cards()? {
            Some(cards) => Ok((cards, true)),
            None => Ok((visible_cards()?, false)),
        }
    }
}

fn open_visible(mut cards: Vec<CardAddress>, options: OpenOptions) -> Result<Vec<OpenedSpace>> {
    let error = match open_all_with(&cards, options) {
        Err(error) if is_out_of_reach(&error) => error,
        outcome => return outcome,
    };
    // Which one it was is found out one by one. One that fails otherwise stays, to fail again below.
    cards.retain(|card| match open_all_with(slice::from_ref(card), options) {
        Err(error) if is_out_of_reach(&error) => {
            tracing::warn!(%error, "card {card} is left out");
            false
        }
        _ => true,
    });
    if cards.is_empty() { Err(error) } else { open_all_with(&cards, options) }
}

/// Whether `error` says that a card is there, but cannot be had: it is somebody else's, cannot be opened by this user or
/// in the safe way, or does not answer, as a board whose process was killed and has left its socket.
#[must_use]
pub fn is_out_of_reach(error: &Error) -> bool {
    use ErrorKind::{Denied, Held, LinkDown, TimedOut, Unsupported};
    matches!(error.kind(), Held | Denied | Unsupported | LinkDown | TimedOut)
        || error.errno() == Some(rustix::io::Errno::CONNREFUSED)
}

/// The cards that can be owned without being named: this user's emulated boards, then the PCI functions that are bound
/// to vfio-pci.
fn visible_cards() -> Result<Vec<CardAddress>> {
    let functions = Sysfs::default().bound_to_vfio()?;
    let functions = functions.into_iter().map(|function| CardAddress::Pci(function.address));
    let boards = match RuntimeFolder::of_this_user() {
        Ok(folder) => folder.boards()?,
        // There is no place where this user's boards could be.
        Err(_) => Vec::new(),
    };
    Ok(boards.into_iter().chain(functions).collect())
}
