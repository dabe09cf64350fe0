//! What a boards file says about a card's memory.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Memory on the card that the DMA engine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What it is made of, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MemoryKind>,
    /// Address of its first byte, on the card.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Memory {
    /// The address of its last byte, or `None` if it has no bytes or ends beyond 2^64.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.base.checked_add(self.size.checked_sub(1)?)
    }

    /// Whether it may be DDR or HBM, beside the FPGA's logic: so it says, or it does not say.
    #[must_use]
    pub fn may_be_dram(&self) -> bool {
        matches!(self.kind, None | Some(MemoryKind::Ddr | MemoryKind::Hbm))
    }

    /// Whether it may be block RAM or UltraRAM, in the FPGA's logic: so it says, or it does not say.
    #[must_use]
    pub fn may_be_on_chip(&self) -> bool {
        matches!(self.kind, None | Some(MemoryKind::BlockRam | MemoryKind::UltraRam))
    }
}

/// What memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryKind {
    /// DRAM beside the FPGA: DDR3, DDR4, LPDDR.
    Ddr,
    /// Block RAM inside the FPGA.
    BlockRam,
    /// High-bandwidth memory in the FPGA's package.
    Hbm,
    /// UltraRAM inside the FPGA.
    UltraRam,
}

/// Writes the kind as in a boards file: `block-ram`.
impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ddr => "ddr",
            Self::BlockRam => "block-ram",
            Self::Hbm => "hbm",
            Self::UltraRam => "ultra-ram",
        })
    }
}

/// One table, or a list of them: `memory = { … }` and `memory = [{ … }, { … }]`.
pub(crate) mod one_or_many {
    use super::Memory;
    use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
    use serde::de::{MapAccess, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::fmt;

    pub(crate) fn serialize<S: Serializer>(memory: &[Memory], serializer: S) -> Result<S::Ok, S::Error> {
        match memory {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Memory>, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Vec<Memory>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with base and size, or a list of such tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Memory>, A::Error> {
                Ok(vec![Memory::deserialize(MapAccessDeserializer::new(map))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<Memory>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}
