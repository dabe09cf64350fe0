//! Which part an IDCODE is (UG470, "ID Codes"; UG570, "Device ID Code").

/// IDCODEs without their version, which is in bits 31:28.
const PARTS: &[(u32, &str)] = &[
    (0x0362_2093, "XC7S6"),
    (0x0362_d093, "XC7A35T"),
    (0x0362_e093, "XC7A15T"),
    (0x0362_c093, "XC7A50T"),
    (0x0363_2093, "XC7A75T"),
    (0x0363_1093, "XC7A100T"),
    (0x0363_6093, "XC7A200T"),
    (0x0364_7093, "XC7K70T"),
    (0x0364_c093, "XC7K160T"),
    (0x0365_1093, "XC7K325T"),
    (0x0374_7093, "XC7K355T"),
    (0x0365_6093, "XC7K410T"),
    (0x0375_2093, "XC7K420T"),
    (0x0375_1093, "XC7K480T"),
    (0x0366_7093, "XC7VX330T"),
    (0x0368_2093, "XC7VX415T"),
    (0x0368_7093, "XC7VX485T"),
    (0x0369_2093, "XC7VX550T"),
    (0x0369_1093, "XC7VX690T"),
    (0x0382_3093, "XCKU035"),
    (0x0382_2093, "XCKU040"),
    (0x0391_9093, "XCKU060"),
    (0x0390_d093, "XCKU115"),
    (0x04a6_3093, "XCKU3P"),
    (0x04a6_2093, "XCKU5P"),
    (0x0484_a093, "XCKU9P"),
    (0x04a4_e093, "XCKU11P"),
    (0x04a5_2093, "XCKU13P"),
    (0x04a5_6093, "XCKU15P"),
    (0x04ac_4093, "XCAU10P"),
    (0x04ac_2093, "XCAU15P"),
    (0x04a6_5093, "XCAU20P"),
    (0x04a6_4093, "XCAU25P"),
    (0x04b3_9093, "XCVU3P"),
    (0x04b2_b093, "XCVU5P"),
    (0x04b2_9093, "XCVU7P"),
    (0x04b3_1093, "XCVU9P"),
    (0x04b4_9093, "XCVU11P"),
    (0x04b5_1093, "XCVU13P"),
    (0x04b6_b093, "XCVU31P"),
    (0x04b6_9093, "XCVU33P"),
    (0x04b7_1093, "XCVU35P"),
    (0x04b7_9093, "XCVU37P"),
    (0x04b7_7093, "XCU50"),
    (0x04b3_7093, "XCU200"),
    (0x04b5_7093, "XCU250"),
    (0x04b7_d093, "XCU280"),
];

/// The part whose IDCODE this is, whatever its version.
#[must_use]
pub fn part_of(idcode: u32) -> Option<&'static str> {
    PARTS.iter().find(|(own, _)| *own == idcode & 0x0fff_ffff).map(|(_, part)| *part)
}

/// Whether the IDCODE of `part` is known here: of others, [`part_of`] cannot tell that a bitstream is for them.
#[must_use]
pub fn knows(part: &str) -> bool {
    PARTS.iter().any(|(_, own)| *own == part)
}

/// Whether `named`, as a `.bit` file has it (`7a200tfbg484`), is the part `part` (`XC7A200T`) in some package.
#[must_use]
pub fn is_for(named: &str, part: &str) -> bool {
    let named = named.trim().to_ascii_uppercase();
    let bare = |name: &str| name.strip_prefix("XC").unwrap_or(name).to_owned();
    // A digit would make it another part: XCKU11P is not XCKU1 in a package.
    bare(&named)
        .strip_prefix(&*bare(&part.to_ascii_uppercase()))
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_id_and_by_name() {
        assert_eq!(part_of(0x1363_6093), Some("XC7A200T"));
        assert_eq!(part_of(0x14b3_7093), Some("XCU200"));
        assert_eq!(part_of(0), None);
        assert!(is_for("7a200tfbg484", "XC7A200T") && is_for("xcku5p-ffvb676-2-e", "XCKU5P"));
        assert!(!is_for("7a100tfgg484", "XC7A200T") && !is_for("xcku115", "XCKU11") && !is_for("", "XCKU5P"));
        let all: std::collections::BTreeSet<_> = PARTS.iter().map(|(id, _)| id).collect();
        assert_eq!(all.len(), PARTS.len());
    }
}
