use super::*;
use crate::Decided;

fn name() -> CrateName {
    "serde".parse().unwrap()
}

fn version(text: &str) -> CrateVersion {
    text.parse().unwrap()
}

fn each(decided: &[(String, Decided)]) -> Vec<(&str, Decided)> {
    decided
        .iter()
        .map(|(vers, decided)| (vers.as_str(), *decided))
        .collect()
}

impl Bench {
    /// Two versions, of which upstream then removes the first; it is left out.
    async fn with_a_removal() -> (Self, String) {
        let bench = Self::new().await;
        bench.upstream.add(&krate("serde", "1.0.0"));
        bench.upstream.add(&krate("serde", "1.1.0"));
        let text = bench.text("serde").await;
        bench.upstream.remove_version("serde", "1.0.0");
        bench.pass(MINUTE);
        bench.text("serde").await;
        (bench, text)
    }

    async fn listed(&self, vers: &str) -> Option<Checksum> {
        let listed = self.index.checksum(&name(), &version(vers)).await.unwrap();
        listed.map(|listed| listed.checksum)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_can_be_kept_and_let_go_again() {
    let (bench, text) = Bench::with_a_removal().await;
    bench.pass(GRACE);
    assert_eq!(bench.versions("serde").await, ["1.1.0"]);
    assert_eq!(bench.decided("serde"), [DecisionKind::Removed]);
    let asked = bench.upstream.requests().len();
    let kept = bench.index.keep(&name(), Some(&version("1.0.0"))).await.unwrap();
    assert_eq!(each(&kept), [("1.0.0", Decided::Again)]);
    assert_eq!(bench.upstream.requests().len(), asked, "nobody has to be asked");
    assert_eq!(bench.versions("serde").await, ["1.1.0", "1.0.0"]);
    bench.assert_same_in_git("serde").await;
    assert_eq!(bench.index.irreplaceable().unwrap().len(), 1);
    for _ in 0..2 {
        bench.pass(GRACE);
        assert_eq!(bench.versions("serde").await, ["1.1.0", "1.0.0"], "it stays");
    }
    let again = bench.index.keep(&name(), None).await.unwrap_err();
    assert!(matches!(again, Error::NothingToDecide { .. }), "{again}");
    // upstream has it again: one line, and still kept
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.pass(MINUTE);
    let mut back: Vec<String> = bench.text("serde").await.lines().map(str::to_owned).collect();
    back.sort();
    let mut both: Vec<&str> = text.lines().collect();
    both.sort_unstable();
    assert_eq!(back, both);
    bench.upstream.remove_version("serde", "1.0.0");

    let bench = bench.restarted().await;
    let accepted = bench.index.accept(&name(), None).await.unwrap();
    assert_eq!(each(&accepted), [("1.0.0", Decided::AsUpstream)]);
    assert_eq!(bench.versions("serde").await, ["1.1.0"], "upstream was asked at once");
    assert_eq!(bench.decided("serde"), [DecisionKind::Removed]);
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.pass(MINUTE);
    assert_eq!(bench.versions("serde").await.len(), 2, "what comes back is published");
    assert_eq!(bench.index.decided().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_missing_can_be_kept_before_it_counts_as_removed() {
    let (bench, _) = Bench::with_a_removal().await;
    let kept = bench.index.keep(&name(), Some(&version("1.0.0"))).await.unwrap();
    assert_eq!(each(&kept), [("1.0.0", Decided::Stays)]);
    bench.pass(GRACE);
    assert_eq!(bench.versions("serde").await, ["1.1.0", "1.0.0"]);
    for other in ["1.1.0", "2.0.0"] {
        let nothing = bench.index.keep(&name(), Some(&version(other))).await.unwrap_err();
        assert!(nothing.to_string().contains(other), "{nothing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crate_that_left_the_tree_comes_back_into_it() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    bench.upstream.remove_crate("serde");
    bench.pass(MINUTE);
    bench.text("serde").await;
    bench.pass(GRACE);
    assert!(bench.get("serde").await.unwrap().is_none());
    bench.index.keep(&name(), None).await.unwrap();
    assert_eq!(bench.text("serde").await, text);
    bench.assert_same_in_git("serde").await;
    bench.pass(MINUTE);
    assert_eq!(bench.text("serde").await, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_checksum_is_taken_at_once_and_a_third_is_not() {
    let bench = Bench::new().await;
    let (old, new) = (krate("serde", "1.0.0"), other_bytes("serde", "1.0.0"));
    locked(&bench.kept).extend([old.checksum, new.checksum]);
    bench.upstream.add(&old);
    bench.text("serde").await;
    bench.upstream.republish(&new);
    bench.pass(MINUTE);
    bench.text("serde").await;
    assert_eq!(bench.index.status().held, 1);
    bench.upstream.go_down();
    let accepted = bench.index.accept(&name(), Some(&version("1.0.0"))).await.unwrap();
    assert_eq!(each(&accepted), [("1.0.0", Decided::Changed)]);
    assert_eq!(bench.listed("1.0.0").await, Some(new.checksum));
    assert_eq!(bench.index.status().held, 0);
    bench.assert_same_in_git("serde").await;
    bench.upstream.come_back();
    let third = CrateBuilder::new("serde", "1.0.0").lib("pub fn third() {}").build();
    bench.upstream.republish(&third);
    bench.pass(MINUTE);
    bench.text("serde").await;
    assert_eq!(bench.listed("1.0.0").await, Some(new.checksum), "it was not accepted");
    assert_eq!(bench.decided("serde"), [DecisionKind::HeldChecksum]);
    let kept = bench.index.keep(&name(), None).await.unwrap();
    assert_eq!(each(&kept), [("1.0.0", Decided::Stays)]);
    assert_eq!(bench.index.status().held, 0, "nothing waits for the operator");
    bench.pass(MINUTE);
    bench.text("serde").await;
    assert_eq!(bench.listed("1.0.0").await, Some(new.checksum));
    bench.index.accept(&name(), None).await.unwrap();
    assert_eq!(bench.listed("1.0.0").await, Some(third.checksum));
    bench.pass(MINUTE);
    bench.text("serde").await;
    assert_eq!(bench.decided("serde"), [], "upstream and the operator agree");
    bench.assert_same_in_git("serde").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_held_can_be_taken_or_refused() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..13).map(|number| format!("krate{number:02}")).collect();
    for name in &names {
        bench.upstream.add(&krate(name, "1.0.0"));
        bench.text(name).await;
    }
    names.iter().for_each(|name| bench.upstream.remove_crate(name));
    for seconds in [MINUTE, GRACE] {
        bench.pass(seconds);
        for name in &names {
            bench.get(name).await.unwrap();
        }
    }
    let held = bench.index.inner.decisions.of_kind(DecisionKind::HeldRemoval).unwrap();
    assert_eq!(held.len(), 3);
    let names: Vec<CrateName> = held.iter().map(|(path, _)| path.file_name().parse().unwrap()).collect();
    let accepted = bench.index.accept(&names[0], None).await.unwrap();
    assert_eq!(each(&accepted), [("1.0.0", Decided::LeftOut)]);
    assert!(bench.get(names[0].as_str()).await.unwrap().is_none());
    let kept = bench.index.keep(&names[1], None).await.unwrap();
    assert_eq!(each(&kept), [("1.0.0", Decided::Stays)]);
    for seconds in [3600, MINUTE] {
        bench.pass(seconds);
        assert!(bench.get(names[0].as_str()).await.unwrap().is_none());
        assert!(bench.get(names[1].as_str()).await.unwrap().is_some());
        assert!(bench.get(names[2].as_str()).await.unwrap().is_some());
    }
    assert_eq!(bench.index.status().held, 1);
    let nothing = bench.index.accept(&names[0], None).await.unwrap_err();
    assert!(matches!(nothing, Error::NothingToDecide { .. }), "{nothing}");
}
