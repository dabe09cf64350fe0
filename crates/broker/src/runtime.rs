//! Where brokers and emulated boards of this user are found, and who could have put them there.
//!
//! A program that finds a broker or a board computes on its card and writes its data into memory that it was handed.
//! So nothing is said to one that nobody named unless its folder, and then the process that listens, are this user's
//! or root's.
//!
//! One place is everybody's: `/run/jitney`, where root's broker is and the one that a service manager starts for all users.
//! Only root can put something there, and what listens there is root's: a service that runs as another user was handed
//! a socket at which root has called listen(2), and the kernel names whoever did that.

use crate::environment;
use jitney_vfio::{CardAddress, Error, ErrorKind, Result};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a broker calls its socket.
const BROKER: &str = "broker.sock";
/// The folder of the boards' sockets.
const BOARDS: &str = "boards";
/// Bits of a mode: the group and all others may write.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// The folder for sockets of this user: `$XDG_RUNTIME_DIR/jitney`, without that variable `/run/jitney` for root and
/// `/run/user/UID/jitney` for others. There is no other place: in a folder as `/tmp` anybody could be first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFolder {
    path: PathBuf,
    uid: u32,
}

impl RuntimeFolder {
    /// That of the user whom this process runs as. It need not be there yet.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if `XDG_RUNTIME_DIR` names no folder and the system has made none for this user.
    pub fn of_this_user() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        Self::of(uid, std::env::var_os("XDG_RUNTIME_DIR"), &environment::run())
    }

    /// That of the whole system, `/run/jitney`: root's own as well, if `XDG_RUNTIME_DIR` names no other. Everybody may look into it.
    #[must_use]
    pub fn of_the_system() -> Self {
        Self { path: environment::run().join("jitney"), uid: 0 }
    }

    fn of(uid: u32, named: Option<OsString>, run: &Path) -> Result<Self> {
        // A relative one is to be ignored, says the XDG Base Directory Specification.
        let named = named.map(PathBuf::from).filter(|folder| folder.is_absolute());
        let parent = match named {
            Some(folder) => folder,
            None if uid == 0 => run.to_path_buf(),
            None => {
                let folder = run.join(format!("user/{uid}"));
                let is_ours = |folder: Metadata| folder.uid() == uid && why_unsafe(&folder, uid).is_none();
                if !std::fs::symlink_metadata(&folder).is_ok_and(is_ours) {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!(
                            "there is no folder for this user's sockets: XDG_RUNTIME_DIR names none, and {} is not there, \
                             or not this user's alone",
                            folder.display()
                        ),
                    )
                    .with_remedy("set XDG_RUNTIME_DIR to a folder of your own"));
                }
                folder
            }
        };
        Ok(Self { path: parent.join("jitney"), uid })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder, if it is not there: for this user alone, or the system's.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if what is there is no folder, belongs to somebody else, or can be written to by others;
    /// what the system says.
    pub fn make(&self) -> Result<&Path> {
        // A socket in the system's has a mode of its own, and users look for one.
        let mode = if *self == Self::of_the_system() { 0o755 } else { 0o700 };
        self.make_safe(&self.path, mode)?;
        Ok(&self.path)
    }

    /// Makes the folder for this user's broker, and says where the broker's socket belongs.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn make_for_broker(&self) -> Result<PathBuf> {
        Ok(self.make()?.join(BROKER))
    }

    /// Makes the folder in which emulated boards put their sockets if nobody says otherwise.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn make_for_boards(&self) -> Result<PathBuf> {
        let boards = self.make()?.join(BOARDS);
        self.make_safe(&boards, 0o700)?;
        Ok(boards)
    }

    /// The well-known socket of this user's broker; nothing if there is no folder for it. Nobody else can have put it
    /// there, but whether somebody listens, and who, is for the caller to see.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if somebody else could have.
    pub fn broker(&self) -> Result<Option<PathBuf>> {
        Ok(self.is_there(&self.path)?.then(|| self.path.join(BROKER)))
    }

    /// The sockets of this user's emulated boards, in the order of their names.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if somebody else could have put them there; what reading the folder says, but that it is not
    /// there is no error.
    pub fn boards(&self) -> Result<Vec<CardAddress>> {
        let folder = self.path.join(BOARDS);
        if !self.is_there(&self.path)? || !self.is_there(&folder)? {
            return Ok(Vec::new());
        }
        let entries = std::fs::read_dir(&folder).map_err(|error| failed(&folder, &error))?;
        let mut boards = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed(&folder, &error))?.path();
            if path.extension().is_some_and(|extension| extension == "sock") {
                boards.push(CardAddress::VfioUser(path));
            }
        }
        boards.sort();
        Ok(boards)
    }

    fn make_safe(&self, folder: &Path, mode: u32) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(folder)
            .map_err(|error| failed(folder, &error))?;
        let found = std::fs::symlink_metadata(folder).map_err(|error| failed(folder, &error))?;
        match why_unsafe(&found, self.uid) {
            Some(why) => Err(denied(folder, &why)),
            // Root's is safe to read, but not ours to put something into.
            None if found.uid() != self.uid => Err(denied(folder, &belongs_to(found.uid()))),
            None => Ok(()),
        }
    }

    /// Whether `folder` is there; an error if others than this user and root could have put something into it.
    fn is_there(&self, folder: &Path) -> Result<bool> {
        let found = match std::fs::symlink_metadata(folder) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(folder, &error)),
        };
        match why_unsafe(&found, self.uid) {
            Some(why) => Err(denied(folder, &why)),
            None => Ok(true),
        }
    }
}

