//! How often: token buckets for requests, deploys, publishes and failed credentials.
//!
//! A bucket is one number: the time at which it would be full again. It needs no timer, no lock and no memory per request.

use super::Scope;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateKind {
    /// Requests of any kind, and messages of WebSockets.
    Requests,
    /// Deploys.
    Deploys,
    /// Published messages, over HTTP or by functions.
    Publishes,
    /// Requests with a credential that is not known.
    FailedCredentials,
}

/// Every kind, in the order of their numbers.
pub const RATE_KINDS: [RateKind; 4] =
    [RateKind::Requests, RateKind::Deploys, RateKind::Publishes, RateKind::FailedCredentials];

impl RateKind {
    /// The word that metrics, config keys and messages have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Deploys => "deploys",
            Self::Publishes => "publishes",
            Self::FailedCredentials => "failed_credentials",
        }
    }

    /// What there are too many of, for messages.
    const fn noun(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Deploys => "deploys",
            Self::Publishes => "published messages",
            Self::FailedCredentials => "requests with unknown credentials",
        }
    }
}

/// The name of a rate in the configuration, in the API and in messages: `requests_per_namespace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateName {
    kind: RateKind,
    scope: Scope,
}

/// Those that an operator can set for a namespace.
pub const OVERRIDABLE: [RateName; 6] = {
    use RateKind::{Deploys, Publishes, Requests};
    const fn name(kind: RateKind, scope: Scope) -> RateName {
        RateName { kind, scope }
    }
    [
        name(Requests, Scope::Namespace),
        name(Requests, Scope::Key),
        name(Deploys, Scope::Namespace),
        name(Deploys, Scope::Key),
        name(Publishes, Scope::Namespace),
        name(Publishes, Scope::Key),
    ]
};

impl fmt::Display for RateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_per_{}", self.kind.as_str(), self.scope.as_str())
    }
}

/// A rate and how much of it may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    seconds: u32,
    /// Nanoseconds for each token.
    interval_ns: u64,
    burst: u32,
}

/// The longest that a bucket takes to fill, a day; beyond it numbers would say nothing.
const FILLING_MAX_NS: u64 = 24 * 3600 * NS_PER_S;
const NS_PER_S: u64 = 1_000_000_000;
/// Seconds of a rate that may come at once where nothing else is said.
const BURST_SECONDS: u64 = 10;

impl Rate {
    /// So many in so many seconds, of which `burst` may come at once.
    #[must_use]
    pub const fn new(count: u32, seconds: u32, burst: u32) -> Self {
        let count = if count == 0 { 1 } else { count };
        let interval_ns = seconds as u64 * NS_PER_S / count as u64;
        Self { count, seconds, interval_ns, burst: if burst == 0 { 1 } else { burst } }
    }

    /// Tokens for about a millisecond.
    pub(super) fn batch(&self) -> u32 {
        let per_ms = 1_000_000_u64.checked_div(self.interval_ns).unwrap_or(1024);
        u32::try_from(per_ms).unwrap_or(u32::MAX).clamp(1, 1024).min(self.burst)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, seconds, burst, .. } = self;
        match seconds {
            1 => write!(f, "{count}/s burst {burst}"),
            60 => write!(f, "{count}/min burst {burst}"),
            3600 => write!(f, "{count}/h burst {burst}"),
            seconds => write!(f, "{count}/{seconds}s burst {burst}"),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `20/s`, `300/min` or `1000/h`, and how many may come at once: `20/s burst 100`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("expected a rate such as \"20/s\", \"300/min burst 50\" or \"off\", got {text:?}");
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(burst.trim().parse::<u32>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (count, unit) = rate.trim().split_once('/').ok_or_else(bad)?;
        let count: u32 = count.trim().parse().map_err(|_| bad())?;
        let seconds = match unit.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return Err(bad()),
        };
        if count == 0 || burst == Some(0) {
            return Err("a rate of 0 would refuse everything; expected at least 1".to_owned());
        }
        let some_seconds = u64::from(count) * BURST_SECONDS / u64::from(seconds);
        let burst = burst.unwrap_or_else(|| u32::try_from(some_seconds).unwrap_or(u32::MAX).max(1));
        let rate = Self::new(count, seconds, burst);
        if rate.interval_ns == 0 || rate.interval_ns.saturating_mul(burst.into()) > FILLING_MAX_NS {
            return Err(format!(
                "the rate or the burst of {text:?} is too large: a bucket must fill within a day"
            ));
        }
        Ok(rate)
    }
}

