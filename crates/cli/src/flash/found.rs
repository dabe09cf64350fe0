//! A bitstream that was found, in a file or in a flash.

use crate::size::human;
use jitney_bitstream::{Header, Order, Scan};
use jitney_boards::user_access::BuildTimestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// What a bitstream is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Found {
    /// The design's name, of a .bit file.
    design: Option<String>,
    /// The part and package that a .bit file names, as `7a200tfbg484`.
    named_part: Option<String>,
    /// The date of a .bit file.
    date: Option<String>,
    /// The time of a .bit file.
    time: Option<String>,
    /// The IDCODE that the FPGA has to have.
    idcode: Option<u32>,
    /// The part that has this IDCODE, as `XC7A200T`.
    part: Option<&'static str>,
    /// What the design reads through USR_ACCESS, where a packet sets it.
    user_access: Option<u32>,
    /// How many dies it is for.
    dies: usize,
    /// Words of frame data, of 32 bits.
    frame_words: u64,
    /// Whether frames are written to several addresses at once.
    compressed: bool,
    /// Whether it is encrypted, from where on nothing is known of it.
    encrypted: bool,
    /// How bits and bytes are ordered: `straight` is as an FPGA takes them from a flash.
    order: Option<String>,
    /// Whether it has what an FPGA finds its bus width by.
    bus_width: bool,
    /// Where the configuration starts that it asks for, if it does.
    jumps_to: Option<u32>,
    /// How many bytes it has, if its end was found.
    bytes: Option<u64>,
    /// Whether it is whole; nothing if not all of it was read.
    whole: Option<bool>,
    /// What is wrong with it.
    fault: Option<String>,
}

impl Found {
    /// What `scan` found, all of it unless `partial`; nothing if there was no sync word.
    pub(super) fn of(header: Option<&Header>, scan: &Scan, partial: bool) -> Option<Self> {
        scan.sync?;
        let text = |pick: fn(&Header) -> &String| header.map(|header| pick(header).clone());
        Some(Self {
            design: text(|header| &header.design),
            named_part: text(|header| &header.part),
            date: text(|header| &header.date),
            time: text(|header| &header.time),
            idcode: scan.idcode(),
            part: scan.part(),
            user_access: scan.dies.iter().find_map(|die| die.user_access),
            dies: scan.dies.len(),
            frame_words: scan.frame_words(),
            compressed: scan.dies.iter().any(|die| die.compressed),
            encrypted: scan.encrypted,
            order: scan.order.map(|order| order.to_string()),
            bus_width: scan.bus_width,
            jumps_to: scan.warm_boot.filter(|_| scan.jumps),
            bytes: scan.end,
            whole: (!partial && !scan.encrypted).then(|| scan.is_whole()),
            fault: fault(scan, partial),
        })
    }

    /// Lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(design) = &self.design {
            lines.push(format!("design {design}"));
        }
        if let (Some(part), Some(date), Some(time)) = (&self.named_part, &self.date, &self.time) {
            lines.push(format!("for {part}, built {date} {time}"));
        }
        let part = self.part.unwrap_or("a part that is not known here");
        lines.push(match self.idcode {
            Some(idcode) => format!("IDCODE {idcode:08x}: {part}"),
            None => "no IDCODE".to_owned(),
        });
        if let Some(word) = self.user_access {
            lines.push(format!("user access {word:08x}, as a time {}", BuildTimestamp::from(word)));
        }
        let dies = if self.dies > 1 { format!(" for {} dies", self.dies) } else { String::new() };
        let packed = if self.compressed { ", and compressed ones" } else { "" };
        let size = self.bytes.map(|bytes| format!("{} ({bytes} bytes), ", human(bytes))).unwrap_or_default();
        lines.push(format!("{size}{} words of frames{dies}{packed}", self.frame_words));
        if self.encrypted {
            lines.push("encrypted: nothing more can be said of it".to_owned());
        }
        if let Some(address) = self.jumps_to {
            lines.push(format!("it starts the configuration at {address:#x}"));
        }
        if let Some(order) = self.order.as_ref().filter(|order| **order != Order::Straight.to_string()) {
            lines.push(format!("{order}: no FPGA takes it so from a flash"));
        }
        lines.extend(self.fault.clone());
        lines
    }
}

/// What is wrong with a bitstream.
pub(super) fn fault(scan: &Scan, partial: bool) -> Option<String> {
    match (scan.fault, scan.missing) {
        (Some(fault), _) => {
            Some(format!("at {:#x} it goes on with {:#010x}, which is in no bitstream", fault.at, fault.word))
        }
        (None, missing) if missing > 0 && !partial => {
            Some(format!("it has no end: {missing} bytes are missing at least"))
        }
        _ => None,
    }
}
