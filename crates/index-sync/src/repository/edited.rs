//! A tree with changes in it, before any of it is on disk.

use gix::ObjectId;
use gix::hash::Kind::Sha1;
use gix::objs::{Kind, Tree, tree::Editor, tree::EntryKind};

use super::new_object::NewObject;
use super::{Change, RawChange};
use crate::published::object;
use crate::{Error, TreeId};

/// The tree `before`, or an empty one, with `changes` in it, and the objects that may be new.
pub(super) fn edited<'a>(
    git: &gix::Repository,
    before: Option<TreeId>,
    changes: &'a [Change],
    raw: &[RawChange],
) -> Result<(TreeId, Vec<NewObject<'a>>), Error> {
    let change = || Error::git("change the tree");
    let root = match before {
        None => Tree::default(),
        Some(before) => {
            let root = object(git, before.into())?;
            gix::objs::TreeRef::from_bytes(&root.data, Sha1)
                .map_err(change())?
                .into()
        }
    };
    let mut objects = Vec::new();
    let mut editor = Editor::new(root, &git.objects, Sha1);
    for Change { file, content } in changes {
        let parts = file.as_str().split('/').map(gix::bstr::BStr::new);
        match content {
            None => editor.remove_leaf(parts).map_err(change())?,
            Some(content) => {
                let blob = NewObject::new(Kind::Blob, content)?;
                let id = blob.id;
                objects.push(blob);
                editor.upsert(parts, EntryKind::Blob, id).map_err(change())?
            }
        };
    }
    for RawChange { path, leaf } in raw {
        let parts = path.split('/').map(gix::bstr::BStr::new);
        match leaf {
            None => editor.remove_leaf(parts),
            Some(leaf) => editor.upsert(parts, leaf.kind, leaf.id),
        }
        .map_err(change())?;
    }
    let root = editor.write(|tree| -> Result<ObjectId, Error> {
        let tree = NewObject::tree(tree)?;
        let id = tree.id;
        objects.push(tree);
        Ok(id)
    })?;
    Ok((root.into(), objects))
}