/// What of a kind may come of one party, by its scope; `None` sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfScopes {
    /// Of a namespace.
    pub namespace: Option<Rate>,
    /// Of an address.
    pub address: Option<Rate>,
    /// Of a key or token.
    pub key: Option<Rate>,
}

/// All rates of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// See [`RateKind::Requests`].
    pub requests: OfScopes,
    /// See [`RateKind::Deploys`].
    pub deploys: OfScopes,
    /// See [`RateKind::Publishes`].
    pub publishes: OfScopes,
    /// See [`RateKind::FailedCredentials`].
    pub failed_credentials: OfScopes,
}

impl Rates {
    /// What holds unless it is configured. Nobody honest meets them: a core serves some 60,000 requests a second, a deploy
    /// compiles, and a client whose credential fails stops.
    pub const DEFAULT: Self = {
        const REQUESTS: Option<Rate> = Some(Rate::new(1_000_000, 1, 2_000_000));
        const DEPLOYS: Option<Rate> = Some(Rate::new(20, 1, 1_000));
        const PUBLISHES: Option<Rate> = Some(Rate::new(20_000, 1, 100_000));
        Self {
            requests: OfScopes {
                namespace: REQUESTS,
                key: REQUESTS,
                address: Some(Rate::new(200_000, 1, 1_000_000)),
            },
            deploys: OfScopes { namespace: DEPLOYS, key: DEPLOYS, address: None },
            publishes: OfScopes { namespace: PUBLISHES, key: PUBLISHES, address: None },
            failed_credentials: OfScopes { namespace: None, key: None, address: Some(Rate::new(20, 1, 500)) },
        }
    };

    /// A rate as people write it; none for `off`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Option<Rate>, String> {
        if text == "off" { Ok(None) } else { text.parse().map(Some) }
    }

    /// The rate of a name as people write it.
    #[must_use]
    pub fn text(&self, name: RateName) -> String {
        self.of(name.kind, name.scope).map_or_else(|| "off".to_owned(), Rate::to_string)
    }

    /// Sets the rate of a name.
    pub(super) fn set(&mut self, name: RateName, rate: Option<Rate>) {
        let rates = match name.kind {
            RateKind::Requests => &mut self.requests,
            RateKind::Deploys => &mut self.deploys,
            RateKind::Publishes => &mut self.publishes,
            RateKind::FailedCredentials => &mut self.failed_credentials,
        };
        match name.scope {
            Scope::Namespace => rates.namespace = rate,
            Scope::Address => rates.address = rate,
            Scope::Key => rates.key = rate,
            Scope::Node | Scope::Function => {}
        }
    }

    pub(super) fn of(&self, kind: RateKind, scope: Scope) -> Option<&Rate> {
        let rates = match kind {
            RateKind::Requests => &self.requests,
            RateKind::Deploys => &self.deploys,
            RateKind::Publishes => &self.publishes,
            RateKind::FailedCredentials => &self.failed_credentials,
        };
        match scope {
            Scope::Namespace => rates.namespace.as_ref(),
            Scope::Address => rates.address.as_ref(),
            Scope::Key => rates.key.as_ref(),
            Scope::Node | Scope::Function => None,
        }
    }
}

/// More often than a rate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many {} {} (rate `{}`); try again in {} s", kind.noun(), whose(*scope), self.name(), self.retry_after_s())]
pub struct Limited {
    /// Of what.
    pub kind: RateKind,
    /// Whose limit was met.
    pub scope: Scope,
    /// How long until there is a token.
    pub wait: Duration,
}

fn whose(scope: Scope) -> &'static str {
    match scope {
        Scope::Node => "on this node",
        Scope::Namespace => "in this namespace",
        Scope::Address => "from this address",
        Scope::Key => "with this credential",
        Scope::Function => "of this function",
    }
}

impl Limited {
    fn name(&self) -> RateName {
        RateName { kind: self.kind, scope: self.scope }
    }

    /// Whole seconds after which another try succeeds, if nobody else was faster.
    #[must_use]
    pub fn retry_after_s(&self) -> u32 {
        let up = self.wait.as_nanos().div_ceil(u128::from(NS_PER_S));
        u32::try_from(up).unwrap_or(u32::MAX).max(1)
    }
}

