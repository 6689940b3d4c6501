//! What the office has already, by the ledger of exports and by its receipt.

use bundle::{Id, Parent, Receipt, crates_digest};
use index_sync::{StateKind, TreeId};
use metadata_db::Export;
use registry::Checksum;
use serde::{Deserialize, Serialize};

use crate::appliance::{Appliance, StartError};

/// The last that the office has imported.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Since {
    /// That bundle.
    pub bundle: Id,
    /// What the office says it has since.
    pub receipt: Option<String>,
}

/// The crate files of a bundle and of those that it continues, and of all others that a receipt names.
fn imported(appliance: &Appliance, id: &str, receipt: Option<&Receipt>) -> Result<Vec<Checksum>, StartError> {
    let mut exports = Vec::new();
    if let Some(serials) = receipt.and_then(|receipt| receipt.serials.as_ref()) {
        exports = appliance.decisions.exports()?;
        exports.retain(|export| serials.contains(export.serial));
    }
    let others = exports.iter().map(|export| &*export.export.id);
    let ids: Vec<&str> = std::iter::once(id).chain(others).collect();
    Ok(appliance.decisions.exported_files(&ids)?)
}

/// What the office has.
#[derive(Debug, Default)]
pub struct Had {
    /// The bundle that was imported last.
    pub parent: Option<Export>,
    /// The state of the index that it brought.
    pub tree: Option<TreeId>,
    /// Sorted.
    pub files: Vec<Checksum>,
    /// What the receipt makes worth saying.
    pub remark: Option<String>,
}

impl Had {
    /// By the ledger of exports, and by the receipt. Blocks.
    pub fn of(appliance: &Appliance, since: Option<&Since>) -> Result<Self, StartError> {
        let Some(since) = since else {
            return Ok(Self::default());
        };
        let id = since.bundle.to_string();
        let receipt = since.receipt.as_deref().map(str::parse::<Receipt>).transpose()?;
        let own = appliance.decisions.own_site()?;
        if let Some(receipt) = receipt.as_ref().filter(|receipt| receipt.site.to_string() != own) {
            return Err(format!(
                "the receipt is for bundles of the mirror {}, and this one is {own}: it has to be given to that one",
                receipt.site
            )
            .into());
        }
        let Some(parent) = appliance.decisions.export(&id)? else {
            return Err(format!(
                "this mirror knows no bundle {id}: it was not written here, or its export did not end. Without --since all is exported"
            )
            .into());
        };
        let tree = appliance.index.state(StateKind::Export, &id)?;
        let Some(tree) = tree else {
            return Err(format!(
                "what the index was at bundle {id} (serial {}) is not kept here any more: export without --since",
                parent.serial
            )
            .into());
        };
        let mut had = Self {
            files: imported(appliance, &id, receipt.as_ref())?,
            parent: Some(parent),
            tree: Some(tree),
            remark: None,
        };
        if let Some(receipt) = &receipt {
            had.compare(receipt);
        }
        Ok(had)
    }

    /// As a manifest names the parent.
    pub fn continued(&self) -> Result<Option<Parent>, StartError> {
        let Some(parent) = &self.parent else {
            return Ok(None);
        };
        Ok(Some(Parent {
            id: parent.export.id.parse()?,
            serial: parent.serial,
        }))
    }

    /// A receipt says exactly what is there, or it says nothing of crate files.
    fn compare(&mut self, receipt: &Receipt) {
        let mut there = self.files.clone();
        there.retain(|checksum| !receipt.missing.contains(checksum));
        if crates_digest(there.iter().copied()) == receipt.digest && there.len() as u64 == receipt.crate_files {
            if !receipt.missing.is_empty() {
                self.remark = Some(format!(
                    "the receipt names {} crate files that were lost there: they go along again",
                    receipt.missing.len()
                ));
            }
            self.files = there;
        } else {
            self.remark = Some(format!(
                "the receipt counts {} crate files, and the bundles that it names had {}: all crate files go along again",
                receipt.crate_files,
                self.files.len()
            ));
            self.files = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(files: &[Checksum], missing: &[Checksum]) -> Receipt {
        Receipt {
            site: Id::from_bytes([1; 16]),
            bundle: Id::from_bytes([2; 16]),
            serial: 3,
            serials: None,
            index: None,
            crate_files: files.len() as u64,
            digest: crates_digest(files.iter().copied()),
            missing: missing.to_vec(),
            office: "office".to_owned(),
            time: bundle::Time::from_unix(0),
        }
    }

    #[test]
    fn a_receipt_that_fits_says_what_is_there_and_another_one_says_nothing() {
        let mut all: Vec<Checksum> = [b"a", b"b", b"c"].map(|bytes| Checksum::of(bytes)).to_vec();
        all.sort_unstable();
        let had = || Had {
            files: all.clone(),
            ..Had::default()
        };
        let mut exact = had();
        exact.compare(&receipt(&all, &[]));
        assert_eq!((exact.files, exact.remark), (all.clone(), None));

        let mut one_lost = had();
        one_lost.compare(&receipt(&all[..2], &all[2..]));
        assert_eq!(one_lost.files, all[..2]);
        assert!(one_lost.remark.unwrap().contains("1 crate files that were lost"));

        let mut other = had();
        other.compare(&receipt(&all[..2], &[]));
        assert!(other.files.is_empty() && other.remark.unwrap().contains("go along again"));
    }
}
