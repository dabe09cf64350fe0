//! The alarms of XADC and SYSMON, which work alike (UG480 and UG580, "Automatic Alarms").

/// The limits of a quantity and what they switch.
#[derive(Debug)]
pub(super) struct Limits {
    /// DRP address of the upper limit.
    pub(super) upper: u32,
    /// DRP address of the lower limit.
    pub(super) lower: u32,
    /// Its bit in the flag register.
    flag: u32,
    /// The bit of configuration register 1 that switches the alarm off.
    disable: u32,
}

/// Temperature, VCCINT, VCCAUX, over-temperature and VBRAM.
pub(super) const LIMITS: [Limits; 5] = [
    Limits { upper: 0x50, lower: 0x54, flag: 1 << 0, disable: 1 << 1 },
    Limits { upper: 0x51, lower: 0x55, flag: 1 << 1, disable: 1 << 2 },
    Limits { upper: 0x52, lower: 0x56, flag: 1 << 2, disable: 1 << 3 },
    Limits { upper: 0x53, lower: 0x57, flag: 1 << 3, disable: 1 << 0 },
    Limits { upper: 0x58, lower: 0x5C, flag: 1 << 4, disable: 1 << 8 },
];

/// Which alarms are on, before what is switched off is taken out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Alarms(u32);

impl Alarms {
    /// Compares a new value of a quantity with its limits: 0 is the temperature, then VCCINT, VCCAUX and VBRAM.
    pub(super) fn watch(&mut self, quantity: usize, value: u32, limit: impl Fn(u32) -> u32) {
        match quantity {
            0 => {
                self.hysteresis(&LIMITS[0], value, &limit);
                self.hysteresis(&LIMITS[3], value, &limit);
            }
            1 | 2 => self.window(&LIMITS[quantity], value, &limit),
            _ => self.window(&LIMITS[4], value, &limit),
        }
    }

    /// A supply has to be within its limits.
    fn window(&mut self, limits: &Limits, value: u32, limit: impl Fn(u32) -> u32) {
        self.set(limits, value > limit(limits.upper) || value < limit(limits.lower));
    }

    /// A temperature that was too high has to fall below the lower limit.
    fn hysteresis(&mut self, limits: &Limits, value: u32, limit: impl Fn(u32) -> u32) {
        if value > limit(limits.upper) {
            self.set(limits, true);
        } else if value < limit(limits.lower) {
            self.set(limits, false);
        }
    }

    fn set(&mut self, limits: &Limits, on: bool) {
        self.0 = if on { self.0 | limits.flag } else { self.0 & !limits.flag };
    }

    /// What the flag register shows of them with this configuration register 1.
    pub(super) fn flags(self, configuration_1: u32) -> u32 {
        let off = LIMITS.iter().filter(|own| configuration_1 & own.disable != 0);
        off.fold(self.0, |flags, own| flags & !own.flag)
    }
}
