//! What cards there are, and what is on them.

pub(crate) mod blink;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod metrics;
pub(crate) mod sensors;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod top;
