//! XEP-0077 §3.1.1: a limit on accounts made from one address.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::RetryAfter;
use super::throttle::{Expiring, network};

/// Accounts that one address may ask for at once, and in an hour.
const PER_HOUR_MAX: u32 = 5;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 65_536;

/// A token bucket for each address (IPv6: each /64). A value: the clock is an argument.
#[derive(Debug)]
pub struct RegistrationThrottle {
    /// When the bucket is full again.
    addresses: Expiring,
    hasher: RandomState,
}

impl Default for RegistrationThrottle {
    fn default() -> Self {
        Self { addresses: Expiring::new(ADDRESSES_MAX), hasher: RandomState::new() }
    }
}

impl RegistrationThrottle {
    /// Takes a token, where there is one. What is refused costs nothing.
    ///
    /// # Errors
    /// When the next token comes.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), RetryAfter> {
        let interval = HOUR / PER_HOUR_MAX;
        let key = self.hasher.hash_one(network(address));
        let until_full = self.addresses.remaining(key, now).unwrap_or_default();
        let wait = until_full.saturating_sub(HOUR - interval);
        if !wait.is_zero() {
            return Err(RetryAfter(wait));
        }
        self.addresses.insert(key, now + until_full + interval, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_five_tokens_and_gets_one_more_each_twelve_minutes() {
        let (mut throttle, start) = (RegistrationThrottle::default(), Instant::now());
        let (home, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for _ in 0..5 {
            assert_eq!(throttle.take(home, start), Ok(()));
        }
        assert_eq!(throttle.take(home, start), Err(RetryAfter(minutes(12))));
        assert_eq!(throttle.take(other, start), Ok(()));
        assert_eq!(throttle.take(home, start + minutes(11)), Err(RetryAfter(minutes(1))));
        assert_eq!(throttle.take(home, start + minutes(12)), Ok(()));
        assert_eq!(throttle.take(home, start + minutes(12)), Err(RetryAfter(minutes(12))));
    }

    #[test]
    fn the_addresses_of_one_ipv6_subscriber_are_one() {
        let (mut throttle, now) = (RegistrationThrottle::default(), Instant::now());
        for host in 1..=5 {
            assert_eq!(throttle.take(format!("2001:db8::{host}").parse().unwrap(), now), Ok(()));
        }
        assert!(throttle.take("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert_eq!(throttle.take("2001:db8:0:1::1".parse().unwrap(), now), Ok(()));
    }
}
