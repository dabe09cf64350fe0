//! A folder of things that take long to fetch or build, each named by what it was made from.
//!
//! An entry is there whole or not at all: it is made in a folder of its own and then renamed. One lock for the whole cache
//! makes a second run wait for the first, which builds what the second would.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;
use crate::progress::Step;

/// What entries under construction are called; a run that was interrupted leaves one behind.
const UNFINISHED: &str = ".unfinished-";

/// The lab's folder outside the checkout: `$XDG_CACHE_HOME/jitney/lab`, else `~/.cache/jitney/lab`.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Where the builder of an entry may write.
pub(crate) struct Workshop<'a> {
    /// Becomes the entry.
    pub(crate) entry: &'a Path,
    /// For everything else; removed when the entry is done.
    pub(crate) scratch: &'a Path,
    /// Kept from one entry to the next. No other run uses it at the same time.
    pub(crate) shared: &'a Path,
}

impl Cache {
    /// The user's cache, made if it is not there.
    pub(crate) fn open() -> Result<Self, Error> {
        let home = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
        let home = home.or_else(|| env::home_dir().map(|home| home.join(".cache")));
        let home = home.ok_or_else(|| Error::Missing {
            what: "HOME or XDG_CACHE_HOME".to_owned(),
            place: "the environment".to_owned(),
        })?;
        Self::at(home.join("jitney/lab"))
    }

    fn at(root: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&root).map_err(Error::io("make the cache folder", &root))?;
        let cache = Self { root };
        let lock = cache.lock_file()?;
        if lock.try_lock().is_ok() {
            cache.remove_unfinished()?;
        }
        Ok(cache)
    }

    /// The folder that holds entry `name` as made from `ingredients`, if it has been made.
    pub(crate) fn existing(&self, name: &str, ingredients: &str) -> Option<PathBuf> {
        Some(self.path(name, ingredients)).filter(|path| path.exists())
    }

    fn path(&self, name: &str, ingredients: &str) -> PathBuf {
        self.root.join(format!("{name}-{:016x}", fnv1a(ingredients.as_bytes())))
    }

    /// The folder that holds entry `name` as made from `ingredients`; `build` makes it if it is not there yet.
    ///
    /// `build` runs with the cache's lock held: other entries that it needs have to be there before.
    pub(crate) fn entry(
        &self,
        name: &str,
        ingredients: &str,
        build: impl FnOnce(&Workshop<'_>) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let path = self.path(name, ingredients);
        if path.exists() {
            return Ok(path);
        }
        let _lock = self.lock()?;
        if path.exists() {
            return Ok(path);
        }
        self.remove_unfinished()?;
        let place = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.root)
            .map_err(Error::io("make a folder in", &self.root))?;
        let (entry, scratch) = (subfolder(&place, "entry")?, subfolder(&place, "scratch")?);
        build(&Workshop { entry: &entry, scratch: &scratch, shared: &self.root })?;
        fs::rename(&entry, &path).map_err(Error::io("move the finished entry to", &path))?;
        Ok(path)
    }

    /// Held until the file is dropped, also by the kernel when the process is killed.
    fn lock(&self) -> Result<File, Error> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let _step = Step::start("waiting for another run that fills the cache");
                file.lock().map_err(Error::io("lock", &self.root))?;
            }
            Err(fs::TryLockError::Error(source)) => return Err(Error::io("lock", &self.root)(source)),
        }
        Ok(file)
    }

    fn lock_file(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        File::create(&path).map_err(Error::io("open the lock", &path))
    }

    /// With the lock held, whatever is unfinished belongs to a run that is gone.
    fn remove_unfinished(&self) -> Result<(), Error> {
        let folder = fs::read_dir(&self.root).map_err(Error::io("read", &self.root))?;
        for item in folder {
            let item = item.map_err(Error::io("read", &self.root))?;
            if item.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(item.path()).map_err(Error::io("remove", &item.path()))?;
            }
        }
        Ok(())
    }
}

fn subfolder(place: &TempDir, name: &str) -> Result<PathBuf, Error> {
    let path = place.path().join(name);
    fs::create_dir(&path).map_err(Error::io("make", &path))?;
    Ok(path)
}

/// A hash that stays the same from one release of Rust to the next, which the standard library's does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes a file, naming it in the error.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::io("write", path))
}

/// Reads a text file, naming it in the error; bytes that are no UTF-8 are replaced.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_built_once_and_keyed_by_its_ingredients() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("deep/lab")).unwrap();
        let first = cache.entry("thing", "a", |shop| write(&shop.entry.join("x"), "1")).unwrap();
        let again = cache.entry("thing", "a", |_| panic!("built twice")).unwrap();
        let other = cache.entry("thing", "b", |shop| write(&shop.entry.join("x"), "2")).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(read(&first.join("x")).unwrap(), "1");
    }

    #[test]
    fn a_failed_or_interrupted_build_leaves_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(format!("{UNFINISHED}dead"))).unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        assert!(!folder.path().join(format!("{UNFINISHED}dead")).exists());
        let failed = cache.entry("thing", "a", |_| Err(Error::NoMirror));
        assert!(matches!(failed, Err(Error::NoMirror)));
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn two_runs_at_once_build_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let built = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    cache
                        .entry("thing", "a", |_| {
                            built.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            std::thread::sleep(std::time::Duration::from_millis(50));
                            Ok(())
                        })
                        .unwrap()
                });
            }
        });
        assert_eq!(built.into_inner(), 1);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
