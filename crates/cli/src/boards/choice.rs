//! A board that was named to be emulated.

use jitney_boards::Catalogue;
use jitney_emulator::boards::{Board, BoardError};
use std::path::Path;
use std::str::FromStr;

/// A board and how it was named: `nitefury`, or a design of a file as `./my.toml` and `./my.toml#my_filter`.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// As it was given.
    pub(crate) text: String,
    pub(crate) board: Box<Board>,
}

impl Choice {
    /// The boards file that it is from, if it was named by that.
    pub(crate) fn file(&self) -> Option<&Path> {
        split(&self.text).map(|(path, _)| Path::new(path))
    }

    /// What it is called in the name of a file: what was given, without what a file's name cannot have.
    pub(crate) fn file_name(&self) -> &str {
        match split(&self.text) {
            Some(_) => &self.board.design().name,
            None => &self.text,
        }
    }
}

impl FromStr for Choice {
    type Err = BoardError;

    fn from_str(text: &str) -> Result<Self, BoardError> {
        let board = match split(text) {
            Some((path, name)) => Board::of_file(path, name)?,
            None => Board::named(&Catalogue::load()?, text)?,
        };
        Ok(Self { text: text.to_owned(), board: Box::new(board) })
    }
}

/// A file and perhaps the name of one of its designs, if `text` means a file: it has a `/` or ends in `.toml`.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let (path, name) = match text.rsplit_once('#') {
        Some((path, name)) => (path, Some(name)),
        None => (text, None),
    };
    (path.contains('/') || path.ends_with(".toml")).then_some((path, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_a_name() {
        assert_eq!(split("nitefury"), None);
        assert_eq!(split("a#b"), None);
        assert_eq!(split("my.toml"), Some(("my.toml", None)));
        assert_eq!(split("./my#b"), Some(("./my", Some("b"))));
        assert_eq!(split("/a#b/my.toml#c"), Some(("/a#b/my.toml", Some("c"))));
    }
}
