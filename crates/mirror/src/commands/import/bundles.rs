//! Bundles, one after the other: looked at, staged, taken in.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use bundle::{Manifest, Members, Opened, PartSet, PublicKey, Trust};

use super::super::Ended;
use super::super::doer::Doer;
use super::super::transfer::Transfer;
use super::super::{finish, say};
use super::checking::{named, parts};
use super::receipt;
use super::trust::{Said, judge};
use crate::appliance::StartError;
use crate::bundles::{Arrival, Keyring, Noted, Outcome, Stage, Staging, Standing, TRY, key_by};
use crate::cli::ImportArgs;
use crate::control::{Reply, Request};
use crate::error::chain;
use crate::free_space::free_bytes;
use crate::prefetch::size;
use crate::settings::Settings;

/// One command.
pub struct Session<'a> {
    /// Who has the data directory.
    pub doer: &'a Doer<'a>,
    /// The settings.
    pub settings: &'a Settings,
    /// What was said.
    pub args: &'a ImportArgs,
    /// Held for as long as it takes.
    pub staging: Staging,
    /// For the log.
    pub who: String,
}

/// A bundle, or a part of one, whose beginning was read.
struct Found {
    path: PathBuf,
    manifest: Manifest,
    /// Who signed it.
    key: Option<PublicKey>,
}

