//! What Identify answers (section 5.15.2).

/// Bytes of an answer.
pub const SIZE: usize = 4096;
/// CNS: a namespace.
pub const NAMESPACE: u32 = 0x00;
/// CNS: the controller.
pub const CONTROLLER: u32 = 0x01;

/// Who a controller is (section 5.15.2.2, figure 251).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerIdentity {
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// The most bytes of a transfer, where pages have 4 KiB; none if there is no limit (MDTS).
    pub most_bytes: Option<u64>,
    /// How many namespaces there can be (NN).
    pub namespaces: u32,
    /// It has a cache that loses what was not flushed when power goes (VWC).
    pub volatile_cache: bool,
}

impl ControllerIdentity {
    /// From the answer's bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&bytes[range]).trim_matches([' ', '\0']).to_owned()
        };
        Self {
            serial: text(4..24),
            model: text(24..64),
            firmware: text(64..72),
            most_bytes: match bytes[77] {
                0 => None,
                shift => {
                    Some(4096_u64.checked_shl(shift.into()).filter(|bytes| *bytes > 0).unwrap_or(u64::MAX))
                }
            },
            namespaces: u32::from_le_bytes([bytes[516], bytes[517], bytes[518], bytes[519]]),
            volatile_cache: bytes[525] & 1 != 0,
        }
    }
}

/// What a namespace is (section 5.15.2.1, figure 249).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceIdentity {
    /// How many blocks it has (NSZE); zero if there is no such namespace.
    pub blocks: u64,
    /// A block has 2 to the power of this bytes (LBADS of the format that is in use).
    pub block_shift: u8,
    /// Bytes of metadata of each block.
    pub metadata: u16,
}

impl NamespaceIdentity {
    /// From the answer's bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        let format = 128 + 4 * usize::from(bytes[26] & 0xf);
        let mut blocks = [0; 8];
        blocks.copy_from_slice(&bytes[..8]);
        Self {
            blocks: u64::from_le_bytes(blocks),
            metadata: u16::from_le_bytes([bytes[format], bytes[format + 1]]),
            block_shift: bytes[format + 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let mut bytes = [0; SIZE];
        bytes[4..8].copy_from_slice(b"S1  ");
        bytes[24..29].copy_from_slice(b"Model");
        bytes[64..67].copy_from_slice(b"1.0");
        (bytes[77], bytes[516], bytes[525]) = (7, 2, 1);
        let controller = ControllerIdentity::from_bytes(&bytes);
        assert_eq!((controller.serial.as_str(), controller.most_bytes), ("S1", Some(512 << 10)));
        assert_eq!((controller.namespaces, controller.volatile_cache), (2, true));
        bytes[77] = 255;
        assert_eq!(ControllerIdentity::from_bytes(&bytes).most_bytes, Some(u64::MAX));

        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&1000_u32.to_le_bytes());
        (bytes[26], bytes[128 + 4 * 3], bytes[128 + 4 * 3 + 2]) = (0x13, 8, 12);
        let namespace = NamespaceIdentity::from_bytes(&bytes);
        assert_eq!(namespace, NamespaceIdentity { blocks: 1000, block_shift: 12, metadata: 8 });
    }
}
