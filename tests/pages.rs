//! The pages for people (issue 2, "Pages for people"): what each shows of a kept crate, headers, links and HEAD, `/config.toml` to the
//! byte, pages below the path of a `public_url`, and hostile READMEs, in a browser too where there is one. Rows W1, W2 and N7.

use std::collections::BTreeSet;
use std::path::Path;

use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, Dependency, FakeUpstream, Fault, GitUpstream, MirrorBuilder, MirrorProcess,
    Reply, ReservedPort, Times, git, git_ok, run_if_there, said,
};

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// A crate with everything that a page can show, in two versions, and one that is listed only.
fn showcase(upstream: &FakeUpstream) -> [BuiltCrate; 2] {
    let builder = |version: &str| {
        CrateBuilder::new("show-case", version)
            .description("Shows <everything> & more")
            .keyword("display")
            .category("science")
            .author("A. Uthor <a@example.com>")
            .license("MIT OR Apache-2.0")
            .rust_version("1.70")
            .repository("https://example.com/repo")
            .homepage("javascript:alert(1)")
            .documentation("https://example.com/docs?a=b&c=d")
            .readme("# Title of it\n\nSome `code` and **weight**.\n\n```rust\nfn main() {}\n```\n")
            .dep_full(Dependency::new("needed", "^1.2").features(&["extra"]))
            .dep_full(Dependency::new("perhaps", "2").optional())
            .dep_full(Dependency::new("builder", "3").build())
            .dep_full(Dependency::new("tester", "4").dev())
            .dep_full(Dependency::new("winnow", "5").target("cfg(windows)"))
            .feature("default", &["std"])
            .feature("std", &[])
    };
    let crates = [builder("1.0.0").build(), builder("1.1.0+meta").build()];
    upstream.add(&crates[0]);
    upstream.add(&crates[1]);
    upstream.add(&builder("2.0.0").yanked().build());
    crates
}

fn is_page(reply: &Reply, status: u16) -> String {
    let page = reply.text();
    assert_eq!(reply.status, status, "{page}");
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = reply
        .header("content-security-policy")
        .expect("every page has a policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    assert!(
        page.starts_with("<!doctype html>") && page.ends_with("</html>"),
        "{page}"
    );
    assert!(
        page.contains("This is a mirror. It is not affiliated with crates.io"),
        "{page}"
    );
    page
}

/// The values of an attribute, as they are written.
fn values(page: &str, attribute: &str) -> BTreeSet<String> {
    let start = format!(" {attribute}=\"");
    let parts = page.split(start.as_str()).skip(1);
    parts
        .filter_map(|part| Some(part.split_once('"')?.0.to_owned()))
        .collect()
}

fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
}

