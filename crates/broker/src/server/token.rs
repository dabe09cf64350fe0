//! What epoll reports, packed into the number that it keeps for each descriptor.

use crate::machine::ClientId;
use crate::protocol::CardId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Some work is finished.
    Finished,
    /// The broker is to end.
    Stop,
    /// Somebody wants to come in.
    Entrance(u64),
    /// A client has sent something, hung up, or takes more.
    Socket(ClientId),
    /// A client's process has ended.
    Process(ClientId),
    /// A card is wanted back, or has failed.
    Card(CardId),
}

const SHIFT: u32 = 56;

impl Token {
    pub(super) const fn into_u64(self) -> u64 {
        let (kind, number) = match self {
            Self::Finished => (0, 0),
            Self::Stop => (1, 0),
            Self::Entrance(number) => (2, number),
            Self::Socket(ClientId(number)) => (3, number),
            Self::Process(ClientId(number)) => (4, number),
            Self::Card(CardId(number)) => (5, number as u64),
        };
        kind << SHIFT | number
    }

    /// `None` for a number that is no token.
    pub(super) fn from_u64(token: u64) -> Option<Self> {
        let number = token & ((1 << SHIFT) - 1);
        Some(match token >> SHIFT {
            0 => Self::Finished,
            1 => Self::Stop,
            2 => Self::Entrance(number),
            3 => Self::Socket(ClientId(number)),
            4 => Self::Process(ClientId(number)),
            5 => Self::Card(CardId(u32::try_from(number).ok()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_back() {
        let client = ClientId((1 << SHIFT) - 1);
        let tokens = [
            Token::Finished,
            Token::Stop,
            Token::Entrance(7),
            Token::Socket(client),
            Token::Process(client),
            Token::Card(CardId(u32::MAX)),
        ];
        for token in tokens {
            assert_eq!(Token::from_u64(token.into_u64()), Some(token));
        }
        assert_eq!(Token::from_u64(u64::MAX), None);
    }
}
