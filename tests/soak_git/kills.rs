//! `kill -9` at random moments of fetching, publishing and serving.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, SystemTime};

use testkit::{eventually, said};

use crate::Soak;
use crate::clients::{CLIENTS, Clients};
use crate::disk::Moment;

/// The promise is 5 s; machines that run tests do other things too.
const START_LIMIT: Duration = Duration::from_secs(15);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    /// The server, in a round.
    Follower,
    /// The server, while it serves a client, and perhaps in a round too.
    Host,
    /// `mirror sync` without a server.
    Command,
}

/// How long things take that are not killed, and what kills hit.
#[derive(Default)]
pub struct Kills {
    pub count: u64,
    /// From the start of `mirror sync` to the end of a round, by whether it is heavy, with a server and without.
    with_server: [Duration; 2],
    alone: [Duration; 2],
    moments: BTreeMap<(Victim, Moment), u64>,
}

impl Kills {
    /// A round by the server went well.
    pub fn learn(&mut self, is_heavy: bool, took: Duration) {
        self.with_server[usize::from(is_heavy)] = took;
    }

    /// How long a round takes; a guess if none of the kind was whole yet.
    fn usual(&self, victim: Victim, is_heavy: bool) -> Duration {
        let known = match victim {
            Victim::Command => self.alone,
            _ => self.with_server,
        };
        match known[usize::from(is_heavy)] {
            Duration::ZERO => self.with_server[0] * 2,
            known => known,
        }
    }

    pub fn print(&self) {
        for ((victim, moment), count) in &self.moments {
            println!("{count:>4} kills of the {victim:?}: {moment:?}");
        }
    }
}

impl Soak {
    /// A round that is cut off, and the next one, which brings what it did not.
    pub fn killed_round(&mut self) {
        let before = self.disk.tip();
        self.walk.step();
        self.note_peak();
        let victim = match self.kills.count % 5 {
            1 => Victim::Host,
            3 => Victim::Command,
            _ => Victim::Follower,
        };
        self.kills.count += 1;
        match victim {
            Victim::Follower => self.kill_in_a_round(),
            Victim::Host => self.kill_while_a_client_is_served(),
            Victim::Command => self.kill_a_command(),
        }
        let moment = self.disk.moment(&before, &self.walk.upstream.head());
        *self.kills.moments.entry((victim, moment)).or_default() += 1;
        let tip = self.disk.is_sound(&before);
        if victim == Victim::Command && self.walk.random.next(2) == 0 {
            let begun = SystemTime::now();
            let synced = self.mirror.run(&["sync"]);
            assert!(synced.status.success(), "{}", said(&synced));
            self.kills.alone[usize::from(self.walk.heavy)] = self.disk.round_took(begun);
        }
        self.comes_back(&tip);
        self.sync();
        self.compare();
    }

    /// Half as long again as a round usually takes, so that upkeep is hit too.
    fn some_time(&mut self, usual: Duration) -> Duration {
        usual * 3 / 2 * self.walk.random.next(1_000) as u32 / 1_000
    }

    /// Two of three once the fetch is through, or packs are being replaced: that takes less time and is hit seldom otherwise.
    fn kill_in_a_round(&mut self) {
        let usual = self.kills.usual(Victim::Follower, self.walk.heavy);
        let stage = self.kills.count % 3;
        let moment = self.some_time([usual, usual / 4, usual / 8][stage as usize]);
        let (mirror, disk) = (&self.mirror, &self.disk);
        let is_reached = || match stage {
            0 => true,
            1 => disk.is_fetched(),
            _ => disk.is_replacing(),
        };
        thread::scope(|scope| {
            // ends with the server, or finds none and does the round by itself
            let syncing = scope.spawn(|| mirror.run(&["sync"]));
            while !is_reached() && !syncing.is_finished() {
                // `eventually` pauses for longer than what is waited for takes.
                thread::yield_now();
            }
            // Not a wait for anything: the random moment is what is tested.
            thread::sleep(moment);
            mirror.kill9();
        });
    }

    fn kill_while_a_client_is_served(&mut self) {
        let number = self.walk.random.next(CLIENTS);
        if self.walk.random.next(2) == 0 {
            self.clients.forget(number);
        }
        let is_syncing = self.walk.random.next(2) == 0;
        let moment = self.some_time(self.clients.took);
        let (mirror, clients, url) = (&self.mirror, &self.clients, self.url());
        thread::scope(|scope| {
            scope.spawn(|| clients.ask(number, &url));
            if is_syncing {
                scope.spawn(|| mirror.run(&["sync"]));
            }
            // As above.
            thread::sleep(moment);
            mirror.kill9();
        });
        self.clients.is_unharmed(number);
    }

    fn kill_a_command(&mut self) {
        assert!(self.mirror.terminate().success());
        let moment = self.some_time(self.kills.usual(Victim::Command, self.walk.heavy));
        if let Some(ended) = self.mirror.run_or_kill(&["sync"], moment) {
            assert!(ended.status.success(), "{}", said(&ended));
        }
    }

    /// The server starts on what the kill left, where it was. In half of the cases upstream does not answer, so that nothing can be
    /// mended from there.
    fn comes_back(&mut self, tip: &str) {
        let is_alone = self.walk.random.next(2) == 0;
        self.walk.upstream.refuse(is_alone);
        let place = self.mirror.authority().to_owned();
        self.mirror.restart();
        assert_eq!(self.mirror.authority(), place, "clients know it by its old place");
        let is_ready = || (self.mirror.get("/readyz").status == 200).then_some(());
        let ready = eventually(START_LIMIT, is_ready);
        assert!(ready.is_some(), "it is not ready\n{}", self.mirror.log());
        let url = self.url();
        Clients::clone_anew(&url, &self.disk, is_alone);
        self.clients.update_one(&url, &self.disk, &mut self.walk.random);
        let now = self.disk.tip();
        assert!(self.disk.comes_from(tip, &now), "{tip} was published, and then {now}");
        self.walk.upstream.refuse(false);
        let log = self.mirror.log();
        let is_calm = |word: &&str| !log.contains(word);
        assert!([" ERROR ", "panicked", "made anew"].iter().all(is_calm), "{log}");
    }
}
