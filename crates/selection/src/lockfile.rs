//! `Cargo.lock`, in all of its versions.

use cargo_lock::package::SourceId;
use cargo_lock::{Checksum as LockedChecksum, Package};
use registry::Checksum;

use crate::{Error, Selected};

/// What a lockfile names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockfile {
    /// The crates of crates.io, or of the registries that count as it.
    pub crates: Vec<Selected>,
    /// Everything else, which no mirror of crates.io can have.
    pub elsewhere: Vec<Elsewhere>,
}

/// A package from somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from; `None`: the workspace itself, or a path.
    pub source: Option<String>,
}

impl Lockfile {
    /// Reads a `Cargo.lock` of version 1 to 4. `registries` are the addresses of indexes that count as crates.io, without `sparse+` or `registry+`.
    ///
    /// A package whose checksum the lockfile lacks is taken without one; one with an odd name or version, or that `[replace]` puts
    /// something else in place of, is told among those from elsewhere.
    ///
    /// # Errors
    /// [`Error::Lockfile`] if it is none.
    pub fn parse(text: &str, registries: &[String]) -> Result<Self, Error> {
        let lockfile: cargo_lock::Lockfile = text.parse().map_err(|cause: cargo_lock::Error| Error::Lockfile {
            why: cause.to_string().lines().collect::<Vec<_>>().join(" "),
        })?;
        let mut found = Self {
            crates: Vec::new(),
            elsewhere: Vec::new(),
        };
        for package in lockfile.packages.iter().chain(&lockfile.root) {
            match selected(package, registries) {
                Some(krate) => found.crates.push(krate),
                None => found.elsewhere.push(Elsewhere::of(package)),
            }
        }
        found.crates.sort();
        found.crates.dedup();
        Ok(found)
    }
}

impl Elsewhere {
    fn of(package: &Package) -> Self {
        Self {
            name: package.name.as_str().to_owned(),
            version: package.version.to_string(),
            source: package.source.as_ref().map(without_secrets),
        }
    }
}

fn selected(package: &Package, registries: &[String]) -> Option<Selected> {
    let source = package.source.as_ref()?;
    if package.replace.is_some() || !is_ours(source, registries) {
        return None;
    }
    Some(Selected {
        name: package.name.as_str().parse().ok()?,
        version: package.version.to_string().parse().ok()?,
        checksum: package.checksum.as_ref().and_then(checksum),
    })
}

fn checksum(locked: &LockedChecksum) -> Option<Checksum> {
    match locked {
        LockedChecksum::Sha256(bytes) => Some(Checksum::from_bytes(*bytes)),
    }
}

fn is_ours(source: &SourceId, registries: &[String]) -> bool {
    let plain = |url: &str| url.trim_end_matches('/').to_owned();
    let own = plain(source.url().as_str());
    source.is_default_registry() || (source.is_remote_registry() && registries.iter().any(|url| plain(url) == own))
}

/// An address of git may have a password in it.
fn without_secrets(source: &SourceId) -> String {
    let mut url = source.url().clone();
    // an address that cannot have them has none
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn package(name: &str, version: &str, source: &str) -> String {
        let source = match source {
            "" => String::new(),
            _ => format!("source = \"{source}\"\n"),
        };
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}")
    }

    fn sum(of: &str) -> Checksum {
        Checksum::of(of.as_bytes())
    }

    #[test]
    fn reads_every_version_of_the_format() {
        let expected = Selected {
            name: "itoa".parse().unwrap(),
            version: "1.0.9+x".parse().unwrap(),
            checksum: Some(sum("itoa")),
        };
        let one = format!(
            "{}{}dependencies = [\n \"itoa 1.0.9+x ({INDEX})\",\n]\n\n[metadata]\n\"checksum itoa 1.0.9+x ({INDEX})\" = \"{}\"\n",
            package("itoa", "1.0.9+x", INDEX),
            package("project", "0.1.0", ""),
            sum("itoa")
        );
        let later = |head: &str| {
            format!(
                "{head}{}checksum = \"{}\"\n{}dependencies = [\n \"itoa\",\n]\n",
                package("itoa", "1.0.9+x", INDEX),
                sum("itoa"),
                package("project", "0.1.0", "")
            )
        };
        for text in [one, later(""), later("version = 3\n"), later("version = 4\n")] {
            let read = Lockfile::parse(&text, &[]).unwrap();
            assert_eq!(read.crates, std::slice::from_ref(&expected), "{text}");
            assert_eq!(read.elsewhere.len(), 1);
            assert_eq!(read.elsewhere[0].name, "project");
        }
    }

    #[test]
    fn only_crates_io_and_what_counts_as_it_is_selected() {
        let text = [
            "version = 4\n".to_owned(),
            package("own", "1.0.0", ""),
            package("ours", "1.0.0", "sparse+http://mirror.office:8080/index/"),
            package("by-git", "1.0.0", "registry+http://mirror.office:8080/git/index"),
            package("theirs", "1.0.0", "registry+http://elsewhere/index"),
            package(
                "from-git",
                "1.0.0",
                "git+https://me:secret@host/repository#0123456789012345678901234567890123456789",
            ),
        ]
        .concat();
        let ours = [
            "http://mirror.office:8080/index",
            "http://mirror.office:8080/git/index/",
        ]
        .map(str::to_owned);
        let read = Lockfile::parse(&text, &ours).unwrap();
        let names: Vec<&str> = read.crates.iter().map(|krate| krate.name.as_str()).collect();
        assert_eq!(names, ["by-git", "ours"]);
        let elsewhere: Vec<&str> = read.elsewhere.iter().map(|krate| krate.name.as_str()).collect();
        assert_eq!(elsewhere, ["own", "theirs", "from-git"]);
        assert!(!format!("{:?}", read.elsewhere).contains("secret"));
        assert!(Lockfile::parse(&text, &[]).unwrap().crates.is_empty());
    }

    #[test]
    fn what_is_no_lockfile_is_refused_in_one_line() {
        for bad in ["<html>", "package = 7", "[[package]]\nname = \"x\"\n", "version = 99\n"] {
            let error = Lockfile::parse(bad, &[]).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = Lockfile::parse(&text, &[]);
        }
    }
}
