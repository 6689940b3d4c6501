//! New objects, before they are on disk.

use std::borrow::Cow;
use std::path::Path;

use gix::ObjectId;
use gix::objs::{Kind, WriteTo};

use crate::{CommitId, Error, TreeId};

/// An object that may not be on disk yet.
pub(crate) struct NewObject<'a> {
    pub(crate) id: ObjectId,
    pub(crate) kind: Kind,
    pub(crate) data: Cow<'a, [u8]>,
}

impl<'a> NewObject<'a> {
    pub(crate) fn new(kind: Kind, data: impl Into<Cow<'a, [u8]>>) -> Result<Self, Error> {
        let data = data.into();
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
            time: gix::date::Time::new(time.max(0), 0),
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
