//! Archives that are the same whenever they are made.

use super::package::{File, folders};
use flate2::{Compression, GzBuilder};
use std::io::Write;
use tar::{Builder, EntryType, Header};

/// Files and folders below one, of root and of one time.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) files: Vec<File>,
    pub(super) time: u32,
}

pub(super) fn bytes(archive: &Archive) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for folder in folders(&archive.files) {
        let header = header(EntryType::Directory, 0o755, 0, archive.time);
        append(&mut builder, header, &format!("./{folder}/"), &[])?;
    }
    for file in &archive.files {
        let header = header(EntryType::Regular, file.mode, file.bytes.len(), archive.time);
        append(&mut builder, header, &format!("./{}", file.path), &file.bytes)?;
    }
    gzip(&builder.into_inner()?)
}

/// Packed, without a time and a name of its own.
pub(super) fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    packed.write_all(bytes)?;
    Ok(packed.finish()?)
}

fn header(kind: EntryType, mode: u32, size: usize, time: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time.into());
    header.set_size(size as u64);
    header
}

/// With the name as it is: dpkg wants it to begin with `./`, which the archive's own way of setting it leaves out.
fn append(
    builder: &mut Builder<Vec<u8>>,
    mut header: Header,
    name: &str,
    bytes: &[u8],
) -> anyhow::Result<()> {
    if let Some(header) = header.as_gnu_mut() {
        anyhow::ensure!(name.len() < header.name.len(), "{name} is too long a name for a package");
        header.name[..name.len()].copy_from_slice(name.as_bytes());
        for field in [&mut header.uname, &mut header.gname] {
            field[..4].copy_from_slice(b"root");
        }
    }
    header.set_cksum();
    Ok(builder.append(&header, bytes)?)
}
