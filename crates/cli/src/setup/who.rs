//! `jitney who`: which process holds which file of VFIO, and since when.

use super::args::Who;
use crate::report::{print_line, print_result};
use crate::status::Status;
use jitney_setup::{Holder, Root, Scope};
use jitney_vfio::sysfs::Sysfs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn who(args: &Who, json: bool) -> anyhow::Result<Status> {
    let scope = match args.card {
        Some(card) => Scope::Card(card.address(&Sysfs::default())?),
        None => Scope::All,
    };
    let found = jitney_setup::who_holds(&Root::default(), scope)?;
    if json {
        print_result(&found)?;
        return Ok(Status::Passed);
    }
    if found.holders.is_empty() {
        print_line(match scope {
            Scope::All => "Nobody who can be seen holds a file of VFIO.",
            Scope::Card(_) => "Nobody who can be seen holds the card.",
        });
    } else {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["pid", "user", "program", "runs for", "holds"]);
        for holder in &found.holders {
            table.add_row(row(holder, SystemTime::now()));
        }
        print_line(&table.to_string());
    }
    if found.hidden > 0 {
        print_line(&format!(
            "{} processes of other users could not be looked into: sudo jitney who sees them too.",
            found.hidden
        ));
    }
    Ok(Status::Passed)
}

fn row(holder: &Holder, now: SystemTime) -> [String; 5] {
    let mut files = holder.files.join("\n");
    if !holder.card_is_certain {
        files.push_str(" (the kernel does not tell which card)");
    }
    let started = holder.since.map(|since| UNIX_EPOCH + Duration::from_secs(since));
    let age = started.and_then(|started| now.duration_since(started).ok());
    [
        holder.pid.to_string(),
        holder.user.clone().unwrap_or_else(|| holder.uid.to_string()),
        holder.executable.clone(),
        age.map_or_else(|| "unknown".to_owned(), |age| long(age.as_secs())),
        files,
    ]
}

/// A time in its two largest units: `3 h 12 min`.
fn long(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (11_520, "3 h 12 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(long(seconds), text);
        }
    }

    #[test]
    fn a_row() {
        let holder = Holder {
            pid: 7,
            uid: 1000,
            user: None,
            executable: "/bin/x".to_owned(),
            since: Some(100),
            files: vec!["[vfio-device]".to_owned()],
            card_is_certain: false,
        };
        let row = row(&holder, UNIX_EPOCH + Duration::from_secs(105));
        let files = "[vfio-device] (the kernel does not tell which card)";
        assert_eq!(row, ["7", "1000", "/bin/x", "5 s", files]);
    }
}
