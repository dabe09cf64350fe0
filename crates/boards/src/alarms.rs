//! The alarms of XADC and SYSMON, which have them at the same places (UG480 and UG580, "Flag Register" and "Configuration
//! Register 1").

use bitfield_struct::bitfield;

/// "Flag Register": which alarms are on.
#[bitfield(u32)]
pub(crate) struct Flags {
    pub temperature: bool,
    pub vccint: bool,
    pub vccaux: bool,
    pub over_temperature: bool,
    pub vbram: bool,
    #[bits(4)]
    __: u8,
    /// The internal reference is in use, not the one on the board.
    pub internal_reference: bool,
    #[bits(22)]
    __: u32,
}

/// The bits of "Configuration Register 1" that switch alarms off.
#[bitfield(u32)]
struct Disabled {
    over_temperature: bool,
    temperature: bool,
    vccint: bool,
    vccaux: bool,
    #[bits(4)]
    __: u8,
    vbram: bool,
    #[bits(23)]
    __: u32,
}

/// Which alarms are on, each `None` if it is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alarms {
    pub(crate) temperature: Option<bool>,
    pub(crate) over_temperature: Option<bool>,
    pub(crate) vccint: Option<bool>,
    pub(crate) vccaux: Option<bool>,
    pub(crate) vbram: Option<bool>,
}

impl Alarms {
    /// From both registers.
    pub(crate) fn of(flags: Flags, configuration_1: u32) -> Self {
        let disabled = Disabled::from(configuration_1);
        let alarm = |off: bool, on: bool| (!off).then_some(on);
        Self {
            temperature: alarm(disabled.temperature(), flags.temperature()),
            over_temperature: alarm(disabled.over_temperature(), flags.over_temperature()),
            vccint: alarm(disabled.vccint(), flags.vccint()),
            vccaux: alarm(disabled.vccaux(), flags.vccaux()),
            vbram: alarm(disabled.vbram(), flags.vbram()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_has_its_bit_and_the_bit_that_switches_it_off() {
        let alarms = |flags: u32, off: u32| Alarms::of(flags.into(), off);
        let list = |alarms: Alarms| {
            [alarms.temperature, alarms.vccint, alarms.vccaux, alarms.over_temperature, alarms.vbram]
        };
        assert_eq!(list(alarms(0, 0xf0f0 & !0x100)), [Some(false); 5], "nothing of it is about these alarms");
        for (place, off) in [1_u32, 2, 3, 0, 8].into_iter().enumerate() {
            let mut expected = [Some(false); 5];
            expected[place] = Some(true);
            assert_eq!(list(alarms(1 << place, 0)), expected, "{place}");
            expected[place] = None;
            assert_eq!(list(alarms(1 << place, 1 << off)), expected, "{place}");
        }
        assert!(Flags::from(1 << 9).internal_reference());
    }
}
