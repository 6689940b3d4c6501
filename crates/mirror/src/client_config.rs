//! What goes into a client's `.cargo/config.toml`. A base address is what clients reach the mirror by, with no slash at its end.

/// The stanza for cargo 1.68 and later: the sparse index.
pub fn client_config(base: &str) -> String {
    registry(&format!("sparse+{base}/index/"))
}

/// The stanza for cargo 1.68 and later that reads the index over git.
pub fn git_client_config(base: &str) -> String {
    registry(&format!("{base}/git/index"))
}

/// The stanza for cargo before 1.68, which reads an index over git only.
pub fn older_client_config(base: &str) -> String {
    format!(
        "[source.crates-io]\n\
         replace-with = \"mirror\"\n\
         \n\
         [source.mirror]\n\
         registry = \"{base}/git/index\"\n"
    )
}

fn registry(index: &str) -> String {
    format!(
        "[source.crates-io]\n\
         replace-with = \"mirror\"\n\
         \n\
         [registries.mirror]\n\
         index = \"{index}\"\n"
    )
}
