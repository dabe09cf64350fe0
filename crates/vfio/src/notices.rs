//! What a card's users have to hear: that somebody wants it back, or that it has failed.

use crate::error::{Error, ErrorKind, Result};
use jitney_memory::EventFd;
use rustix::event::{Timespec, epoll};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Something that happened to a card as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Notice {
    /// Somebody wants the card back: it is being unplugged, or taken from vfio-pci; or, by a broker that takes cards on demand, the
    /// process that emulates it is gone. That waits until every process has let go of it: its buffers, channels, interrupts and BARs, and whatever else keeps the card open.
    Leaving,
    /// The card has reported an error that it may not recover from.
    Failed,
}

impl Notice {
    /// The error that a driver of `card` ends with when it meets this notice.
    #[must_use]
    pub fn explain(self, card: impl fmt::Display) -> Error {
        let remedy = match self {
            Self::Leaving => "this program lets go of it, so that it can go; start again when it is back",
            Self::Failed => "see the kernel's log (dmesg), then open it anew",
        };
        Error::new(ErrorKind::LinkDown, format!("card {card} {self}")).with_remedy(remedy)
    }
}

/// What is the matter with the card, as the end of a sentence about it.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaving => {
                "is being unplugged or taken from vfio-pci, or the process that emulates it is gone"
            }
            Self::Failed => "has reported an error that it may not recover from",
        })
    }
}

/// The notices about one card, as [`Card::notices`](crate::Card::notices) gives them. Clones are the same.
///
/// What was noticed stays: every clone sees it whenever it looks. [`AsFd`] gives a descriptor for a poll loop of the
/// program's own, which is readable once there is something and stays so.
///
/// Where nothing can be told, which is so on every vfio-user server, there never is anything. A server that is gone shows
/// as an error of the next access.
///
/// Under a broker notices come on the connection to it, with other things. So the descriptor is readable when there *may* be
/// something: [`look`](Self::look) then takes in what came, and says.
#[derive(Debug, Clone)]
pub struct Notices {
    sources: Arc<Sources>,
}

#[derive(Debug)]
struct Sources {
    /// Watches both, each by the notice that it stands for.
    poll: OwnedFd,
    leaving: Option<EventFd>,
    failed: Option<EventFd>,
    /// What brings them, if that has to be asked.
    source: Option<Weak<dyn NoticeSource>>,
    /// What wakes tasks; made when one waits.
    #[cfg(feature = "async")]
    watched: crate::watched::Watched,
}

/// What brings notices together with other things, and signals the events of [`Notices`] when it takes one in.
pub trait NoticeSource: AsFd + Send + Sync {
    /// Takes in what has come, without waiting.
    ///
    /// # Errors
    /// What reading it says.
    fn pump(&self) -> Result<()>;
}

impl fmt::Debug for dyn NoticeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoticeSource")
    }
}

/// Stands for the source in the poll set.
const SOURCE: u64 = u64::MAX;

impl Notices {
    /// Notices of which each is the signal of an event, if there is one.
    ///
    /// # Errors
    /// What `epoll` says.
    pub fn new(leaving: Option<EventFd>, failed: Option<EventFd>) -> Result<Self> {
        Self::with(leaving, failed, None)
    }

    /// Notices of which each is the signal of an event, given by a `source` that has to be asked for what came. When the source is
    /// gone nothing comes any more.
    ///
    /// # Errors
    /// What `epoll` says.
    pub fn pumped(
        leaving: Option<EventFd>,
        failed: Option<EventFd>,
        source: Weak<dyn NoticeSource>,
    ) -> Result<Self> {
        Self::with(leaving, failed, Some(source))
    }

