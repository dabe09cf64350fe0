//! Who may use which card and how, and how much of what. Pure; a file says it ([`Policy::parse`]), docs/policy.md describes that.

mod file;

use crate::machine::{Limits, Peer, Way};
pub use file::{Names, PolicyError};
use jitney_vfio::Identity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Who may use which card and how, and how much of what.
///
/// The default lets everybody who can connect do everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Without rules everybody may do everything; with rules, who no rule fits may do nothing.
    rules: Option<Vec<Rule>>,
    quotas: Vec<Quota>,
}

/// The first rule that fits who asks and for which card decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Rule {
    number: usize,
    who: Vec<Who>,
    cards: Vec<Pattern>,
    access: Access,
}

/// The first quota that fits who asks decides; what it does not say is as without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Quota {
    number: usize,
    who: Vec<Who>,
    connections: Option<usize>,
    buffers: Option<usize>,
    memory: Option<u64>,
    leases: Option<usize>,
    lease_time: Option<Duration>,
}

/// Whom a rule is about, as it is written and as a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Who {
    Everybody,
    User(String, u32),
    Group(String, u32),
}

/// Which cards a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Pattern {
    /// An address, `vendor:device`, or `*`.
    Selector(String),
    /// A board by its name: any of these ids.
    Board(String, Vec<Ids>),
}

/// The ids of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ids {
    /// Vendor.
    pub vendor: u16,
    /// Device, or any.
    pub device: Option<u16>,
    /// Vendor and device of the subsystem, or any.
    pub subsystem: Option<(u16, Option<u16>)>,
}

/// What somebody may do with a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Nothing: it is not there for them.
    None,
    /// Open it and lease parts of it, beside others. Not the whole card, and no reset.
    Shared,
    /// All.
    Alone,
}

/// What a policy says of somebody and a card, and which rule says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What they may do.
    pub access: Access,
    reason: Reason<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason<'a> {
    NoPolicy,
    /// Whoever runs the broker, root, and what they started.
    Owner,
    Rule(&'a Rule),
    NoRule,
}

impl Policy {
    /// What `peer` may do with `card` of a broker that runs as user `owner`.
    #[must_use]
    pub fn decide(&self, owner: u32, peer: &Peer, card: &Identity) -> Decision<'_> {
        let Some(rules) = &self.rules else {
            return Decision { access: Access::Alone, reason: Reason::NoPolicy };
        };
        if peer.uid == owner || peer.uid == 0 || peer.way == Way::Door {
            return Decision { access: Access::Alone, reason: Reason::Owner };
        }
        let fits = |rule: &&Rule| {
            rule.who.iter().any(|who| who.is(peer)) && rule.cards.iter().any(|cards| cards.matches(card))
        };
        match rules.iter().find(fits) {
            Some(rule) => Decision { access: rule.access, reason: Reason::Rule(rule) },
            None => Decision { access: Access::None, reason: Reason::NoRule },
        }
    }

    /// Whether everybody may do everything with every card.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.rules.is_none()
    }

    fn quota(&self, owner: u32, peer: &Peer) -> Option<&Quota> {
        let ours = peer.uid == owner || peer.uid == 0;
        self.quotas.iter().find(|quota| !ours && quota.who.iter().any(|who| who.is(peer)))
    }

    /// How much `peer` may have, where `usual` is what everybody may.
    #[must_use]
    pub fn limits(&self, owner: u32, peer: &Peer, usual: Limits) -> Limits {
        let Some(quota) = self.quota(owner, peer) else { return usual };
        let buffers = quota.buffers.unwrap_or(usual.buffers_of_user);
        let leases = quota.leases.unwrap_or(usual.leases_of_user);
        Limits {
            connections_of_user: quota.connections.unwrap_or(usual.connections_of_user),
            buffers_of_user: buffers,
            buffers_of_client: usual.buffers_of_client.min(buffers),
            bytes_of_user: quota.memory.unwrap_or(usual.bytes_of_user),
            leases_of_user: leases,
            leases_of_client: usual.leases_of_client.min(leases),
            ..usual
        }
    }

    /// How long `peer` may keep a lease that somebody else waits for; nothing if that is as long as it likes.
    #[must_use]
    pub fn lease_time(&self, owner: u32, peer: &Peer) -> Option<Duration> {
        self.quota(owner, peer)?.lease_time
    }

    /// Which quota `peer` has, in words; nothing if none.
    #[must_use]
    pub fn quota_in_words(&self, owner: u32, peer: &Peer) -> Option<String> {
        self.quota(owner, peer).map(ToString::to_string)
    }
}

