use super::*;

fn load(variables: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Result<Settings, SettingsError> {
    let flags: Vec<_> = flags
        .iter()
        .map(|(key, flag, text)| (*key, *flag, (*text).to_owned()))
        .collect();
    Settings::load(None, Environment::of(variables), &flags)
}

fn from_file(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mirror.toml");
    std::fs::write(&path, text).unwrap();
    Settings::load(Some(&path), Environment::of(variables), &[])
}

#[test]
fn every_default_works() {
    let settings = load(&[], &[]).unwrap();
    assert_eq!(settings.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.data_dir, Path::new("mirror-data"));
    assert_eq!(settings.mode, Mode::Online);
    assert_eq!(settings.sparse_max_age, Duration::from_secs(60));
    assert_eq!(settings.look_ahead, 500);
    assert_eq!(settings.max_file_bytes, 512 << 20);
    assert!(settings.upstream.sparse.unwrap().starts_with("https://"));
    assert!(settings.public_url.is_none());
}

#[test]
fn each_layer_overrides_the_one_before() {
    let file = "listen = \"127.0.0.1:1\"\nlog = \"debug\"\n[index]\nsparse_max_age = \"5s\"\n";
    let settings = from_file(
        file,
        &[("MIRROR_LISTEN", "127.0.0.1:2"), ("MIRROR_INDEX__SPARSE_MAX_AGE", "6s")],
    )
    .unwrap();
    assert_eq!(settings.listen[0].port(), 2);
    assert_eq!(settings.sparse_max_age, Duration::from_secs(6));
    assert_eq!(settings.log, "debug");
    let settings = load(
        &[("MIRROR_LISTEN", "127.0.0.1:2"), ("RUST_LOG", "trace")],
        &[("listen", "--listen", "127.0.0.1:3")],
    )
    .unwrap();
    assert_eq!(settings.listen[0].port(), 3);
    assert_eq!(settings.layers.get("listen").source, Source::Flag("--listen"));
    assert_eq!(settings.log, "trace");
}

#[test]
fn a_platform_gives_port_disk_and_name() {
    let settings = load(
        &[
            ("PORT", "7000"),
            ("STATE_DIRECTORY", "/var/lib/mirror"),
            ("FLY_APP_NAME", "rusty"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen, ["[::]:7000".parse().unwrap()]);
    assert_eq!(settings.data_dir, Path::new("/var/lib/mirror"));
    assert_eq!(settings.public_url.unwrap().as_str(), "https://rusty.fly.dev");
    assert!(settings.trusted_proxies.trusts("1.2.3.4".parse().unwrap()));
    let settings = load(
        &[
            ("PORT", "7000"),
            ("MIRROR_LISTEN", "127.0.0.1:1"),
            ("MIRROR_PUBLIC_URL", "http://h"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen[0].port(), 1);
    assert_eq!(settings.public_url.unwrap().as_str(), "http://h");
    assert!(!settings.trusted_proxies.trusts("1.2.3.4".parse().unwrap()));
}

#[test]
fn errors_name_key_value_and_source() {
    let message = |result: Result<Settings, SettingsError>| result.unwrap_err().to_string();
    let text = message(load(&[("MIRROR_LISTEN", "nowhere")], &[]));
    assert!(
        text.contains("`listen` is `nowhere` in the environment's MIRROR_LISTEN"),
        "{text}"
    );
    let text = crate::error::chain(&load(&[("MIRROR_LISTEN", "nowhere")], &[]).unwrap_err());
    assert_eq!(text.matches("MIRROR_LISTEN").count(), 1, "{text}");
    let text = message(load(&[("MIRROR_PUBIC_URL", "x")], &[]));
    assert!(
        text.contains("`pubic_url`") && text.contains("did you mean `public_url`?"),
        "{text}"
    );
    let text = message(from_file("[upstream]\nspase = 1\n", &[]));
    assert!(
        text.contains("`upstream.spase`") && text.contains("mirror.toml") && text.contains("`upstream.sparse`"),
        "{text}"
    );
    assert!(message(from_file("listen = [", &[])).contains("mirror.toml"));
    assert!(
        message(load(
            &[],
            &[("upstream.sparse", "--upstream-sparse", "https://h/index/")]
        ))
        .contains("sparse+https")
    );
    assert!(message(load(&[("MIRROR_CONFIG", "/nowhere/mirror.toml")], &[])).contains("no such file"));
    let text = message(load(&[("MIRROR_UPSTREAM__TOKEN", "sec\u{7}ret")], &[]));
    assert!(!text.contains("sec") && text.contains("upstream.token"), "{text}");
    for (key, bad) in [
        ("MODE", "off"),
        ("ACCESS", "private"),
        ("INDEX__REMOVAL_GRACE", "soon"),
        ("CACHE__MIN_FREE", "lots"),
        ("UPSTREAM__CA_FILE", "/nowhere.pem"),
        ("UPSTREAM__DOWNLOAD", "here"),
        ("TRUSTED_PROXIES", "me"),
        ("DATA_DIR", " "),
        ("UPSTREAM__GIT", "ssh://h/x"),
        ("INDEX__FOLLOW", "yes"),
        ("INDEX__SYNC_INTERVAL", "0s"),
        ("INDEX__SERVE_PARTIAL", "1"),
        ("GIT__MAX_WANTS", "0"),
        ("UPSTREAM__PROXY", "foo:bar:baz"),
        ("UPSTREAM__PROXY", "socks5://x:1"),
        ("LOG", "garbage==x"),
        ("CACHE__MAX_FILE_SIZE", "0"),
    ] {
        let variable = format!("MIRROR_{key}");
        let text = message(load(&[(&variable, bad)], &[]));
        assert!(text.contains(&variable), "{text}");
    }
}

#[test]
fn what_kubernetes_says_of_a_service_is_no_setting() {
    let links = [
        ("MIRROR_SERVICE_HOST", "10.0.0.1"),
        ("MIRROR_PORT", "tcp://10.0.0.1:80"),
        ("MIRROR_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(load(&links, &[]).is_ok());
    assert!(load(&[("MIRROR_PORT", "8080")], &[]).is_err());
}

#[test]
fn a_download_address_that_does_not_do_is_not_blamed_on_upstream() {
    let text = load(&[("MIRROR_UPSTREAM__DOWNLOAD", "ftp://x")], &[])
        .unwrap_err()
        .to_string();
    assert!(!text.contains("config.json") && text.contains("http"), "{text}");
}

#[test]
fn an_empty_upstream_is_none() {
    assert!(
        load(&[("MIRROR_UPSTREAM__SPARSE", "")], &[])
            .unwrap()
            .upstream
            .sparse
            .is_none()
    );
}

#[test]
fn the_local_url_is_one_that_can_be_reached() {
    for (listen, url) in [
        ("[::]:7000", "http://127.0.0.1:7000"),
        ("127.0.0.1:0", "http://127.0.0.1:8080"),
        ("[::1]:9", "http://[::1]:9"),
    ] {
        assert_eq!(load(&[("MIRROR_LISTEN", listen)], &[]).unwrap().local_url(), url);
    }
}

#[test]
fn shows_every_key_with_its_source_and_no_secret() {
    let shown = show(&load(&[("MIRROR_UPSTREAM__TOKEN", "sesame"), ("MIRROR_LOG", "warn")], &[]).unwrap());
    assert!(
        shown.contains("log") && shown.contains("\"warn\"") && shown.contains("MIRROR_LOG"),
        "{shown}"
    );
    assert!(!shown.contains("sesame"));
    for key in key::KEYS {
        let last = key.name.rsplit('.').next().unwrap();
        assert!(shown.contains(last), "{} is missing", key.name);
    }
}
