//! What an estimate of bytes is made of: the index does not say how large a crate file is.

use download_cache::Wanted;
use futures_util::StreamExt;
use futures_util::stream;
use metadata_db::Totals;
use selection::Selected;

use super::plan::size;
use crate::appliance::{Appliance, StartError};
use crate::selected::AT_ONCE;

/// With fewer files kept than this they say little, and upstream is asked how large some of the others are.
const ENOUGH_KEPT: u64 = 32;
/// So many of them.
pub const SAMPLE: usize = 16;

/// What there is to estimate from.
#[derive(Debug, Clone, Copy)]
pub enum Basis {
    /// What is kept in all.
    Kept(Totals),
    /// Some of the files to fetch, as upstream says.
    Sample {
        /// How many.
        files: u64,
        /// How large they are together.
        bytes: u64,
    },
}

impl Basis {
    /// By what is kept; if that is little, by some of what is `wanted`, from all over it. Nothing of those is read.
    pub async fn of(appliance: &Appliance, wanted: &[Selected]) -> Result<Self, StartError> {
        let totals = appliance.metadata.totals()?;
        if totals.files >= ENOUGH_KEPT || appliance.is_offline() {
            return Ok(Self::Kept(totals));
        }
        let stride = wanted.len().div_ceil(SAMPLE).max(1);
        let some: Vec<Selected> = wanted.iter().step_by(stride).cloned().collect();
        let sizes = stream::iter(some).map(async move |file| {
            let wanted = Wanted {
                name: file.name,
                version: file.version,
                checksum: file.checksum?,
            };
            appliance.size_upstream(&wanted).await
        });
        let sizes = sizes.buffer_unordered(AT_ONCE).filter_map(std::future::ready);
        let sizes: Vec<u64> = sizes.collect().await;
        Ok(match sizes.len() {
            0 => Self::Kept(totals),
            files => Self::Sample {
                files: files as u64,
                bytes: sizes.iter().sum(),
            },
        })
    }

    /// How large so many files may be, if there is anything to estimate from.
    pub fn bytes(self, files: u64) -> Option<u64> {
        let (known, bytes) = match self {
            _ if files == 0 => return Some(0),
            Self::Kept(totals) => (totals.files, totals.bytes),
            Self::Sample { files: known, bytes } if known == files => return Some(bytes),
            Self::Sample { files, bytes } => (files, bytes),
        };
        Some(bytes.checked_div(known)?.saturating_mul(files))
    }

    /// How many files, and how large they may be.
    pub fn to_fetch(self, files: u64) -> String {
        const UNKNOWN: &str = "the index does not say how large they are";
        let (known, bytes, of) = match self {
            _ if files == 0 => return "none to fetch".to_owned(),
            Self::Sample { files: known, bytes } if known == files => {
                return format!("{files} to fetch, {}", size(bytes));
            }
            Self::Kept(totals) => (totals.files, totals.bytes, "kept ones"),
            Self::Sample { files, bytes } => (files, bytes, "of them that upstream was asked for"),
        };
        let Some(average) = bytes.checked_div(known) else {
            return format!("{files} to fetch; {UNKNOWN}, and there is nothing to estimate from");
        };
        let (all, each) = (size(average.saturating_mul(files)), size(average));
        format!("{files} to fetch, about {all} ({UNKNOWN}: by the {known} {of}, {each} on average)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_names_what_it_is_made_of() {
        let sample = |files| Basis::Sample { files, bytes: 3000 };
        assert_eq!(sample(3).to_fetch(0), "none to fetch");
        assert_eq!(sample(3).to_fetch(3), "3 to fetch, 3.0 KB");
        assert_eq!(
            sample(3).to_fetch(9000),
            "9000 to fetch, about 9.0 MB (the index does not say how large they are: by the 3 of them that upstream was asked \
             for, 1.0 KB on average)"
        );
        assert_eq!(
            [0, 3, 9000].map(|files| sample(3).bytes(files)),
            [Some(0), Some(3000), Some(9_000_000)]
        );
        assert_eq!(Basis::Kept(Totals::default()).bytes(7), None);
        let nothing = Basis::Kept(Totals::default()).to_fetch(7);
        assert!(nothing.ends_with("nothing to estimate from"), "{nothing}");
    }
}
