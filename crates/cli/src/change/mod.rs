//! What is changed on cards.

pub(crate) mod hold;
pub(crate) mod link;
pub(crate) mod program;
pub(crate) mod reset;
pub(crate) mod route;
