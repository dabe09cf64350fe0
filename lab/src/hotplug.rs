//! Cards that are pulled out of a machine that runs, and plugged in again. A test in the guest names a card as it sees it,
//! by its PCI address.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::card::Card;
use crate::qmp::Monitor;

/// The machine's slots. What goes wrong is said in a sentence.
pub(crate) struct Slots {
    socket: PathBuf,
    monitor: Option<Monitor>,
    cards: Vec<Card>,
    /// Which cards were pulled out, each with the address that it had in the guest.
    out: Vec<(String, usize)>,
}

impl Slots {
    /// Those of a machine with `cards`, whose monitor listens at `socket`.
    pub(crate) fn new(socket: PathBuf, cards: Vec<Card>) -> Self {
        Self { socket, monitor: None, cards, out: Vec::new() }
    }

    /// Asks the guest to let go of the card at `address`, which then is pulled out. Does not wait for that.
    pub(crate) fn unplug(&mut self, address: &str) -> Result<(), String> {
        let functions = self.monitor()?.execute("query-pci", &json!({}))?;
        let name = find(&functions, address).ok_or(format!("no card at {address} has a name for QEMU"))?;
        let number = (0..self.cards.len()).find(|&number| Card::name(number) == name);
        let number = number.ok_or(format!("{name} at {address} is none of the lab's cards"))?;
        self.monitor()?.execute("device_del", &json!({ "id": name }))?;
        self.out.push((address.to_owned(), number));
        Ok(())
    }

    /// Plugs a card in again that was at `address`, after it has really gone.
    pub(crate) fn plug(&mut self, address: &str) -> Result<(), String> {
        let found = self.out.iter().position(|(other, _)| other == address);
        let (_, number) = self.out.remove(found.ok_or(format!("nothing was unplugged at {address}"))?);
        let device = self.cards[number].device(number).ok_or("only served cards can be plugged in")?;
        self.monitor()?.await_event("DEVICE_DELETED", &Card::name(number))?;
        self.monitor()?.execute("device_add", &device).map(|_| ())
    }

    fn monitor(&mut self) -> Result<&mut Monitor, String> {
        match &mut self.monitor {
            Some(monitor) => Ok(monitor),
            none => Ok(none.insert(Monitor::connect(&self.socket)?)),
        }
    }
}

/// QEMU's name for the function that the guest has at `address`, in the answer to `query-pci`.
fn find(answer: &Value, address: &str) -> Option<String> {
    match answer {
        Value::Array(all) => all.iter().find_map(|one| find(one, address)),
        Value::Object(fields) => {
            let number = |name: &str| fields.get(name).and_then(Value::as_u64);
            let own = match (number("bus"), number("slot"), number("function")) {
                (Some(bus), Some(slot), Some(function)) => format!("0000:{bus:02x}:{slot:02x}.{function:x}"),
                _ => String::new(),
            };
            let name = fields.get("qdev_id").and_then(Value::as_str).filter(|_| own == address);
            name.map(str::to_owned).or_else(|| fields.values().find_map(|below| find(below, address)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_behind_a_port_is_found_by_its_address() {
        let behind = json!([{ "bus": 2, "slot": 0, "function": 0, "qdev_id": "card1" }]);
        let bridge = json!({ "bus": { "number": 0, "secondary": 2 }, "devices": behind });
        let answer = json!([{ "bus": 0, "devices": [
            { "bus": 0, "slot": 0, "function": 0, "qdev_id": "" },
            { "bus": 0, "slot": 17, "function": 0, "qdev_id": "port1", "pci_bridge": bridge },
        ]}]);
        assert_eq!(find(&answer, "0000:02:00.0").as_deref(), Some("card1"));
        assert_eq!(find(&answer, "0000:00:11.0").as_deref(), Some("port1"));
        assert_eq!(find(&answer, "0000:03:00.0"), None);
    }
}
