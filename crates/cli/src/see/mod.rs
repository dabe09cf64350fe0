//! What cards there are, and what is on them.

pub(crate) mod blink;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod metrics;
pub(crate) mod sensors;
pub(crate) mod snapshot;
pub(crate) mod status;
mod temperatures;
pub(crate) mod top;
