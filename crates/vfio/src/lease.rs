//! Leases as facts: exclusive or shared rights on named parts of a card, and the table of those that are granted. Pure; the guard that a program holds is in `leased`.

use crate::error::{Error, ErrorKind, Result};
use crate::will::Will;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A lease's number, unique for as long as its owner lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// A named part of a card: `h2c0`, `irq3`, `whole`. What a name means is between the drivers of that card; only `whole`
/// means something here: it excludes every other part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part(Arc<str>);

impl Part {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 32;

    /// The whole card.
    #[must_use]
    pub fn whole() -> Self {
        Self("whole".into())
    }

    /// Interrupt `vector`.
    #[must_use]
    pub fn interrupt(vector: u16) -> Self {
        Self(format!("irq{vector}").into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether a right on the one touches the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.name() == "whole" || other.name() == "whole"
    }
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > Self::MAX_LENGTH || !name.chars().all(good) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{name:?} cannot name a part of a card; use 1 to {} lower-case letters, digits and '-'",
                    Self::MAX_LENGTH
                ),
            ));
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for Part {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.0.as_ref().into()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether others may have a right on the same part at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Nobody else.
    Exclusive,
    /// Others who also share.
    Shared,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Which part of the card.
    pub part: Part,
    /// Alone or with others.
    pub mode: Mode,
    /// What to do if the holder goes without a goodbye.
    pub will: Will,
    /// How long to stand in line at the broker if another program has a right that excludes it; [`Duration::MAX`] for as long as
    /// it takes, zero not at all. `None` as the bus says, which is not at all if nobody has said otherwise. What this program
    /// itself holds is never waited for.
    pub wait: Option<Duration>,
}

impl LeaseRequest {
    /// A right on `part` that nobody else has, without a will.
    #[must_use]
    pub const fn exclusive(part: Part) -> Self {
        Self { part, mode: Mode::Exclusive, will: Will::none(), wait: None }
    }

    /// A right on `part` that others may have too, without a will.
    #[must_use]
    pub const fn shared(part: Part) -> Self {
        Self { part, mode: Mode::Shared, will: Will::none(), wait: None }
    }

    /// The same with a will.
    #[must_use]
    pub fn with_will(mut self, will: Will) -> Self {
        self.will = will;
        self
    }

    /// The same, for which it is waited: see [`wait`](Self::wait).
    #[must_use]
    pub const fn waiting(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// The leases on one card and who (`H`) holds each. Pure; the owner and the broker both decide by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseTable<H> {
    leases: Vec<Granted<H>>,
}

/// A lease in a [`LeaseTable`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Granted<H> {
    /// Its number.
    pub id: LeaseId,
    /// Who holds it.
    pub holder: H,
    /// On what, how, and with which will.
    pub request: LeaseRequest,
}

impl<H> Default for LeaseTable<H> {
    fn default() -> Self {
        Self { leases: Vec::new() }
    }
}

impl<H: Clone + PartialEq> LeaseTable<H> {
    /// Grants `request` to `holder` as number `id`, or returns the lease that stands in the way.
    pub fn grant(
        &mut self,
        id: LeaseId,
        holder: H,
        request: LeaseRequest,
    ) -> std::result::Result<(), &Granted<H>> {
        self.grant_beside(id, holder, request, |_| false)
    }

    /// The same, with leases that do not stand in the way by what `may_be` says of them.
    pub fn grant_beside(
        &mut self,
        id: LeaseId,
        holder: H,
        request: LeaseRequest,
        may_be: impl Fn(&Granted<H>) -> bool,
    ) -> std::result::Result<(), &Granted<H>> {
        let clash = self.leases.iter().position(|lease| {
            !may_be(lease)
                && lease.request.part.overlaps(&request.part)
                && (lease.request.mode == Mode::Exclusive || request.mode == Mode::Exclusive)
        });
        match clash {
            Some(index) => Err(&self.leases[index]),
            None => {
                self.leases.push(Granted { id, holder, request });
                Ok(())
            }
        }
    }

    /// Ends lease `id` of `holder` and returns it; nothing if `holder` has no such lease.
    pub fn release(&mut self, id: LeaseId, holder: &H) -> Option<Granted<H>> {
        let index = self.leases.iter().position(|lease| lease.id == id && lease.holder == *holder)?;
        Some(self.leases.remove(index))
    }

    /// Ends all leases of `holder` and returns them in the order in which they were granted.
    pub fn release_all(&mut self, holder: &H) -> Vec<Granted<H>> {
        let (gone, kept) =
            std::mem::take(&mut self.leases).into_iter().partition(|lease| lease.holder == *holder);
        self.leases = kept;
        gone
    }

    /// The live leases, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Granted<H>> {
        self.leases.iter()
    }
}
