//! Sizes as people write them, and as people read them.

use jitney_xdma::LONGEST_DESCRIPTOR;

/// A number of bytes: `4096`, `0x128000`, `0x1000_0000`, `64K`, `1G`, `1GiB`. Units are powers of 1024, and a `_` may stand
/// between digits, as in a boards file.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let malformed =
        || format!("{text:?} is no size; write a number of bytes as 4096, 0x128000, 64K, 8M or 1G");
    let lower = text.trim().to_lowercase().replace('_', "");
    if let Some(hex) = lower.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).map_err(|_| malformed());
    }
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(malformed()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| malformed())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} does not fit 64 bits"))
}

/// The same for a size that cannot be zero.
pub(crate) fn parse_nonzero(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("a size of 0 has nothing to test".into()),
        size => Ok(size),
    }
}

/// The same for what is to be moved or shown.
pub(crate) fn parse_length(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("nothing would be done with 0 bytes".into()),
        length => Ok(length),
    }
}

/// What a register of 32 bits holds: `0x1f`, `31`.
pub(crate) fn parse_word(text: &str) -> Result<u32, String> {
    let text = text.trim();
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let number = number.map_err(|_| format!("{text:?} is no number; write it as 0x1f or 31"))?;
    u32::try_from(number).map_err(|_| format!("{text} does not fit a register, which has 32 bits"))
}

/// A power of two.
pub(crate) fn parse_alignment(text: &str) -> Result<u64, String> {
    let align = parse(text)?;
    match align.is_power_of_two() {
        true => Ok(align),
        false => Err(format!("an alignment of {align} is no power of two")),
    }
}

/// The length of a DMA descriptor.
pub(crate) fn parse_descriptor(text: &str) -> Result<u32, String> {
    let length = parse_nonzero(text)?;
    u32::try_from(length)
        .ok()
        .filter(|length| *length <= LONGEST_DESCRIPTOR)
        .ok_or_else(|| format!("no descriptor has {length:#x} bytes; {LONGEST_DESCRIPTOR:#x} is the most"))
}

/// `1 GiB`, `1.1 MiB`, `17 bytes`.
pub(crate) fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, size) in
            [("4096", 4096), ("0x128000", 0x12_8000), ("64K", 65536), ("1G", 1 << 30), ("2 MiB", 2 << 20)]
        {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        assert_eq!(parse("0x1000_0000"), Ok(0x1000_0000));
        for text in ["", "_", "K", "1X", "-1", "0x", "1.5G", "99999999999G", "G1", "ı", "1İ"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_nonzero("0").is_err());
        assert!(parse_alignment("3000").is_err());
        assert_eq!(
            (parse_descriptor("0x0fffffff"), parse_descriptor("16M")),
            (Ok(0x0fff_ffff), Ok(16 << 20))
        );
        assert!(
            parse_descriptor("256M").is_err()
                && parse_descriptor("0").is_err()
                && parse_descriptor("1T").is_err()
        );
    }

    #[test]
    fn words_are_hexadecimal_or_decimal_and_fit_a_register() {
        for (text, word) in [("0x1f", 31), ("0XFF", 255), ("31", 31), ("4294967295", u32::MAX)] {
            assert_eq!(parse_word(text), Ok(word), "{text}");
        }
        for text in ["", "0x", "-1", "1K", "ff", "4294967296", "0x100000000"] {
            assert!(parse_word(text).is_err(), "{text}");
        }
        assert!(parse_length("0").is_err());
    }

    #[test]
    fn sizes_as_people_read_them() {
        for (size, text) in
            [(1 << 30, "1 GiB"), (0x12_8000, "1.1 MiB"), (17, "17 bytes"), (0x1_0000, "64 KiB")]
        {
            assert_eq!(human(size), text);
        }
    }
}
