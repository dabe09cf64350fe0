//! `jitney broker`: own the cards for programs that are started elsewhere.

use super::config::Config;
use super::{keep, policy, replace};
use crate::args::{self, Source};
use crate::contract::{self, CardName};
use crate::emulated::EmulatedBoards;
use crate::log::{Priority, complain};
use crate::report::{print_if_read, print_line};
use crate::signals;
use crate::status::{Misuse, Status};
use anyhow::Context;
use clap::Args;
use jitney_broker::policy::Policy;
use jitney_broker::{End, Inherited, ListeningSocket, OwnerOptions, RuntimeFolder, ServiceManager};
use jitney_host::{Root, accounts};
use jitney_vfio::{Error, ErrorKind, OpenedSpace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
Examples:
  jitney broker --emulate nitefury &   # once it says \"listening at\":
  jitney test general                  # finds the broker at its well-known socket
  jitney broker --card 0000:2e:00.0 --socket /run/my.sock --group fpga --policy /etc/jitney/policy.toml
  jitney broker --policy /etc/jitney/policy.toml --check --user alice    # what may she do?
  sudo jitney broker --system          # for all users, as docs/operating.md says; where there is systemd, by its units
  jitney broker --config /etc/jitney/config.toml --check
  jitney broker --on-demand            # takes each card when a program asks for it, and finds those that come later
  jitney broker --emulate nitefury --keep &     # may be killed, and replaced:
  jitney broker --replace                       # after an upgrade; for the broker of all users: --system --replace";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Broker {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Listen here instead of at the well-known place.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Be the broker of all users: listen at the socket that a service manager hands over (LISTEN_FDS), else at
    /// /run/jitney/broker.sock; what no option says, /etc/jitney/config.toml says, if it is there.
    #[arg(long, conflicts_with = "socket")]
    pub(crate) system: bool,
    /// What no option says, this file says, as docs/operating.md describes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Let the processes of a group in as well, not only this user's: of this one, else of the group that the socket has.
    #[arg(long, value_name = "GROUP", num_args = 0..=1, default_missing_value = "")]
    pub(crate) group: Option<String>,
    /// Who may use which card, and how much: a file as docs/policy.md describes it. Without one everybody who can connect may do all.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Take a card when the first program asks for it, and give it back when the last has gone; cards that come later are found.
    /// Each card, or IOMMU group, has an address space of its own.
    #[arg(long)]
    pub(crate) on_demand: bool,
    /// End when no program has been connected for so long (30s, 10m): the cards are free until somebody starts it again.
    #[arg(long, value_name = "TIME", value_parser = args::limit)]
    pub(crate) exit_when_idle: Option<Duration>,
    /// Keep what programs have while the broker is started anew: after it was killed or has crashed, or by --replace. For where
    /// no service manager does that.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Have the broker that runs leave its place to a new one, of the version that is installed now. Programs go on, and notice
    /// a pause.
    #[arg(long, conflicts_with_all = ["keep", "check"])]
    pub(crate) replace: bool,
    /// Only say what the policy and the config file say, and what is wrong with them.
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: what this user, by name or number, may do with the cards of this machine.
    #[arg(long, value_name = "USER", requires = "check")]
    pub(crate) user: Option<String>,
}

/// What there is to say at the end.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the schema: each is printed where it is made")]
pub(crate) enum Outcome {
    /// With --check.
    Explained(policy::Explained),
    /// With --replace.
    Replaced(replace::Replaced),
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// It goes on where another one has stopped, with its programs and cards.
    Resumed { pid: u32, cards: Vec<CardName> },
    /// Programs can be its clients from now on.
    Listening { socket: &'a Path, pid: u32, cards: Vec<CardName> },
}

/// What it does: as the options say, else the config file.
#[derive(Debug)]
struct Settings {
    source: Source,
    group: Option<String>,
    policy: Option<PathBuf>,
    exit_when_idle: Option<Duration>,
    on_demand: bool,
}

impl Settings {
    /// With the policy that they name.
    fn read(args: &Broker, is_service: bool) -> anyhow::Result<(Self, Policy)> {
        let settings = Self::new(args, Config::read(args.config.as_deref(), is_service)?);
        let policy = settings.policy.as_deref().map(policy::read).transpose()?.unwrap_or_default();
        Ok((settings, policy))
    }

    fn new(args: &Broker, config: Config) -> Self {
        let mut source = args.source.clone();
        if source.card.is_empty() && source.emulate.is_empty() {
            source.card = config.cards;
        }
        source.iommu = source.iommu.or(config.iommu);
        source.isolate |= config.isolate;
        Self {
            on_demand: args.on_demand || config.on_demand.unwrap_or(false),
            source,
            group: args.group.clone().or(config.group),
            policy: args.policy.clone().or(config.policy),
            exit_when_idle: args.exit_when_idle.or(config.exit_when_idle),
        }
    }

