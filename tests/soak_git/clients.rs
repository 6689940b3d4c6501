//! Git clients, most of which are left behind at old commits.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::{Random, git, git_ok, said};

use crate::disk::{Disk, connected, whole};

pub const CLIENTS: u64 = 6;
const BRANCH: &str = "refs/heads/master";

/// Each with its own habits: protocol 0, 1 or 2, two of them shallow.
pub struct Clients {
    home: tempfile::TempDir,
    /// Every how many updates git reads all that a client has; it sees each time whether anything lacks.
    fsck_every: u64,
    /// How long the last update took.
    pub took: Duration,
}

impl Clients {
    pub fn new(fsck_every: u64) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            fsck_every,
            took: Duration::ZERO,
        }
    }

    fn dir(&self, number: u64) -> PathBuf {
        self.home.path().join(format!("client{number}"))
    }

    /// The commit that a client is left behind at.
    pub fn tip(&self, number: u64) -> Option<String> {
        let dir = self.dir(number);
        dir.exists().then(|| git_ok(&dir, &["rev-parse", BRANCH]))
    }

    /// It has nothing and begins again.
    pub fn forget(&self, number: u64) {
        let dir = self.dir(number);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }

    /// Clones or updates, and gives why it could not, if so.
    pub fn ask(&self, number: u64, url: &str) -> Result<(), String> {
        let (home, dir) = (self.home.path(), self.dir(number));
        let protocol = format!("protocol.version={}", number % 3);
        let shallow = if number > 3 { "--depth=1" } else { "--no-tags" };
        // it tidies up as git does, but not behind our back
        let habits = [
            "-c",
            &protocol,
            "-c",
            "gc.autoDetach=false",
            "-c",
            "maintenance.autoDetach=false",
        ];
        let output = if dir.exists() {
            let master = "+refs/heads/master:refs/heads/master";
            git(&dir, &[&habits[..], &["fetch", "-q", shallow, url, master]].concat())
        } else {
            let to = dir.to_str().unwrap();
            git(
                home,
                &[&habits[..], &["clone", "-q", "--bare", shallow, url, to]].concat(),
            )
        };
        if output.status.success() {
            Ok(())
        } else {
            Err(said(&output))
        }
    }

    /// Brings a client to exactly what is published, whole. Where the mirror publishes meanwhile, it asks again.
    pub fn update(&mut self, number: u64, url: &str, disk: &Disk, random: &mut Random) {
        let begun = Instant::now();
        for tries in 0.. {
            let before = disk.tip();
            self.ask(number, url)
                .unwrap_or_else(|why| panic!("client {number}: {why}"));
            let (theirs, published) = (self.tip(number).unwrap(), disk.tip());
            if theirs == published {
                break;
            }
            // a commit is in the pack log a moment before it is published
            let is_moving = before != published || disk.comes_from(&published, &theirs);
            assert!(
                is_moving && tries < 20,
                "client {number} has {theirs}, {published} is published"
            );
        }
        self.took = begun.elapsed();
        if random.next(self.fsck_every) == 0 {
            whole(&self.dir(number));
        } else {
            connected(&self.dir(number), BRANCH);
        }
    }

    /// One of them; the others stay where they are. Now and then one begins again.
    pub fn update_one(&mut self, url: &str, disk: &Disk, random: &mut Random) {
        let number = random.next(CLIENTS);
        if random.next(20) == 0 {
            self.forget(number);
        }
        self.update(number, url, disk, random);
    }

    /// What a client has that was cut off: nothing, or something whole.
    pub fn is_unharmed(&self, number: u64) {
        if self.dir(number).exists() {
            whole(&self.dir(number));
        }
    }

    /// A new client of no habits gets all of it, and git reads every object.
    /// It has the published commit; or, where a round is under way, one that comes from it.
    pub fn clone_anew(url: &str, disk: &Disk, is_still: bool) {
        let home = tempfile::tempdir().unwrap();
        let before = disk.tip();
        git_ok(home.path(), &["clone", "-q", "--bare", url, "clone"]);
        let clone: &Path = &home.path().join("clone");
        whole(clone);
        let theirs = git_ok(clone, &["rev-parse", BRANCH]);
        let is_published = theirs == before || theirs == disk.tip();
        let is_right = is_published || !is_still && disk.comes_from(&before, &theirs);
        assert!(is_right, "a new clone has {theirs}, and {before} was published before");
    }
}
