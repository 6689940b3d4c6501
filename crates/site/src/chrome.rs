//! What surrounds every page: who serves it, in which mode, and where.

/// How the mirror deals with upstream at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Upstream is asked for what is absent and for news.
    Online,
    /// Upstream is asked only for what is absent.
    Fallback,
    /// Upstream is never asked.
    Offline,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Fallback => "fallback",
            Self::Offline => "offline",
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Online => "Upstream is asked for what is absent here and for news.",
            Self::Fallback => "Upstream is asked only for what is absent here.",
            Self::Offline => "Upstream is never asked; only what is kept here is served.",
        }
    }
}

/// What surrounds every page.
#[derive(Debug, Clone)]
pub struct Chrome {
    /// The mirror's own version, as in `0.1.0`.
    pub version: String,
    /// How it deals with upstream at the moment.
    pub mode: Mode,
    /// What this visitor reaches the mirror by, as in `http://host:8080`, with or without a path; links on the pages use only the path.
    pub base_url: String,
}

impl Chrome {
    /// The path of the mirror, without a slash at the end; empty for most.
    pub(crate) fn root(&self) -> &str {
        let after_scheme = self.base_url.split_once("://").map_or("", |(_, rest)| rest);
        let path = after_scheme.find('/').map_or("", |start| &after_scheme[start..]);
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        // Two slashes at the start would name another host.
        if path.starts_with("//") { "" } else { path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_of(base_url: &str) -> String {
        Chrome {
            version: "1".into(),
            mode: Mode::Online,
            base_url: base_url.into(),
        }
        .root()
        .to_owned()
    }

    #[test]
    fn root_is_the_path_alone() {
        assert_eq!(root_of("http://127.0.0.1:8080"), "");
        assert_eq!(root_of("http://127.0.0.1:8080/"), "");
        assert_eq!(root_of("http://127.0.0.1:8080/crates/"), "/crates");
        assert_eq!(root_of("http://127.0.0.1//evil"), "");
        assert_eq!(root_of("javascript:alert(1)"), "");
        assert_eq!(root_of(""), "");
    }
}
