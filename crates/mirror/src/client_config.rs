//! What goes into a client's `.cargo/config.toml`.

/// The stanza for cargo 1.68 and later, for clients that reach the mirror by `base` (no slash at its end).
pub fn client_config(base: &str) -> String {
    format!(
        "[source.crates-io]\n\
         replace-with = \"mirror\"\n\
         \n\
         [registries.mirror]\n\
         index = \"sparse+{base}/index/\"\n"
    )
}
