//! The versions in an index file, and which of them a requirement means.

use std::cmp::Reverse;
use std::collections::HashSet;

use bytes::Bytes;
use registry::{Checksum, CrateName, CrateVersion, IndexFile, IndexPath};

use crate::index_dependencies::cargo_knows;
use crate::{Requirement, Trouble};

/// One version.
#[derive(Debug)]
pub(crate) struct Listed {
    pub name: CrateName,
    pub version: CrateVersion,
    pub checksum: Checksum,
    pub raw: Bytes,
    yanked: bool,
    known_schema: bool,
}

/// All versions of a crate that can be read, newest first.
#[derive(Debug)]
pub(crate) struct Versions(Vec<Listed>);

impl Versions {
    /// Of two lines for the same version the last one counts.
    pub(crate) fn read(path: &IndexPath, file: &Bytes) -> Self {
        let lines = IndexFile::parse_readable(file, path);
        let mut seen = HashSet::new();
        let newest_line_first = lines.lines().iter().rev();
        let mut versions: Vec<Listed> = newest_line_first
            .filter(|line| seen.insert(line.vers.as_ref()))
            .filter_map(|line| {
                Some(Listed {
                    name: line.name.parse().ok()?,
                    version: line.vers.parse().ok()?,
                    checksum: line.checksum,
                    raw: file.slice_ref(line.raw),
                    yanked: line.yanked,
                    known_schema: cargo_knows(line.raw),
                })
            })
            .collect();
        versions.sort_by(|one, other| Reverse(&one.version).cmp(&Reverse(&other.version)));
        Self(versions)
    }

    /// The version that is meant: one that suits otherwise too, if one does.
    pub(crate) fn choose(
        &self,
        requirement: &Requirement,
        suits: impl Fn(&Listed) -> bool,
    ) -> Result<&Listed, Trouble> {
        let fits = |listed: &&Listed| match requirement {
            Requirement::Newest | Requirement::NewestIfAny => true,
            Requirement::Exactly(version) => listed.version.semver().cmp_precedence(version.semver()).is_eq(),
            Requirement::Fitting(req) => listed.known_schema && req.matches(listed.version.semver()),
        };
        let found = match requirement {
            Requirement::Exactly(version) => {
                let exact = self.0.iter().find(|listed| listed.version == *version);
                let alike = || self.usable().find(fits).or_else(|| self.0.iter().find(fits));
                exact.or_else(alike)
            }
            Requirement::Newest | Requirement::NewestIfAny => {
                let known = || self.usable().filter(|listed| listed.known_schema);
                let stable = known().find(|listed| !listed.version.is_prerelease());
                stable.or_else(|| known().next())
            }
            Requirement::Fitting(_) => {
                let fitting = || self.usable().filter(fits);
                fitting().find(|listed| suits(listed)).or_else(|| fitting().next())
            }
        };
        found.ok_or_else(|| match self.0.iter().any(|listed| fits(&listed)) {
            true => Trouble::OnlyYanked,
            false => Trouble::NoneFits {
                newest: self.0.first().map(|listed| listed.version.to_string()),
            },
        })
    }

    /// The newest version that fits a requirement, is not yanked and suits.
    pub(crate) fn newest_that(
        &self,
        requirement: &Requirement,
        suits: impl Fn(&Listed) -> bool,
    ) -> Option<CrateVersion> {
        let Requirement::Fitting(req) = requirement else {
            return None;
        };
        let fits = |listed: &&Listed| listed.known_schema && req.matches(listed.version.semver());
        let mut fitting = self.usable().filter(fits);
        fitting
            .find(|listed| suits(listed))
            .map(|listed| listed.version.clone())
    }

    /// Exactly this version.
    pub(crate) fn named(&self, version: &CrateVersion) -> Option<&Listed> {
        self.0.iter().find(|listed| listed.version == *version)
    }