/// The tokens of one party.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes tokens at `now`, a time since the node's start; all of them or none.
    ///
    /// # Errors
    /// How long until there are as many.
    pub(super) fn take(&self, rate: &Rate, count: u32, now: Duration) -> Result<(), Duration> {
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = Self::after(full_at, rate, count, now)?;
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }

    /// Sees to it that what was taken under another rate holds back nobody for longer than `rate` does: a bucket that is emptier
    /// than it can be has one token.
    pub(super) fn settle(&self, rate: &Rate, now: Duration) {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let one_left = rate.interval_ns.saturating_mul(u64::from(rate.burst) - 1);
        let empty = now_ns.saturating_add(one_left).saturating_add(rate.interval_ns);
        if self.0.load(Ordering::Relaxed) > empty {
            self.0.fetch_min(now_ns.saturating_add(one_left), Ordering::Relaxed);
        }
    }

    /// Whether there is a token.
    pub(super) fn look(&self, rate: &Rate, now: Duration) -> Result<(), Duration> {
        Self::after(self.0.load(Ordering::Relaxed), rate, 1, now).map(|_| ())
    }

    fn after(full_at: u64, rate: &Rate, count: u32, now: Duration) -> Result<u64, Duration> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = full_at.max(now_ns).saturating_add(rate.interval_ns.saturating_mul(count.into()));
        let most = now_ns.saturating_add(rate.interval_ns.saturating_mul(rate.burst.into()));
        if next > most { Err(Duration::from_nanos(next - most)) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (rate, bucket) = ("10/s burst 3".parse().unwrap(), Bucket::default());
        let at = Duration::from_millis;
        for _ in 0..3 {
            bucket.take(&rate, 1, at(1000)).unwrap();
        }
        assert_eq!(bucket.take(&rate, 1, at(1000)), Err(at(100)));
        assert_eq!(bucket.look(&rate, at(1040)), Err(at(60)));
        // What was refused has taken nothing.
        bucket.take(&rate, 1, at(1100)).unwrap();
        assert_eq!(bucket.take(&rate, 2, at(1200)), Err(at(100)), "all of them or none");
        bucket.take(&rate, 3, at(10_000)).unwrap();
        assert!(bucket.take(&rate, 1, at(10_000)).is_err(), "no more than the burst is saved up");
    }

    #[test]
    fn a_bucket_that_was_emptied_under_another_rate_has_a_token_under_the_new_one() {
        let (slow, fast): (Rate, Rate) = ("1/h burst 5".parse().unwrap(), "10/s burst 3".parse().unwrap());
        let (bucket, at) = (Bucket::default(), Duration::from_secs(100));
        bucket.take(&slow, 5, at).unwrap();
        bucket.settle(&slow, at);
        assert!(bucket.take(&slow, 1, at).is_err(), "under its own rate nothing is given");
        assert!(bucket.take(&fast, 1, at).is_err());
        bucket.settle(&fast, at);
        bucket.take(&fast, 1, at).unwrap();
        // Once more, as another core does: nothing more is given.
        bucket.settle(&fast, at);
        assert_eq!(bucket.take(&fast, 1, at), Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_that_are_enough() {
        let limited = |ms| Limited {
            kind: RateKind::Deploys,
            scope: Scope::Namespace,
            wait: Duration::from_millis(ms),
        };
        assert_eq!([1, 999, 1000, 1001].map(|ms| limited(ms).retry_after_s()), [1, 1, 1, 2]);
        let told = limited(1).to_string();
        assert_eq!(
            told,
            "too many deploys in this namespace (rate `deploys_per_namespace`); try again in 1 s"
        );
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!("20/s".parse(), Ok(Rate::new(20, 1, 200)));
        assert_eq!("6/min".parse(), Ok(Rate::new(6, 60, 1)));
        assert_eq!("1000/h burst 50".parse(), Ok(Rate::new(1000, 3600, 50)));
        for written in ["20/s burst 200", "6/min burst 1", "60000/h burst 50"] {
            assert_eq!(Rates::parse(written).unwrap().unwrap().to_string(), written);
        }
        assert_eq!(Rates::parse("off"), Ok(None));
        for bad in
            ["", "20", "20/d", "x/s", "0/s", "5/s burst 0", "5/s burst", "-1/s", "1/h burst 4000000000"]
        {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
