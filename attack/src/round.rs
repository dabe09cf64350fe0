//! What a row of the table works with: the arena, and what it found out.

use crate::arena::Arena;
use crate::figures::Figures;
use crate::villain::{NOBODY, Role, Told, Villain};
use rustix::process::Signal;
use std::cell::RefCell;
use std::time::Duration;

/// How long a villain may take for what it does.
pub(crate) const PLAY_LIMIT: Duration = Duration::from_secs(120);

/// A row at work.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) long: bool,
    pub(crate) seed: u64,
    pub(crate) alone: &'a Figures,
    findings: RefCell<Findings>,
}

/// What a row has found out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) told: Told,
    /// What took too long, which is held against the broker if it happens again and again.
    pub(crate) slow: Vec<String>,
    /// Figures that are worth a line.
    pub(crate) notes: Vec<String>,
}

/// How a villain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Itself,
    /// By SIGKILL, when it is in its place.
    Killed,
    /// By SIGKILL, wherever it is.
    Anywhere,
    /// By SIGKILL, after it was stopped (SIGSTOP) for this long.
    StoppedAndKilled(Duration),
}

impl<'a> Round<'a> {
    pub(crate) fn new(arena: &'a Arena, long: bool, seed: u64, alone: &'a Figures) -> Self {
        Self { arena, long, seed, alone, findings: RefCell::default() }
    }

    /// One of two figures: for the short form and for the long one.
    pub(crate) fn figure(&self, short: u32, long: u32) -> u32 {
        if self.long { long } else { short }
    }

    pub(crate) fn role<'r>(&self, play: &'r str, count: u32) -> Role<'r> {
        Role { play, count, choices: self.seed, user: Some(NOBODY), ..Role::default() }
    }

    pub(crate) fn start(&self, role: &Role<'_>) -> anyhow::Result<Villain> {
        self.arena.villain(role)
    }

    /// Plays a role to its end.
    pub(crate) fn play(&self, role: &Role<'_>, end: End) -> anyhow::Result<()> {
        let villain = self.start(role)?;
        self.end(villain, end)
    }

    pub(crate) fn end(&self, mut villain: Villain, end: End) -> anyhow::Result<()> {
        let outcome = match end {
            End::Itself => villain.wait(PLAY_LIMIT),
            End::Anywhere => villain.kill(),
            End::Killed => villain.wait_until_ready(PLAY_LIMIT).and_then(|()| villain.kill()),
            End::StoppedAndKilled(time) => villain.wait_until_ready(PLAY_LIMIT).and_then(|()| {
                villain.signal(Signal::STOP)?;
                std::thread::sleep(time);
                villain.kill()
            }),
        };
        self.findings.borrow_mut().told.add(std::mem::take(&mut villain.told));
        outcome
    }

    pub(crate) fn did(&self, count: u64) {
        self.findings.borrow_mut().told.did += count;
    }

    pub(crate) fn broken(&self, what: impl Into<String>) {
        self.findings.borrow_mut().told.broken.push(what.into());
    }

    pub(crate) fn skip(&self, why: impl Into<String>) {
        self.findings.borrow_mut().told.skipped = Some(why.into());
    }

    pub(crate) fn slow(&self, what: impl Into<String>) {
        self.findings.borrow_mut().slow.push(what.into());
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.findings.borrow_mut().notes.push(what.into());
    }

    pub(crate) fn findings(self) -> Findings {
        self.findings.into_inner()
    }
}
