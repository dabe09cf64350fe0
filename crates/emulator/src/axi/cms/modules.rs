//! The modules in the card's two cages, as the firmware reaches them over their I2C (SFF-8636).

use super::firmware::Refusal;

const PAGE: usize = 128;
/// Bytes of the lower page that a host may write: transmitters, rates, power, equalizers, masks, passwords and the page.
const WRITABLE: std::ops::Range<usize> = 86..128;

/// A message's cage, page, and whether it is an upper one.
type Place = (u32, u32, u32);

/// Both cages: the first has a QSFP28 module, the second is empty.
#[derive(Debug)]
pub(super) struct Modules {
    lower: [u8; PAGE],
    upper: [u8; PAGE],
    /// RESET_L and LPMODE of each.
    signals: [u32; 2],
}

/// MODSEL_L, MODPRS_L and INT_L: nobody selects it, it is not there, it does not interrupt.
const SELECTED_NOT: u32 = 1 << 2;
const PRESENT_NOT: u32 = 1 << 3;
const INTERRUPTS_NOT: u32 = 1 << 4;
/// Not in reset, and not in low-power mode.
const SIGNALS: u32 = 0b01;

impl Default for Modules {
    fn default() -> Self {
        let mut lower = [0; PAGE];
        // QSFP28; revision 2.8 or so; one upper page, data ready.
        lower[..3].copy_from_slice(&[0x11, 0x07, 0x04]);
        let mut put = |at: usize, value: u16| lower[at..at + 2].copy_from_slice(&value.to_be_bytes());
        put(22, 31 << 8 | 0x80); // 31.5 °C
        put(26, 32_950); // 3.295 V
        for lane in 0..4 {
            put(34 + 2 * lane, 8_000); // received: 0.8 mW
            put(42 + 2 * lane, 3_500); // bias: 7 mA
            put(50 + 2 * lane, 9_000); // sent: 0.9 mW
        }
        Self { lower, upper: identity(), signals: [SIGNALS; 2] }
    }
}

/// Upper page 0.
fn identity() -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let mut put = |at: usize, bytes: &[u8]| page[at - PAGE..at - PAGE + bytes.len()].copy_from_slice(bytes);
    put(128, &[0x11, 0xCC, 0x0C, 0x80]); // QSFP28, power class 4 with CDR, MPO connector, extended compliance
    put(140, &[0xFF]); // more than 25.4 GBd: see 222
    put(148, b"JITNEY OPTICS   ");
    put(165, &[0x00, 0x0A, 0x35]);
    put(168, b"JO-100G-SR4     ");
    put(184, b"A1");
    put(192, &[0x02]); // 100GBASE-SR4
    put(196, b"JO0000000001    ");
    put(212, b"260131  ");
    put(222, &[0x67]); // 25.75 GBd in units of 250 MBd
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    page[191 - PAGE] = sum(&page[..191 - PAGE]);
    page[223 - PAGE] = sum(&page[192 - PAGE..223 - PAGE]);
    page
}

impl Modules {
    /// A page of the module in a cage.
    pub(super) fn page(&self, (cage, page, upper): Place) -> Result<[u8; PAGE], Refusal> {
        match (cage, page, upper & 1) {
            (0, _, 0) => Ok(self.lower),
            (0, 0, 1) => Ok(self.upper),
            // No module there, or it has one upper page only.
            _ => Err(Refusal::Module),
        }
    }

    pub(super) fn byte(&self, place: Place, offset: u32) -> Result<u8, Refusal> {
        let page = self.page(place)?;
        // Offsets of an upper page begin at 128.
        page.get(index(place, offset)?).copied().ok_or(Refusal::Module)
    }

    pub(super) fn write(&mut self, place: Place, offset: u32, value: u8) -> Result<(), Refusal> {
        self.page(place)?;
        let index = index(place, offset)?;
        if place.2 & 1 == 0 && WRITABLE.contains(&index) {
            self.lower[index] = value;
        }
        Ok(())
    }

    /// What the signals of a cage read.
    pub(super) fn signals(&self, cage: u32) -> Result<u32, Refusal> {
        let index = usize::try_from(cage).map_err(|_| Refusal::Module)?;
        let own = *self.signals.get(index).ok_or(Refusal::Module)?;
        let present = if index == 0 { 0 } else { PRESENT_NOT };
        Ok(own | SELECTED_NOT | present | INTERRUPTS_NOT)
    }

    pub(super) fn set_signals(&mut self, cage: u32, value: u32) -> Result<(), Refusal> {
        let index = usize::try_from(cage).map_err(|_| Refusal::Module)?;
        *self.signals.get_mut(index).ok_or(Refusal::Module)? = value & 0b11;
        Ok(())
    }
}

/// The byte of a page that a message means.
fn index((_, _, upper): Place, offset: u32) -> Result<usize, Refusal> {
    let first = if upper & 1 == 1 { 128 } else { 0 };
    let index = offset.checked_sub(first).and_then(|index| usize::try_from(index).ok());
    index.filter(|index| *index < PAGE).ok_or(Refusal::Module)
}
