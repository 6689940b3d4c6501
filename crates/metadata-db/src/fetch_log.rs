//! `fetch-log.db`: who fetched which crate file, for the day on which one of them turns out to be bad.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use registry::{Checksum, CrateName, CrateVersion};

use crate::columns::{parsed, signed, unsigned};
use crate::database::{Durability, with_suffix};
use crate::migrate;
use crate::renewable::Renewable;
use crate::{Error, OpenState, Opened};

/// A user agent counts for so many characters.
pub const MAX_AGENT_CHARS: usize = 200;
/// How many rows one transaction deletes at most, so that nothing waits for long.
const DELETED_AT_ONCE: u64 = 10_000;

/// One crate file that was sent to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// When, in Unix seconds.
    pub unix: i64,
    /// The client's address as text.
    pub client: String,
    /// What it called itself; cut after [`MAX_AGENT_CHARS`].
    pub agent: String,
    /// The crate.
    pub name: CrateName,
    /// Its version.
    pub version: CrateVersion,
    /// Of the bytes that were sent.
    pub checksum: Checksum,
    /// They were kept here already.
    pub hit: bool,
}

/// Fetches of one version by one client, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetcher {
    /// The client's address as text.
    pub client: String,
    /// What it called itself.
    pub agent: String,
    /// The version.
    pub version: CrateVersion,
    /// Of the bytes that it got.
    pub checksum: Checksum,
    /// How often.
    pub count: u64,
    /// How often of them the bytes were kept here already.
    pub hits: u64,
    /// When first, in Unix seconds.
    pub first_unix: i64,
    /// When last, in Unix seconds.
    pub last_unix: i64,
}

/// `fetch-log.db`: what nobody can derive again, so every commit waits for the disk. It is no reason not to serve: a damaged
/// one is moved aside, for who wants to look into it, and a new one begun. It holds addresses: only its owner may read it.
///
/// All methods block; call them where blocking is allowed.
#[derive(Debug)]
pub struct FetchLog {
    file: Renewable,
}

impl FetchLog {
    /// Opens or makes the log at `path`. One that shows damage at once is moved to `<path>.corrupt-<unix seconds>`; one
    /// written by a newer mirror is [`Error::Newer`] and left as it is.
    pub fn open(path: &Path) -> Result<Opened<Self>, Error> {
        // one of an earlier mirror, which may be moved aside
        keep_private(path)?;
        let (file, state) = Renewable::open(path, migrate::FETCH_LOG, Durability::Truth)?;
        keep_private(path)?;
        Ok(Opened {
            db: Self { file },
            state,
        })
    }

    /// Opens an existing log for reading alone, beside a server that writes it or without one.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let file = Renewable::open_read_only(path, migrate::FETCH_LOG)?;
        Ok(Self { file })
    }

    /// Writes fetches down in one transaction. If the file turns out to be damaged, they go into a new one.
    pub fn add(&self, fetches: &[Fetch]) -> Result<(), Error> {
        match self.insert(fetches) {
            Err(Error::Corrupt { .. }) if self.renew_if_damaged()?.is_some() => self.insert(fetches),
            outcome => outcome,
        }
    }

    fn insert(&self, fetches: &[Fetch]) -> Result<(), Error> {
        self.file.current().write("log fetches", |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO fetches (fetched_at, canonical, version, checksum, hit, client, agent)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for fetch in fetches {
                let agent: String = fetch.agent.chars().take(MAX_AGENT_CHARS).collect();
                insert.execute((
                    fetch.unix,
                    fetch.name.canonical(),
                    fetch.version.as_str(),
                    &fetch.checksum.as_bytes()[..],
                    fetch.hit,
                    &fetch.client,
                    agent,
                ))?;
            }
            Ok(())
        })
    }

    /// Who fetched a crate, or one version of it: by client, agent, version and checksum, the latest first, at most `limit`.
    pub fn who(&self, name: &CrateName, version: Option<&CrateVersion>, limit: u32) -> Result<Vec<Fetcher>, Error> {
        self.file.current().read("look who fetched a crate", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT client, agent, version, checksum, count(*), sum(hit), min(fetched_at), max(fetched_at)
                     FROM fetches WHERE canonical = ?1 AND (?2 IS NULL OR version = ?2)
                     GROUP BY client, agent, version, checksum
                     ORDER BY max(fetched_at) DESC, client, agent, version, checksum LIMIT ?3",
                )?
                .query_map((name.canonical(), version.map(CrateVersion::as_str), limit), |row| {
                    Ok(Fetcher {
                        client: row.get(0)?,
                        agent: row.get(1)?,
                        version: parsed(row, 2)?,
                        checksum: Checksum::from_bytes(row.get(3)?),
                        count: unsigned(row.get(4)?),
                        hits: unsigned(row.get(5)?),
                        first_unix: row.get(6)?,
                        last_unix: row.get(7)?,
                    })
                })?
                .collect()
        })
    }

    /// When the oldest fetch that is known was, in Unix seconds.
    pub fn since(&self) -> Result<Option<i64>, Error> {
        self.file.current().read("look how far the log goes back", |snapshot| {
            snapshot
                .prepare_cached("SELECT min(fetched_at) FROM fetches")?
                .query_row([], |row| row.get(0))
        })
    }

    /// Deletes what happened before `unix`; says how many fetches that were.
    pub fn forget_before(&self, unix: i64) -> Result<u64, Error> {
        let mut all = 0;
        loop {
            let deleted = self.file.current().write("forget old fetches", |transaction| {
                transaction
                    .prepare_cached(
                        "DELETE FROM fetches WHERE id IN (SELECT id FROM fetches WHERE fetched_at < ?1 LIMIT ?2)",
                    )?
                    .execute((unix, signed(DELETED_AT_ONCE)))
            })?;
            all += deleted as u64;
            if (deleted as u64) < DELETED_AT_ONCE {
                return Ok(all);
            }
        }
    }

    /// Looks through the whole file for damage, beside everything else.
    pub fn check(&self) -> Result<(), Error> {
        self.file.current().quick_check()
    }

    /// Begins anew if damage was met since the file was opened; the damaged file is moved aside.
    pub fn renew_if_damaged(&self) -> Result<Option<OpenState>, Error> {
        let renewed = self.file.renew_if_damaged()?;
        if renewed.is_some() {
            keep_private(self.file.path())?;
        }
        Ok(renewed)
    }
}

