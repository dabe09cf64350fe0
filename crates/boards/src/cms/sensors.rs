//! The sensors of all Alveo cards (PG348, "Register Space"). A card has some of them; the others read as zero.

use super::registers::{MAP, Triple};
use crate::error::Result;
use crate::frame::Frame;
use crate::sensor::Quantity::{self, Current, Power, Speed, Temperature, Voltage};
use crate::sensor::Reading;

/// Name, offset of the maximum in the register map, with average and value behind it, and what it is.
const SENSORS: [(&str, u32, Quantity); 65] = [
    ("12V_PEX", 0x020, Voltage),
    ("3V3_PEX", 0x02c, Voltage),
    ("3V3_AUX", 0x038, Voltage),
    ("12V_AUX", 0x044, Voltage),
    ("DDR4_VPP_BTM", 0x050, Voltage),
    ("SYS_5V5", 0x05c, Voltage),
    ("VCC1V2_TOP", 0x068, Voltage),
    ("VCC1V8", 0x074, Voltage),
    ("VCC0V85", 0x080, Voltage),
    ("DDR4_VPP_TOP", 0x08c, Voltage),
    ("MGT0V9AVCC", 0x098, Voltage),
    ("12V_SW", 0x0a4, Voltage),
    ("MGTAVTT", 0x0b0, Voltage),
    ("VCC1V2_BTM", 0x0bc, Voltage),
    ("12VPEX_I_IN", 0x0c8, Current),
    ("12V_AUX_I_IN", 0x0d4, Current),
    ("VCCINT", 0x0e0, Voltage),
    ("VCCINT_I", 0x0ec, Current),
    ("FPGA_TEMP", 0x0f8, Temperature),
    ("FAN_TEMP", 0x104, Temperature),
    ("DIMM_TEMP0", 0x110, Temperature),
    ("DIMM_TEMP1", 0x11c, Temperature),
    ("DIMM_TEMP2", 0x128, Temperature),
    ("DIMM_TEMP3", 0x134, Temperature),
    ("SE98_TEMP0", 0x140, Temperature),
    ("SE98_TEMP1", 0x14c, Temperature),
    ("SE98_TEMP2", 0x158, Temperature),
    ("FAN_SPEED", 0x164, Speed),
    ("CAGE_TEMP0", 0x170, Temperature),
    ("CAGE_TEMP1", 0x17c, Temperature),
    ("CAGE_TEMP2", 0x188, Temperature),
    ("CAGE_TEMP3", 0x194, Temperature),
    ("HBM_TEMP1", 0x260, Temperature),
    ("VCC3V3", 0x26c, Voltage),
    ("3V3PEX_I_IN", 0x278, Current),
    ("VCCINT_IO_I", 0x284, Current),
    ("HBM_1V2", 0x290, Voltage),
    ("VPP2V5", 0x29c, Voltage),
    ("VCCINT_IO", 0x2a8, Voltage),
    ("HBM_TEMP2", 0x2b4, Temperature),
    ("12V_AUX1", 0x2c0, Voltage),
    ("VCCINT_TEMP", 0x2cc, Temperature),
    ("PEX_12V_POWER", 0x2d8, Power),
    ("PEX_3V3_POWER", 0x2e4, Power),
    ("AUX_3V3_I", 0x2f0, Current),
    ("VCC1V2_I", 0x314, Current),
    ("V12_IN_I", 0x320, Current),
    ("V12_IN_AUX0_I", 0x32c, Current),
    ("V12_IN_AUX1_I", 0x338, Current),
    ("VCCAUX", 0x344, Voltage),
    ("VCCAUX_PMC", 0x350, Voltage),
    ("VCCRAM", 0x35c, Voltage),
    ("VCCINT_POWER", 0x374, Power),
    ("VCCINT_VCU_0V9", 0x380, Voltage),
    ("1V2_VCCIO", 0x38c, Voltage),
    ("GTAVCC", 0x398, Voltage),
    ("VCCSOC", 0x3b0, Voltage),
    ("VCC_5V0", 0x3bc, Voltage),
    ("2V5_VPP23", 0x3c8, Voltage),
    ("GTVCC_AUX", 0x3d4, Voltage),
    ("HBM_1V2_I", 0x410, Current),
    ("VCC1V5", 0x41c, Voltage),
    ("MGTAVCC", 0x428, Voltage),
    ("MGTAVTT_I", 0x434, Current),
    ("MGTAVCC_I", 0x440, Current),
];

/// Power that no sensor measures, from a supply's voltage and current.
const PRODUCTS: [(&str, &str, &str); 4] = [
    ("12V_PEX_POWER", "12V_PEX", "12VPEX_I_IN"),
    ("12V_AUX_POWER", "12V_AUX", "12V_AUX_I_IN"),
    ("3V3_PEX_POWER", "3V3_PEX", "3V3PEX_I_IN"),
    ("3V3_AUX_POWER", "3V3_AUX", "AUX_3V3_I"),
];

/// What all sensors say that the card has.
pub(super) fn read(frame: &Frame) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for (name, offset, quantity) in SENSORS {
        let triple = Triple::at(MAP + offset);
        let [max, average, now] = [triple.max, triple.average, triple.now].map(|own| frame.sane(own));
        let (max, average, now) = (max?, average?, now?);
        readings.extend(reading(name, quantity, [max, average, now]));
    }
    let products = PRODUCTS.iter().filter_map(|(name, volts, amperes)| {
        let now = |wanted: &str| readings.iter().find(|own| own.name == wanted).map(|own| own.now);
        Some(Reading::new(*name, Power, now(volts)? * now(amperes)?))
    });
    let products: Vec<Reading> = products.collect();
    readings.extend(products);
    Ok(readings)
}

/// A sensor by its three words, if the card has it.
fn reading(name: &str, quantity: Quantity, [max, average, now]: [u32; 3]) -> Option<Reading> {
    if [max, average, now] == [0; 3] {
        return None;
    }
    // Volts, amperes and watts come in thousandths.
    let scale = match quantity {
        Temperature | Speed => 1.0,
        Voltage | Current | Power => 1000.0,
    };
    let value = |word: u32| f64::from(word) / scale;
    let (average, max) = (Some(value(average)), Some(value(max)));
    Some(Reading { average, max, ..Reading::new(name, quantity, value(now)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_sensors_share_a_register_or_a_name() {
        let offsets: BTreeSet<u32> =
            SENSORS.iter().flat_map(|(_, offset, _)| [*offset, offset + 4, offset + 8]).collect();
        assert_eq!(offsets.len(), 3 * SENSORS.len());
        let names: BTreeSet<&str> = SENSORS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), SENSORS.len());
        assert!(PRODUCTS.iter().all(|(name, volts, amperes)| {
            names.contains(volts) && names.contains(amperes) && !names.contains(name)
        }));
    }

    #[test]
    fn thousandths_are_scaled_and_what_is_not_there_is_left_out() {
        let volts = reading("12V_PEX", Voltage, [12_300, 12_100, 12_050]).unwrap();
        assert_eq!((volts.now, volts.average, volts.max), (12.05, Some(12.1), Some(12.3)));
        assert_eq!(reading("FPGA_TEMP", Temperature, [50, 45, 46]).unwrap().now, 46.0);
        assert_eq!(reading("HBM_TEMP1", Temperature, [0; 3]), None);
    }
}
