//! The policy of a broker: read from its file, and explained.

use crate::boards::catalogue;
use crate::errno::explained;
use crate::report::{print_line, print_result};
use crate::status::{Misuse, Status};
use anyhow::{Context, anyhow};
use jitney_boards::Catalogue;
use jitney_broker::machine::{Peer, Way};
use jitney_broker::policy::{Ids, Names, Policy};
use jitney_host::{Root, accounts};
use jitney_vfio::sysfs::Sysfs;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;

/// What a policy says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Explained {
    /// What the broker would do, in words.
    settings: Vec<String>,
    /// Each rule and quota, in words.
    says: Vec<String>,
    user: Option<UserExplained>,
}

/// What it says of a user.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UserExplained {
    uid: u32,
    /// The quota that counts for the user, if there is one.
    quota: Option<String>,
    cards: Vec<CardExplained>,
}

/// What it says of a user and a card.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CardExplained {
    card: String,
    /// `none`, `shared` or `alone`.
    access: String,
    /// Which rule says so.
    because: String,
}

/// Users and groups of this machine, and boards of the catalogue.
struct OfThisMachine {
    root: Root,
    catalogue: Catalogue,
}

impl Names for OfThisMachine {
    fn user(&self, name: &str) -> Option<u32> {
        accounts::user_id(&self.root, name)
    }

    fn group(&self, name: &str) -> Option<u32> {
        accounts::group_id(&self.root, name)
    }

    fn board(&self, name: &str) -> Option<Vec<Ids>> {
        let design = self.catalogue.design(name)?;
        let subsystem = design.subsystem.map(|ids| (ids.vendor, ids.device));
        let ids = design.pci.iter().map(|ids| Ids { vendor: ids.vendor, device: ids.device, subsystem });
        Some(ids.collect())
    }
}

/// Reads a policy.
pub(crate) fn read(path: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow!("policy {}: {}", path.display(), explained(&error)))?;
    let names = OfThisMachine { root: Root::default(), catalogue: catalogue(&[])? };
    Policy::parse(&text, &names).with_context(|| format!("policy {}", path.display()))
}

/// Says what a policy says, and what of it counts for a user.
pub(crate) fn check(
    policy: &Policy,
    settings: Vec<String>,
    user: Option<&str>,
    json: bool,
) -> anyhow::Result<Status> {
    let says = policy.to_string().lines().map(str::to_owned).collect();
    let user = user.map(|user| UserExplained::new(policy, user)).transpose()?;
    let explained = Explained { settings, says, user };
    if json {
        print_result(&explained)?;
    } else {
        explained.print();
    }
    Ok(Status::Passed)
}

impl UserExplained {
    fn new(policy: &Policy, user: &str) -> anyhow::Result<Self> {
        let root = Root::default();
        let uid = accounts::user_id(&root, user)
            .ok_or_else(|| Misuse(format!("there is no user {user:?} on this machine")))?;
        let (gid, groups) = accounts::groups_of(&root, uid);
        let peer = Peer { pid: None, uid, gid, groups, way: Way::Listener };
        // As the broker that would have this policy: of whoever asks.
        let owner = rustix::process::geteuid().as_raw();
        let functions = Sysfs::default().functions()?;
        let cards = functions.iter().filter(|function| function.bound_to_vfio()).map(|function| {
            let card = function.identity();
            let decision = policy.decide(owner, &peer, &card);
            let because = decision.to_string();
            CardExplained { card: card.to_string(), access: decision.access.to_string(), because }
        });
        Ok(Self { uid, quota: policy.quota_in_words(owner, &peer), cards: cards.collect() })
    }
}

impl Explained {
    fn print(&self) {
        self.settings.iter().chain(&self.says).for_each(|line| print_line(line));
        let Some(user) = &self.user else { return };
        print_line(&format!("\nuser {}:", user.uid));
        for card in &user.cards {
            print_line(&format!("  {}: {}, {}", card.card, card.access, card.because));
        }
        if user.cards.is_empty() {
            print_line("  there is no card that is bound to vfio-pci on this machine");
        }
        if let Some(quota) = &user.quota {
            print_line(&format!("  {quota}"));
        }
    }
}
