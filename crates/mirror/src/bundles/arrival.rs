//! Whether a bundle may be imported here: what has come before, and what goes into the log.

use bundle::{Id, Manifest, Parent};
use index_sync::{Index, StateKind};
use metadata_db::{DecisionsDb, ImportCounts, ImportResult, ImportRow, ImportedBundle, Wanted};
use registry::{CrateName, CrateVersion};
use serde::{Deserialize, Serialize};

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::control::Reply;

/// A bundle, or a part of one, as the command tells of it that has read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Arrival {
    /// Its id.
    pub id: Id,
    /// The mirror that made it.
    pub site: Id,
    /// Its place among the exports of that mirror.
    pub serial: u64,
    /// The one that it continues.
    pub parent: Option<Parent>,
    /// Which part it is.
    pub part: u16,
    /// Of how many.
    pub parts: u16,
    /// The key that signed it.
    pub key_id: Option<String>,
    /// Who gave the command.
    pub who: String,
    /// An older one may be taken.
    pub allow_rollback: bool,
}

/// Whether one may be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It may.
    Goes,
    /// It is here.
    Unchanged(String),
    /// It may not, for this reason.
    Refused(String),
}

impl Arrival {
    /// By its manifest.
    pub fn of(manifest: &Manifest, key_id: Option<String>, who: String, allow_rollback: bool) -> Self {
        let bundle = &manifest.bundle;
        Self {
            id: bundle.id,
            site: bundle.site,
            serial: bundle.serial,
            parent: bundle.parent,
            part: manifest.part,
            parts: manifest.parts,
            key_id,
            who,
            allow_rollback,
        }
    }

    /// Its row in the log.
    pub fn row(&self, result: ImportResult, why: Option<String>, counts: ImportCounts) -> ImportRow {
        ImportRow {
            at: unix_now(),
            bundle: Some(ImportedBundle {
                id: self.id.to_string(),
                site: self.site.to_string(),
                serial: self.serial,
                part: self.part.into(),
                parts: self.parts.into(),
            }),
            key_id: self.key_id.clone(),
            who: self.who.clone(),
            result,
            why,
            counts,
        }
    }
}

/// By what was imported before. Blocks.
pub fn standing(appliance: &Appliance, arrival: &Arrival) -> Result<Standing, StartError> {
    let has_state = |id: &Id| has_state(&appliance.index, id);
    stands(&appliance.decisions, arrival, &has_state)
}

fn has_state(index: &Index, id: &Id) -> Result<bool, StartError> {
    Ok(index.state(StateKind::Import, &id.to_string())?.is_some())
}

fn stands(
    decisions: &DecisionsDb,
    arrival: &Arrival,
    has_state: &dyn Fn(&Id) -> Result<bool, StartError>,
) -> Result<Standing, StartError> {
    let Arrival { id, serial, .. } = arrival;
    let site = decisions.site(&arrival.site.to_string())?;
    let last = site.as_ref().map_or(0, |site| site.last_serial);
    let is_last = site.as_ref().is_some_and(|site| site.last_bundle == id.to_string());
    let is_older = *serial <= last && !arrival.allow_rollback;
    if is_last || (is_older && decisions.was_imported(&id.to_string())?) {
        return Ok(Standing::Unchanged(format!(
            "bundle {id} (serial {serial}) was imported before: nothing to do"
        )));
    }
    if is_older {
        return Ok(Standing::Refused(format!(
            "this bundle has serial {serial}, and this mirror has come to serial {last} of that site: it is older. \
             --allow-rollback takes it all the same, and the index goes back to what it was then"
        )));
    }
    let Some(parent) = arrival.parent else {
        return Ok(Standing::Goes);
    };
    if !decisions.was_imported(&parent.id.to_string())? {
        return Ok(Standing::Refused(gap(parent, last)));
    }
    if !has_state(&parent.id)? {
        return Ok(Standing::Refused(format!(
            "this bundle continues serial {} (id {}), and what the index was then is not kept here any more: \
             ask for a bundle since your receipt",
            parent.serial, parent.id
        )));
    }
    Ok(Standing::Goes)
}

/// What has to come first.
fn gap(parent: Parent, last: u64) -> String {
    let has = match last {
        0 => "has none of that site".to_owned(),
        last => format!("has serial {last}"),
    };
    let first = match parent.serial.saturating_sub(last) {
        1 => format!("import {} first", parent.serial),
        2 => format!("import {} and {} first", last + 1, parent.serial),
        0 => "import that one first".to_owned(),
        _ => format!("import {} to {} first", last + 1, parent.serial),
    };
    format!(
        "this bundle continues serial {} (id {}), and this mirror {has}: {first}, or ask for a bundle since your receipt",
        parent.serial, parent.id
    )
}

/// Says how a bundle stands here; what is not taken is logged, unless it is only a try. Blocks.
pub fn looked_at(appliance: &Appliance, arrival: &Arrival, is_try: bool) -> Result<Reply, StartError> {
    let standing = standing(appliance, arrival)?;
    let row = match &standing {
        Standing::Goes => None,
        Standing::Unchanged(_) => Some(arrival.row(ImportResult::Unchanged, None, ImportCounts::default())),
        Standing::Refused(why) => Some(arrival.row(ImportResult::Refused, Some(why.clone()), ImportCounts::default())),
    };
    if let Some(row) = row.filter(|_| !is_try) {
        appliance.decisions.log_import(&row)?;
    }
    Ok(Reply::ok(serde_json::to_string(&standing)?))
}

