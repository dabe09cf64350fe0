//! The numbers of the commands.

use std::fmt;

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a message asks for (section "Commands").
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Command {
            $($(#[$doc])* $name = $number,)*
        }

        impl Command {
            /// Every command, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The command with this number, if the specification has one.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The specification's name without `VFIO_USER_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

commands! {
    /// The first message of a connection: versions and capabilities.
    Version = 1, "VERSION";
    /// The client's memory may be reached at an address.
    DmaMap = 2, "DMA_MAP";
    /// The client's memory may no longer be reached.
    DmaUnmap = 3, "DMA_UNMAP";
    /// How many regions and interrupts the device has.
    DeviceGetInfo = 4, "DEVICE_GET_INFO";
    /// Size, rights and mappable areas of one region.
    DeviceGetRegionInfo = 5, "DEVICE_GET_REGION_INFO";
    /// Descriptors that stand for parts of a region. There are none here.
    DeviceGetRegionIoFds = 6, "DEVICE_GET_REGION_IO_FDS";
    /// Number and kind of one interrupt type.
    DeviceGetIrqInfo = 7, "DEVICE_GET_IRQ_INFO";
    /// Arms, masks or triggers interrupts.
    DeviceSetIrqs = 8, "DEVICE_SET_IRQS";
    /// Reads from a region.
    RegionRead = 9, "REGION_READ";
    /// Writes to a region.
    RegionWrite = 10, "REGION_WRITE";
    /// The server reads the client's memory.
    DmaRead = 11, "DMA_READ";
    /// The server writes the client's memory.
    DmaWrite = 12, "DMA_WRITE";
    /// Resets the device.
    DeviceReset = 13, "DEVICE_RESET";
    /// Dirty page tracking of earlier drafts of the protocol. Not supported here.
    DirtyPages = 14, "DIRTY_PAGES";
    /// Several small writes in one message. Not supported here.
    RegionWriteMulti = 15, "REGION_WRITE_MULTI";
    /// Optional device features, all of them about migration. Not supported here.
    DeviceFeature = 16, "DEVICE_FEATURE";
    /// Migration data out of a device. Not supported here.
    MigDataRead = 17, "MIG_DATA_READ";
    /// Migration data into a device. Not supported here.
    MigDataWrite = 18, "MIG_DATA_WRITE";
}

impl Command {
    /// The number that stands in the header.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
