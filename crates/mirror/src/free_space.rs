//! What the file system says of itself.

use std::io;
use std::path::Path;

/// Bytes that this process may still write where `path` is.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether no file there can have 4 GiB.
pub fn is_fat(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    return rustix::fs::statfs(path).is_ok_and(|found| found.f_type == 0x4d44);
    #[cfg(not(target_os = "linux"))]
    return path.as_os_str().is_empty();
}

/// The kind of file system at `path`, by name where it is one that matters here.
pub fn file_system(path: &Path) -> io::Result<String> {
    #[cfg(target_os = "linux")]
    {
        let kind = rustix::fs::statfs(path)?.f_type;
        let name = match kind {
            0xef53 => "ext2/3/4",
            0x5846_5342 => "xfs",
            0x4d44 => "FAT (no file of 4 GiB)",
            0x9123_683e => "btrfs",
            0x0102_1994 => "tmpfs (vanishes with the machine)",
            0x794c_7630 => "overlayfs (vanishes with the container)",
            0x6969 => "nfs (a network file system: SQLite is not safe on it)",
            0xff53_4d42 => "cifs (a network file system: SQLite is not safe on it)",
            0x0102_1997 => "9p (a network file system: SQLite is not safe on it)",
            _ => return Ok(format!("type {kind:#x}")),
        };
        Ok(name.to_owned())
    }
    #[cfg(not(target_os = "linux"))]
    {
        rustix::fs::statvfs(path)?;
        Ok("unknown".to_owned())
    }
}
