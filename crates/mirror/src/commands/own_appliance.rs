//! Work by command in a data directory that no server has open: with the same parts, put together for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use registry::mirror_config;
use tokio::sync::mpsc;

use crate::appliance::{Appliance, StartError};
use crate::bundles::Owner;
use crate::data_dir::DataDir;
use crate::recorder::record_fills;
use crate::settings::{Follow, Settings};

/// Opens the data directory, does `work` with it, and ends in good order.
pub fn with_own_appliance<T>(
    settings: Settings,
    work: impl AsyncFnOnce(&Arc<Appliance>) -> Result<T, StartError>,
) -> Result<T, StartError> {
    // rounds of its own would come on top of the one that was asked for
    let settings = Settings {
        follow: Follow::Never,
        ..settings
    };
    let named_by = settings.layers.get("data_dir").source.to_string();
    let path = settings.data_dir.clone();
    let data_dir = DataDir::lock(&path, &named_by)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let (events, ended_fills) = mpsc::unbounded_channel();
        let appliance = Arc::new(Appliance::open(settings, data_dir, events)?);
        let recording = tokio::spawn(record_fills(Arc::clone(&appliance), ended_fills));
        // a directory that was served before names its own address already
        if appliance.index.tree().tip()?.is_none() {
            appliance
                .index
                .publish_config_json(mirror_config(&appliance.git_base_url()));
        }
        let done = work(&appliance).await;
        appliance.stop(Duration::from_secs(1)).await;
        recording.abort();
        done
    });
    drop(runtime);
    // root did it, and the server that comes next may be somebody else
    Owner::of(&path)
        .and_then(|owner| owner.give_all(&path))
        .map_err(|error| format!("{}: some of it still belongs to root: {error}", path.display()))?;
    done
}