impl Who {
    fn is(&self, peer: &Peer) -> bool {
        match self {
            Self::Everybody => true,
            Self::User(_, uid) => *uid == peer.uid,
            Self::Group(_, gid) => *gid == peer.gid || peer.groups.contains(gid),
        }
    }
}

impl Pattern {
    fn matches(&self, card: &Identity) -> bool {
        match self {
            Self::Selector(selector) => card.matches(selector),
            Self::Board(_, ids) => ids.iter().any(|ids| ids.matches(card)),
        }
    }
}

impl Ids {
    fn matches(self, card: &Identity) -> bool {
        let of = |vendor, device: Option<u16>, (its_vendor, its_device)| {
            vendor == its_vendor && device.is_none_or(|device| device == its_device)
        };
        of(self.vendor, self.device, (card.vendor, card.device))
            && self.subsystem.is_none_or(|(vendor, device)| {
                of(vendor, device, (card.subsystem_vendor, card.subsystem_device))
            })
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::NoPolicy => f.write_str("there is no policy"),
            Reason::Owner => f.write_str("whoever runs the broker, and root, may do everything"),
            Reason::Rule(rule) => write!(f, "{rule}"),
            Reason::NoRule => f.write_str("no rule fits"),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Shared => "shared",
            Self::Alone => "alone",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, who, cards, access } = self;
        write!(f, "rule {number} (who {}, cards {}, access {access})", list(who), list(cards))
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quota {} (who {}", self.number, list(&self.who))?;
        let numbers = [
            ("connections", self.connections.map(|number| number.to_string())),
            ("buffers", self.buffers.map(|number| number.to_string())),
            ("memory", self.memory.map(|bytes| format!("{bytes} bytes"))),
            ("leases", self.leases.map(|number| number.to_string())),
            ("lease-time", self.lease_time.map(|time| humantime::format_duration(time).to_string())),
        ];
        for (name, number) in numbers {
            number.map_or(Ok(()), |number| write!(f, ", {name} {number}"))?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("everybody"),
            Self::User(name, _) => write!(f, "user:{name}"),
            Self::Group(name, _) => write!(f, "group:{name}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selector(selector) => f.write_str(selector),
            Self::Board(name, _) => write!(f, "board:{name}"),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rules {
            None => f.write_str("everybody who can connect may use every card")?,
            Some(rules) => {
                for rule in rules {
                    writeln!(f, "{rule}")?;
                }
                f.write_str("everybody else: nothing")?;
            }
        }
        self.quotas.iter().try_for_each(|quota| write!(f, "\n{quota}"))
    }
}

fn list(things: &[impl fmt::Display]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer { pid: Some(1), uid, gid, groups: groups.to_vec(), way: Way::Listener }
    }

    fn card(address: &str, device: u16) -> Identity {
        Identity {
            address: address.into(),
            vendor: 0x10ee,
            device,
            subsystem_vendor: 0x10ee,
            subsystem_device: 7,
            revision: 0,
            class: 0,
        }
    }

    /// Users alice (1000) and bob (1001), a group fpga (990), a board nitefury.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Known;

    impl Names for Known {
        fn user(&self, name: &str) -> Option<u32> {
            [("alice", 1000), ("bob", 1001)].into_iter().find(|(known, _)| *known == name).map(|(_, uid)| uid)
        }

        fn group(&self, name: &str) -> Option<u32> {
            (name == "fpga").then_some(990)
        }

        fn board(&self, name: &str) -> Option<Vec<Ids>> {
            let subsystem = Some((0x10ee, Some(7)));
            (name == "nitefury").then(|| vec![Ids { vendor: 0x10ee, device: Some(0x7011), subsystem }])
        }
    }

    const FILE: &str = r#"
[[rule]]
who = ["user:bob"]
cards = ["0000:2e:00.0"]
access = "none"

[[rule]]
who = ["group:fpga"]
access = "shared"

[[rule]]
who = ["user:alice"]
cards = ["board:nitefury"]
access = "alone"

[[quota]]
who = ["user:bob"]
memory = "2 GiB"
leases = 3
lease-time = "30m"

[[quota]]
who = ["everybody"]
buffers = 7
"#;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = Policy::parse(FILE, &Known).unwrap();
        let (one, other) = (card("0000:2e:00.0", 0x7011), card("0000:30:00.0", 0x9034));
        let says = |peer: &Peer, card: &Identity| {
            let decision = policy.decide(4711, peer, card);
            (decision.access, decision.to_string())
        };
        let alice = peer(1000, 1000, &[]);
        let bob = peer(1001, 1001, &[5, 990]);
        let none = "rule 1 (who user:bob, cards 0000:2e:00.0, access none)";
        assert_eq!(says(&bob, &one), (Access::None, none.into()));
        let shared = "rule 2 (who group:fpga, cards *, access shared)";
        assert_eq!(says(&bob, &other), (Access::Shared, shared.into()));
        assert_eq!(says(&peer(7, 990, &[]), &other).0, Access::Shared, "his first group counts as well");
        assert_eq!(says(&alice, &one).0, Access::Alone);
        assert_eq!(says(&alice, &other), (Access::None, "no rule fits".into()));
        for uid in [0, 4711] {
            assert_eq!(says(&peer(uid, 1, &[]), &other).0, Access::Alone, "root and the owner need no rule");
        }
        let child = Peer { way: Way::Door, ..peer(1234, 1, &[]) };
        assert_eq!(says(&child, &other).0, Access::Alone, "what the owner started");
    }

