//! What programs are told (`--json`): one form for every command, with a version.

use super::errno::FileError;
use super::report::print_line;
use super::status::Misuse;
use crate::say::say;
use jitney_vfio::{Card, ErrorKind};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The version of what is printed. A field that goes or changes its meaning makes a new one, a field more does not.
pub(crate) const SCHEMA: u32 = 1;

/// The command that this process is, as `test memory`. A process is one for all its life.
static COMMAND: OnceLock<String> = OnceLock::new();

/// Whether standard output has something else on it.
static STDOUT_IS_DATA: AtomicBool = AtomicBool::new(false);

/// Says that standard output has something else on it: what programs are told goes to standard error.
pub(crate) fn stdout_is_data() {
    STDOUT_IS_DATA.store(true, Ordering::Relaxed);
}

/// Tells programs why there is no result.
pub(crate) fn tell(failure: &Failure) {
    match document(Said::Error(failure)) {
        Ok(line) if STDOUT_IS_DATA.load(Ordering::Relaxed) => say!("{line}"),
        Ok(line) => print_line(&line),
        Err(error) => say!("jitney: {error:#}"),
    }
}

/// Says which command this process is, before anything is printed.
pub(crate) fn set_command(command: String) {
    // Only the first one counts; there is no second.
    let _ = COMMAND.set(command);
}

/// A line of JSON.
#[derive(Serialize)]
struct Document<'a, T> {
    /// See [`SCHEMA`].
    schema: u32,
    /// The command that prints it.
    command: &'a str,
    #[serde(flatten)]
    said: Said<T>,
}

/// What is said in it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Said<T> {
    /// What the command came to. It is the last line.
    Result(T),
    /// Why there is no result. It is the last line.
    Error(T),
    /// Something that happened meanwhile.
    Event(T),
}

/// A line for programs with the result of the command.
pub(crate) fn result(result: &impl Serialize) -> anyhow::Result<String> {
    document(Said::Result(result))
}

/// A line for programs with something that happened before there is a result.
pub(crate) fn event(event: &impl Serialize) -> anyhow::Result<String> {
    document(Said::Event(event))
}

fn document<T: Serialize>(said: Said<T>) -> anyhow::Result<String> {
    let command = COMMAND.get().map_or("", String::as_str);
    Ok(serde_json::to_string(&Document { schema: SCHEMA, command, said })?)
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Failure {
    /// What sort of failure it is: `held`, `link-down`, `misuse` and so on; `other` if that is all there is to say.
    kind: String,
    /// What was tried on which object, and what happened.
    what: String,
    /// The error number of the system call behind it, by name: `EBUSY`.
    errno: Option<String>,
    /// What the user can do about it.
    remedy: Option<String>,
}

impl Failure {
    /// What was tried on which object, and what happened.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Arguments that make no sense.
    pub(crate) fn misuse(what: &str) -> Self {
        Self { kind: "misuse".into(), what: what.into(), errno: None, remedy: None }
    }
}

impl From<&anyhow::Error> for Failure {
    fn from(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let card = error.chain().find_map(card_error);
        let remedy = card.and_then(jitney_vfio::Error::remedy);
        let what = remedy.and_then(|remedy| text.strip_suffix(&format!("; {remedy}"))).unwrap_or(&text);
        let errno = card.and_then(jitney_vfio::Error::errno).or_else(|| error.chain().find_map(io_errno));
        let kind = match card {
            _ if error.is::<Misuse>() => "misuse",
            Some(error) => name(error.kind()),
            None if errno.is_some() => "system",
            None => "other",
        };
        Self {
            kind: kind.into(),
            what: what.into(),
            errno: errno.map(|errno| jitney_memory::errno_name(errno).into()),
            remedy: remedy.map(Into::into),
        }
    }
}

/// The error of a card that `cause` is, or has inside.
fn card_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a jitney_vfio::Error> {
    use jitney_boards::Error as Board;
    use jitney_xdma::Error as Xdma;
    if let Some(error) = cause.downcast_ref() {
        return Some(error);
    }
    let xdma = match cause.downcast_ref::<Board>() {
        Some(Board::Card(error)) => return Some(error),
        Some(Board::Xdma(error)) => Some(error),
        _ => cause.downcast_ref(),
    };
    match xdma {
        Some(Xdma::Card(error) | Xdma::LinkDown(error)) => Some(error),
        _ => None,
    }
}

fn io_errno(cause: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    match cause.downcast_ref::<FileError>() {
        Some(error) => error.errno(),
        None => Errno::from_io_error(cause.downcast_ref()?),
    }
}

fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not-found",
        ErrorKind::Held => "held",
        ErrorKind::Invalid => "invalid",
        ErrorKind::OutOfBounds => "out-of-bounds",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Exhausted => "exhausted",
        ErrorKind::Denied => "denied",
        ErrorKind::LinkDown => "link-down",
        ErrorKind::Disconnected => "disconnected",
        ErrorKind::TimedOut => "timed-out",
        ErrorKind::Protocol => "protocol",
        ErrorKind::System => "system",
        _ => "other",
    }
}

/// Which card something is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct CardName {
    /// Its address: a PCI address, or `vfio-user:` and the socket's path.
    pub(crate) card: String,
    /// Vendor and device, as `10ee:7011`.
    pub(crate) id: String,
}

impl CardName {
    pub(crate) fn of(card: &dyn Card) -> Self {
        Self::from(card.identity())
    }
}

impl From<&jitney_vfio::Identity> for CardName {
    fn from(identity: &jitney_vfio::Identity) -> Self {
        Self {
            card: identity.address.clone(),
            id: format!("{:04x}:{:04x}", identity.vendor, identity.device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use jitney_vfio::Error;

    #[test]
    fn a_failure_has_its_parts_wherever_in_the_chain_they_are() {
        let busy = Error::from_errno(Errno::BUSY, "h2c0").with_remedy("wait");
        let error = Err::<(), _>(jitney_xdma::Error::Card(busy)).context("loading").unwrap_err();
        let failure = Failure::from(&error);
        assert_eq!((failure.kind.as_str(), failure.errno.as_deref()), ("held", Some("EBUSY")));
        assert_eq!(failure.remedy.as_deref(), Some("wait"));
        assert!(
            failure.what.starts_with("loading: h2c0: EBUSY") && !failure.what.contains("wait"),
            "{failure:?}"
        );
        let error = anyhow::Error::from(std::io::Error::from_raw_os_error(2)).context("x.bin");
        let failure = Failure::from(&error);
        assert_eq!((failure.kind.as_str(), failure.errno.as_deref()), ("system", Some("ENOENT")));
        let failure = Failure::from(&Misuse("no".into()).into());
        assert_eq!((failure.kind.as_str(), failure.what.as_str(), failure.errno), ("misuse", "no", None));
    }
}
