//! Which instance gets the next request: the least loaded; who just failed comes last. Pure.

use net::fronts::Target;

/// How a target stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests under way through this proxy.
    pub active: usize,
    /// It failed to accept a connection a moment ago.
    pub failed: bool,
}

/// Chooses among the targets that were not tried yet. `turn` differs from request to request, so that equals
/// take turns.
pub fn choose<'a>(
    targets: &'a [Target],
    tried: &[&Target],
    turn: usize,
    standing: impl Fn(&Target) -> Standing,
) -> Option<&'a Target> {
    let count = targets.len();
    let in_turn = (0..count).map(|n| &targets[(n + turn) % count]);
    in_turn
        .filter(|target| !tried.contains(target))
        .min_by_key(|target| {
            let standing = standing(target);
            (standing.failed, standing.active)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(count: u16) -> Vec<Target> {
        (0..count)
            .map(|n| Target {
                address: ([10, 0, 0, 1], 8000 + n).into(),
                instance: format!("{n}"),
            })
            .collect()
    }

    fn chosen(loads: &[(usize, bool)], tried: &[usize], turn: usize) -> Option<String> {
        let targets = targets(loads.len() as u16);
        let tried: Vec<_> = tried.iter().map(|n| &targets[*n]).collect();
        let standing = |target: &Target| {
            let (active, failed) = loads[usize::from(target.address.port() - 8000)];
            Standing { active, failed }
        };
        choose(&targets, &tried, turn, standing).map(|target| target.instance.clone())
    }

    #[test]
    fn the_least_loaded_is_chosen_and_equals_take_turns() {
        assert_eq!(
            chosen(&[(3, false), (1, false), (2, false)], &[], 0).as_deref(),
            Some("1")
        );
        assert_eq!(chosen(&[(0, false), (0, false)], &[], 0).as_deref(), Some("0"));
        assert_eq!(chosen(&[(0, false), (0, false)], &[], 1).as_deref(), Some("1"));
        assert_eq!(chosen(&[], &[], 7), None);
    }

    #[test]
    fn who_failed_comes_last_but_comes() {
        assert_eq!(chosen(&[(0, true), (9, false)], &[], 0).as_deref(), Some("1"));
        assert_eq!(chosen(&[(0, true), (9, false)], &[1], 0).as_deref(), Some("0"));
        assert_eq!(chosen(&[(0, true), (9, false)], &[0, 1], 0), None);
    }
}
