//! Sizes as people write them, and as people read them.

use jitney_xdma::LONGEST_DESCRIPTOR;

/// A number of bytes: `4096`, `0x128000`, `64K`, `1G`, `1GiB`. Units are powers of 1024.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let malformed =
        || format!("{text:?} is no size; write a number of bytes as 4096, 0x128000, 64K, 8M or 1G");
    let lower = text.trim().to_lowercase();
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
        for text in ["", "K", "1X", "-1", "0x", "1.5G", "99999999999G", "G1", "ı", "1İ"] {
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
    fn sizes_as_people_read_them() {
        for (size, text) in
            [(1 << 30, "1 GiB"), (0x12_8000, "1.1 MiB"), (17, "17 bytes"), (0x1_0000, "64 KiB")]
        {
            assert_eq!(human(size), text);
        }
    }
}
