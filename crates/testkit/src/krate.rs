//! Crate files and index lines, made to order.

mod archive;
mod index_line;
mod manifest;

use std::collections::BTreeMap;

use registry::{Checksum, CrateName, IndexPath};

/// A dependency of a [`CrateBuilder`], normal unless said otherwise.
#[derive(Debug, Clone)]
pub struct Dependency {
    name: String,
    req: String,
    kind: &'static str,
    optional: bool,
    default_features: bool,
    features: Vec<String>,
    target: Option<String>,
    rename: Option<String>,
}

impl Dependency {
    /// A normal dependency on crate `name` by a requirement such as `^1`.
    pub fn new(name: &str, req: &str) -> Self {
        Self {
            name: name.to_owned(),
            req: req.to_owned(),
            kind: "normal",
            optional: false,
            default_features: true,
            features: Vec::new(),
            target: None,
            rename: None,
        }
    }

    /// Makes it a dev-dependency.
    pub fn dev(mut self) -> Self {
        self.kind = "dev";
        self
    }

    /// Makes it a build-dependency.
    pub fn build(mut self) -> Self {
        self.kind = "build";
        self
    }

    /// Makes it optional.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Asks for these features of it.
    pub fn features(mut self, features: &[&str]) -> Self {
        self.features = owned(features);
        self
    }

    /// Switches its default features off.
    pub fn no_default_features(mut self) -> Self {
        self.default_features = false;
        self
    }

    /// Only for this target: a triple or `cfg(...)`.
    pub fn target(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    /// The name by which the dependent crate knows it.
    pub fn rename(mut self, rename: &str) -> Self {
        self.rename = Some(rename.to_owned());
        self
    }
}

/// Makes a crate file and its index line, deterministic to the byte. What is not said has cargo's default; the crate
/// compiles as long as its code does.
#[derive(Debug, Clone)]
pub struct CrateBuilder {
    name: String,
    version: String,
    package: BTreeMap<&'static str, manifest::Value>,
    readme: Option<String>,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
    lib: String,
    files: BTreeMap<String, Vec<u8>>,
    padding_bytes: usize,
    yanked: bool,
}

impl CrateBuilder {
    /// A crate with an empty library, of edition 2021.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            package: BTreeMap::new(),
            readme: None,
            dependencies: Vec::new(),
            features: BTreeMap::new(),
            lib: String::new(),
            files: BTreeMap::new(),
            padding_bytes: 0,
            yanked: false,
        }
        .set("edition", "2021")
    }

    fn set(mut self, key: &'static str, value: &str) -> Self {
        self.package.insert(key, manifest::Value::One(value.to_owned()));
        self
    }

    fn push(mut self, key: &'static str, value: &str) -> Self {
        let many = self
            .package
            .entry(key)
            .or_insert_with(|| manifest::Value::Many(Vec::new()));
        if let manifest::Value::Many(values) = many {
            values.push(value.to_owned());
        }
        self
    }

    /// The description.
    pub fn description(self, text: &str) -> Self {
        self.set("description", text)
    }

    /// One more keyword.
    pub fn keyword(self, word: &str) -> Self {
        self.push("keywords", word)
    }

    /// One more category, by its slug.
    pub fn category(self, slug: &str) -> Self {
        self.push("categories", slug)
    }

    /// One more author.
    pub fn author(self, author: &str) -> Self {
        self.push("authors", author)
    }

    /// The licence, an SPDX expression.
    pub fn license(self, expression: &str) -> Self {
        self.set("license", expression)
    }

    /// The edition.
    pub fn edition(self, edition: &str) -> Self {
        self.set("edition", edition)
    }

    /// The address of its repository.
    pub fn repository(self, url: &str) -> Self {
        self.set("repository", url)
    }

    /// The address of its home page.
    pub fn homepage(self, url: &str) -> Self {
        self.set("homepage", url)
    }

    /// The address of its documentation.
    pub fn documentation(self, url: &str) -> Self {
        self.set("documentation", url)
    }

    /// The oldest Rust it says it works with; in the index line too.
    pub fn rust_version(self, version: &str) -> Self {
        self.set("rust-version", version)
    }

    /// The native library it links to; in the index line too. An empty build script comes with it, as cargo wants one.
    pub fn links(self, library: &str) -> Self {
        let this = self.set("links", library);
        if this.files.contains_key("build.rs") {
            this
        } else {
            this.file("build.rs", b"fn main() {}\n")
        }
    }

    /// The text of `README.md`; without it there is no such file.
    pub fn readme(mut self, markdown: &str) -> Self {
        self.readme = Some(markdown.to_owned());
        self.set("readme", "README.md")
    }

    /// A normal dependency.
    pub fn dep(self, name: &str, req: &str) -> Self {
        self.dep_full(Dependency::new(name, req))
    }

    /// Any dependency.
    pub fn dep_full(mut self, dependency: Dependency) -> Self {
        self.dependencies.push(dependency);
        self
    }

    /// A feature and what it switches on. Those that need a newer cargo (`dep:x`, `x?/y`) go where the index wants them.
    pub fn feature(mut self, name: &str, enables: &[&str]) -> Self {
        self.features.insert(name.to_owned(), owned(enables));
        self
    }

    /// The text of `src/lib.rs`.
    pub fn lib(mut self, code: &str) -> Self {
        code.clone_into(&mut self.lib);
        self
    }

    /// One more file, by its path in the crate. It takes the place of what would be there, `Cargo.toml` included.
    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        self.files.insert(path.to_owned(), bytes.to_vec());
        self
    }

    /// Makes the crate file larger by about this much, with bytes that do not compress.
    pub fn padding(mut self, size_bytes: usize) -> Self {
        self.padding_bytes = size_bytes;
        self
    }

    /// Marks the version as yanked in its index line.
    pub fn yanked(mut self) -> Self {
        self.yanked = true;
        self
    }

    /// Makes both.
    pub fn build(self) -> BuiltCrate {
        let bytes = archive::crate_file(&self);
        let checksum = Checksum::of(&bytes);
        BuiltCrate {
            index_line: index_line::index_line(&self, checksum),
            name: self.name,
            version: self.version,
            bytes,
            checksum,
        }
    }
}

/// One version of a crate as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltCrate {
    /// The crate's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The crate file: a gzipped tar with everything under `name-version/`.
    pub bytes: Vec<u8>,
    /// The SHA-256 of `bytes`.
    pub checksum: Checksum,
    /// The line for the index file, without a newline.
    pub index_line: String,
}

impl BuiltCrate {
    /// Where its line belongs in an index: `se/rd/serde`. Panics if the name is none.
    pub fn index_path(&self) -> String {
        index_path(&self.name)
    }
}

/// Where a crate's file stands in an index.
pub(crate) fn index_path(name: &str) -> String {
    let name: CrateName = name
        .parse()
        .expect("only names that a registry can have are in an index");
    IndexPath::of(&name).as_str().to_owned()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests;
