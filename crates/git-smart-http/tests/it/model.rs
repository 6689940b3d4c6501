//! Random histories and random clients: after each fetch a client has exactly what it should be able to walk.

use std::collections::{BTreeSet, HashMap, HashSet};

use git_smart_http::{Kind, Limits, ObjectId, PackLogWriter, Protocol, respond};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{pack, support::Repo};

#[derive(Clone, Debug)]
enum Step {
    /// Few names and contents, so that content comes back.
    Set {
        name: u8,
        content: u8,
    },
    Remove {
        name: u8,
    },
    Squash,
    Snapshot {
        part: f64,
    },
    Drop {
        part: f64,
    },
    Reopen,
    Fetch {
        client: usize,
        part: f64,
        depth: Option<u32>,
        relative: bool,
        forget: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let depth = prop_oneof![3 => Just(None), 2 => (1_u32..5).prop_map(Some), 1 => Just(Some(i32::MAX as u32))];
    let fetch = (0_usize..3, 0.0..1.0, depth, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(client, part, depth, relative, forget)| Step::Fetch {
            client,
            part,
            depth,
            relative,
            forget,
        },
    );
    let step = prop_oneof![
        6 => (0_u8..5, 0_u8..3).prop_map(|(name, content)| Step::Set { name, content }),
        2 => (0_u8..5).prop_map(|name| Step::Remove { name }),
        1 => Just(Step::Squash),
        1 => (0.0..1.0).prop_map(|part| Step::Snapshot { part }),
        1 => (0.0..1.0).prop_map(|part| Step::Drop { part }),
        1 => Just(Step::Reopen),
        8 => fetch,
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Client {
    objects: HashSet<ObjectId>,
    shallow: BTreeSet<ObjectId>,
    tip: Option<ObjectId>,
}

struct World {
    repo: Repo,
    numbers: HashMap<ObjectId, usize>,
    clients: Vec<Client>,
}

impl World {
    /// The commits that the client can walk from its tip. Each must be there with its whole tree.
    fn walk(&self, client: &Client) -> Vec<ObjectId> {
        let (mut next, mut walked) = (client.tip, Vec::new());
        while let Some(id) = next {
            let made = &self.repo.made[self.numbers[&id]];
            assert!(client.objects.contains(&id), "commit {id} is missing");
            assert!(
                made.tree.is_subset(&client.objects.iter().copied().collect()),
                "the tree of {id} is not whole"
            );
            walked.push(id);
            next = made.commit.parent.filter(|_| !client.shallow.contains(&id));
        }
        walked
    }

    fn fetch(&mut self, log: &PackLogWriter, at: usize, want: ObjectId, depth: Option<u32>, relative: bool) {
        let haves = self.walk(&self.clients[at]);
        let mut body = line("command=fetch") + "0001" + &line(&format!("want {want}"));
        body.extend(self.clients[at].shallow.iter().map(|id| line(&format!("shallow {id}"))));
        body.extend(depth.map(|depth| line(&format!("deepen {depth}"))));
        body.extend((relative && depth.is_some_and(|depth| depth < 9)).then(|| line("deepen-relative")));
        body.extend(haves.iter().map(|id| line(&format!("have {id}"))));
        body += &(line("done") + "0000");

        let answer = respond(&log.log().view(), Protocol::V2, body.as_bytes(), &Limits::default()).unwrap();
        let bytes: Vec<u8> = answer.pieces().flat_map(Result::unwrap).collect();
        let (lines, pack) = pack::answer(&bytes);
        let Some(pack) = pack else {
            assert!(lines[0].starts_with("ERR upload-pack: not our ref"), "{lines:?}");
            return;
        };
        let client = &mut self.clients[at];
        for line in &lines {
            if let Some(id) = line.strip_prefix("shallow ") {
                assert!(
                    client.shallow.insert(ObjectId::from_hex(id.as_bytes()).unwrap()),
                    "{line} was known"
                );
            } else if let Some(id) = line.strip_prefix("unshallow ") {
                assert!(
                    client.shallow.remove(&ObjectId::from_hex(id.as_bytes()).unwrap()),
                    "{line} was not asked"
                );
            }
        }
        let objects = pack::objects(&pack);
        let ids: HashSet<ObjectId> = objects.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids.len(), objects.len(), "an object is in the pack twice");
        for (id, kind, _) in objects {
            assert!(
                kind != Kind::Commit || !haves.contains(&id),
                "commit {id} was there already"
            );
            client.objects.insert(id);
        }
        let before = client.tip.replace(want);
        self.whole_commits(at);
        let walked = self.walk(&self.clients[at]);
        if let Some(depth) = depth.filter(|depth| !relative && *depth < 9) {
            assert!(walked.len() >= (depth as usize).min(self.epoch(want)));
        }
        // What the client had before still holds together too.
        let now = std::mem::replace(&mut self.clients[at].tip, before);
        self.walk(&self.clients[at]);
        self.clients[at].tip = now;
    }

    /// How many commits there are from the root of its history on.
    fn epoch(&self, want: ObjectId) -> usize {
        let chain = std::iter::successors(Some(want), |id| self.repo.made[self.numbers[id]].commit.parent);
        chain.count()
    }

    /// `git fsck` looks at each commit, wanted or not: its parent is there, or it is a boundary.
    fn whole_commits(&self, at: usize) {
        let client = &self.clients[at];
        for made in self
            .repo
            .made
            .iter()
            .filter(|made| client.objects.contains(&made.commit.id))
        {
            let commit = &made.commit;
            let held = commit.parent.is_none_or(|parent| client.objects.contains(&parent));
            assert!(
                held || client.shallow.contains(&commit.id),
                "the parent of {} is missing",
                commit.id
            );
        }
    }
}

fn line(text: &str) -> String {
    format!("{:04x}{text}\n", text.len() + 5)
}

fn pick(part: f64, count: usize) -> usize {
    ((count as f64 * part) as usize).min(count - 1)
}

fn run(steps: Vec<Step>) {
    let dir = TempDir::new().unwrap();
    let (mut log, _) = PackLogWriter::open(dir.path()).unwrap();
    let clients = (0..3).map(|_| Client::default()).collect();
    let mut world = World {
        repo: Repo::default(),
        numbers: HashMap::new(),
        clients,
    };
    // Waiting for the disk tests nothing here.
    log.put_off_sync();
    world.repo.set("aa/start", "0\n");
    let first = world.repo.publish(&mut log);
    world.numbers.insert(first, 0);
    for step in steps {
        let known: Vec<ObjectId> = log.log().view().commits().map(|commit| commit.id).collect();
        let repo = &mut world.repo;
        match step {
            Step::Set { name, content } => {
                repo.set(&format!("a{}/{name}", name % 2), &content.to_string());
                repo.publish(&mut log);
            }
            Step::Remove { name } => {
                repo.files.remove(&format!("a{}/{name}", name % 2));
                repo.publish(&mut log);
            }
            Step::Squash => _ = repo.squash(&mut log),
            Step::Snapshot { part } => {
                let id = known[pick(part, known.len())];
                repo.snapshot(&mut log, world.numbers[&id]);
            }
            Step::Drop { part } => {
                let id = known[pick(part, known.len())];
                log.drop_before(repo.made[world.numbers[&id]].commit.time).unwrap();
            }
            Step::Reopen => {
                log.sync().unwrap();
                drop(log);
                log = PackLogWriter::open(dir.path()).unwrap().0;
                log.put_off_sync();
            }
            Step::Fetch {
                client,
                part,
                depth,
                relative,
                forget,
            } => {
                if forget {
                    world.clients[client] = Client::default();
                }
                world.fetch(&log, client, known[pick(part, known.len())], depth, relative);
            }
        }
        let made = world.repo.made.iter().enumerate();
        world.numbers = made.map(|(number, made)| (made.commit.id, number)).collect();
    }
    let head = world.repo.head();
    for client in 0..3 {
        world.fetch(&log, client, head, None, false);
        assert_eq!(
            world.clients[client].tip,
            Some(head),
            "the last commit can always be had"
        );
    }
    log.log().view().verify(|_, _| {}).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clients_get_what_they_need(steps in steps()) {
        run(steps);
    }
}
