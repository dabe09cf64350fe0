//! What `jitney xdma-compat` tells the programs that it starts.

use crate::failure::say;
use std::time::Duration;

/// Names the cards by their numbers, a line for each: the first is xdma0. Without it, those cards of the bus that have an XDMA, in its order.
const CARDS: &str = "JITNEY_XDMA_CARDS";
/// How long a transfer may be without progress, in milliseconds; 0 for ever.
const TIMEOUT: &str = "JITNEY_XDMA_TIMEOUT";
/// Whether a transfer moves the descriptor's position on, as a file's, which the driver's do not.
const ADVANCE: &str = "JITNEY_XDMA_ADVANCE";

/// As the driver has it, if nobody says otherwise.
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel that is leased for so long is not in use for transfers of this kind.
const USUAL_WAIT: Duration = Duration::from_secs(10);

/// The driver does not wait at all; here whoever had it may not have been cleared up after.
const MOMENT: Duration = Duration::from_secs(1);

/// What this process was told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Which card is which, if that was said.
    pub(crate) cards: Option<Vec<String>>,
    /// How long a transfer may be without progress; none for ever.
    pub(crate) timeout: Option<Duration>,
    /// Whether a transfer moves the position on.
    pub(crate) advance: bool,
    /// How long a transfer waits for a channel that others have.
    pub(crate) wait: Duration,
    /// How long the opening of something waits that one program has at a time.
    pub(crate) wait_to_open: Duration,
}

impl Settings {
    /// What the environment says. What cannot be understood is said and left out.
    pub(crate) fn of_environment() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
        let cards = text(CARDS).map(|list| list.split('\n').map(str::to_owned).collect());
        let timeout = match text(TIMEOUT).map(|text| (text.parse::<u64>(), text)) {
            None => Some(USUAL_TIMEOUT),
            Some((Ok(0), _)) => None,
            Some((Ok(milliseconds), _)) => Some(Duration::from_millis(milliseconds)),
            Some((Err(error), text)) => {
                say(&format!("{TIMEOUT}={text} is no number of milliseconds ({error}): it is 10 seconds"));
                Some(USUAL_TIMEOUT)
            }
        };
        let wait = text(jitney_broker::WAIT_VARIABLE).and_then(|text| jitney_broker::parse_wait(&text).ok());
        let advance = text(ADVANCE).is_some_and(|text| text != "0");
        let (wait, wait_to_open) = (wait.unwrap_or(USUAL_WAIT), wait.unwrap_or(MOMENT));
        Self { cards, timeout, advance, wait, wait_to_open }
    }
}
