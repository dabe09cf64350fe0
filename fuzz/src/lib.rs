//! What several fuzz targets need, and what one needs a lot of.

pub mod xdma_card;

use jitney_broker::protocol::{HEADER_SIZE, VERSION};

/// A message of the broker's protocol with a good header, so that its body is reached at all.
pub fn framed(class: u16, body: &[u8]) -> Vec<u8> {
    let size = (HEADER_SIZE + body.len()) as u32;
    let mut message = size.to_le_bytes().to_vec();
    message.extend(VERSION.to_le_bytes());
    message.extend(class.to_le_bytes());
    message.extend(7u64.to_le_bytes());
    message.extend(body);
    message
}
