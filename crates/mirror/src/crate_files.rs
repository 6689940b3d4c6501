//! From a name and a version to an opened crate file: index first, then disk, then upstream.

use std::net::IpAddr;

use std::time::{Duration, Instant};

use download_cache::{CrateFile, Wanted};
use registry::{Checksum, CrateName, CrateVersion, DownloadTemplate};
use upstream_http::{Request, UpstreamUrl};

use crate::appliance::Appliance;
use crate::error::{ServeError, chain};

/// How large a file is, is worth waiting so long.
const SIZE_WITHIN: Duration = Duration::from_secs(5);

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
        self.open_crate_file_for(None, name, version).await
    }

    /// The same for a client, which may have so many files fetched at once as `limits.fills_per_client` says.
    pub async fn open_crate_file_for(
        &self,
        client: Option<IpAddr>,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<Opened, ServeError> {
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
        match self.cache.open_kept(&checksum).await {
            Ok(Some(kept)) => {
                return Ok(Opened {
                    checksum,
                    file: CrateFile::Kept(kept),
                });
            }
            Ok(None) => {}
            Err(error) if self.is_offline() || error.is_temporary() => return Err(error.into()),
            // one that the disk cannot read is fetched anew below, which is logged there
            Err(_) => {}
        }
        if self.is_offline() {
            return Err(if self.cache.is_set_aside(&checksum) {
                let what = format!("{name} {version}");
                ServeError::Damaged { what }
            } else {
                not_kept()
            });
        }
        let url = self.download_url(&listed.spelled, version, &checksum).await?;
        let wanted = Wanted {
            name: listed.spelled,
            version: version.clone(),
            checksum,
        };
        Ok(Opened {
            checksum,
            file: self.cache.fetch_for(client, wanted, url).await?,
        })
    }

    /// Fetches a file anew that was kept and is bad or gone, to the end of its fill; else says why not.
    pub async fn fetch_again(&self, wanted: &Wanted) -> Result<(), String> {
        if self.is_offline() {
            return Err("upstream is not to be asked".to_owned());
        }
        // a copy in memory would be given in place of the file
        let forgotten = self.cache.kept(&wanted.checksum);
        if matches!(forgotten, Ok(None)) {
            self.cache.evict(&wanted.checksum).map_err(|error| chain(&error))?;
        }
        let opened = self.open_crate_file(&wanted.name, &wanted.version).await;
        let opened = opened.map_err(|error| chain(&error))?;
        if opened.checksum != wanted.checksum {
            return Err(format!("the index says {} by now", opened.checksum));
        }
        if let CrateFile::Filling(mut waiter) = opened.file {
            while let Some(piece) = waiter.next().await {
                piece.map_err(|error| chain(&error))?;
            }
        }
        match self.cache.kept(&wanted.checksum) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it was fetched but could not be kept, the log says why".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// How large upstream says that a file is; nothing of it is read. `None` if upstream does not say.
    pub async fn size_upstream(&self, wanted: &Wanted) -> Option<u64> {
        let url = self
            .download_url(&wanted.name, &wanted.version, &wanted.checksum)
            .await
            .ok()?;
        let mut request = Request::get(url, self.settings.max_file_bytes);
        request.deadline = Some(Instant::now() + SIZE_WITHIN);
        let answer = self.upstream.get(request).await.ok()?;
        answer.content_length.filter(|_| answer.status == 200)
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
