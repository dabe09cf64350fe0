//! Whether whoever listens at a socket that nobody named is to be trusted.

use crate::error::{Error, ErrorKind, Result};
use jitney_memory::PeerCredentials;
use std::os::fd::AsFd;

/// Refuses the process at the other end of `socket`, which `who` names, unless it runs as this process's user or as root.
/// For what was found and not named: a program gives a card, and whoever emulates or owns it, all that it computes with.
///
/// # Errors
/// [`ErrorKind::Denied`] if it runs as another user; what the system says.
pub fn refuse_strangers(socket: impl AsFd, who: &str) -> Result<()> {
    let peer = PeerCredentials::of(socket)?.uid;
    check(rustix::process::geteuid().as_raw(), peer, who)
}

fn check(own: u32, peer: u32, who: &str) -> Result<()> {
    if peer == own || peer == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Denied, format!("{who} is a process of user {peer}, and nobody named it"))
        .with_remedy("name it, if you trust that user with your data: JITNEY_BROKER or JITNEY_CARDS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_user_and_root_are_trusted() {
        assert!(check(1000, 1000, "x").is_ok());
        assert!(check(1000, 0, "x").is_ok());
        for (own, peer) in [(1000, 1001), (0, 1000), (1000, u32::MAX)] {
            let error = check(own, peer, "the broker at /x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains(&format!("the broker at /x is a process of user {peer}")));
        }
    }

    #[test]
    fn this_process_is_trusted_by_itself() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        refuse_strangers(&one, "this process").unwrap();
    }
}
