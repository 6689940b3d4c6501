//! What the office says of itself to the mirror outside.

use bundle::{Id, Receipt, Serials, Time, crates_digest};
use index_sync::StateKind;
use metadata_db::Site;

use crate::appliance::{Appliance, StartError};

/// So many lost files are named; with more, all are sent again.
const NAMED: usize = 8;

/// The receipt for what came from a site, or from the one that something came from last. Blocks.
pub fn receipt_of(appliance: &Appliance, site: Option<Id>) -> Result<Receipt, StartError> {
    let sites = appliance.decisions.sites()?;
    let wanted = |known: &Site| site.is_none_or(|site| site.to_string() == known.id);
    let Some(site) = sites.into_iter().find(wanted) else {
        return Err("no bundle was imported here yet: there is nothing to write a receipt for".into());
    };
    let (mut here, mut missing) = (appliance.decisions.site_files(&site.id)?, Vec::new());
    let mut failure = None;
    here.retain(|checksum| match appliance.cache.kept(checksum) {
        Ok(Some(_)) => true,
        Ok(None) => {
            missing.push(*checksum);
            false
        }
        Err(error) => {
            failure = Some(error);
            true
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    missing.truncate(NAMED);
    let tree = appliance.index.state(StateKind::Import, &site.last_bundle)?;
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Receipt {
        site: site.id.parse()?,
        bundle: site.last_bundle.parse()?,
        serial: site.last_serial,
        serials: Some(Serials::of(appliance.decisions.imported_serials(&site.id)?)),
        index: tree.map(|tree| tree.to_string().parse()).transpose()?,
        crate_files: here.len() as u64,
        digest: crates_digest(here),
        missing,
        office: name,
        time: Time::now(),
    })
}
