//! What is mounted where.

/// A line of `mountinfo`; proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mount {
    /// Major and minor number: `259:2`. Some file systems, such as btrfs, have numbers of their own instead.
    pub(super) number: String,
    pub(super) place: String,
    pub(super) source: String,
}

impl Mount {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (place, source) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let number = place.next()?.to_owned();
        Some(Self { number, place: unescaped(place.nth(1)?), source: unescaped(source.split(' ').nth(1)?) })
    }
}

/// Undoes the escapes of spaces and the like: `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, plain) in [
            ("a\\040b", "a b"),
            ("\\134", "\\"),
            ("\\", "\\"),
            ("\\9z", "\\9z"),
            ("\\777x", "\\777x"),
            ("\\04é", "\\04é"),
        ] {
            assert_eq!(unescaped(text), plain);
        }
    }
}