    fn with(
        leaving: Option<EventFd>,
        failed: Option<EventFd>,
        source: Option<Weak<dyn NoticeSource>>,
    ) -> Result<Self> {
        let system = |errno| Error::from_errno(errno, "watching for notices of a card");
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        for (event, notice) in [(&leaving, Notice::Leaving), (&failed, Notice::Failed)] {
            if let Some(event) = event {
                let data = epoll::EventData::new_u64(notice as u64);
                epoll::add(&poll, event, data, epoll::EventFlags::IN).map_err(system)?;
            }
        }
        if let Some(source) = source.as_ref().and_then(Weak::upgrade) {
            epoll::add(&poll, source.as_fd(), epoll::EventData::new_u64(SOURCE), epoll::EventFlags::IN)
                .map_err(system)?;
        }
        let sources = Sources {
            poll,
            leaving,
            failed,
            source,
            #[cfg(feature = "async")]
            watched: crate::watched::Watched::default(),
        };
        Ok(Self { sources: Arc::new(sources) })
    }

    /// Whether it can be told that the card is wanted back, and that it has failed.
    pub(crate) fn can_tell(&self) -> (bool, bool) {
        (self.sources.leaving.is_some(), self.sources.failed.is_some())
    }

    /// What there is by now, the more urgent first. One system call, or two, which do not wait.
    ///
    /// # Errors
    /// What `epoll` says; what the source of the notices says, if it is gone.
    pub fn look(&self) -> Result<Option<Notice>> {
        if let Some(source) = self.sources.source.as_ref().and_then(Weak::upgrade) {
            source.pump()?;
        }
        let mut events = [MaybeUninit::uninit(); 3];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let (ready, _) = epoll::wait(&self.sources.poll, &mut events, Some(&now))
            .map_err(|errno| Error::from_errno(errno, "looking for notices of a card"))?;
        let is = |notice: Notice| ready.iter().any(|event| event.data.u64() == notice as u64);
        Ok([Notice::Leaving, Notice::Failed].into_iter().find(|notice| is(*notice)))
    }

    /// Waits until there is something, as a task of any executor.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    #[cfg(feature = "async")]
    pub async fn noticed(&self) -> Result<Notice> {
        loop {
            if let Some(notice) = self.look()? {
                return Ok(notice);
            }
            self.sources.watched.readable(&self.sources.poll).await?;
        }
    }

    /// What has come since the last call, the more urgent first, and forgets it: for an owner that passes notices on. The
    /// kernel says every 10 seconds again that a card is wanted back.
    ///
    /// # Errors
    /// What reading an event says.
    pub fn take(&self) -> Result<Vec<Notice>> {
        let mut came = Vec::new();
        let Sources { leaving, failed, .. } = &*self.sources;
        for (event, notice) in [(leaving, Notice::Leaving), (failed, Notice::Failed)] {
            if let Some(event) = event
                && event.take()? > 0
            {
                came.push(notice);
            }
        }
        Ok(came)
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sources.poll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags};

    /// A pair of events: one for the notices, one to signal.
    fn pair() -> (EventFd, EventFd) {
        let event = EventFd::new().unwrap();
        let copy = event.as_fd().try_clone_to_owned().unwrap();
        (event, EventFd::try_from(copy).unwrap())
    }

    fn readable(notices: &Notices) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut [PollFd::new(notices, PollFlags::IN)], Some(&now)).unwrap() > 0
    }

    #[test]
    fn what_was_noticed_stays_and_the_urgent_comes_first() {
        let ((leaving, leave), (failed, fail)) = (pair(), pair());
        let notices = Notices::new(Some(leaving), Some(failed)).unwrap();
        assert_eq!((notices.look().unwrap(), readable(&notices)), (None, false));
        fail.signal().unwrap();
        for _ in 0..2 {
            assert_eq!((notices.look().unwrap(), readable(&notices)), (Some(Notice::Failed), true));
        }
        leave.signal().unwrap();
        assert_eq!(notices.clone().look().unwrap(), Some(Notice::Leaving));
        assert_eq!(notices.take().unwrap(), [Notice::Leaving, Notice::Failed]);
        assert_eq!((notices.look().unwrap(), readable(&notices)), (None, false));
        leave.signal().unwrap();
        assert_eq!(notices.take().unwrap(), [Notice::Leaving], "asked again");
    }

    #[test]
    fn without_sources_there_is_never_anything() {
        let notices = Notices::new(None, None).unwrap();
        assert_eq!((notices.look().unwrap(), readable(&notices)), (None, false));
        assert!(notices.take().unwrap().is_empty());
    }
}
