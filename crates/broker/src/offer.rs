//! How programs name memory that they share.

use crate::protocol::{Offered, TOKEN_SIZE};
use jitney_vfio::{Error, ErrorKind};
use std::fmt;
use std::str::FromStr;

/// A secret by which another process attaches to a shared buffer. It is written as 32 hexadecimal digits; whoever knows it may have the
/// buffer, so it is handed on by a pipe or an inherited variable and not by a command line, which everybody can read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) [u8; TOKEN_SIZE]);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not what it is: what is logged is read by others.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let what = format!("a token of {} characters that is none", text.chars().count());
            Error::new(ErrorKind::Invalid, what).with_remedy(format!(
                "give the {} hexadecimal digits that sharing a buffer gave",
                2 * TOKEN_SIZE
            ))
        };
        let digits = text.as_bytes();
        if digits.len() != 2 * TOKEN_SIZE || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut token = [0; TOKEN_SIZE];
        for (byte, pair) in token.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(token))
    }
}

/// By token.
impl From<&Token> for Offered {
    fn from(token: &Token) -> Self {
        Self::Token(token.0)
    }
}

/// By name.
impl From<&str> for Offered {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// How a buffer is offered to other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub(crate) name: Option<String>,
    pub(crate) writable: bool,
}

impl Offer {
    /// They can read it. From then on nobody, the maker included, gets a new way to write to it; what is mapped already stays
    /// as it is, for the maker and for cards.
    #[must_use]
    pub const fn to_readers() -> Self {
        Self { name: None, writable: false }
    }

    /// They can read it and write to it, as the maker can.
    #[must_use]
    pub const fn to_writers() -> Self {
        Self { name: None, writable: true }
    }

    /// Besides by its token, processes of the same user have it by `name`: 1 to 32 lower-case letters, digits and `-`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_is_read_as_it_is_written_and_nothing_else_is_one(bytes: [u8; TOKEN_SIZE], text in ".{0,40}") {
            let token = Token(bytes);
            prop_assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
            if let Ok(read) = text.parse::<Token>() {
                prop_assert_eq!(read.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_said() {
        for wrong in ["", "0", "zz000000000000000000000000000000", "+1000000000000000000000000000000", "é"] {
            let error = wrong.parse::<Token>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(wrong.is_empty() || wrong == "0" || !error.to_string().contains(wrong), "{error}");
        }
        assert!(!format!("{:?}", Token([0xab; TOKEN_SIZE])).contains("ab"));
    }
}