    #[test]
    fn without_rules_everybody_may_do_everything() {
        let policy = Policy::parse("[[quota]]\nwho = [\"everybody\"]\nbuffers = 1\n", &Known).unwrap();
        assert!(policy.is_open());
        let decision = policy.decide(0, &peer(5, 5, &[]), &card("x", 1));
        assert_eq!((decision.access, decision.to_string()), (Access::Alone, "there is no policy".into()));
        // A list of rules that is empty is one: nobody may do anything.
        let policy = Policy::parse("rule = []", &Known).unwrap();
        assert_eq!(policy.decide(0, &peer(5, 5, &[]), &card("x", 1)).access, Access::None);
    }

    #[test]
    fn quotas_narrow_what_is_usual() {
        let policy = Policy::parse(FILE, &Known).unwrap();
        let usual = Limits { bytes_of_user: 1 << 40, ..Limits::default() };
        let bob = peer(1001, 1001, &[]);
        let limits = policy.limits(4711, &bob, usual);
        assert_eq!(
            limits,
            Limits { bytes_of_user: 2 << 30, leases_of_user: 3, leases_of_client: 3, ..usual },
            "the first that fits decides alone"
        );
        assert_eq!(policy.lease_time(4711, &bob), Some(Duration::from_secs(1800)));
        let other = policy.limits(4711, &peer(7, 7, &[]), usual);
        assert_eq!((other.buffers_of_user, other.buffers_of_client), (7, 7));
        for uid in [0, 4711] {
            assert_eq!(policy.limits(4711, &peer(uid, 7, &[]), usual), usual);
        }
    }

    #[test]
    fn it_says_what_it_says() {
        let policy = Policy::parse(FILE, &Known).unwrap();
        let text = policy.to_string();
        assert!(text.contains(
            "rule 3 (who user:alice, cards board:nitefury, access alone)\neverybody else: nothing"
        ));
        let quota = "quota 1 (who user:bob, memory 2147483648 bytes, leases 3, lease-time 30m)";
        assert!(text.contains(quota), "{text}");
        assert_eq!(Policy::default().to_string(), "everybody who can connect may use every card");
    }
}
