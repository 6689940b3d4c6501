//! The routes. A handler parses what a client asks, calls the appliance, and answers.

mod api;
mod assets;
mod base_url;
mod body;
mod client_address;
mod conditional;
mod download;
mod error;
mod front;
mod git;
mod health;
mod metrics;
mod pages;
mod sparse;
mod views;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};

use crate::appliance::Appliance;
pub use front::in_front;

/// What every handler gets.
type Shared = web::Data<Appliance>;

/// All routes, at the root and below the path of `public_url` if it has one (a proxy may pass that on or not).
pub fn routes(appliance: &Arc<Appliance>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let data = Shared::from(Arc::clone(appliance));
    let path = path_of_public_url(appliance);
    move |config| {
        config.app_data(data).app_data(web::PayloadConfig::new(64 << 10));
        if !path.is_empty() {
            config.service(
                web::scope(&path)
                    .configure(all)
                    .default_service(web::to(pages::no_such_page)),
            );
        }
        config.configure(all).default_service(web::to(pages::no_such_page));
    }
}

/// Such as `/rust`; empty if there is none.
fn path_of_public_url(appliance: &Appliance) -> String {
    let url = appliance.settings.public_url.as_ref();
    url.map(|url| url.path().to_owned()).unwrap_or_default()
}

fn all(config: &mut ServiceConfig) {
    config
        .configure(sparse::routes)
        .configure(download::routes)
        .configure(git::routes)
        .configure(api::routes)
        .configure(health::routes)
        .configure(assets::routes)
        .configure(pages::routes);
}
