//! The IRQ block of the model, for two channels: a request that rises behind its enable bit fires its vector, once. Where a vector
//! is merged it does not while another of its requests is up.

use jitney_vfio::FakeHost;

#[derive(Debug, Default)]
pub(crate) struct IrqBlock {
    pub(crate) enable: u32,
    pub(crate) vectors: [u32; 2],
    /// How many interrupts are to be lost.
    pub(crate) lose: u32,
    /// Whether interrupts are under way until a channel's status is read, whose answer comes behind them.
    pub(crate) slow: bool,
    under_way: Vec<u16>,
    /// Whether a vector sends for the first of several requests only, which PG195 leaves open.
    pub(crate) merged: bool,
    lines: u32,
    requests: u32,
    /// What the design's own logic holds up, what of it may pass, and the vectors.
    pub(crate) user: u32,
    pub(crate) user_enable: u32,
    pub(crate) user_vectors: [u32; 4],
    user_requests: u32,
}

impl IrqBlock {
    /// The channels request these interrupts.
    pub(crate) fn set_lines(&mut self, lines: u32, host: &FakeHost) {
        let requests = lines & self.enable;
        let up = self.up();
        for bit in (0..2).filter(|bit| requests & !self.requests & 1 << bit != 0) {
            let vector = self.vectors[0].to_le_bytes()[bit];
            if self.merged && up & 1 << vector != 0 {
                continue;
            }
            if self.lose > 0 {
                self.lose -= 1;
            } else if self.slow {
                self.under_way.push(vector.into());
            } else {
                assert!(host.fire(vector.into()), "nobody gets vector {vector}");
            }
        }
        self.lines = lines;
        self.requests = requests;
    }

    /// What is under way arrives.
    pub(crate) fn arrive(&mut self, host: &FakeHost) {
        for vector in self.under_way.drain(..) {
            assert!(host.fire(vector), "nobody gets vector {vector}");
        }
    }

    /// The design's logic holds these lines up.
    pub(crate) fn set_user(&mut self, lines: u32, host: &FakeHost) {
        let requests = lines & self.user_enable;
        let up = self.up();
        for line in (0..16).filter(|line| requests & !self.user_requests & 1 << line != 0) {
            let vector = self.user_vectors[line / 4].to_le_bytes()[line % 4];
            if !self.merged || up & 1 << vector == 0 {
                host.fire(vector.into());
            }
        }
        (self.user, self.user_requests) = (lines, requests);
    }

    /// The vectors of which a request is up, as bits.
    fn up(&self) -> u32 {
        let bits = |set: u32| (0..16).filter(move |bit| set >> bit & 1 == 1);
        let channels = bits(self.requests).map(|bit: usize| self.vectors[bit / 4].to_le_bytes()[bit % 4]);
        let user =
            bits(self.user_requests).map(|line: usize| self.user_vectors[line / 4].to_le_bytes()[line % 4]);
        channels.chain(user).fold(0, |set, vector| set | 1 << vector)
    }

    pub(crate) fn read(&self, offset: u64) -> u32 {
        match offset {
            0x2004 => self.user_enable,
            0x2040 => self.user_requests,
            0x2048 => self.user,
            0x2080..0x2090 => self.user_vectors[user_register(offset)],
            0x2010 => self.enable,
            0x2044 => self.requests,
            0x204c => self.lines,
            0x20a0 => self.vectors[0],
            0x20a4 => self.vectors[1],
            _ => 0,
        }
    }

    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        match offset {
            0x2008 => self.user_enable |= value & 0xffff,
            0x200c => self.user_enable &= !value,
            0x2080..0x2090 => self.user_vectors[user_register(offset)] = value & 0x1f1f_1f1f,
            0x2014 => self.enable |= value & 3,
            0x2018 => self.enable &= !value,
            0x20a0 => self.vectors[0] = value & 0x1f1f_1f1f,
            0x20a4 => self.vectors[1] = value & 0x1f1f_1f1f,
            _ => panic!("the driver wrote {value:#x} to {offset:#x} of the IRQ block"),
        }
    }
}

/// Which of the registers with vectors of user interrupts is at `offset`.
fn user_register(offset: u64) -> usize {
    usize::try_from((offset - 0x2080) / 4).unwrap()
}
