//! What the parts of a board say that can be asked without harm.

use jitney_boards::cms::CardInfo;
use jitney_boards::{Board, Error, Kind};
use jitney_vfio::ErrorKind;
use schemars::JsonSchema;
use serde::Serialize;

/// What is on a board, as it says itself.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Contents {
    /// When the design was built.
    pub(super) built: Option<String>,
    /// The FPGA's unique number, of each die that shows it.
    pub(super) dna: Vec<String>,
    /// Whether the DDR controller can be used.
    pub(super) ddr_is_ready: Option<bool>,
    /// Which H2C channel feeds each C2H channel; null where none does.
    pub(super) routes: Option<Vec<Option<u8>>>,
    pub(super) management: Option<Management>,
    pub(super) leds: Vec<String>,
    /// The devices on its I2C buses, as the boards file has them.
    pub(super) i2c: Vec<BusDevice>,
    /// What could not be read.
    pub(super) errors: Vec<String>,
}

/// What an Alveo card says of itself.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Management {
    pub(super) firmware: String,
    pub(super) profile: String,
    pub(super) name: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) mac_addresses: Vec<String>,
    pub(super) power_watts: Option<u16>,
    /// The modules in its network cages.
    pub(super) modules: Vec<Module>,
    /// Why some of it is missing: who has the card management at the moment.
    pub(super) held: Option<String>,
}

/// A network module.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Module {
    pub(super) cage: u8,
    pub(super) kind: String,
    pub(super) vendor: String,
    pub(super) part: String,
    pub(super) serial: String,
    pub(super) celsius: f64,
}

/// A device on an I2C bus.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BusDevice {
    pub(super) bus: usize,
    pub(super) address: u8,
    pub(super) device: String,
    pub(super) note: Option<String>,
}

impl Contents {
    /// Asks each part that is there. One that fails does not keep the others from being asked.
    pub(super) fn of(board: &Board) -> Self {
        let mut own = Self::default();
        let has = |kind, index| board.peripheral(kind, index).is_ok();
        if has(Kind::UserAccess, 0) {
            own.built = own
                .take(board.user_access().and_then(|part| part.build_timestamp()).map(|at| at.to_string()));
        }
        for index in (0..).take_while(|index| has(Kind::Dna, *index)) {
            let number = board.dna(index).and_then(|part| part.number());
            let number = own.take(number.map(|number| number.to_string()));
            own.dna.extend(number);
        }
        if has(Kind::DdrStatus, 0) {
            own.ddr_is_ready =
                own.take(board.ddr_status().and_then(|part| part.state()).map(|state| state.is_ready()));
        }
        if has(Kind::StreamSwitch, 0) {
            own.routes = own.take(board.stream_switch().and_then(|switch| switch.routes()));
        }
        if has(Kind::Cms, 0) {
            own.management = own.take(Management::of(board));
        }
        let leds = own.take(board.leds()).unwrap_or_default();
        own.leds = leds.iter().map(|led| led.note().unwrap_or("LED").to_owned()).collect();
        for bus in (0..).take_while(|bus| has(Kind::Iic, *bus)) {
            let Some(iic) = own.take(board.iic(bus)) else { continue };
            own.i2c.extend(iic.known().iter().map(|known| BusDevice {
                bus,
                address: known.address,
                device: known.device.to_string(),
                note: known.note.clone(),
            }));
        }
        own
    }

    fn take<T>(&mut self, found: Result<T, Error>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(error) => {
                self.errors.push(error.to_string());
                None
            }
        }
    }

    /// It in lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.built.as_ref().map(|at| format!("built {at}")));
        lines.extend(self.dna.iter().map(|number| format!("DNA {number}")));
        lines.extend(self.ddr_is_ready.map(|ready| {
            let not = if ready { "" } else { "not " };
            format!("DDR controller: {not}ready")
        }));
        lines.extend(self.routes.as_ref().map(|routes| routes_line(routes)));
        lines.extend(self.leds.iter().map(|led| format!("LED: {led} (jitney blink)")));
        for own in &self.i2c {
            let note = own.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
            lines.push(format!("I2C bus {} at {:#04x}: {}{note}", own.bus, own.address, own.device));
        }
        lines.extend(self.management.iter().flat_map(Management::lines));
        lines
    }
}

fn routes_line(routes: &[Option<u8>]) -> String {
    let feeds = (0..).zip(routes).filter_map(|(c2h, h2c)| Some(format!("h2c{} to c2h{c2h}", (*h2c)?)));
    let feeds: Vec<String> = feeds.collect();
    if feeds.is_empty() { "routes: none".to_owned() } else { format!("routes: {}", feeds.join(", ")) }
}

impl Management {
    fn of(board: &Board) -> Result<Self, Error> {
        let cms = board.cms()?;
        match cms.start() {
            Err(Error::Card(error)) if error.kind() == ErrorKind::Held => {
                return Ok(Self { held: Some(error.to_string()), ..Self::default() });
            }
            started => started?,
        }
        let [major, minor, increment] = cms.firmware_version()?;
        let own = Self {
            firmware: format!("{major}.{minor}.{increment}"),
            profile: cms.profile()?,
            ..Self::default()
        };
        let leased = match cms.lease() {
            Err(Error::Card(error)) if error.kind() == ErrorKind::Held => {
                return Ok(Self { held: Some(error.to_string()), ..own });
            }
            leased => leased?,
        };
        let CardInfo { name, serial, revision, mac_addresses, power_watts, .. } = leased.card_info()?;
        let mut modules = Vec::new();
        // PG348 has two bits for the number of a cage.
        for cage in 0..4 {
            match leased.module(cage) {
                Ok(module) => modules.push(Module {
                    cage,
                    kind: module.kind().to_owned(),
                    vendor: module.vendor,
                    part: module.part,
                    serial: module.serial,
                    celsius: module.celsius,
                }),
                // There is no such cage, or nothing in it.
                Err(Error::CardManagement { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mac_addresses = mac_addresses.iter().map(ToString::to_string).collect();
        Ok(Self { name, serial, revision, mac_addresses, power_watts, modules, ..own })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.firmware.is_empty() {
            lines.push(format!("card management: firmware {} for {}", self.firmware, self.profile));
        }
        let fact =
            |what: &str, value: &Option<String>| value.as_ref().map(|value| format!("  {what} {value}"));
        lines.extend(fact("name", &self.name));
        lines.extend(fact("serial number", &self.serial));
        lines.extend(fact("revision", &self.revision));
        lines.extend(self.mac_addresses.iter().map(|address| format!("  MAC address {address}")));
        lines.extend(self.power_watts.map(|watts| format!("  power {watts} W")));
        for own in &self.modules {
            lines.push(format!(
                "  cage {}: {} {} {}, serial number {}, {:.1} °C",
                own.cage, own.kind, own.vendor, own.part, own.serial, own.celsius
            ));
        }
        lines.extend(self.held.as_ref().map(|why| format!("card management: {why}")));
        lines
    }
}