/// Logs what the command itself came to: that a part is here, or why nothing was taken. Blocks.
pub fn note(appliance: &Appliance, noted: Noted) -> Result<Reply, StartError> {
    let (result, why, counts) = match noted.outcome {
        Outcome::Part {
            crate_files,
            crate_bytes,
        } => {
            let counts = ImportCounts {
                crate_files,
                crate_bytes,
                ..ImportCounts::default()
            };
            (ImportResult::Part, None, counts)
        }
        Outcome::Refused { why } => (ImportResult::Refused, Some(why), ImportCounts::default()),
    };
    let row = match &noted.arrival {
        Some(arrival) => arrival.row(result, why, counts),
        None => ImportRow {
            at: unix_now(),
            bundle: None,
            key_id: None,
            who: noted.who,
            result,
            why,
            counts,
        },
    };
    appliance.decisions.log_import(&row)?;
    Ok(Reply::ok(""))
}

/// Puts crate files on the list of what is wanted. Blocks.
pub fn want(appliance: &Appliance, files: Vec<(CrateName, CrateVersion)>) -> Result<Reply, StartError> {
    let now = unix_now();
    let wanted = files.into_iter().map(|(name, version)| Wanted {
        name,
        version: Some(version),
        first_at: now,
        last_at: now,
        count: 1,
    });
    appliance.decisions.add_wanted(&wanted.collect::<Vec<_>>())?;
    Ok(Reply::ok(""))
}

/// Something for the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Noted {
    /// What it is about, as far as it could be read.
    pub arrival: Option<Arrival>,
    /// Who gave the command.
    pub who: String,
    /// What happened.
    pub outcome: Outcome,
}

/// What a command came to before the mirror itself had to do anything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Outcome {
    /// A part is here, and others are not.
    Part {
        /// Crate files in it.
        crate_files: u64,
        /// Their bytes.
        crate_bytes: u64,
    },
    /// Nothing was taken.
    Refused {
        /// For this reason.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use metadata_db::EndedImport;

    use super::*;

    const SITE: Id = Id::from_bytes([9; 16]);

    fn id(serial: u8) -> Id {
        Id::from_bytes([serial; 16])
    }

    fn arrival(serial: u8, parent: Option<u8>) -> Arrival {
        Arrival {
            id: id(serial),
            site: SITE,
            serial: serial.into(),
            parent: parent.map(|serial| Parent {
                id: id(serial),
                serial: serial.into(),
            }),
            part: 1,
            parts: 1,
            key_id: None,
            who: "somebody".to_owned(),
            allow_rollback: false,
        }
    }

    struct Office {
        decisions: DecisionsDb,
        _dir: tempfile::TempDir,
    }

    impl Office {
        fn with(serials: &[u8]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let decisions = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
            let office = Self { decisions, _dir: dir };
            for serial in serials {
                office.import(*serial);
            }
            office
        }

        fn import(&self, serial: u8) {
            let row = arrival(serial, None).row(ImportResult::Imported, None, ImportCounts::default());
            let ended = EndedImport {
                row: &row,
                decisions: None,
            };
            self.decisions.end_import(&ended, []).unwrap();
        }

        fn stands(&self, arrival: &Arrival) -> Standing {
            stands(&self.decisions, arrival, &|parent| Ok(*parent != id(2))).unwrap()
        }

        fn refused(&self, arrival: &Arrival) -> String {
            match self.stands(arrival) {
                Standing::Refused(why) => why,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_first_and_what_follows_it_go() {
        let office = Office::with(&[]);
        assert_eq!(office.stands(&arrival(5, None)), Standing::Goes);
        office.import(5);
        assert_eq!(office.stands(&arrival(6, Some(5))), Standing::Goes);
        assert_eq!(
            office.stands(&arrival(9, Some(5))),
            Standing::Goes,
            "one that heals a gap"
        );
        assert_eq!(office.stands(&arrival(9, None)), Standing::Goes);
    }

    #[test]
    fn a_gap_names_what_is_lost() {
        let none = Office::with(&[]).refused(&arrival(7, Some(6)));
        assert!(none.contains("has none of that site: import 1 to 6 first"), "{none}");
        let office = Office::with(&[4]);
        let why = office.refused(&arrival(7, Some(6)));
        assert!(
            why.contains("continues serial 6") && why.contains("has serial 4: import 5 and 6 first"),
            "{why}"
        );
        assert!(office.refused(&arrival(6, Some(5))).contains("import 5 first"));
        let gone = Office::with(&[2, 3]).refused(&arrival(4, Some(2)));
        assert!(gone.contains("is not kept here any more"), "{gone}");
    }

    #[test]
    fn what_is_here_changes_nothing_and_what_is_older_needs_a_word() {
        let office = Office::with(&[3, 5]);
        assert!(matches!(office.stands(&arrival(5, None)), Standing::Unchanged(_)));
        assert!(matches!(office.stands(&arrival(3, None)), Standing::Unchanged(_)));
        assert!(office.refused(&arrival(4, None)).contains("--allow-rollback"));
        let willing = |serial| Arrival {
            allow_rollback: true,
            ..arrival(serial, None)
        };
        assert!(matches!(office.stands(&willing(5)), Standing::Unchanged(_)));
        assert_eq!(office.stands(&willing(4)), Standing::Goes);
        assert_eq!(office.stands(&willing(3)), Standing::Goes);
        // after a rollback the newer one is not here any more
        office.import(4);
        assert_eq!(office.stands(&arrival(5, None)), Standing::Goes);
    }
}
