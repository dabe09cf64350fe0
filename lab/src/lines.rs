//! A program's output, line by line, for a reader that does not wait for ever.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{self, Receiver, Sender};

/// The lines of `output`. The channel is closed when the output ends.
pub(crate) fn of(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    if let Some(output) = output {
        std::thread::spawn(move || pass_on(BufReader::new(output), &sender));
    }
    lines
}

/// Passes on lines, which may hold any bytes, until the output ends or nobody listens.
fn pass_on(mut output: impl BufRead, to: &Sender<String>) {
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        if to.send(text).is_err() {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_odd_bytes_and_a_missing_end() {
        let lines = of(Some(&b"one\r\n\xff\ntail"[..]));
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["one", "\u{fffd}", "tail"]);
    }

    #[test]
    fn no_output_ends_at_once() {
        assert!(of(None::<std::io::Empty>).recv().is_err());
    }
}