impl Session<'_> {
    /// Imports bundles, in the order in which they were exported. One that is not taken does not keep the others from it.
    pub fn import_bundles(&self, paths: &[PathBuf]) -> Result<(), StartError> {
        let mut found = Vec::new();
        for path in paths {
            found.push(self.look(path)?);
        }
        let order = |one: &Found| {
            (
                one.manifest.bundle.site,
                one.manifest.bundle.serial,
                one.manifest.bundle.id,
            )
        };
        found.sort_by_key(|one| (order(one), one.manifest.part));
        // a second copy is no second part
        found.dedup_by(|one, other| one.manifest == other.manifest);
        let mut refused: Vec<StartError> = Vec::new();
        for bundle in found.chunk_by(|one, other| order(one) == order(other)) {
            refused.extend(self.import_bundle(bundle).err());
        }
        let Some(last) = refused.pop() else {
            return Ok(());
        };
        for error in refused {
            // one line for each, as the last one has
            let _ = writeln!(std::io::stderr().lock(), "mirror: {}", chain(&*error));
        }
        Err(last)
    }

    fn arrival(&self, found: &Found) -> Arrival {
        let key_id = found.key.map(|key| key.id().to_string());
        Arrival::of(&found.manifest, key_id, self.who.clone(), self.args.allow_rollback)
    }

    /// Reads what stands at the beginning of a file, and whether who signed it is trusted.
    fn look(&self, path: &Path) -> Result<Found, StartError> {
        let opened = match open(path) {
            Ok(opened) => opened,
            Err(error) => return Err(self.refused(None, named(path, &error))),
        };
        let found = Found {
            path: path.to_owned(),
            manifest: opened.manifest().clone(),
            key: opened.signed().map(|signed| signed.key),
        };
        let keyring = Keyring::of(&self.settings.data_dir);
        let trust = self.args.trust.as_deref().map(key_by).transpose()?;
        let trusted = keyring.trusted()?;
        let said = Said {
            trusted: &trusted,
            trust: trust.as_ref(),
            allow_unsigned: self.args.allow_unsigned,
        };
        if let Err(error) = judge(opened.signed(), &said, &path.display().to_string()) {
            return Err(self.refused(Some(&found), named(path, &error)));
        }
        if let Some(trust) = trust.filter(|_| !self.args.dry_run)
            && keyring.trust(&trust)?
        {
            say(&format!("{trust} (key id {}) is trusted from now on\n", trust.id()))?;
        }
        Ok(found)
    }

    /// A refusal is a row in the log of imports.
    fn refused(&self, found: Option<&Found>, error: StartError) -> StartError {
        if self.args.dry_run {
            return error;
        }
        let noted = Noted {
            arrival: found.map(|found| self.arrival(found)),
            who: self.who.clone(),
            outcome: Outcome::Refused { why: chain(&*error) },
        };
        if let Err(other) = self.doer.have_done(Request::ImportNote { noted }) {
            log::warn!("this could not be written into the log of imports: {}", chain(&*other));
        }
        error
    }

    /// The parts of one bundle that are at hand.
    fn import_bundle(&self, found: &[Found]) -> Result<(), StartError> {
        let first = &found[0];
        let mut set = PartSet::new();
        for part in found {
            let added = set.add(part.manifest.clone());
            added.map_err(|error| self.refused(Some(part), named(&part.path, &error.into())))?;
        }
        let arrival = self.arrival(first);
        let check = Request::ImportCheck {
            arrival: arrival.clone(),
            is_try: self.args.dry_run,
        };
        let standing = self.doer.have_done(check)?.message;
        match serde_json::from_str(&standing)? {
            Standing::Goes => {}
            Standing::Unchanged(text) => {
                say(&format!("{}: {text}\n", first.path.display()))?;
                return self.write_receipt(first).map(drop);
            }
            Standing::Refused(why) => return Err(format!("{}: {why}", first.path.display()).into()),
        }
        let id = first.manifest.bundle.id.to_string();
        if self.args.dry_run {
            let folder = format!("{TRY}{id}");
            let told = self.try_bundle(found, arrival, &folder);
            self.staging.remove(&folder)?;
            return told.map(drop);
        }
        let stage = self.stage(&id)?;
        for part in found {
            let staged = self.stage_part(part, &stage);
            staged.map_err(|error| self.refused(Some(part), named(&part.path, &error)))?;
        }
        self.end_bundle(found, &stage)
    }

    fn stage(&self, folder: &str) -> Result<Stage<'_>, StartError> {
        Ok(Stage {
            data_dir: &self.settings.data_dir,
            folder: self.staging.folder(folder)?,
            owner: self.staging.owner,
        })
    }

    fn stage_part(&self, part: &Found, stage: &Stage<'_>) -> Result<(), StartError> {
        if stage.has_this(&part.manifest) {
            return Ok(());
        }
        let members = self.members(part)?;
        self.check_room(&part.manifest, stage.room_needed(&part.manifest, members.sums()))?;
        let mut transfer = Transfer::new("read", part.manifest.part_crates.bytes);
        let taken = stage.take_part(members, &mut |bytes| transfer.show(bytes));
        transfer.end();
        taken
    }

    /// Opened anew: as it is now, and not as it was when it was looked at.
    fn members(&self, part: &Found) -> Result<Members<File>, StartError> {
        let opened = open(&part.path)?;
        if *opened.manifest() != part.manifest || opened.signed().map(|signed| signed.key) != part.key {
            return Err("it changed while it was read".into());
        }
        Ok(opened.trusting(Trust::Anyone)?)
    }

    /// That all of it has room, before anything is written.
    fn check_room(&self, manifest: &Manifest, crates: u64) -> Result<(), StartError> {
        let index = match (&manifest.bundle.index, manifest.part) {
            // compressed on the stick and compressed in the repository
            (Some(index), 1) => index.bytes / 2,
            _ => 0,
        };
        let needed = crates.saturating_add(index);
        let (free, stays) = (free_bytes(&self.settings.data_dir)?, self.settings.min_free_bytes);
        if free < needed.saturating_add(stays) {
            return Err(format!(
                "it needs {}, and {} are free in {}, of which {} are to stay free (cache.min_free): nothing was written",
                size(needed),
                size(free),
                self.settings.data_dir.display(),
                size(stays)
            )
            .into());
        }
        Ok(())
    }

    /// Says what would change.
    fn try_bundle(&self, found: &[Found], arrival: Arrival, folder: &str) -> Ended {
        let stage = self.stage(folder)?;
        let mut needed = 0;
        for part in found {
            let members = self.members(part)?;
            needed += stage.room_needed(&part.manifest, members.sums());
        }
        let bundle = &found[0].manifest.bundle;
        let all = found[0].manifest.crates;
        say(&format!(
            "bundle {}, serial {} of site {}, of {}: {} crate files, {}; {} are needed for those that are not here, {} are free\n",
            bundle.id,
            bundle.serial,
            bundle.site,
            bundle.created,
            all.files,
            size(all.bytes),
            size(needed),
            size(free_bytes(&self.settings.data_dir)?)
        ))?;
        let Some(first) = found.iter().find(|part| part.manifest.part == 1) else {
            return say("what would change in the index is in part 1\n");
        };
        stage.take_index(self.members(first)?)?;
        let folder = folder.to_owned();
        finish(&self.doer.watch(Request::ImportChanges { arrival, folder })?)
    }

    fn end_bundle(&self, found: &[Found], stage: &Stage<'_>) -> Result<(), StartError> {
        let last = found.last().expect("a bundle has at least one part");
        let missing = stage.missing(last.manifest.parts);
        if !missing.is_empty() {
            for part in found {
                self.note_part(part)?;
            }
            return say(&format!(
                "bundle {}: {} is here; {} of {} missing yet: import them, and all of it is published\n",
                last.manifest.bundle.id,
                parts(&found.iter().map(|part| part.manifest.part).collect::<Vec<_>>()),
                parts(&missing),
                last.manifest.parts,
            ))
            .map(drop);
        }
        let arrival = self.arrival(last);
        let reply = self.doer.watch(Request::Import { arrival })?;
        let text = format!(
            "bundle {} (serial {}) is imported",
            last.manifest.bundle.id, last.manifest.bundle.serial
        );
        match reply.ok {
            true => finish(&Reply { message: text, ..reply })?,
            false => {
                stage.forget_index()?;
                return Err(named(&last.path, &reply.message.into()));
            }
        };
        let bundle = &last.manifest.bundle;
        self.staging.forget_older(bundle.site, bundle.serial)?;
        self.write_receipt(&found[0]).map(drop)
    }

    fn note_part(&self, part: &Found) -> Result<(), StartError> {
        let noted = Noted {
            arrival: Some(self.arrival(part)),
            who: self.who.clone(),
            outcome: Outcome::Part {
                crate_files: part.manifest.part_crates.files,
                crate_bytes: part.manifest.part_crates.bytes,
            },
        };
        self.doer.have_done(Request::ImportNote { noted }).map(drop)
    }

    fn write_receipt(&self, found: &Found) -> Ended {
        if self.args.dry_run {
            return Ok(true);
        }
        let site = Some(found.manifest.bundle.site);
        let text = self.doer.have_done(Request::Receipt { site })?.message;
        if let Some(path) = &self.args.receipt {
            receipt::write(path, &text)?;
            return say(&format!("receipt: {}\n", path.display()));
        }
        let path = receipt::beside(&found.path);
        match receipt::write_beside(&path, &text) {
            Ok(()) => say(&format!(
                "receipt: {}: take it back to the mirror outside\n",
                path.display()
            )),
            Err(error) => say(&format!(
                "the receipt could not be written beside the bundle ({error}); `mirror import --receipt FILE` writes it elsewhere:\n{text}"
            )),
        }
    }
}

fn open(path: &Path) -> Result<Opened<File>, StartError> {
    Ok(bundle::open(File::open(path)?)?)
}
