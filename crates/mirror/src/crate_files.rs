//! From a name and a version to an opened crate file: index first, then disk, then upstream.

use download_cache::{CrateFile, Wanted};
use registry::{Checksum, CrateName, CrateVersion, DownloadTemplate};
use upstream_http::UpstreamUrl;

use crate::appliance::Appliance;
use crate::error::ServeError;

/// A crate file that can be served: kept, or arriving.
#[derive(Debug)]
pub struct Opened {
    /// Its checksum, by the index.
    pub checksum: Checksum,
    /// Its bytes.
    pub file: CrateFile,
}

impl Appliance {
    /// Opens the file of a version. Yanked ones are served like any other.
    ///
    /// A version that the index does not list is asked of upstream's index once more, since a cargo with its own copy of
    /// the index asks for crate files first; only then it is an error.
    pub async fn open_crate_file(&self, name: &CrateName, version: &CrateVersion) -> Result<Opened, ServeError> {
        let listed = self.index.checksum(name, version).await?;
        let not_kept = || ServeError::NotKept {
            what: format!("{name} {version}"),
        };
        let Some(listed) = listed else {
            if self.is_offline() {
                return Err(not_kept());
            }
            return Err(ServeError::NotListed {
                name: name.clone(),
                version: version.clone(),
            });
        };
        let checksum = listed.checksum;
        if let Some(kept) = self.cache.kept(&checksum)? {
            return Ok(Opened {
                checksum,
                file: CrateFile::Kept(kept),
            });
        }
        if self.is_offline() {
            return Err(not_kept());
        }
        let url = self.download_url(&listed.spelled, version, &checksum).await?;
        let wanted = Wanted {
            name: listed.spelled,
            version: version.clone(),
            checksum,
        };
        Ok(Opened {
            checksum,
            file: self.cache.fetch(wanted, url).await?,
        })
    }

    /// Where upstream has the file; its host is trusted from then on, since the operator's upstream names it.
    async fn download_url(
        &self,
        name: &CrateName,
        version: &CrateVersion,
        checksum: &Checksum,
    ) -> Result<UpstreamUrl, ServeError> {
        let (template, auth_required) = self.download_template().await?;
        let url: UpstreamUrl = template
            .url(name, version, checksum)
            .parse()
            .map_err(|cause: upstream_http::Error| ServeError::DownloadAddress { why: cause.to_string() })?;
        let token = self
            .token
            .clone()
            .filter(|_| auth_required || self.is_upstream_host(&url));
        self.upstream.trust(url.authority().clone(), token);
        Ok(url)
    }

    async fn download_template(&self) -> Result<(DownloadTemplate, bool), ServeError> {
        if let Some(template) = &self.settings.upstream.download {
            return Ok((template.clone(), false));
        }
        let config = self.index.upstream_config().await?;
        Ok((config.download, config.auth_required))
    }

    fn is_upstream_host(&self, url: &UpstreamUrl) -> bool {
        let own = self
            .settings
            .upstream
            .sparse
            .as_deref()
            .and_then(|base| base.parse::<UpstreamUrl>().ok());
        own.is_some_and(|own| own.authority() == url.authority())
    }
}