#[test]
fn every_page_shows_what_it_is_for() {
    let upstream = FakeUpstream::start();
    let crates = showcase(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep_all(&crates);
    let page = |path: &str| is_page(&mirror.get(path), 200);
    let own = format!("http://{}", mirror.authority());

    let home = page("/");
    has(
        &home,
        &[
            "stands in for crates.io",
            "name=\"q\"",
            "show-case",
            "1.1.0+meta",
            "2\u{a0}crate files",
        ],
    );
    has(
        &home,
        &[&format!("sparse+{own}/index/"), &upstream.sparse_url(), "Copy"],
    );
    has(&page("/help"), &[&format!("sparse+{own}/index/"), "CARGO_HOME"]);
    has(
        &page("/status"),
        &["Published crates", "Kept files", "Misses", &upstream.sparse_url()],
    );
    let found = page("/search?q=show+everything");
    has(
        &found,
        &["/crates/show-case", "Shows &lt;everything&gt; &amp; more", "display"],
    );
    has(&page("/search?q=%3Cscript%3Ealert(1)%3C/script%3E"), &["Nothing found"]);
    assert!(!page("/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").contains("<script>alert"));

    for path in [
        "/crates/show-case",
        "/crates/show_case",
        "/crates/Show-Case",
        "/crates/show-case/1.1.0+meta",
        "/crates/show-case/1.1.0%2Bmeta",
    ] {
        let krate = page(path);
        has(
            &krate,
            &[
                "<bdi>show-case</bdi>",
                "kept here",
                "Shows &lt;everything&gt; &amp; more",
                "MIT OR Apache-2.0",
                "1.70",
                "A. Uthor",
                "science",
                "https://example.com/repo",
                "Title of it</h",
                "<code>code</code>",
                "<strong>weight</strong>",
                "fn main() {}",
                "needed",
                "perhaps",
                "optional",
                "builder",
                "tester",
                "cfg(windows)",
                "cargo add show-case@1.1.0+meta",
                "2.0.0",
                &crates[1].checksum.to_hex(),
            ],
        );
        assert!(
            !values(&krate, "href").iter().any(|href| href.starts_with("javascript")),
            "{path}"
        );
    }
    has(
        &page("/crates/show-case/1.0.0"),
        &[&crates[0].checksum.to_hex(), "kept here"],
    );
    let listed = page("/crates/show-case/2.0.0");
    has(&listed, &["not kept yet", "yanked", "Yanked:"]);
    let download = values(&listed, "href")
        .into_iter()
        .find(|href| href.ends_with("/download"))
        .unwrap();
    assert_eq!(mirror.get(&download).status, 200, "the link to the file works");
}

#[test]
fn what_is_not_there_is_a_page_for_people_and_a_line_for_programs() {
    let upstream = FakeUpstream::start();
    showcase(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    let html = |path: &str| mirror.request("GET", path, &[("Accept", "text/html,*/*;q=0.8")], b"");
    let long = format!("/crates/{}", "x".repeat(5000));
    for path in [
        "/crates/nobody",
        "/crates/show-case/9.9.9",
        "/crates/show-case/not-a-version",
        "/crates/..%2f..%2fetc",
        "/crates/%3Cscript%3E",
        "/crates/%ff",
        "/nowhere",
        "/index.html",
        "/.git/config",
        "/crates/",
        &long,
    ] {
        let page = is_page(&html(path), 404);
        assert!(!page.contains("<script>") && page.len() < 20_000, "{path}: {page}");
    }
    for path in ["/nowhere", "/git/nowhere", "/elsewhere/git/index/info/refs"] {
        let line = mirror.get(path);
        assert_eq!(
            (line.status, line.header("content-type")),
            (404, Some("text/plain; charset=utf-8"))
        );
        assert_eq!(line.text().lines().count(), 1, "{}", line.text());
    }
    let api = mirror.get("/api/v1/crates/show-case");
    assert_eq!(api.status, 404);
    let json: serde_json::Value = serde_json::from_slice(&api.body).unwrap();
    assert!(json["errors"][0]["detail"].is_string(), "{json}");
    assert!(upstream.requests().is_empty(), "pages ask nothing of upstream");
}

#[test]
fn everything_that_a_page_links_to_here_is_here() {
    let upstream = FakeUpstream::start();
    let crates = showcase(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep_all(&crates);
    let mut loaded = BTreeSet::new();
    for path in [
        "/",
        "/search",
        "/search?q=show",
        "/status",
        "/help",
        "/crates/show-case",
        "/crates/show-case/2.0.0",
    ] {
        let page = is_page(&mirror.get(path), 200);
        assert!(
            !page.contains("<style") && !page.contains(" style=") && !page.contains("<script>"),
            "{path}"
        );
        for handler in ["onclick", "onload", "onerror"] {
            assert!(values(&page, handler).is_empty(), "{path} {handler}");
        }
        for src in values(&page, "src") {
            assert!(src.starts_with('/') && !src.starts_with("//"), "{path} loads {src}");
            loaded.insert(src);
        }
        for href in values(&page, "href").into_iter().chain(values(&page, "action")) {
            if href.starts_with("https://") {
                assert!(href.starts_with("https://example.com/"), "{path} links to {href}");
            } else if !href.starts_with('#') {
                assert!(
                    href.starts_with('/') && !href.starts_with("//"),
                    "{path} links to {href}"
                );
                loaded.insert(href);
            }
        }
    }
    // what it depends on is listed nowhere, so that these have no page
    let without_page = ["needed", "perhaps", "builder", "tester", "winnow"].map(|name| format!("/crates/{name}"));
    for path in loaded {
        let reply = mirror.get(&path);
        let expected = if without_page.contains(&path) { 404 } else { 200 };
        assert_eq!(reply.status, expected, "{path}");
        assert!(reply.header("content-type").is_some(), "{path}");
        if path.contains(".css") || path.contains(".js") || path.contains(".svg") {
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
    }
}

#[test]
fn head_is_get_without_the_body() {
    let upstream = FakeUpstream::start();
    let crates = showcase(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep_all(&crates);
    for path in [
        "/",
        "/search?q=show",
        "/help",
        "/crates/show-case",
        "/crates/nobody",
        "/config.toml",
        "/healthz",
        "/readyz",
        "/index/config.json",
    ] {
        let (get, head) = (mirror.get(path), mirror.request("HEAD", path, &[], b""));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for name in ["content-type", "content-security-policy", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        // ages of seconds may be a letter longer the next moment
        assert!(
            length.abs_diff(get.body.len()) < 20,
            "{path}: {length} and {}",
            get.body.len()
        );
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let reply = mirror.request(method, "/", &[], b"");
        assert!(matches!(reply.status, 404 | 405), "{method}: {}", reply.status);
    }
}

#[test]
fn config_toml_is_exact() {
    let stanza = |base: &str| {
        format!(
            "[source.crates-io]\nreplace-with = \"mirror\"\n\n[registries.mirror]\nindex = \"sparse+{base}/index/\"\n"
        )
    };
    let plain = mirror().start();
    let reply = plain.get("/config.toml");
    assert_eq!(reply.text(), stanza(&format!("http://{}", plain.authority())));
    assert_eq!(reply.header("content-type"), Some("application/toml; charset=utf-8"));
    assert_eq!(
        (reply.header("cache-control"), reply.header("x-content-type-options")),
        (Some("no-store"), Some("nosniff"))
    );
    let named = plain.request("GET", "/config.toml", &[("Host", "mirror.office:8080")], b"");
    assert_eq!(named.text(), stanza("http://mirror.office:8080"));
    let evil = plain.request("GET", "/config.toml", &[("Host", "x\"\n[evil]")], b"");
    assert!(!evil.text().contains("evil"), "{}", evil.text());
    let public = mirror().env("MIRROR_PUBLIC_URL", "https://mirror.test/rust/").start();
    assert_eq!(public.get("/config.toml").text(), stanza("https://mirror.test/rust"));
    assert_eq!(
        public.get("/rust/config.toml").text(),
        stanza("https://mirror.test/rust")
    );
}

#[test]
fn pages_tell_of_the_index_over_git() {
    let upstream = GitUpstream::start();
    upstream.commit_index("http://127.0.0.1:9/dl", &[], 3);
    let older = |page: &str, base: &str| page.contains(&format!("registry = &quot;{base}/git/index&quot;"));
    let mirror_of_git = mirror().upstream_git(&upstream).own_port().start();
    let own = format!("http://{}", mirror_of_git.authority());
    let help = mirror_of_git.get("/help").text();
    assert!(older(&help, &own), "{help}");
    let other = mirror_of_git.request("GET", "/help", &[("Host", "mirror.office")], b"");
    assert!(
        other.text().contains("does not serve at this address"),
        "{}",
        other.text()
    );
    assert_eq!(upstream.requests(), 0, "pages ask nothing of upstream");

    let status = mirror_of_git.get("/status").text();
    for part in [
        &upstream.url(),
        "waiting until somebody wants it",
        "none since the start",
    ] {
        assert!(status.contains(part), "{part:?} is not in\n{status}");
    }
    let synced = mirror_of_git.run(&["sync"]);
    assert!(synced.status.success(), "{}", said(&synced));
    let status = mirror_of_git.get("/status").text();
    assert!(!status.contains("none since the start"), "{status}");
    let metrics = mirror_of_git.get("/metrics").text();
    for line in [
        "mirror_index_whole 1",
        "mirror_follow_rounds_total 1",
        "mirror_follow_failing 0",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is not in\n{metrics}");
    }

    let index = format!("{own}/git/index");
    let home = tempfile::tempdir().unwrap();
    git_ok(home.path(), &["clone", "-q", &index, "copy"]);
    let metrics = mirror_of_git.get("/metrics").text();
    assert!(metrics.contains("\nmirror_git_packs_total 1\n"), "{metrics}");
    let named = ["-c", "http.extraHeader=Host: mirror.office", "ls-remote", &index];
    let refused = git(home.path(), &named);
    assert!(said(&refused).contains("set public_url"), "{}", said(&refused));
    let metrics = mirror_of_git.get("/metrics").text();
    assert!(metrics.contains("\nmirror_git_refused_total 1\n"), "{metrics}");

    upstream.refuse(true);
    assert!(!mirror_of_git.run(&["sync"]).status.success(), "upstream answers 503");
    let metrics = mirror_of_git.get("/metrics").text();
    assert!(metrics.contains("\nmirror_follow_failing 1\n"), "{metrics}");
}

#[test]
fn a_public_url_may_have_a_path() {
    let upstream = FakeUpstream::start();
    let crates = showcase(&upstream);
    for name in ["needed", "perhaps", "builder", "winnow"] {
        upstream.add(
            &CrateBuilder::new(name, if name == "needed" { "1.2.0" } else { "3.0.0" })
                .feature("extra", &[])
                .build(),
        );
    }
    upstream.add(&CrateBuilder::new("winnow", "5.0.0").build());
    upstream.add(&CrateBuilder::new("perhaps", "2.0.0").build());
    let port = ReservedPort::new();
    let base = format!("http://{}/team/rust", port.authority());
    let mirror = mirror()
        .upstream(&upstream)
        .arg("--listen")
        .arg(&port.authority())
        .env("MIRROR_PUBLIC_URL", &base)
        .start();
    mirror.keep_all(&crates);
    for path in ["/", "/search?q=show", "/status", "/help", "/crates/show-case"] {
        let below = is_page(&mirror.get(&format!("/team/rust{path}")), 200);
        is_page(&mirror.get(path), 200);
        for link in values(&below, "href")
            .into_iter()
            .chain(values(&below, "src"))
            .chain(values(&below, "action"))
        {
            let fits =
                link.starts_with("/team/rust/") || link.starts_with("https://example.com/") || link.starts_with('#');
            assert!(fits, "{path} links to {link}");
            if (link.contains(".css") || link.contains(".js") || link.contains(".svg")) && link.starts_with('/') {
                assert_eq!(mirror.get(&link).status, 200, "{link}");
            }
        }
    }
    assert_eq!(mirror.get("/team/rust/healthz").status, 200);
    assert_eq!(mirror.get("/team/rust/nowhere").status, 404);
    let config = mirror.get("/team/rust/config.toml").text();
    assert!(config.contains(&format!("sparse+{base}/index/")), "{config}");
    let project = CargoProject::new().dependency("show-case", "1").config(&config);
    project.cargo_ok(&["build"]);
    let found = project.cargo_ok(&["search", "--registry", "mirror", "show-case"]);
    assert!(found.starts_with("show-case = \"1.1.0+meta\""), "{found}");
}

/// A README that tries what is known to be tried, with `elsewhere` as the place where a success would be seen.
fn hostile_readme(elsewhere: &str) -> String {
    let template = "# Nice crate\n\n\
        <script>new Image().src='ELSEWHERE/script'</script>\n\n\
        <img src=x onerror=\"this.src='ELSEWHERE/onerror'\">\n\n\
        ![pixel](ELSEWHERE/markdown-image.png)\n\n\
        <img src=\"ELSEWHERE/image.png\" srcset=\"ELSEWHERE/srcset.png 2x\">\n\n\
        <iframe src=\"ELSEWHERE/iframe\"></iframe> <iframe srcdoc=\"<script src='ELSEWHERE/srcdoc'></script>\"></iframe>\n\n\
        <link rel=\"stylesheet\" href=\"ELSEWHERE/link.css\"> <style>@import url(ELSEWHERE/import.css);</style>\n\n\
        <div style=\"background:url(ELSEWHERE/style.png);position:fixed;top:0;left:0\">over all</div>\n\n\
        <meta http-equiv=\"refresh\" content=\"0;url=ELSEWHERE/refresh\"> <base href=\"ELSEWHERE/base/\">\n\n\
        <form action=\"ELSEWHERE/form\"><input name=q><button>go</button></form>\n\n\
        <svg><set attributeName=href to=javascript:alert(1)><image href=\"ELSEWHERE/svg.png\"/><script>fetch('ELSEWHERE/svg')</script></svg>\n\n\
        <math><annotation-xml encoding=\"text/html\"><img src=\"ELSEWHERE/math.png\"></annotation-xml></math>\n\n\
        <video src=\"ELSEWHERE/video\" poster=\"ELSEWHERE/poster\" autoplay></video> <audio src=\"ELSEWHERE/audio\" autoplay></audio>\n\n\
        <object data=\"ELSEWHERE/object\"></object> <embed src=\"ELSEWHERE/embed\">\n\n\
        <a href=\"javascript:fetch('ELSEWHERE/link')\" ping=\"ELSEWHERE/ping\">click</a> [md](javascript:alert(1)) [d](data:text/html,x)\n\n\
        <p id=\"main\" onmouseover=\"fetch('ELSEWHERE/over')\">clobbers</p> \u{202e}backwards\n\n\
        The end of it.\n";
    template.replace("ELSEWHERE", elsewhere)
}

fn hostile_crate(elsewhere: &str) -> BuiltCrate {
    CrateBuilder::new("hostile", "1.0.0")
        .description(&format!(
            "<img src=\"{elsewhere}/description\"> </p><script>fetch('{elsewhere}/d')</script>"
        ))
        .keyword("<b>word</b>")
        .author("<script>fetch('/author')</script>")
        .license("<iframe src=x>")
        .homepage(&format!("{elsewhere}/\"><script>"))
        .repository("data:text/html,<script>alert(1)</script>")
        .documentation("file:///etc/passwd")
        .feature("default", &[])
        .readme(&hostile_readme(elsewhere))
        .build()
}

#[test]
fn a_hostile_readme_is_inert() {
    let (upstream, elsewhere) = (FakeUpstream::start(), FakeUpstream::start());
    let krate = hostile_crate(&elsewhere.base_url());
    upstream.add(&krate);
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep(&krate);
    for path in ["/", "/search?q=hostile", "/crates/hostile", "/crates/hostile/1.0.0"] {
        let page = is_page(&mirror.get(path), 200);
        for tag in [
            "<iframe",
            "<form action=\"http",
            "<svg><set",
            "<math",
            "<video",
            "<audio",
            "<object",
            "<embed",
            "<base",
            "http-equiv",
            "<style",
            "<script>",
            "srcdoc",
            "<b>word",
        ] {
            assert!(!page.contains(tag), "{path}: {tag} in\n{page}");
        }
        for attribute in ["onerror", "onmouseover", "style", "ping", "srcset", "poster"] {
            assert!(values(&page, attribute).is_empty(), "{path}: {attribute}");
        }
        let own = |link: &String| link.starts_with('/') && !link.starts_with("//");
        assert!(
            values(&page, "src").iter().all(own),
            "{path}: {:?}",
            values(&page, "src")
        );
        for href in values(&page, "href") {
            let scheme = href.split(':').next().unwrap_or_default();
            assert!(
                own(&href) || href.starts_with('#') || matches!(scheme, "http" | "https"),
                "{path}: {href}"
            );
        }
        assert_eq!(page.matches(" id=\"main\"").count(), 1, "{path}: no name is taken over");
    }
    has(
        &is_page(&mirror.get("/crates/hostile"), 200),
        &["Nice crate</h", "The end of it."],
    );
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn a_browser_loads_nothing_from_elsewhere() {
    let (upstream, elsewhere) = (FakeUpstream::start(), FakeUpstream::start());
    let krate = hostile_crate(&elsewhere.base_url());
    upstream.add(&krate);
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep(&krate);
    let profile = tempfile::tempdir().unwrap();
    let profile = format!("--user-data-dir={}", profile.path().display());
    let browse = |url: &str| {
        run_if_there(
            "chromium",
            &[
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                &profile,
                "--virtual-time-budget=5000",
                "--dump-dom",
                url,
            ],
        )
    };
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<img src=\"/from-a-page\">";
    elsewhere.fault("/seen", Fault::Raw(page.to_vec()), Times::Always);
    let Some(seen) = browse(&format!("{}/seen", elsewhere.base_url())) else {
        println!("skipped: there is no chromium in PATH");
        return;
    };
    if elsewhere.count("/from-a-page") == 0 {
        println!("skipped: this chromium does not work here: {}", said(&seen));
        return;
    }
    elsewhere.clear_log();
    for path in ["/", "/search?q=hostile", "/crates/hostile"] {
        let output = browse(&mirror.url(path)).unwrap();
        let dom = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            dom.contains("not affiliated with crates.io"),
            "{path}: {}",
            said(&output)
        );
    }
    let asked: Vec<_> = elsewhere.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.is_empty(), "{asked:?}");
}
