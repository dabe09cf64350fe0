//! What a villain sees: the broker that it is to attack, and its voice to the program that started it.

use crate::client::Client;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The first words of a villain's lines.
pub(crate) const READY: &str = "ready";
pub(crate) const DID: &str = "did ";
pub(crate) const BROKEN: &str = "broken ";

/// What a villain needs to know.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Stage {
    /// The broker's socket.
    #[arg(long, hide = true, default_value = "none")]
    pub(crate) socket: PathBuf,
    /// The card that is attacked.
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) card: u32,
    /// How often, or how many.
    #[arg(long, hide = true, default_value_t = 1)]
    pub(crate) count: u32,
    /// What makes the random choices.
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) choices: u64,
    /// Something that the play knows the meaning of.
    #[arg(long, hide = true, default_value = "")]
    pub(crate) word: String,
}

#[expect(clippy::print_stdout, reason = "standard output is the way to the program that started this one")]
fn line(text: &str) {
    println!("{}", text.replace('\n', " "));
    // Whoever listened may be gone; this process will be, too.
    let _ = std::io::stdout().flush();
}

impl Stage {
    /// It is in its place, and can be stopped or killed.
    pub(crate) fn ready(&self) {
        line(READY);
    }

    /// It has done that many things.
    pub(crate) fn did(&self, count: u64) {
        line(&format!("{DID}{count}"));
    }

    /// The broker or a card did what it must not do.
    pub(crate) fn broken(&self, what: impl AsRef<str>) {
        line(&format!("{BROKEN}{}", what.as_ref()));
    }

    /// Until somebody kills it.
    pub(crate) fn stay(&self) -> ! {
        self.ready();
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }

    /// A client whom the broker knows.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::welcome(&self.socket, "villain")
    }

    /// A client to whom nothing was said yet.
    pub(crate) fn stranger(&self) -> anyhow::Result<Client> {
        Client::connect(&self.socket)
    }

    /// A client with the card open, which stays so as long as both are kept.
    pub(crate) fn with_card(&self) -> anyhow::Result<(Client, OwnedFd)> {
        let mut client = self.client()?;
        let grant = client.open(self.card)?;
        Ok((client, grant))
    }

    pub(crate) fn random(&self) -> Random {
        Random::new(self.choices)
    }
}

/// Numbers that look random and are the same for the same seed: xorshift64*.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap_or(usize::MAX) % limit
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            word.copy_from_slice(&random[..word.len()]);
        }
    }
}
