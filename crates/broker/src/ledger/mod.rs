//! What a broker writes down so that another one can go on where it stopped, and how that one reads it. But for the file
//! (`file.rs`) pure.
//!
//! The machine is events in, effects out, and does the same each time: so the events are written, each before it is handled, and
//! behind each that its effects were carried out. Who reads them hands them to a machine again. What is not known to be carried
//! out is carried out again: a message that comes twice is known by its number, and work that was begun is begun anew.

mod books;
mod file;

#[cfg(test)]
pub(crate) use books::tests::a_known;
pub(crate) use books::{Books, Known, Record, Replayed, Unfinished};
pub(crate) use file::LedgerFile;
