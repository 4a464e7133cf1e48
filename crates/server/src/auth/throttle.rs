//! RFC 6120 §6.4.5: limits on failed logins.
//!
//! Failures are counted for each account and for each address (IPv6: each /64), and both must wait when they
//! have had too many. An account waits everywhere except at the addresses where it logged in during the
//! last 30 days: whoever guesses at an account from elsewhere cannot keep its owner out there. At a new address, the
//! owner gets the next free attempt as soon as anyone does, at most two minutes after the guessing stops.
//!
//! Only failures count, and they count when they happen: a whole company that reconnects through one address
//! after a restart is let in. Guesses made side by side, before the first of them has failed, become debt.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// How much longer than from an empty bucket an address may have to wait.
const ADDRESS_DEBT_MAX: Duration = Duration::from_secs(15 * 60);

/// The same for an account. Short, since its owner waits too.
const ACCOUNT_DEBT_MAX: Duration = Duration::from_secs(60);

/// How long an address stays good for an account after a login.
const GOOD_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The account, or the address, has had too many failures. The answer on the stream is `temporary-auth-failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many failed logins, the next is allowed after {:.1} s", .0.as_secs_f64())]
pub struct RetryAfter(pub Duration);

/// Token buckets of failed logins. A value: the clock is an argument.
///
/// Accounts are named by their bare JID, prepared. Whether one exists makes no difference here.
#[derive(Debug)]
pub struct LoginThrottle {
    /// In which one token comes back.
    interval: Duration,
    /// When the bucket is full again.
    accounts: Expiring,
    addresses: Expiring,
    /// Until when an address is good for an account.
    good: Expiring,
    /// Keys are hashes with a secret, so that names of a kilobyte cost no memory and nobody can make them collide.
    hasher: RandomState,
}

impl LoginThrottle {
    /// Buckets that hold `failures_per_minute_max` failures, at least one, and refill in a minute. At most `keys_max` accounts,
    /// addresses and good pairs are remembered (each about 30 bytes); beyond that those are forgotten that would be soonest.
    pub fn new(failures_per_minute_max: u32, keys_max: usize) -> Self {
        Self {
            interval: MINUTE / failures_per_minute_max.max(1),
            accounts: Expiring::new(keys_max),
            addresses: Expiring::new(keys_max),
            good: Expiring::new(keys_max),
            hasher: RandomState::new(),
        }
    }

    /// Whether a login may be tried now. Takes nothing from the buckets. `account` is empty where none was named.
    pub fn check(&mut self, account: &str, address: IpAddr, now: Instant) -> Result<(), RetryAfter> {
        let (account_key, address_key, pair_key) = self.keys(account, address);
        let mut wait = self.wait(&self.addresses, address_key, now);
        if !account.is_empty() && self.good.remaining(pair_key, now).is_none() {
            wait = wait.max(self.wait(&self.accounts, account_key, now));
        }
        if wait.is_zero() { Ok(()) } else { Err(RetryAfter(wait)) }
    }

    /// A login failed for want of the right password (`not-authorized`).
    pub fn failed(&mut self, account: &str, address: IpAddr, now: Instant) {
        let (account_key, address_key, _) = self.keys(account, address);
        take(&mut self.addresses, address_key, self.interval, ADDRESS_DEBT_MAX, now);
        if !account.is_empty() {
            take(&mut self.accounts, account_key, self.interval, ACCOUNT_DEBT_MAX, now);
        }
    }

    /// A login succeeded. Buckets stay as they are: else a guesser with an account would empty his address's between
    /// guesses, and the owner's reconnecting would do it for the account's.
    pub fn succeeded(&mut self, account: &str, address: IpAddr, now: Instant) {
        if !account.is_empty() {
            let (_, _, pair_key) = self.keys(account, address);
            self.good.insert(pair_key, now + GOOD_FOR, now);
        }
    }

    /// How long until the bucket has a token. It has one while at least one interval of the minute is left.
    fn wait(&self, buckets: &Expiring, key: u64, now: Instant) -> Duration {
        let until_full = buckets.remaining(key, now).unwrap_or_default();
        until_full.saturating_sub(MINUTE - self.interval)
    }

    fn keys(&self, account: &str, address: IpAddr) -> (u64, u64, u64) {
        let network = network(address);
        (self.hasher.hash_one(account), self.hasher.hash_one(network), self.hasher.hash_one((account, network)))
    }
}

/// Takes a token, into debt if need be.
fn take(buckets: &mut Expiring, key: u64, interval: Duration, debt_max: Duration, now: Instant) {
    let until_full = buckets.remaining(key, now).unwrap_or_default() + interval;
    buckets.insert(key, now + until_full.min(MINUTE + debt_max), now);
}

/// The network that one subscriber has: an IPv4 address, a /64 of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// Keys that are forgotten at their time, or earlier where there are too many.
#[derive(Debug)]
pub(super) struct Expiring {
    ends: HashMap<u64, Instant>,
    keys_max: usize,
}

impl Expiring {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { ends: HashMap::new(), keys_max: keys_max.max(1) }
    }

    pub(super) fn remaining(&self, key: u64, now: Instant) -> Option<Duration> {
        let remaining = self.ends.get(&key)?.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(remaining)
    }

    pub(super) fn insert(&mut self, key: u64, end: Instant, now: Instant) {
        if self.ends.len() >= self.keys_max && !self.ends.contains_key(&key) {
            self.make_room(now);
        }
        self.ends.insert(key, end);
    }

    /// Forgets what has ended and, if that is less than a quarter, the quarter that ends first. A quarter at a time,
    /// so that a flood of new keys costs each of them little.
    fn make_room(&mut self, now: Instant) {
        let leave = self.keys_max - self.keys_max.div_ceil(4);
        self.ends.retain(|_, end| *end > now);
        let excess = self.ends.len().saturating_sub(leave);
        if excess == 0 {
            return;
        }
        let mut ends: Vec<(Instant, u64)> = self.ends.iter().map(|(key, end)| (*end, *key)).collect();
        ends.select_nth_unstable(excess - 1);
        for (_, key) in &ends[..excess] {
            self.ends.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ROMEO: &str = "romeo@example.com";
    const JULIET: &str = "juliet@example.com";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The `n`th of many addresses.
    fn bot(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_waits_after_its_failures_whatever_the_accounts() {
        let (mut throttle, now, home) = (LoginThrottle::new(20, 100), Instant::now(), address("192.0.2.1"));
        for n in 0..20 {
            assert_eq!(throttle.check(&format!("{n}@example.com"), home, now), Ok(()));
            throttle.failed(&format!("{n}@example.com"), home, now);
        }
        assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(3))));
        assert_eq!(throttle.check("", home, now), Err(RetryAfter(seconds(3))));
        assert_eq!(throttle.check(ROMEO, address("192.0.2.2"), now), Ok(()));

        assert_eq!(throttle.check(ROMEO, home, now + seconds(2)), Err(RetryAfter(seconds(1))));
        assert_eq!(throttle.check(ROMEO, home, now + seconds(3)), Ok(()));
        throttle.failed(ROMEO, home, now + seconds(3));
        assert_eq!(throttle.check(ROMEO, home, now + seconds(3)), Err(RetryAfter(seconds(3))));
    }

    #[test]
    fn a_bucket_is_full_again_after_a_minute() {
        let (mut throttle, start, home) = (LoginThrottle::new(5, 100), Instant::now(), address("192.0.2.1"));
        for now in [start, start + seconds(60)] {
            for _ in 0..5 {
                assert_eq!(throttle.check(ROMEO, home, now), Ok(()));
                throttle.failed(ROMEO, home, now);
            }
            assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(12))));
        }
    }

    #[test]
    fn an_account_waits_after_failures_from_many_addresses() {
        let (mut throttle, now) = (LoginThrottle::new(20, 100), Instant::now());
        for n in 0..20 {
            assert_eq!(throttle.check(ROMEO, bot(n), now), Ok(()));
            throttle.failed(ROMEO, bot(n), now);
        }
        assert_eq!(throttle.check(ROMEO, bot(50), now), Err(RetryAfter(seconds(3))));
        assert_eq!(throttle.check(JULIET, bot(50), now), Ok(()));
    }

    #[test]
    fn guessers_elsewhere_do_not_keep_the_owner_out_at_home() {
        let (mut throttle, start, home) = (LoginThrottle::new(20, 10_000), Instant::now(), address("192.0.2.1"));
        throttle.succeeded(ROMEO, home, start);
        let now = start + seconds(29 * 24 * 60 * 60);
        for n in 0..1000 {
            throttle.failed(ROMEO, bot(n), now);
        }
        assert_eq!(throttle.check(ROMEO, home, now), Ok(()));
        assert!(throttle.check(ROMEO, bot(5000), now).is_err());
        throttle.succeeded(JULIET, bot(5000), now);
        assert!(throttle.check(ROMEO, bot(5000), now).is_err(), "good for another account only");

        let later = start + seconds(31 * 24 * 60 * 60);
        for n in 0..1000 {
            throttle.failed(ROMEO, bot(n), later);
        }
        assert!(throttle.check(ROMEO, home, later).is_err(), "a good address is one of the last 30 days");
    }

    #[test]
    fn a_guesser_at_home_is_held_by_the_address() {
        let (mut throttle, now, home) = (LoginThrottle::new(20, 100), Instant::now(), address("192.0.2.1"));
        throttle.succeeded(ROMEO, home, now);
        for _ in 0..20 {
            assert_eq!(throttle.check(ROMEO, home, now), Ok(()));
            throttle.failed(ROMEO, home, now);
        }
        assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(3))));
        throttle.succeeded(JULIET, home, now);
        assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(3))), "a success gives nothing back");
    }

    #[test]
    fn at_a_new_address_the_owner_waits_no_longer_than_two_minutes() {
        let (mut throttle, now) = (LoginThrottle::new(20, 1_000_000), Instant::now());
        for n in 0..100_000 {
            throttle.failed(ROMEO, bot(n), now);
        }
        assert_eq!(throttle.check(ROMEO, address("192.0.2.1"), now), Err(RetryAfter(seconds(63))));
        assert_eq!(throttle.check(ROMEO, address("192.0.2.1"), now + seconds(63)), Ok(()));
    }

    #[test]
    fn guesses_side_by_side_are_paid_for_afterwards() {
        let (mut throttle, now, home) = (LoginThrottle::new(20, 100), Instant::now(), address("192.0.2.1"));
        for n in 0..120 {
            throttle.failed(&format!("{n}@example.com"), home, now);
        }
        assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(303))));
        for _ in 0..10_000 {
            throttle.failed("", home, now);
        }
        assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(903))));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_address_and_so_is_a_mapped_ipv4_address() {
        let (mut throttle, now) = (LoginThrottle::new(1, 100), Instant::now());
        throttle.failed("", address("2001:db8:0:1::1"), now);
        assert!(throttle.check("", address("2001:db8:0:1:ffff::2"), now).is_err());
        assert_eq!(throttle.check("", address("2001:db8:0:2::1"), now), Ok(()));

        throttle.failed("", address("192.0.2.1"), now);
        assert!(throttle.check("", address("::ffff:192.0.2.1"), now).is_err());
        assert_eq!(throttle.check("", address("::ffff:192.0.2.2"), now), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let (mut throttle, now, worst) = (LoginThrottle::new(2, 64), Instant::now(), address("192.0.2.1"));
        for _ in 0..10 {
            throttle.failed(ROMEO, worst, now);
        }
        for n in 0..10_000 {
            throttle.failed(&format!("{n}@example.com"), bot(n), now);
            throttle.succeeded(&format!("{n}@example.com"), bot(n), now);
        }
        for table in [&throttle.accounts, &throttle.addresses, &throttle.good] {
            assert!(table.ends.len() <= 64 && table.ends.len() >= 32, "{}", table.ends.len());
        }
        assert!(throttle.check("", worst, now).is_err());
        assert!(throttle.check(ROMEO, address("192.0.2.2"), now).is_err());

        // What has ended makes room before anything else does.
        let later = now + seconds(3600);
        throttle.failed(JULIET, worst, later);
        throttle.accounts.make_room(later);
        assert_eq!(throttle.accounts.ends.len(), 1);
    }

    #[test]
    fn a_limit_of_zero_is_one_and_a_table_of_none_has_one() {
        let (mut throttle, now, home) = (LoginThrottle::new(0, 0), Instant::now(), address("192.0.2.1"));
        assert_eq!(throttle.check(ROMEO, home, now), Ok(()));
        throttle.failed(ROMEO, home, now);
        assert_eq!(throttle.check(ROMEO, home, now), Err(RetryAfter(seconds(60))));
        throttle.failed(JULIET, bot(1), now);
        assert_eq!(throttle.accounts.ends.len(), 1);
    }
}
