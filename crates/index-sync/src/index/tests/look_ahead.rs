use super::*;

const WAIT: Duration = Duration::from_secs(10);

/// A crate that needs these.
fn needing(name: &str, needs: &[&str]) -> BuiltCrate {
    let krate = CrateBuilder::new(name, "1.0.0");
    needs.iter().fold(krate, |krate, other| krate.dep(other, "^1")).build()
}

/// `top` needs `middle`, which needs `lower` and `shared`, and so on down.
fn add_tower(upstream: &FakeUpstream) {
    for (name, needs) in [
        ("top", &["middle", "shared"][..]),
        ("middle", &["lower", "shared"]),
        ("lower", &["bottom", "lacking"]),
        ("bottom", &[]),
        ("shared", &["bottom"]),
    ] {
        upstream.add(&needing(name, needs));
    }
}

const TOWER: [&str; 6] = ["top", "middle", "lower", "bottom", "shared", "lacking"];

impl Bench {
    /// Waits until nothing more is asked for by itself.
    async fn settled(&self) {
        let idle = async {
            while !self.index.inner.look_ahead.is_idle() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(WAIT, idle).await.unwrap();
    }

    fn asked_for_tower(&self) -> [usize; 6] {
        TOWER.map(|name| self.asked(name))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_brings_all_levels_each_file_once() {
    let bench = Bench::new().await;
    add_tower(&bench.upstream);
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(bench.asked_for_tower(), [1; 6]);
    assert_eq!(bench.index.status().asked_ahead, 5);
    for name in &TOWER[..5] {
        bench.text(name).await;
    }
    assert!(bench.get("lacking").await.unwrap().is_none());
    bench.settled().await;
    assert_eq!(bench.asked_for_tower(), [1; 6], "all is here already");
    bench.assert_same_in_git("bottom").await;

    bench.pass(MINUTE);
    assert_eq!(bench.asked_for_tower(), [1; 6], "nobody asks, nothing is asked");
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(bench.asked_for_tower(), [2; 6]);
    assert_eq!(bench.index.status().not_modified, 5, "all but the one that lacks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_does_not_wait_for_the_client_and_who_asks_joins() {
    let bench = Bench::new().await;
    add_tower(&bench.upstream);
    let gate = bench.upstream.hold(&FakeUpstream::index_path("lower"));
    bench.text("top").await;
    assert!(gate.wait_reached(1, WAIT), "two levels down, with nobody asking");
    let asks = (0..20).map(|_| {
        let index = bench.index.clone();
        tokio::spawn(async move { index.file(&path("lower"), Ask::IfOld).await })
    });
    let asks: Vec<_> = asks.collect();
    gate.open();
    for ask in asks {
        assert!(ask.await.unwrap().unwrap().is_some());
    }
    bench.settled().await;
    assert_eq!(bench.asked_for_tower(), [1; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_what_may_be_under_way_stays_free_for_clients() {
    let bench = Bench::with(|config| config.requests_at_once = 4).await;
    let names: Vec<String> = (0..10).map(|number| format!("next-{number}")).collect();
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    names.iter().for_each(|name| bench.upstream.add(&krate(name, "1.0.0")));
    bench.upstream.add(&needing("top", &needs));
    bench.upstream.add(&krate("other", "1.0.0"));
    let gate = bench.upstream.hold("/index/ne/");
    bench.text("top").await;
    assert!(gate.wait_reached(3, WAIT));
    bench.text("other").await;
    assert!(!gate.wait_reached(4, Duration::from_millis(200)));
    gate.open();
    bench.settled().await;
    assert!(names.iter().all(|name| bench.asked(name) == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_client_has_its_share() {
    let bench = Bench::with(|config| config.look_ahead = 3).await;
    let names: Vec<String> = (0..10).map(|number| format!("next-{number}")).collect();
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    names.iter().for_each(|name| bench.upstream.add(&krate(name, "1.0.0")));
    bench.upstream.add(&needing("top", &needs));
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(bench.upstream.requests().len(), 1 + 3);
    let off = Bench::with(|config| config.look_ahead = 0).await;
    add_tower(&off.upstream);
    off.text("top").await;
    off.settled().await;
    assert_eq!(off.upstream.requests().len(), 1);
    let short_lived = Bench::with(|config| config.max_age = Duration::ZERO).await;
    add_tower(&short_lived.upstream);
    short_lived.text("top").await;
    short_lived.settled().await;
    assert_eq!(
        short_lived.upstream.requests().len(),
        1,
        "it would be old again at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_ends() {
    let bench = Bench::new().await;
    bench.upstream.add(&needing("round", &["about"]));
    bench.upstream.add(&needing("about", &["round", "about"]));
    bench.text("round").await;
    bench.settled().await;
    assert_eq!((bench.asked("round"), bench.asked("about")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_holds_for_what_is_asked_ahead_too() {
    let bench = Bench::new().await;
    add_tower(&bench.upstream);
    bench.text("shared").await;
    bench.settled().await;
    bench.pass(MINUTE);
    bench.upstream.clear_log();
    bench.index.set_mode(Mode::Fallback);
    bench.text("shared").await;
    bench.settled().await;
    assert_eq!(bench.upstream.requests().len(), 0, "it is here");
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(bench.asked_for_tower(), [1, 1, 1, 0, 0, 1], "only what is absent");
    bench.pass(MINUTE);
    bench.upstream.clear_log();
    bench.index.set_mode(Mode::Offline);
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(bench.upstream.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_gone_is_not_asked_for_the_rest() {
    let bench = Bench::with(|config| config.requests_at_once = 2).await;
    let names: Vec<String> = (0..10).map(|number| format!("next-{number}")).collect();
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.upstream.add(&needing("top", &needs));
    let busy = Fault::StatusWithRetryAfter(503, Duration::from_secs(60));
    bench.upstream.fault("/index/ne/", busy, Times::Always);
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(
        bench.upstream.requests().len(),
        2,
        "one of them said that all shall wait"
    );
    bench.text("top").await;
    bench.settled().await;
    assert_eq!(bench.upstream.requests().len(), 2);
}