    fn usable(&self) -> impl Iterator<Item = &Listed> {
        self.0.iter().filter(|listed| !listed.yanked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(version: &str, yanked: bool, more: &str) -> String {
        let checksum = Checksum::of(version.as_bytes());
        format!(
            "{{\"name\":\"a\",\"vers\":\"{version}\",\"deps\":[],\"cksum\":\"{checksum}\",\"yanked\":{yanked}{more}}}\n"
        )
    }

    fn versions(lines: &[String]) -> Versions {
        let path = IndexPath::of(&"a".parse().unwrap());
        Versions::read(&path, &Bytes::from(lines.concat()))
    }

    fn chosen(versions: &Versions, requirement: &str) -> Result<String, Trouble> {
        let spec: crate::CrateSpec = format!("a{requirement}").parse().unwrap();
        let found = versions.choose(&spec.requirement, |_| true);
        found.map(|listed| listed.version.to_string())
    }

    #[test]
    fn chooses_as_cargo_does() {
        let versions = versions(&[
            line("1.0.0", false, ""),
            line("2.0.0-rc.1", false, ""),
            line("1.9.0", false, ""),
            line("1.10.0", false, ""),
            line("1.11.0", true, ""),
            line("0.9.0", true, ""),
            line("1.12.0", false, ",\"v\":3"),
            line("odd", false, ""),
            line("1.9.5+build", false, ",\"v\":2"),
        ]);
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(chosen(&versions, ""), ok("1.10.0"));
        assert_eq!(chosen(&versions, "@1"), ok("1.10.0"));
        assert_eq!(chosen(&versions, "@*"), ok("1.10.0"));
        assert_eq!(chosen(&versions, "@~1.9"), ok("1.9.5+build"));
        assert_eq!(chosen(&versions, "@<1.9"), ok("1.0.0"));
        assert_eq!(
            chosen(&versions, "@2.0.0-rc"),
            Err(Trouble::NoneFits {
                newest: Some("2.0.0-rc.1".into())
            })
        );
        assert_eq!(chosen(&versions, "@^2.0.0-rc.0"), ok("2.0.0-rc.1"));
        // an exact version is taken whatever it is
        assert_eq!(chosen(&versions, "@1.11.0"), ok("1.11.0"));
        assert_eq!(chosen(&versions, "@1.12.0"), ok("1.12.0"));
        assert_eq!(chosen(&versions, "@1.9.5"), ok("1.9.5+build"));
        assert_eq!(chosen(&versions, "@^0.9"), Err(Trouble::OnlyYanked));
        assert!(matches!(chosen(&versions, "@7"), Err(Trouble::NoneFits { .. })));
    }

    #[test]
    fn without_a_stable_version_the_newest_is_a_pre_release() {
        let versions = versions(&[line("0.1.0-alpha.2", false, ""), line("0.1.0-alpha.10", false, "")]);
        assert_eq!(chosen(&versions, "").unwrap(), "0.1.0-alpha.10");
        assert!(chosen(&versions, "@*").is_err());
    }

    #[test]
    fn the_last_of_two_equal_lines_counts() {
        let versions = versions(&[line("1.0.0", false, ""), line("1.0.0", true, "")]);
        assert_eq!(chosen(&versions, "@1"), Err(Trouble::OnlyYanked));
    }

    proptest! {
        #[test]
        fn what_is_chosen_fits_and_nothing_newer_does(
            there in proptest::collection::vec((0u64..3, 0u64..4, 0u64..4, any::<bool>()), 0..12),
            (major, minor) in (0u64..3, 0u64..4),
        ) {
            let lines: Vec<String> =
                there.iter().map(|(a, b, c, yanked)| line(&format!("{a}.{b}.{c}"), *yanked, "")).collect();
            let versions = versions(&lines);
            let req = semver::VersionReq::parse(&format!("^{major}.{minor}")).unwrap();
            let last: std::collections::HashMap<semver::Version, bool> = there
                .iter()
                .map(|(a, b, c, yanked)| (semver::Version::new(*a, *b, *c), *yanked))
                .collect();
            let expected = last.iter().filter(|(version, yanked)| !**yanked && req.matches(version)).map(|(version, _)| version).max();
            let found = versions.choose(&Requirement::Fitting(req.clone()), |_| true).ok();
            prop_assert_eq!(found.map(|listed| listed.version.semver()), expected);
        }
    }
}
