//! What the guest's first process says on its second serial line; the words are explained in `lab/guest/init`.

/// A line of the guest, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// The guest is up.
    Ready,
    /// A test begins.
    Begin(&'a str),
    /// A test ended, with its exit status. The text is output that had no new line.
    End { name: &'a str, status: u8, output: &'a str },
    /// A test wants the card at this address to be unplugged.
    Unplug(&'a str),
    /// A test wants the card that was at this address to be plugged in again.
    Plug(&'a str),
    /// All tests have run.
    Done,
    /// A line of a test's output.
    Output(&'a str),
}

const MARKER: &str = "@@jitney ";

/// Understands one line. What looks like a marker but is none is output, like everything else.
pub(crate) fn understand(line: &str) -> Event<'_> {
    let Some((output, said)) = line.rsplit_once(MARKER) else { return Event::Output(line) };
    let words: Vec<&str> = said.split(' ').collect();
    match words[..] {
        ["ready"] => Event::Ready,
        ["done"] => Event::Done,
        ["begin", name] => Event::Begin(name),
        ["unplug", address] => Event::Unplug(address),
        ["plug", address] => Event::Plug(address),
        ["end", name, status] => match status.parse() {
            Ok(status) => Event::End { name, status, output },
            Err(_) => Event::Output(line),
        },
        _ => Event::Output(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_and_nonsense_is_output() {
        assert_eq!(understand("@@jitney ready"), Event::Ready);
        assert_eq!(understand("@@jitney begin a-b"), Event::Begin("a-b"));
        assert_eq!(
            understand("no line end@@jitney end a 77"),
            Event::End { name: "a", status: 77, output: "no line end" }
        );
        assert_eq!(understand("@@jitney unplug 0000:02:00.0"), Event::Unplug("0000:02:00.0"));
        assert_eq!(understand("@@jitney plug 0000:02:00.0"), Event::Plug("0000:02:00.0"));
        assert_eq!(understand("@@jitney done"), Event::Done);
        for line in [
            "",
            "text",
            "@@jitney ",
            "@@jitney end a",
            "@@jitney end a 256",
            "@@jitney end a b c",
            "@@jitney begin",
            "@@jitney plug",
        ] {
            assert_eq!(understand(line), Event::Output(line));
        }
    }
}
