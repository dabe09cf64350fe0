//! The header of a `.bit` file: fields with a letter and a length each. It is in no data sheet; its form is well known.

use std::fmt;

/// How every such file begins: a field without a letter, and the number of the next one's.
const START: [u8; 13] = [0x00, 0x09, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00, 0x00, 0x01];

/// What a `.bit` file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Field a: the design's name, and what the tool has added to it: `top;UserID=0XFFFFFFFF;Version=2023.1`.
    pub design: String,
    /// Field b: the part, as `7a200tfbg484`.
    pub part: String,
    /// Field c: the date, as `2023/07/08`.
    pub date: String,
    /// Field d: the time, as `12:34:56`.
    pub time: String,
    /// Field e: how many bytes follow.
    pub length: u32,
    /// How many bytes the header itself has.
    pub size: usize,
}

/// What is wrong with the header of a `.bit` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file ends in it.
    #[error("the file ends in its header, in {0}: it was not copied as a whole")]
    Short(Field),
    /// Another field was expected.
    #[error(
        "its header has {found:#04x} at {at:#x}, where {expected} should begin: this is no .bit file that is known here"
    )]
    Field {
        /// Which was expected.
        expected: Field,
        /// What is there.
        found: u8,
        /// Where, in bytes.
        at: usize,
    },
}

/// A field of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field(char);

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            'a' => "the design",
            'b' => "the part",
            'c' => "the date",
            'd' => "the time",
            _ => "the length",
        };
        write!(f, "field {} ({what})", self.0)
    }
}

impl Header {
    /// Reads the header at the start of `bytes`; there is none in a file that does not begin so.
    ///
    /// # Errors
    /// [`HeaderError`] if it begins so and is none.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, HeaderError> {
        if !bytes.starts_with(&START) {
            return Ok(None);
        }
        let mut fields = Fields { bytes, at: START.len() };
        let [design, part, date, time] =
            [fields.text('a')?, fields.text('b')?, fields.text('c')?, fields.text('d')?];
        let length = fields.letter('e').and_then(|field| fields.take(4, field))?;
        let length = length.iter().fold(0, |length, byte| length << 8 | u32::from(*byte));
        Ok(Some(Self { design, part, date, time, length, size: fields.at }))
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize, field: Field) -> Result<&'a [u8], HeaderError> {
        let taken = self.bytes.get(self.at..self.at + length).ok_or(HeaderError::Short(field))?;
        self.at += length;
        Ok(taken)
    }

    fn letter(&mut self, letter: char) -> Result<Field, HeaderError> {
        let (expected, at) = (Field(letter), self.at);
        let found = self.take(1, expected)?[0];
        if char::from(found) == letter {
            Ok(expected)
        } else {
            Err(HeaderError::Field { expected, found, at })
        }
    }

    /// A text that a zero ends.
    fn text(&mut self, letter: char) -> Result<String, HeaderError> {
        let field = self.letter(letter)?;
        let length = self.take(2, field)?;
        let text = self.take(usize::from(length[0]) << 8 | usize::from(length[1]), field)?;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}
