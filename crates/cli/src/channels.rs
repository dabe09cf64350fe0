//! The DMA channels that a command uses, as its arguments want them.

use super::args::{Completion, Dma};
use jitney_xdma::{C2h, Channel, Error, H2c, Xdma};

/// Leases a channel of each direction.
pub(crate) fn open(xdma: &Xdma, dma: Dma) -> Result<(H2c, C2h), Error> {
    Ok((to_card(xdma, dma)?, from_card(xdma, dma)?))
}

/// Leases a channel to the card.
pub(crate) fn to_card(xdma: &Xdma, dma: Dma) -> Result<H2c, Error> {
    set(xdma.h2c(dma.channel)?, dma)
}

/// Leases a channel from the card.
pub(crate) fn from_card(xdma: &Xdma, dma: Dma) -> Result<C2h, Error> {
    set(xdma.c2h(dma.channel)?, dma)
}

fn set<D>(channel: Channel<D>, dma: Dma) -> Result<Channel<D>, Error> {
    let channel = channel.with_timeout(dma.timeout);
    match dma.completion {
        Completion::Poll => Ok(channel),
        Completion::Interrupt => channel.by_interrupt(),
        Completion::Adaptive => channel.adaptive(),
    }
}
