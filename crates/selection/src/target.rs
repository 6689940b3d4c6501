//! Which dependencies a target wants.

use std::str::FromStr;

use cfg_expr::targets::{TargetInfo, get_builtin_target_by_triple};
use cfg_expr::{Expression, Predicate};

use crate::Error;
use crate::error::shown;

/// A target of rustc, by its triple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(&'static TargetInfo);

impl Target {
    /// Whether a dependency with this `target` (a triple or `cfg(…)`) may be wanted here. What the triple does not decide, and what
    /// cannot be read, is.
    pub fn may_want(&self, target: &str) -> bool {
        if !target.trim_start().starts_with("cfg(") {
            return target == self.0.triple.as_str();
        }
        let Ok(expression) = Expression::parse(target) else {
            return true;
        };
        let decided: Option<bool> = expression.eval(|predicate| match predicate {
            Predicate::Target(predicate) => Some(predicate.matches(self.0)),
            _ => None,
        });
        decided.unwrap_or(true)
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(triple: &str) -> Result<Self, Error> {
        let known = get_builtin_target_by_triple(triple);
        known.map(Self).ok_or_else(|| Error::Target { triple: shown(triple) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_triple_decides_is_decided_and_the_rest_wanted() {
        let linux: Target = "x86_64-unknown-linux-gnu".parse().unwrap();
        let cases = [
            ("cfg(unix)", true),
            ("cfg(windows)", false),
            ("cfg(not(windows))", true),
            ("cfg(all(unix, target_arch = \"x86_64\"))", true),
            ("cfg(all(unix, target_env = \"musl\"))", false),
            ("cfg(any(windows, target_os = \"linux\"))", true),
            ("cfg(tokio_unstable)", true),
            ("cfg(not(tokio_unstable))", true),
            ("cfg(all(windows, tokio_unstable))", false),
            ("cfg(target_feature = \"avx\")", true),
            ("cfg(target_pointer_width = \"32\")", false),
            ("cfg(what is this", true),
            ("x86_64-unknown-linux-gnu", true),
            ("x86_64-pc-windows-msvc", false),
        ];
        for (target, wanted) in cases {
            assert_eq!(linux.may_want(target), wanted, "{target}");
        }
        assert!("linux".parse::<Target>().is_err());
    }
}
