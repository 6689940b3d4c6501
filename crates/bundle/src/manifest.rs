use serde::{Deserialize, Serialize};

use crate::error::{json_fault, shown};
use crate::{Error, Id, PublicKey, Time, TreeHex};

/// The one format there is.
const FORMAT: u64 = 1;
/// The most parts a bundle may have: their names end in three digits.
pub(crate) const MAX_PARTS: u16 = 999;
/// The most crate files of one part. `SHA256SUMS` of that many is held in 32 MiB while the part is read.
pub(crate) const MAX_PART_FILES: u64 = 1 << 20;
/// The most bytes a manifest may have.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// What one member may have: the most that the eleven octal digits of a tar header can say.
pub(crate) const MAX_MEMBER_BYTES: u64 = (1 << 33) - 1;
const MAX_CREATOR_BYTES: usize = 100;

/// `MANIFEST.json`: what a bundle is, and what one part of it holds. One that was parsed keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What all parts say alike.
    pub bundle: Description,
    /// Which part this is, from 1.
    pub part: u16,
    /// How many there are.
    pub parts: u16,
    /// The crate files of all parts.
    pub crates: Total,
    /// The crate files of this part.
    pub part_crates: Total,
}

/// What a bundle is, whatever its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub id: Id,
    /// Who makes the bundles that this one is one of.
    pub site: Id,
    /// Counts the exports of the site.
    pub serial: u64,
    /// The bundle that this one continues; `None` if it stands alone.
    pub parent: Option<Parent>,
    /// When it was made.
    pub created: Time,
    /// The program that made it.
    pub creator: String,
    /// Who signs it; `None` if nobody does.
    pub key: Option<PublicKey>,
    /// What it says of the index; `None` if nothing.
    pub index: Option<IndexSummary>,
    /// How many crate files were chosen and could not be carried.
    pub wanted_missing: u64,
}

/// The bundle before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    pub id: Id,
    /// Its serial.
    pub serial: u64,
}

/// How much of the index a bundle speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All that the outside mirror publishes.
    Full,
    /// The files of chosen crates.
    Selected,
}

/// What a bundle says of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSummary {
    /// How much of it.
    pub scope: Scope,
    /// The git tree of the whole state after this bundle.
    pub tree: TreeHex,
    /// Records in `changes.gz`. There is no `changes.gz` if this is 0.
    pub files: u64,
    /// Bytes of the records, uncompressed.
    pub bytes: u64,
    /// The upstream commit that the outside mirror has come to.
    #[serde(default)]
    pub upstream: Option<TreeHex>,
    /// The outside mirror follows upstream's git: a crate that is not in the state does not exist.
    #[serde(default)]
    pub whole: bool,
}

/// A number of files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Total {
    /// This and one more file; `None` if that cannot be counted.
    #[must_use]
    pub fn with(self, bytes: u64) -> Option<Self> {
        self.plus(Self { files: 1, bytes })
    }

    /// Both together; `None` if that cannot be counted.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            files: self.files.checked_add(other.files)?,
            bytes: self.bytes.checked_add(other.bytes)?,
        })
    }

    const fn is_within(self, other: Self) -> bool {
        self.files <= other.files && self.bytes <= other.bytes
    }

    const fn is_possible(self) -> bool {
        match self.files.checked_mul(MAX_MEMBER_BYTES) {
            Some(most) => self.bytes <= most,
            None => true,
        }
    }
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Json {
    format: u64,
    id: Id,
    site: Id,
    serial: u64,
    parent: Option<Parent>,
    created: Time,
    creator: String,
    key: Option<PublicKey>,
    part: u16,
    parts: u16,
    index: Option<IndexSummary>,
    crates: Total,
    part_crates: Total,
    #[serde(default)]
    wanted_missing: u64,
}

