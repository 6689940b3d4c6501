//! `mirror export`: planned by who has the data directory, written by the command itself.

use std::path::{Path, PathBuf};

use bundle::{Id, Receipt, SecretKey};

use super::doer::{Doer, with_doer};
use super::{Ended, by_lockfiles, finish, say};
use crate::appliance::StartError;
use crate::bundles::{ExportWish, Keyring, Outgoing, Prepared, Since, Target};
use crate::cli::{ExportArgs, IndexScope};
use crate::control::Request;
use crate::prefetch::size;
use crate::selected::{Named, NamedDependencies};
use crate::settings::Settings;

/// Writes a bundle.
pub fn export(settings: Settings, args: &ExportArgs) -> Ended {
    let target = args.output.as_deref().map(|output| Target {
        output,
        split: args.split,
        force: args.force,
    });
    if let Some(target) = &target {
        target.check()?;
    }
    let wish = wish(&settings, args)?;
    with_doer(settings, |doer, settings| {
        let planned = doer.watch(Request::Export { wish })?;
        let target = match &target {
            Some(target) if planned.ok && !args.dry_run => target,
            _ => return finish(&planned),
        };
        if let Some(report) = &planned.report {
            say(&format!("{report}\n"))?;
        }
        write(doer, settings, planned.message.parse()?, target, args.unsigned)
    })
}

fn write(doer: &Doer<'_>, settings: &Settings, id: Id, target: &Target<'_>, unsigned: bool) -> Ended {
    let prepared = Prepared::take_up(&settings.data_dir, id)
        .map_err(|error| format!("the plan of this export cannot be read: {error}"))?;
    let keyring = Keyring::of(&settings.data_dir);
    let key = match unsigned {
        true => None,
        false => Some(keyring.own_or_new()?),
    };
    if let Some((key, true)) = &key {
        say(&format!(
            "made a key to sign with: {} (`mirror keys list` shows it again)\n",
            key.public_key()
        ))?;
    }
    let key = key.map(|(key, _)| key);
    let outgoing = Outgoing::pack(&settings.data_dir, &prepared, target, key.as_ref())?;
    say(&format!(
        "writing {} in {}: {} crate files, {} index files\n",
        size(outgoing.bytes()),
        match outgoing.parts() {
            1 => "1 file".to_owned(),
            parts => format!("{parts} parts"),
        },
        prepared.files.len(),
        outgoing.index_files
    ))?;
    let unfinished = outgoing.write(key.as_ref())?;
    // from here on it counts; a name is given only to what counts
    doer.have_done(Request::ExportDone { id })?;
    let paths = unfinished.finish()?;
    let serial = prepared.plan.serial;
    prepared.end()?;
    say(&ending(&paths, id, serial, key.as_ref()))
}

fn ending(paths: &[(PathBuf, u64)], id: Id, serial: u64, key: Option<&SecretKey>) -> String {
    let mut text = String::new();
    for (path, bytes) in paths {
        text.push_str(&format!("{}: {}\n", path.display(), size(*bytes)));
    }
    text.push_str(&format!("bundle {id}, serial {serial}, "));
    let trust = match key {
        Some(key) => {
            text.push_str(&format!("signed with {}\n", key.public_key()));
            format!(" (the first time with --trust {})", key.public_key())
        }
        None => {
            text.push_str("not signed\n");
            " --allow-unsigned".to_owned()
        }
    };
    let names: Vec<String> = paths.iter().map(|(path, _)| shown(path)).collect();
    text.push_str(&format!("In the office: mirror import {}{trust}\n", names.join(" ")));
    text.push_str("Bring back the receipt that it writes, and next week export with --since that receipt: only what is new goes along.\n");
    text
}

fn shown(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn wish(settings: &Settings, args: &ExportArgs) -> Result<ExportWish, StartError> {
    let is_named = !args.named.is_empty() || !args.pinned.is_empty();
    if args.with_deps && !is_named {
        return Err(
            "--with-deps needs something whose dependencies are meant: --crate, --lockfile, --list or --pinned".into(),
        );
    }
    let named = if is_named {
        let (locked, crates) = by_lockfiles(settings, &args.named)?;
        Some(Named {
            locked,
            crates,
            latest: false,
            dependencies: args.with_deps.then(|| NamedDependencies {
                optional: args.optional,
                dev: args.dev,
                targets: args.target.clone(),
            }),
        })
    } else {
        None
    };
    Ok(ExportWish {
        named,
        pinned: args.pinned.clone(),
        since: args.since.as_deref().map(since).transpose()?,
        scope: args.index.unwrap_or(match is_named {
            true => IndexScope::Selected,
            false => IndexScope::Full,
        }),
        dry_run: args.dry_run,
        allow_missing: args.allow_missing,
    })
}

/// An id, a bundle or a receipt.
fn since(text: &str) -> Result<Since, StartError> {
    if let Ok(bundle) = text.parse() {
        return Ok(Since { bundle, receipt: None });
    }
    let failed = |why: &dyn std::fmt::Display| format!("--since {text}: {why}");
    let file = std::fs::File::open(text).map_err(|error| failed(&error))?;
    let begins = read_beginning(&file).map_err(|error| failed(&error))?;
    if begins.starts_with(b"mirror receipt") {
        let receipt = String::from_utf8_lossy(&begins).into_owned();
        let parsed: Receipt = receipt.parse().map_err(|error: bundle::Error| failed(&error))?;
        return Ok(Since {
            bundle: parsed.bundle,
            receipt: Some(receipt),
        });
    }
    let file = std::fs::File::open(text).map_err(|error| failed(&error))?;
    let opened =
        bundle::open(file).map_err(|error| failed(&format!("it is neither a receipt nor a bundle: {error}")))?;
    Ok(Since {
        bundle: opened.manifest().bundle.id,
        receipt: None,
    })
}

/// All of a receipt, which has no more than that; of a bundle the first bytes.
fn read_beginning(file: &std::fs::File) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    file.take(2 << 10).read_to_end(&mut bytes)?;
    Ok(bytes)
}
