#![doc = include_str!("../README.md")]

mod check;
mod decisions;
mod error;
mod id;
mod keys;
mod manifest;
mod member;
mod payload;
mod plan;
mod reader;
mod receipt;
mod serials;
mod stored;
mod sums;
mod tape;
mod time;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use check::{PartSet, Report, check};
pub use decisions::{DecisionKind, DecisionLines, OutsideDecision, write_decisions};
pub use error::Error;
pub use id::{Id, TreeHex};
pub use keys::{KeyId, Prehash, PublicKey, SecretKey, Signature};
pub use manifest::{Description, IndexSummary, Manifest, Parent, Scope, Total};
pub use member::MemberName;
pub use payload::{PayloadWriter, Records};
pub use plan::{Contents, CrateFile, FAT32_FILE_BYTES, PartPlan, Plan};
pub use reader::{Member, Members, Opened, Signed, Trust, open};
pub use receipt::{Receipt, crates_digest};
pub use serials::Serials;
pub use stored::Stored;
pub use sums::Sums;
pub use time::Time;
pub use writer::PartWriter;
