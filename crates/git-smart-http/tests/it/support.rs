//! A git repository made in memory, and published into a pack log commit by commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use git_smart_http::{Commit, Kind, Object, ObjectId, PackLogWriter};
use sha1::{Digest, Sha1};

/// One published commit.
pub struct Made {
    pub commit: Commit,
    /// All objects of its tree.
    pub tree: BTreeSet<ObjectId>,
}

/// Names and contents as they would be published next, and everything that was.
#[derive(Default)]
pub struct Repo {
    pub files: BTreeMap<String, String>,
    pub made: Vec<Made>,
    pub objects: HashMap<ObjectId, (Kind, Vec<u8>)>,
}

impl Repo {
    pub fn id(&self, number: usize) -> ObjectId {
        self.made[number].commit.id
    }

    pub fn head(&self) -> ObjectId {
        self.made.last().unwrap().commit.id
    }

    pub fn set(&mut self, name: &str, content: &str) {
        self.files.insert(name.to_owned(), content.to_owned());
    }

    /// Publishes `files` on top of the last commit.
    pub fn publish(&mut self, log: &mut PackLogWriter) -> ObjectId {
        let parent = self.made.last().map(|made| made.commit.id);
        self.append(log, parent)
    }

    /// Publishes `files` as a new root.
    pub fn squash(&mut self, log: &mut PackLogWriter) -> ObjectId {
        self.append(log, None)
    }

    fn append(&mut self, log: &mut PackLogWriter, parent: Option<ObjectId>) -> ObjectId {
        let mut tree = BTreeSet::new();
        let root = self.tree(&mut tree);
        let time = 1_700_000_000 + self.made.len() as i64;
        let parents = parent.map(|id| format!("parent {id}\n")).unwrap_or_default();
        let who = format!("mirror <mirror@localhost> {time} +0000");
        let text = format!(
            "tree {root}\n{parents}author {who}\ncommitter {who}\n\nNumber {}\n",
            self.made.len()
        );
        let id = self.add(Kind::Commit, text.into_bytes());
        let commit = Commit {
            id,
            tree: root,
            parent,
            time,
        };
        let before = self.made.last().map(|made| made.tree.clone()).unwrap_or_default();
        let new: Vec<ObjectId> = std::iter::once(id).chain(tree.difference(&before).copied()).collect();
        log.append(commit, self.objects(&new)).unwrap();
        self.made.push(Made { commit, tree });
        id
    }

    pub fn snapshot(&self, log: &mut PackLogWriter, number: usize) {
        let made = &self.made[number];
        let all: Vec<ObjectId> = std::iter::once(made.commit.id)
            .chain(made.tree.iter().copied())
            .collect();
        log.append_snapshot(&made.commit.id, self.objects(&all)).unwrap();
    }

    fn objects(&self, ids: &[ObjectId]) -> Vec<Object<'_>> {
        let object = |id: &ObjectId| {
            let (kind, data) = &self.objects[id];
            Object {
                id: *id,
                kind: *kind,
                data,
            }
        };
        ids.iter().map(object).collect()
    }

    fn tree(&mut self, all: &mut BTreeSet<ObjectId>) -> ObjectId {
        let mut folders: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (name, content) in &self.files {
            let (folder, file) = name.split_once('/').unwrap();
            folders
                .entry(folder.to_owned())
                .or_default()
                .insert(file.to_owned(), content.clone());
        }
        let mut root = Vec::new();
        for (folder, files) in folders {
            let mut lines = Vec::new();
            for (file, content) in files {
                let blob = self.add(Kind::Blob, content.into_bytes());
                all.insert(blob);
                lines.extend([format!("100644 {file}\0").as_bytes(), &blob.0].concat());
            }
            let tree = self.add(Kind::Tree, lines);
            all.insert(tree);
            root.extend([format!("40000 {folder}\0").as_bytes(), &tree.0].concat());
        }
        let root = self.add(Kind::Tree, root);
        all.insert(root);
        root
    }

    fn add(&mut self, kind: Kind, data: Vec<u8>) -> ObjectId {
        let id = name_of(kind, &data);
        self.objects.insert(id, (kind, data));
        id
    }
}

pub fn name_of(kind: Kind, data: &[u8]) -> ObjectId {
    let word = match kind {
        Kind::Commit => "commit",
        Kind::Tree => "tree",
        Kind::Blob => "blob",
    };
    let mut sha1 = Sha1::new();
    sha1.update(format!("{word} {}\0", data.len()));
    sha1.update(data);
    ObjectId(sha1.finalize().into())
}