    /// Each in words.
    fn say(&self) -> Vec<String> {
        let cards: Vec<String> = self.source.card.iter().map(ToString::to_string).collect();
        let cards = if cards.is_empty() { "all that can be had".to_owned() } else { cards.join(", ") };
        let mut says = vec![format!("cards: {cards}")];
        if self.on_demand {
            says.push(
                "each is taken when a program asks for it, and given back when the last has gone".into(),
            );
        } else if self.source.isolate {
            says.push("each card has an address space of its own".into());
        }
        says.extend(self.source.iommu.map(|iommu| format!("interface of the kernel: {iommu}")));
        says.extend(self.policy.as_ref().map(|policy| format!("policy: {}", policy.display())));
        says.extend(
            self.exit_when_idle.map(|time| format!("ends when no program has been connected for {time:?}")),
        );
        says
    }
}

/// A broker that has begun, and what it lives with.
struct Begun {
    settings: Settings,
    broker: jitney_broker::Broker,
    boards: EmulatedBoards,
}

impl Begun {
    /// # Errors
    /// [`NoCard`] if it is to have cards all the time, and there is none.
    fn new(args: &Broker, manager: ServiceManager, is_service: bool) -> anyhow::Result<Self> {
        let (settings, policy) = Settings::read(args, is_service)?;
        jitney_memory::keep_from_children()?;
        allow_many_descriptors();
        let boards = EmulatedBoards::start(&settings.source.emulate)?;
        let broker = match settings.on_demand {
            true => jitney_broker::Broker::on_demand(manager, owner_options(&settings.source, &boards))?,
            false => {
                let spaces = open(&settings.source, &boards)?;
                if spaces.is_empty() {
                    return Err(NoCard.into());
                }
                let shared = spaces.iter().any(|opened| opened.cards.len() > 1);
                if shared && !policy.is_open() {
                    complain(
                        Priority::Warning,
                        "cards share an address space, so that who uses one reaches what others have for another: --isolate keeps them apart",
                    );
                }
                jitney_broker::Broker::under(manager, spaces)?
            }
        };
        Ok(Self { settings, broker: broker.with_policy(policy), boards })
    }
}

/// There is nothing to own.
#[derive(Debug)]
struct NoCard;

impl std::fmt::Display for NoCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is no card to own; name one with --card or --emulate")
    }
}

impl std::error::Error for NoCard {}

/// Why a program is not served by a broker that could not begin.
fn refusal(error: &anyhow::Error) -> Error {
    let kind = error.downcast_ref().map_or(ErrorKind::Invalid, Error::kind);
    Error::new(kind, format!("the broker could not begin: {error:#}"))
}

pub(crate) fn broker(args: &Broker, json: bool) -> anyhow::Result<Status> {
    if args.replace {
        return replace::replace(args, json);
    }
    if args.keep {
        return keep::keep(args);
    }
    let Inherited { sockets, mut kept } = Inherited::of_this_process()?;
    let manager = ServiceManager::of_this_process()?;
    let is_service = args.system || !sockets.is_empty();
    if args.check {
        let (settings, policy) = Settings::read(args, is_service)?;
        // That of a file is for a service, whose package may not be installed yet.
        args.group.as_deref().map(group_id).transpose()?;
        return policy::check(&policy, settings.say(), args.user.as_deref(), json);
    }
    if !kept.is_empty() {
        // Cards, and what this machine allows, are as they were when the first one began.
        let (settings, policy) = match Settings::read(args, is_service) {
            Ok((settings, policy)) => (settings, Some(policy)),
            // That ends no programs which had their cards before.
            Err(error) => {
                let what = "the broker goes on with the policy that it had, and without its settings";
                complain(Priority::Error, &format!("{what}: {error:#}"));
                (Settings::new(args, Config::default()), None)
            }
        };
        jitney_memory::keep_from_children()?;
        allow_many_descriptors();
        let options = owner_options(&settings.source, &EmulatedBoards::default());
        match jitney_broker::Broker::resume(ServiceManager::of_this_process()?, options, &mut kept) {
            Ok(Some(mut broker)) => {
                if let Some(policy) = policy {
                    broker = broker.with_policy(policy);
                }
                return serve(broker, args, &settings, sockets, (true, json));
            }
            Ok(None) => {}
            // Programs that had cards hear that the broker is gone. Others are served.
            Err(error) => complain(Priority::Error, &format!("the broker begins anew: {error:#}")),
        }
    }
    let begun = match Begun::new(args, manager, is_service) {
        Ok(begun) => begun,
        Err(error) if error.is::<NoCard>() => {
            complain(Priority::Error, &error.to_string());
            let error = Error::new(ErrorKind::NotFound, "the broker has no card: none is bound to vfio-pci")
                .with_remedy("sudo jitney bind CARD; lspci -D finds its address");
            sockets.into_iter().for_each(|socket| socket.turn_away(&error));
            return Ok(Status::NothingTested);
        }
        Err(error) => {
            sockets.into_iter().for_each(|socket| socket.turn_away(&refusal(&error)));
            return Err(error);
        }
    };
    let Begun { settings, mut broker, boards: _boards } = begun;
    broker.listen_again(&kept)?;
    // It has copies of its own.
    drop(kept);
    serve(broker, args, &settings, sockets, (false, json))
}

