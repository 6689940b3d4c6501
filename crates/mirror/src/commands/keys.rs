//! `mirror keys`: made, trusted and listed where they are, whether a server runs or not.

use super::{Ended, say};
use crate::bundles::{Keyring, key_by};
use crate::cli::KeysCommand;
use crate::data_dir::check_format;
use crate::settings::Settings;

/// Makes, trusts or lists keys.
pub fn keys(settings: &Settings, command: &KeysCommand) -> Ended {
    check_format(&settings.data_dir)?;
    let keyring = Keyring::of(&settings.data_dir);
    match command {
        KeysCommand::New { replace } => {
            let key = keyring.make_own(*replace)?.public_key();
            say(&format!(
                "bundles are signed with this key from now on; offices trust it by\n  mirror keys trust {key}\nThe file {} has it too.\n",
                keyring.own_public_path().display()
            ))
        }
        KeysCommand::Trust { key } => {
            let key = key_by(key)?;
            let words = match keyring.trust(&key)? {
                true => "bundles signed with it are taken from now on, and unsigned ones are not",
                false => "it was trusted before",
            };
            say(&format!("{key} (key id {}): {words}\n", key.id()))
        }
        KeysCommand::List => say(&listed(&keyring)?),
    }
}

fn listed(keyring: &Keyring) -> Result<String, crate::appliance::StartError> {
    let mut text = match keyring.own()? {
        Some(key) => {
            let key = key.public_key();
            format!("this mirror signs with {key} (key id {})\n", key.id())
        }
        None => "this mirror has no key to sign with yet: the first `mirror export` makes one\n".to_owned(),
    };
    let trusted = keyring.trusted()?;
    if trusted.is_empty() {
        text.push_str("no key is trusted here yet: only a mirror that imports bundles has to trust one\n");
    }
    for key in trusted {
        text.push_str(&format!("trusted: {key} (key id {})\n", key.id()));
    }
    Ok(text)
}
