//! Checks of a board beside its DMA.

use crate::check::verdict::Found;
use crate::measure::link::LinkNow;
use crate::size::human;
use jitney_boards::{Board, Error, Kind, Quantity, RegisterSpace};
use jitney_pci::express::LinkSpeed;

/// Whether the link is as good as the design can have it.
pub(super) fn link(board: &Board) -> anyhow::Result<Found> {
    let Some(now) = LinkNow::of(&**board.card())? else {
        return Ok(Found::Unfit("the card has no PCIe link that it tells of".into()));
    };
    let now = now.link;
    let can = board.design().link;
    let lanes = can.and_then(|link| link.lanes);
    let speed = can.and_then(|link| link.gt_per_s);
    let slower = speed.is_some_and(|speed| rate(now.speed).is_some_and(|own| own < speed));
    let narrower = lanes.is_some_and(|lanes| now.width < lanes);
    let best = |lanes: Option<u8>, speed: Option<f64>| match (speed, lanes) {
        (Some(speed), Some(lanes)) => format!("{speed} GT/s x{lanes}"),
        (Some(speed), None) => format!("{speed} GT/s"),
        (None, Some(lanes)) => format!("x{lanes}"),
        (None, None) => "unknown".into(),
    };
    Ok(match slower || narrower {
        true => Found::Bad(format!(
            "{now}, and the design can {}: another slot, or the card's seat in it",
            best(lanes, speed)
        )),
        false => Found::Good(format!("{now}, the design can {}", best(lanes, speed))),
    })
}

/// Gigatransfers a second.
fn rate(speed: LinkSpeed) -> Option<f64> {
    Some(match speed.0 {
        1 => 2.5,
        2 => 5.0,
        3 => 8.0,
        4 => 16.0,
        5 => 32.0,
        _ => return None,
    })
}

/// Whether each peripheral that can be read without doing anything is there.
pub(super) fn registers(board: &Board) -> anyhow::Result<Found> {
    let mut there = Vec::new();
    for frame in board.peripherals() {
        let frame = frame?;
        let kind = frame.peripheral().kind;
        if matches!(kind, Kind::AxiGpio | Kind::UserAccess | Kind::Dna | Kind::DdrStatus | Kind::StreamSwitch)
        {
            // Pins may all be high; a card that is there answers in configuration space besides.
            if frame.read32(0)? == u32::MAX && board.card().config()?.read16(0)? == u16::MAX {
                return Ok(Found::Bad(format!(
                    "{kind} reads as all-ones, and so does configuration space: the link is down"
                )));
            }
            there.push(kind.to_string());
        }
    }
    if let Ok(access) = board.user_access() {
        there.push(format!("built {}", access.build_timestamp()?));
    }
    Ok(match there.is_empty() {
        true => Found::Unfit("the design names none that can be read without doing anything".into()),
        false => Found::Good(there.join(", ")),
    })
}

/// Whether the DDR memory can be used.
pub(super) fn ddr(board: &Board) -> anyhow::Result<Found> {
    let Ok(status) = board.ddr_status() else {
        return Ok(Found::Unfit("the design does not show its state".into()));
    };
    let state = status.state()?;
    Ok(match state.is_ready() {
        true => Found::Good("calibrated".into()),
        false => Found::Bad(format!("not ready: {state:?}")),
    })
}

/// Degrees Celsius that an FPGA can have while it works; what is beside them was not measured.
const TEMPERATURES: std::ops::Range<f64> = -40.0..125.0;

/// Whether what is measured can be, and nothing is outside of its limits.
pub(super) fn sensors(board: &Board) -> anyhow::Result<Found> {
    if !board.has_sensors() {
        return Ok(Found::Unfit("the design has none that this program knows".into()));
    }
    let (mut count, mut hottest, mut wrong) = (0, f64::NEG_INFINITY, Vec::new());
    for monitor in board.monitors()? {
        for reading in monitor.readings()? {
            count += 1;
            let is_temperature = reading.quantity == Quantity::Temperature;
            if is_temperature {
                hottest = hottest.max(reading.now);
            }
            if reading.alarm == Some(true) || is_temperature && !TEMPERATURES.contains(&reading.now) {
                wrong.push(format!("{} {} {:.2}", monitor.name(), reading.name, reading.now));
            }
        }
    }
    let hottest = if hottest.is_finite() { format!(", at most {hottest:.1} °C") } else { String::new() };
    Ok(match wrong.is_empty() {
        true => Found::Good(format!("{count} within their limits{hottest}")),
        false => Found::Bad(format!("outside of their limits: {}", wrong.join(", "))),
    })
}

/// Whether the configuration flash says what it is.
pub(super) fn flash(board: &Board) -> anyhow::Result<Found> {
    let spi = match board.quad_spi() {
        Ok(spi) => spi,
        Err(Error::NoPeripheral { .. }) => return Ok(Found::Unfit("the design does not reach it".into())),
        Err(error) => return Err(error.into()),
    };
    let is_named = board.summary().peripherals.iter().any(|peripheral| peripheral.flash.is_some());
    let flash = match spi.lease()?.flash() {
        Err(error) if !is_named => {
            return Ok(Found::Unfit(format!("the boards file does not say that there is one: {error}")));
        }
        flash => flash?,
    };
    let part = flash.part();
    Ok(Found::Good(format!("{} of {}", human(part.size), part.name.unwrap_or("a part that is not known"))))
}

/// Whether the devices that the boards file names answer.
pub(super) fn i2c(board: &Board) -> anyhow::Result<Found> {
    let (mut there, mut silent) = (Vec::new(), Vec::new());
    let buses = board.summary().peripherals.into_iter().filter(|peripheral| peripheral.kind == Kind::Iic);
    for (index, bus) in buses.enumerate().filter(|(_, bus)| !bus.i2c.is_empty()) {
        let leased = board.iic(index)?.lease()?;
        for device in &bus.i2c {
            let name = format!("{:#04x} {}", device.address, device.device);
            match leased.probe(device.address)? {
                true => there.push(name),
                false => silent.push(name),
            }
        }
    }
    Ok(match (there.is_empty(), silent.is_empty()) {
        (_, false) => Found::Bad(format!("no answer from {}", silent.join(", "))),
        (true, true) => Found::Unfit("the boards file names none".into()),
        (false, true) => Found::Good(there.join(", ")),
    })
}