/// Why what is in a folder could be somebody else's than `uid`'s or root's; nothing if it could not.
fn why_unsafe(folder: &Metadata, uid: u32) -> Option<String> {
    let mode = folder.mode() & 0o7777;
    if !folder.is_dir() {
        Some("is no folder".to_owned())
    } else if folder.uid() != uid && folder.uid() != 0 {
        Some(belongs_to(folder.uid()))
    } else if mode & OTHERS_MAY_WRITE != 0 {
        Some(format!("has mode {mode:04o}, so that others can put sockets into it"))
    } else {
        None
    }
}

fn belongs_to(owner: u32) -> String {
    format!("belongs to user {owner}")
}

fn denied(folder: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("{} {why}: what is in it may be another user's", folder.display()))
        .with_remedy(
            "remove it, set XDG_RUNTIME_DIR to a folder of your own, or name the socket that you trust \
             (JITNEY_BROKER, JITNEY_CARDS, or the option)",
        )
}

fn failed(folder: &Path, error: &std::io::Error) -> Error {
    let what = format!("folder {}", folder.display());
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => Error::from_errno(errno, what),
        None => Error::new(ErrorKind::System, format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// The folder of `uid` below a new one, which has to live as long.
    fn folder_of(uid: u32) -> (tempfile::TempDir, RuntimeFolder) {
        let parent = tempfile::tempdir().unwrap();
        let folder = RuntimeFolder::of(uid, Some(parent.path().into()), Path::new("/run")).unwrap();
        (parent, folder)
    }

    fn own() -> (tempfile::TempDir, RuntimeFolder) {
        folder_of(rustix::process::geteuid().as_raw())
    }

    /// Every use of `folder`, each of which has to be refused, in words that contain `why`.
    fn refused(folder: &RuntimeFolder, why: &str) {
        let outcomes = [
            folder.make().map(drop),
            folder.make_for_broker().map(drop),
            folder.make_for_boards().map(drop),
            folder.broker().map(drop),
            folder.boards().map(drop),
        ];
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let error = outcome.expect_err(&format!("use {index}"));
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_folder_is_made_for_this_user_alone() {
        let (_parent, folder) = own();
        assert_eq!(folder.broker().unwrap(), None);
        assert_eq!(folder.boards().unwrap(), []);
        let boards = folder.make_for_boards().unwrap();
        for made in [folder.path(), &boards] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
        }
        fs::write(boards.join("b.sock"), "").unwrap();
        fs::write(boards.join("a.sock"), "").unwrap();
        fs::write(boards.join("note"), "").unwrap();
        let found: Vec<String> = folder.boards().unwrap().iter().map(ToString::to_string).collect();
        let at = |name| format!("vfio-user:{}", boards.join(name).display());
        assert_eq!(found, [at("a.sock"), at("b.sock")]);
        assert_eq!(folder.broker().unwrap(), Some(folder.make_for_broker().unwrap()));
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        for mode in [0o770, 0o702, 0o1777] {
            let (_parent, folder) = own();
            fs::create_dir(folder.path()).unwrap();
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            refused(&folder, &format!("has mode {mode:04o}"));
        }
        let (_parent, folder) = own();
        let boards = folder.make_for_boards().unwrap();
        fs::set_permissions(&boards, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(folder.boards().unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(folder.make_for_boards().unwrap_err().kind(), ErrorKind::Denied);
        // Others may look: an administrator opens it to the group of a broker.
        let (_parent, folder) = own();
        fs::create_dir(folder.path()).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        assert!(folder.make_for_broker().is_ok() && folder.broker().unwrap().is_some());
    }

    #[test]
    fn a_symbolic_link_or_a_file_is_refused() {
        let (parent, folder) = own();
        let elsewhere = parent.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, folder.path()).unwrap();
        refused(&folder, "is no folder");
        let (_parent, folder) = own();
        fs::write(folder.path(), "").unwrap();
        assert_eq!(folder.broker().unwrap_err().kind(), ErrorKind::Denied);
        assert!(folder.make().is_err());
    }

    #[test]
    fn a_folder_that_a_stranger_made_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give a folder to another user");
            return;
        }
        // Root is not to trust a user's, a user not another one's.
        for (uid, owner) in [(0, 1234), (1235, 1234)] {
            let (_parent, folder) = folder_of(uid);
            fs::create_dir(folder.path()).unwrap();
            chown(folder.path(), Some(owner), None).unwrap();
            refused(&folder, "belongs to user 1234");
        }
        // What root has made a user finds, but puts nothing there.
        let (_parent, folder) = folder_of(1235);
        fs::create_dir(folder.path()).unwrap();
        assert!(folder.broker().unwrap().is_some());
        assert_eq!(folder.make().unwrap_err().kind(), ErrorKind::Denied);
    }

    #[test]
    fn the_systems_folder_is_roots_and_everybody_may_look_into_it() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("jitney");
        let folder = RuntimeFolder { path: path.clone(), uid: 0 };
        assert_eq!(folder, RuntimeFolder::of(0, None, run.path()).unwrap());
        assert_eq!(folder.broker().unwrap(), None);
        fs::create_dir(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            for mode in [0o755, 0o700] {
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                assert_eq!(folder.broker().unwrap(), Some(path.join(BROKER)));
            }
            fs::set_permissions(&path, Permissions::from_mode(0o775)).unwrap();
            refused(&folder, "has mode 0775");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            chown(&path, Some(1234), None).unwrap();
        }
        // Somebody else's, this user's own too: others are to find nothing there.
        let owner = fs::metadata(&path).unwrap().uid();
        refused(&folder, &format!("belongs to user {owner}"));
    }

    #[test]
    fn without_the_variable_it_is_where_the_system_has_made_one() {
        let run = tempfile::tempdir().unwrap();
        let of = |uid, named: Option<&str>| RuntimeFolder::of(uid, named.map(OsString::from), run.path());
        assert_eq!(of(0, None).unwrap().path(), run.path().join("jitney"));
        assert_eq!(of(1000, Some("/x")).unwrap().path(), Path::new("/x/jitney"));
        let uid = rustix::process::geteuid().as_raw();
        // Root's own case is the one above, so that another user has to stand in here.
        let uid = if uid == 0 { 1000 } else { uid };
        for named in [None, Some(""), Some("relative")] {
            let error = of(uid, named).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("XDG_RUNTIME_DIR"), "{error}");
        }
        let system = run.path().join(format!("user/{uid}"));
        fs::create_dir_all(&system).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(of(uid, None).is_err(), "it is root's");
            chown(&system, Some(uid), None).unwrap();
        }
        assert_eq!(of(uid, None).unwrap().path(), system.join("jitney"));
        fs::set_permissions(&system, Permissions::from_mode(0o777)).unwrap();
        assert!(of(uid, None).is_err());
    }
}
