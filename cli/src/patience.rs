//! Waiting for something to become so: look, wait a little, look again, until it is or the time is up. A
//! node that is away for a moment, for instance because it is being restarted, is asked again.

use std::time::Duration;

use tokio::time::Instant;

use crate::exit::{Exit, Failure};

/// Between two looks, in milliseconds.
const LOOK_MS: u64 = 200;

/// A node that does not answer for so long is taken for gone, in milliseconds.
const AWAY_MS: u64 = 15_000;

/// How long a person is ready to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    until: Instant,
}

impl Patience {
    /// From now on for `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            until: Instant::now() + limit,
        }
    }

    /// Looks until there is an answer. `what` names it in the failure: "waiting for ...".
    pub async fn until<T>(
        self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut away_since: Option<Instant> = None;
        loop {
            let looked = tokio::time::timeout_at(self.until, look()).await;
            match looked {
                Ok(Ok(Some(found))) => return Ok(found),
                Ok(Ok(None)) => away_since = None,
                Ok(Err(failure)) if failure.exit == Exit::Unavailable && failure.is_transient => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > Duration::from_millis(AWAY_MS) {
                        return Err(failure);
                    }
                }
                Ok(Err(failure)) => return Err(failure),
                Err(_) => {}
            }
            if Instant::now() + Duration::from_millis(LOOK_MS) >= self.until {
                let failure = format!("waited {} s for {what}", self.limit.as_secs());
                return Err(Failure::new(Exit::Timeout, failure)
                    .hint("it may still happen; wait longer with --timeout"));
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// `90`, `90s`, `10m` or `1h`, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: u64 = 24 * 3600;
    let (digits, factor) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) if text.ends_with('m') => (digits, 60),
        Some(digits) if text.ends_with('h') => (digits, 3600),
        Some(digits) => (digits, 1),
        None => (text, 1),
    };
    let seconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(factor));
    match seconds {
        Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err("a time is 1 s to 24 h, written like 90, 90s, 10m or 1h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("1h"), Ok(3600));
        for wrong in [
            "",
            "0",
            "m",
            "-1",
            "1d",
            "25h",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_does_not_become_so_ends_as_a_timeout() {
        let mut looks = 0;
        let failure = Patience::new(Duration::from_millis(4 * LOOK_MS))
            .until::<()>("nothing", async || {
                looks += 1;
                Ok(None)
            })
            .await
            .expect_err("it never comes");
        assert_eq!(failure.exit, Exit::Timeout);
        assert!(looks >= 1, "{looks}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_in_time_too() {
        let failure = Patience::new(Duration::from_millis(50))
            .until::<()>("an answer", async || std::future::pending().await)
            .await
            .expect_err("it never comes");
        assert_eq!(failure.exit, Exit::Timeout);
    }

    #[tokio::test]
    async fn a_node_that_comes_back_is_waited_for() {
        let mut looks = 0;
        let found = Patience::new(Duration::from_secs(60))
            .until("the node", async || {
                looks += 1;
                if looks < 3 {
                    Err(Failure::new(Exit::Unavailable, "away").transient())
                } else {
                    Ok(Some(looks))
                }
            })
            .await;
        assert_eq!(found, Ok(3));
    }

    #[tokio::test]
    async fn a_refusal_is_not_waited_out() {
        let refused = Failure::new(Exit::Unavailable, "no room");
        let found = Patience::new(Duration::from_secs(60))
            .until::<()>("the node", async || Err(refused.clone()))
            .await;
        assert_eq!(found, Err(refused));
    }
}
