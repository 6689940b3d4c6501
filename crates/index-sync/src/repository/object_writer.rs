//! New objects: made in memory, then written as loose files that are flushed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::objs::{Kind, WriteTo};

use super::layout::loose_object;
use crate::durable::{make_read_only, remove_file, sync_dir};
use crate::{CommitId, Error, TreeId};

/// An object that may not be on disk yet.
pub(crate) struct NewObject {
    pub(crate) id: ObjectId,
    pub(crate) kind: Kind,
    pub(crate) data: Vec<u8>,
}

impl NewObject {
    pub(crate) fn new(kind: Kind, data: Vec<u8>) -> Result<Self, Error> {
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, &data).map_err(Error::git("hash an object"))?;
        Ok(Self { id, kind, data })
    }

    pub(crate) fn tree(tree: &gix::objs::Tree) -> Result<Self, Error> {
        Self::new(Kind::Tree, encoded(tree)?)
    }

    /// A commit under our fixed identity: the same input makes the same id on every machine.
    pub(crate) fn commit(tree: TreeId, parent: Option<CommitId>, message: &str, time: i64) -> Result<Self, Error> {
        let mirror = gix::actor::Signature {
            name: "mirror".into(),
            email: "mirror@localhost".into(),
            time: gix::date::Time::new(time, 0),
        };
        let commit = gix::objs::Commit {
            tree: tree.into(),
            parents: parent.into_iter().map(ObjectId::from).collect(),
            author: mirror.clone(),
            committer: mirror,
            encoding: None,
            message: message.into(),
            extra_headers: Vec::new(),
        };
        Self::new(Kind::Commit, encoded(&commit)?)
    }
}

fn encoded(object: &dyn WriteTo) -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    object
        .write_to(&mut data)
        .map_err(Error::io("encode an object", Path::new("in memory")))?;
    Ok(data)
}

/// Writes each as a loose object; when this returns, all of them survive a power cut. Gives their sizes on disk.
pub(crate) fn write_loose(dir: &Path, objects: &[NewObject]) -> Result<Vec<(ObjectId, u64)>, Error> {
    let mut written = Vec::with_capacity(objects.len());
    let mut touched = BTreeSet::<PathBuf>::new();
    for object in objects {
        let path = loose_object(dir, object.id);
        let folder = path
            .parent()
            .expect("a loose object is in a directory of its own")
            .to_owned();
        if !folder.exists() {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
            touched.insert(dir.join("objects"));
        }
        written.push((object.id, write_one(&path, &folder, object)?));
        touched.insert(folder);
    }
    touched.iter().try_for_each(|folder| sync_dir(folder))?;
    Ok(written)
}

fn write_one(path: &Path, folder: &Path, object: &NewObject) -> Result<u64, Error> {
    let temporary = folder.join(format!("tmp_obj_{}", object.id));
    remove_file(&temporary)?;
    let file = File::create_new(&temporary).map_err(Error::io("create", &temporary))?;
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
    let file = write!(deflated, "{} {}\0", object.kind, object.data.len())
        .and_then(|()| deflated.write_all(&object.data))
        .and_then(|()| deflated.finish())
        .and_then(|bytes| {
            let mut file = file;
            file.write_all(&bytes)?;
            file.sync_all()?;
            file.metadata()
        })
        .map_err(Error::io("write", &temporary))?;
    make_read_only(&temporary)?;
    fs::rename(&temporary, path).map_err(Error::io("place", path))?;
    Ok(file.len())
}