/// Serves until it is told to end.
fn serve(
    mut broker: jitney_broker::Broker,
    args: &Broker,
    settings: &Settings,
    sockets: Vec<ListeningSocket>,
    (resumed, json): (bool, bool),
) -> anyhow::Result<Status> {
    if let Some(limit) = settings.exit_when_idle {
        broker = broker.with_idle_limit(limit);
    }
    let mut places = broker.places();
    if places.is_empty() {
        places = listen(&mut broker, args, settings.group.as_deref(), sockets)?;
    }
    let identities = broker.cards();
    if broker.is_kept() {
        let stop = broker.stop_handle();
        signals::on_replace(move || {
            if let Err(error) = stop.leave_to_another() {
                complain(Priority::Error, &format!("the broker cannot leave its place: {error}"));
            }
        })?;
    }
    let stop = broker.stop_handle();
    signals::on_stop(move |_| {
        if let Err(error) = stop.stop() {
            complain(Priority::Error, &format!("the broker cannot be stopped: {error}"));
        }
    })?;
    // Who has read that the first one listens may read no more.
    let print = if broker.is_kept() { print_if_read } else { print_line };
    if json && resumed {
        let cards = identities.iter().map(CardName::from).collect();
        print(&contract::event(&Event::Resumed { pid: std::process::id(), cards })?);
    }
    if json {
        for socket in &places {
            let cards = identities.iter().map(CardName::from).collect();
            print(&contract::event(&Event::Listening { socket, pid: std::process::id(), cards })?);
        }
    } else {
        if resumed {
            print("the broker goes on where another one has stopped");
        }
        identities.iter().for_each(|identity| print(&format!("card {identity}")));
        places.iter().for_each(|socket| print(&format!("listening at {}", socket.display())));
    }
    Ok(match broker.run()? {
        End::Stopped => Status::Passed,
        End::ForAnother => Status::LeftToAnother,
    })
}

/// Lets clients in: at the sockets that were handed to this process, else at one of its own. Returns where.
fn listen(
    broker: &mut jitney_broker::Broker,
    args: &Broker,
    group: Option<&str>,
    sockets: Vec<ListeningSocket>,
) -> anyhow::Result<Vec<PathBuf>> {
    if !sockets.is_empty() {
        if let Some(path) = &args.socket {
            let what =
                format!("--socket {}: the service manager hands over a socket (LISTEN_FDS)", path.display());
            return Err(Misuse(format!(
                "{what}; leave the option out, or start it without the .socket unit"
            ))
            .into());
        }
        if group.is_some() {
            let what = "group says nothing here: the socket is the service manager's, and its unit says who may connect (SocketGroup=)";
            complain(Priority::Warning, what);
        }
        let places = sockets.iter().map(|socket| socket.path().to_owned()).collect();
        for socket in sockets {
            broker.listen_at(socket)?;
        }
        return Ok(places);
    }
    let path = match &args.socket {
        Some(path) => path.clone(),
        None if args.system => {
            let folder = RuntimeFolder::of_the_system();
            folder.make_for_broker().context("the broker of all users is root's")?
        }
        None => RuntimeFolder::of_this_user()?.make_for_broker()?,
    };
    match group.map(group_id).transpose()? {
        None => broker.listen(&path, 0o600)?,
        Some(None) => broker.listen(&path, 0o660)?,
        Some(Some(gid)) => broker.listen_for_group(&path, gid)?,
    }
    Ok(vec![path])
}

/// The group of a name; none of an empty one, which stands for the group that the socket has.
fn group_id(name: &str) -> Result<Option<u32>, Misuse> {
    if name.is_empty() {
        return Ok(None);
    }
    let missing = || {
        Misuse(format!("there is no group {name:?} on this machine; make it: sudo groupadd --system {name}"))
    };
    accounts::group_id(&Root::default(), name).map(Some).ok_or_else(missing)
}

/// As many as this process may have: each client takes some. It starts no programs, which might not expect it.
pub(super) fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        complain(Priority::Warning, &format!("the limit of open files cannot be raised: {errno}"));
    }
}

/// Opens the cards that `source` names, `boards` among them; without any, what an owner of no name opens.
pub(crate) fn open(source: &Source, boards: &EmulatedBoards) -> anyhow::Result<Vec<OpenedSpace>> {
    Ok(owner_options(source, boards).open()?)
}

fn owner_options(source: &Source, boards: &EmulatedBoards) -> OwnerOptions {
    let cards = crate::cards::named(source, boards);
    OwnerOptions { cards, iommu: source.iommu, isolate: source.isolate }
}