/// SQLite gives companions that it makes later the mode of the file itself.
fn keep_private(path: &Path) -> Result<(), Error> {
    for companion in ["", "-wal", "-shm"] {
        let file = with_suffix(path, companion);
        match fs::set_permissions(&file, Permissions::from_mode(0o600)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io {
                    path: file,
                    doing: "make private",
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{name, version};

    fn fetch(unix: i64, client: &str, vers: &str) -> Fetch {
        Fetch {
            unix,
            client: client.to_owned(),
            agent: "cargo 1.95.0".to_owned(),
            name: name("Serde-Json"),
            version: version(vers),
            checksum: Checksum::of(vers.as_bytes()),
            hit: unix > 10,
        }
    }

    fn scratch() -> (tempfile::TempDir, FetchLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = FetchLog::open(&dir.path().join("fetch-log.db")).unwrap().db;
        (dir, log)
    }

    #[test]
    fn it_says_who_fetched_what_and_when_first_and_last() {
        let (dir, log) = scratch();
        let long = Fetch {
            agent: "\u{1f980}".repeat(300),
            ..fetch(40, "::1", "1.0.1")
        };
        log.add(&[fetch(10, "10.0.0.7", "1.0.0"), fetch(30, "10.0.0.7", "1.0.0"), long])
            .unwrap();
        log.add(&[fetch(20, "10.0.0.8", "1.0.0")]).unwrap();
        let reader = FetchLog::open_read_only(&dir.path().join("fetch-log.db")).unwrap();
        let found = reader.who(&name("serde_json"), Some(&version("1.0.0")), 10).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|by| (by.client.as_str(), by.count, by.hits, by.first_unix, by.last_unix))
            .collect();
        assert_eq!(seen, [("10.0.0.7", 2, 1, 10, 30), ("10.0.0.8", 1, 1, 20, 20)]);
        assert_eq!(found[0].checksum, Checksum::of(b"1.0.0"));
        let all = log.who(&name("serde-json"), None, 10).unwrap();
        assert_eq!((all.len(), all[0].agent.chars().count()), (3, MAX_AGENT_CHARS));
        assert_eq!(log.who(&name("serde-json"), None, 1).unwrap().len(), 1);
        assert!(log.who(&name("serde"), None, 10).unwrap().is_empty());
    }

    #[test]
    fn what_is_old_goes() {
        let (_dir, log) = scratch();
        let many: Vec<_> = (0..DELETED_AT_ONCE as i64 + 5)
            .map(|at| fetch(at, "::1", "1.0.0"))
            .collect();
        log.add(&many).unwrap();
        assert_eq!(
            log.forget_before(DELETED_AT_ONCE as i64 + 2).unwrap(),
            DELETED_AT_ONCE + 2
        );
        assert_eq!(log.who(&name("serde-json"), None, 10).unwrap()[0].count, 3);
        assert_eq!(log.forget_before(0).unwrap(), 0);
    }

    #[test]
    fn a_damaged_one_is_put_aside_at_the_opening_and_in_use() {
        let (dir, log) = scratch();
        let path = dir.path().join("fetch-log.db");
        drop(log);
        fs::write(&path, [0xA5; 5000]).unwrap();
        let opened = FetchLog::open(&path).unwrap();
        assert!(matches!(opened.state, OpenState::Replaced { .. }), "{:?}", opened.state);
        opened.db.add(&[fetch(1, "::1", "1.0.0")]).unwrap();

        // seen by nobody until it is written to
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("DROP TABLE fetches").unwrap();
        opened.db.add(&[fetch(2, "::1", "1.0.0")]).unwrap();
        let found = opened.db.who(&name("serde-json"), None, 10).unwrap();
        assert_eq!((found.len(), found[0].first_unix), (1, 2));
        let aside = fs::read_dir(dir.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            let name = name.to_string_lossy();
            name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        });
        assert_eq!(aside.count(), 2);
        drop(other);
        opened.db.check().unwrap();
    }

    /// The files in `dir` that are open to somebody besides their owner.
    fn open_to_others(dir: &Path) -> Vec<String> {
        let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let open = files.filter(|file| file.metadata().unwrap().permissions().mode() & 0o077 != 0);
        open.map(|file| file.file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn only_its_owner_reads_it_also_if_it_was_open_to_others_or_is_begun_anew() {
        let (dir, log) = scratch();
        let path = dir.path().join("fetch-log.db");
        log.add(&[fetch(1, "10.0.0.7", "1.0.0")]).unwrap();
        assert!(with_suffix(&path, "-wal").exists() && with_suffix(&path, "-shm").exists());
        assert!(
            open_to_others(dir.path()).is_empty(),
            "{:?}",
            open_to_others(dir.path())
        );
        drop(log);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let log = FetchLog::open(&path).unwrap().db;
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("DROP TABLE fetches").unwrap();
        log.add(&[fetch(2, "10.0.0.8", "1.0.0")]).unwrap();
        assert!(
            open_to_others(dir.path()).is_empty(),
            "{:?}",
            open_to_others(dir.path())
        );
    }
}