impl Manifest {
    /// Reads one and checks all that it says about itself. Keys that are not known are passed over.
    ///
    /// # Errors
    /// It is no JSON of this form, or does not agree with itself.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let wrong = |error: &serde_json::Error| Error::Manifest { why: json_fault(error) };
        let OnlyFormat { format } = serde_json::from_slice(json).map_err(|error| wrong(&error))?;
        if format != FORMAT {
            let why = format!("it has format {format}, and this mirror knows format {FORMAT}: use a newer mirror");
            return Err(Error::Manifest { why });
        }
        let json: Json = serde_json::from_slice(json).map_err(|error| wrong(&error))?;
        let manifest = Self::from(json);
        manifest.check()?;
        Ok(manifest)
    }

    /// As the member has it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(&Json::from(self)).expect("plain values become JSON");
        json.push(b'\n');
        json
    }

    /// Whether part 1 of this bundle has an index payload, and this is part 1.
    pub fn has_changes(&self) -> bool {
        self.part == 1 && self.bundle.index.as_ref().is_some_and(|index| index.files > 0)
    }

    /// What a signature of this part says besides.
    pub fn trusted_comment(&self) -> String {
        let Description { id, site, serial, .. } = &self.bundle;
        format!(
            "mirror bundle {id} part {}/{} serial {serial} site {site}",
            self.part, self.parts
        )
    }

    /// All the rules; [`Self::parse`] has asked this already.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn check(&self) -> Result<(), Error> {
        let fault = self.fault_in_parts().or_else(|| self.bundle.fault());
        fault.map_or(Ok(()), |why| Err(Error::Manifest { why: why.to_owned() }))
    }

    fn fault_in_parts(&self) -> Option<&'static str> {
        let Self {
            part,
            parts,
            crates,
            part_crates,
            ..
        } = *self;
        let rules = [
            (part >= 1 && part <= parts, "`part` is not among `parts`"),
            (parts <= MAX_PARTS, "it has more than 999 parts"),
            (part_crates.is_within(crates), "`part_crates` is more than `crates`"),
            (
                parts > 1 || part_crates == crates,
                "the only part does not hold all crate files",
            ),
            (
                part_crates.files <= MAX_PART_FILES,
                "a part has more than 1048576 crate files",
            ),
            (
                crates.is_possible() && part_crates.is_possible(),
                "crate files cannot be that large",
            ),
        ];
        first_broken(&rules)
    }
}

impl Description {
    fn fault(&self) -> Option<&'static str> {
        let parent_is_older = self
            .parent
            .is_none_or(|parent| parent.id != self.id && parent.serial >= 1 && parent.serial < self.serial);
        let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let index_agrees = self.index.as_ref().is_none_or(|index| match index.files {
            0 => index.bytes == 0,
            files => index.bytes >= files,
        });
        let rules = [
            (
                (1..=i64::MAX.unsigned_abs()).contains(&self.serial),
                "`serial` counts from 1, and to 2^63 - 1 at most",
            ),
            (parent_is_older, "`parent` is not older than the bundle"),
            (
                self.creator.len() <= MAX_CREATOR_BYTES && is_plain(&self.creator),
                "`creator` is longer than 100 characters, or not plain ASCII",
            ),
            (index_agrees, "`index.bytes` does not go with `index.files`"),
        ];
        first_broken(&rules)
    }
}

