//! The `crates-index` library as a client of an index over git: `clone` or `update`, the address, a directory. Says which commit it reads, and
//! which version of serde it takes for the newest. `git_clients.py` builds it outside of this workspace.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, url, directory] = &arguments[..] else {
        return Err("`clone` or `update`, the address and a directory are wanted".into());
    };
    // clones if nothing is there yet
    let mut index = crates_index::GitIndex::with_path(directory, url)?;
    if what == "update" {
        index.update()?;
    }
    let serde = index.crate_("serde").ok_or("the index has no serde")?;
    println!("{} {}", index.commit_hex(), serde.most_recent_version().version());
    Ok(())
}
