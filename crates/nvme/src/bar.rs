//! The controller's registers: enabling, disabling, doorbells.

use crate::error::{Error, Result};
use crate::pause::Pause;
use crate::spec::PAGE;
use crate::spec::registers::{
    ACQ_HIGH, ACQ_LOW, AQA, ASQ_HIGH, ASQ_LOW, AdminQueueSizes, CAP_HIGH, CAP_LOW, CC, CSTS, Capabilities,
    Configuration, ControllerStatus, completion_doorbell, submission_doorbell,
};
use jitney_registers::Block;
use jitney_vfio::{Card, ErrorKind, Region, Will, WillStep};
use std::time::Duration;

/// The BAR that has them.
const BAR: u8 = 0;
/// How long a shutdown may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// The registers of a controller that can be driven.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    block: Block<Region>,
    /// Who it is, for errors.
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
}

impl Bar {
    /// Of a controller that fits this driver, with doorbells for `queues` I/O queues.
    pub(crate) fn new(card: &dyn Card, queues: u16) -> Result<Self> {
        let name = format!("the NVMe controller of {}", card.identity());
        let block = Block::new(card.bar(BAR.into())?, 0);
        let capabilities = Capabilities::from_bits(block.read_pair(CAP_LOW, CAP_HIGH)?);
        let this = Self { block, name, capabilities };
        if capabilities.into_bits() == u64::MAX {
            return Err(this.link_down());
        }
        let wrong = |why: &str| {
            let bits = capabilities.into_bits();
            let what = format!("{} cannot be driven: {why} (CAP {bits:#x})", this.name);
            Err(Error::of(
                ErrorKind::Unsupported,
                what,
                "see whether the card is an NVMe drive (jitney list --all)",
            ))
        };
        if !capabilities.nvm() {
            return wrong("it does not have the NVM command set");
        }
        if capabilities.smallest_page() > 0 {
            return wrong("its smallest page is larger than 4 KiB");
        }
        let last = u64::from(completion_doorbell(queues, capabilities.stride()).offset()) + 4;
        if this.block.space().size() < last {
            return wrong("BAR 0 has no room for its doorbells");
        }
        Ok(this)
    }

    fn link_down(&self) -> Error {
        let what = format!("{} reads all-ones: its link is down, or it is gone", self.name);
        Error::of(ErrorKind::LinkDown, what, "see the kernel log and jitney list, then reset the card")
    }

    /// CSTS of a controller that is there.
    pub(crate) fn status(&self) -> Result<ControllerStatus> {
        match self.block.read(CSTS)? {
            status if status.into_bits() == u32::MAX => Err(self.link_down()),
            status => Ok(status),
        }
    }

    /// That it takes commands.
    pub(crate) fn check_ready(&self) -> Result<()> {
        let status = self.status()?;
        let why = match (status.fatal(), status.ready()) {
            (true, _) => "it reports a fatal error (CSTS.CFS)",
            (false, false) => "it is not ready: somebody has disabled or reset it",
            (false, true) => return Ok(()),
        };
        let what = format!("{} takes no commands: {why}; CSTS {:#x}", self.name, status.into_bits());
        Err(Error::of(ErrorKind::System, what, "end all programs that use it; the next one enables it anew"))
    }

    /// What disables it and waits until it is quiet, for whoever owns the card.
    pub(crate) fn will(&self) -> Will {
        let within = self.capabilities.patience().min(Will::MAX_WAIT).as_millis();
        let disabled = Configuration::ENABLED.with_enable(false);
        Will(vec![
            WillStep::write(BAR, CC.offset().into(), disabled.into_bits()),
            WillStep::WaitUntil {
                bar: BAR,
                offset: CSTS.offset().into(),
                mask: ControllerStatus::new().with_ready(true).into_bits(),
                value: 0,
                within_ms: u32::try_from(within).unwrap_or(u32::MAX),
            },
        ])
    }

    /// Enables it with its admin queues of `entries` each, which are zeroed (section 7.6.1).
    pub(crate) fn enable(&self, submission: u64, completion: u64, entries: u16) -> Result<()> {
        debug_assert!(submission.is_multiple_of(PAGE) && completion.is_multiple_of(PAGE));
        let last = entries - 1;
        self.block.write(AQA, AdminQueueSizes::new().with_submission(last).with_completion(last))?;
        self.block.write_pair(ASQ_LOW, ASQ_HIGH, submission)?;
        self.block.write_pair(ACQ_LOW, ACQ_HIGH, completion)?;
        self.block.write(CC, Configuration::ENABLED)?;
        self.await_status("enabled", |status| status.ready())
    }

    /// Disables it: it has no queue any more, and touches no memory.
    pub(crate) fn disable(&self) -> Result<()> {
        let configuration = self.block.read(CC)?;
        if configuration.enable() {
            // What is enabled and not ready yet may not be disabled before (section 3.1.5), unless it never will be.
            if !self.status()?.ready() && !self.status()?.fatal() {
                let _ = self.await_status("enabled", |status| status.ready());
            }
            self.block.write(CC, configuration.with_enable(false).with_shutdown(0))?;
        }
        self.await_status("disabled", |status| !status.ready())
    }

    /// Has it write what it caches, and disables it (section 7.6.2).
    pub(crate) fn shut_down(&self) -> Result<()> {
        if self.status()?.ready() {
            self.block.write(CC, Configuration::ENABLED.with_shutdown(1))?;
            let pause = Pause::new();
            while self.status()?.shutdown() != 2 && pause.elapsed() < SHUTDOWN_LIMIT {
                pause.pause();
            }
        }
        self.disable()
    }

    fn await_status(&self, what: &str, is: impl Fn(ControllerStatus) -> bool) -> Result<()> {
        let (pause, patience) = (Pause::new(), self.capabilities.patience());
        loop {
            let status = self.status()?;
            if is(status) {
                return Ok(());
            }
            if status.fatal() && what == "enabled" {
                return self.check_ready();
            }
            if pause.elapsed() > patience {
                let what = format!(
                    "{} is not {what} after {patience:?}, which is what it asks for (CAP.TO); CSTS {:#x}",
                    self.name,
                    status.into_bits()
                );
                return Err(Error::of(ErrorKind::TimedOut, what, "reset the card"));
            }
            pause.pause();
        }
    }

    /// Tells it how far a submission queue is written.
    pub(crate) fn ring_submission(&self, queue: u16, tail: u16) -> Result<()> {
        Ok(self.block.write(submission_doorbell(queue, self.capabilities.stride()), tail.into())?)
    }

    /// Tells it how far a completion queue is read.
    pub(crate) fn ring_completion(&self, queue: u16, head: u16) -> Result<()> {
        Ok(self.block.write(completion_doorbell(queue, self.capabilities.stride()), head.into())?)
    }
}