fn first_broken(rules: &[(bool, &'static str)]) -> Option<&'static str> {
    rules.iter().find(|(holds, _)| !holds).map(|(_, why)| *why)
}

impl From<Json> for Manifest {
    fn from(json: Json) -> Self {
        Self {
            bundle: Description {
                id: json.id,
                site: json.site,
                serial: json.serial,
                parent: json.parent,
                created: json.created,
                creator: json.creator,
                key: json.key,
                index: json.index,
                wanted_missing: json.wanted_missing,
            },
            part: json.part,
            parts: json.parts,
            crates: json.crates,
            part_crates: json.part_crates,
        }
    }
}

impl From<&Manifest> for Json {
    fn from(manifest: &Manifest) -> Self {
        let bundle = &manifest.bundle;
        Self {
            format: FORMAT,
            id: bundle.id,
            site: bundle.site,
            serial: bundle.serial,
            parent: bundle.parent,
            created: bundle.created,
            creator: bundle.creator.clone(),
            key: bundle.key,
            part: manifest.part,
            parts: manifest.parts,
            index: bundle.index.clone(),
            crates: manifest.crates,
            part_crates: manifest.part_crates,
            wanted_missing: bundle.wanted_missing,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Selected => "selected",
        })
    }
}

impl std::str::FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "full" => Ok(Self::Full),
            "selected" => Ok(Self::Selected),
            _ => Err(Error::Form {
                what: "scope (full or selected)",
                text: shown(text),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::description;

    fn manifest() -> Manifest {
        let crates = Total { files: 3, bytes: 300 };
        Manifest {
            bundle: description(2),
            part: 1,
            parts: 1,
            crates,
            part_crates: crates,
        }
    }

    fn refused(change: impl FnOnce(&mut Manifest)) -> String {
        let mut manifest = manifest();
        change(&mut manifest);
        Manifest::parse(&manifest.to_json())
            .expect_err("this should be refused")
            .to_string()
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = manifest();
        assert_eq!(Manifest::parse(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn unknown_keys_are_passed_over_and_double_ones_are_not() {
        let json = String::from_utf8(manifest().to_json()).unwrap();
        let more = json.replacen('{', "{\"later\": [1, {\"a\": null}],", 1);
        assert_eq!(Manifest::parse(more.as_bytes()).unwrap(), manifest());
        let twice = json.replacen('{', "{\"serial\": 2,", 1);
        assert!(Manifest::parse(twice.as_bytes()).is_err());
        assert!(Manifest::parse(format!("{json} x").as_bytes()).is_err());
    }

    #[test]
    fn another_format_is_said_to_be_newer() {
        let error = Manifest::parse(br#"{"format":2,"whatever":true}"#).unwrap_err();
        assert!(error.to_string().contains("use a newer mirror"), "{error}");
    }

    #[test]
    fn what_does_not_agree_with_itself_is_refused() {
        assert!(refused(|it| it.part = 0).contains("`part`"));
        assert!(refused(|it| it.part = 2).contains("`part`"));
        assert!(refused(|it| it.parts = 1000).contains("999"));
        assert!(refused(|it| it.part_crates.files = 4).contains("more than `crates`"));
        assert!(refused(|it| it.part_crates.bytes = 301).contains("more than `crates`"));
        assert!(refused(|it| it.part_crates.files = 2).contains("only part"));
        assert!(refused(|it| it.bundle.serial = 0).contains("serial"));
        assert!(refused(|it| it.bundle.serial = 1 << 63).contains("serial"));
        assert!(
            refused(|it| it.bundle.parent = Some(Parent {
                id: it.bundle.id,
                serial: 1
            }))
            .contains("parent")
        );
        assert!(
            refused(|it| it.bundle.parent = Some(Parent {
                id: it.bundle.site,
                serial: 2
            }))
            .contains("parent")
        );
        assert!(refused(|it| it.bundle.creator = "x\u{1b}[2J".to_owned()).contains("creator"));
        assert!(refused(|it| it.bundle.creator = "x".repeat(101)).contains("creator"));
        assert!(refused(|it| it.bundle.index.as_mut().unwrap().files = 0).contains("index.bytes"));
        let too_large = Total {
            files: 1,
            bytes: 1 << 40,
        };
        assert!(refused(|it| (it.crates, it.part_crates) = (too_large, too_large)).contains("that large"));
        let too_many = Total {
            files: MAX_PART_FILES + 1,
            bytes: 1,
        };
        assert!(refused(|it| (it.crates, it.part_crates) = (too_many, too_many)).contains("1048576"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            prop_assert!(Manifest::parse(&bytes).is_err());
        }

        #[test]
        fn a_changed_manifest_is_refused_or_keeps_the_rules(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut json = manifest().to_json();
            let at = at.index(json.len());
            json[at] = byte;
            if let Ok(manifest) = Manifest::parse(&json) {
                prop_assert!(manifest.check().is_ok());
                prop_assert_eq!(Manifest::parse(&manifest.to_json()).unwrap(), manifest);
            }
        }
    }
}
