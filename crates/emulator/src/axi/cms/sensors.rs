//! What the firmware measures (PG348, "Register Space", and the table of the sensors that each card has).

use super::Map;

/// The sensors of a U200: where their maximum is, with the average and the value behind it, and what is usual there in mV, mA,
/// °C or turns a minute.
const SENSORS: [(u32, u32); 30] = [
    (0x020, 12_100), // 12V_PEX
    (0x02C, 3_310),  // 3V3_PEX
    (0x038, 3_305),  // 3V3_AUX
    (0x044, 12_090), // 12V_AUX
    (0x050, 2_500),  // DDR4_VPP_BTM
    (0x05C, 5_490),  // SYS_5V5
    (0x068, 1_200),  // VCC1V2_TOP
    (0x074, 1_800),  // VCC1V8
    (0x080, 850),    // VCC0V85
    (0x08C, 2_500),  // DDR4_VPP_TOP
    (0x098, 905),    // MGT0V9AVCC
    (0x0A4, 12_080), // 12V_SW
    (0x0B0, 1_201),  // MGTAVTT
    (0x0BC, 1_199),  // VCC1V2_BTM
    (0x0C8, 1_650),  // 12VPEX_I_IN
    (0x0D4, 820),    // 12V_AUX_I_IN
    (0x0E0, 850),    // VCCINT
    (0x0EC, 11_400), // VCCINT_I
    (0x0F8, 45),     // FPGA_TEMP
    (0x104, 38),     // FAN_TEMP
    (0x110, 36),     // DIMM_TEMP0
    (0x11C, 36),     // DIMM_TEMP1
    (0x128, 37),     // DIMM_TEMP2
    (0x134, 35),     // DIMM_TEMP3
    (0x140, 34),     // SE98_TEMP0
    (0x14C, 33),     // SE98_TEMP1
    (0x158, 37),     // SE98_TEMP2
    (0x164, 1_400),  // FAN_SPEED
    (0x170, 39),     // CAGE_TEMP0: the second cage is empty and has none
    (0x2CC, 47),     // VCCINT_TEMP
];

/// What was measured since the maxima were reset.
#[derive(Debug, Default)]
pub(super) struct Sensors {
    rounds: u64,
    sums: [u64; SENSORS.len()],
    maxima: [u32; SENSORS.len()],
    /// All rounds, from which what is measured follows.
    total: u64,
}

impl Sensors {
    /// Maxima and averages begin anew.
    pub(super) fn forget(&mut self) {
        *self = Self { total: self.total, ..Self::default() };
    }

    /// Measures everything once.
    pub(super) fn measure(&mut self, map: &mut Map) {
        self.rounds += 1;
        self.total += 1;
        for (index, (offset, usual)) in (0..).zip(SENSORS) {
            // Up and down by a hundredth, or by a unit; no two sensors in step.
            let swing = (usual / 100).max(1);
            let phase = u32::try_from((self.total + index * 7) % 20).unwrap_or(0);
            let triangle = if phase < 10 { phase } else { 20 - phase };
            let value = usual - swing + 2 * swing * triangle / 10;
            let place = usize::try_from(index).unwrap_or(0);
            self.sums[place] += u64::from(value);
            self.maxima[place] = self.maxima[place].max(value);
            map.set(offset, self.maxima[place]);
            map.set(offset + 4, u32::try_from(self.sums[place] / self.rounds).unwrap_or(u32::MAX));
            map.set(offset + 8, value);
        }
    }
}
