//! Who is signed in at the console: browsers, by a secret in a cookie of which only the SHA-256 is kept. In memory: a
//! restart signs everybody out.
//!
//! A visit carries no power of its own. It says which key it was begun with, and whose key that is now is looked up for
//! each request, so that a key that is removed or changed ends its visits at once and roles are always those of now.

use crate::policy::name::PrincipalName;
use crate::policy::time::Tick;
use crate::policy::token::TokenDigest;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A visit ends when nobody has used it for this long. What a page asks for by itself is no use.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// A visit ends this long after it began.
const AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Most visits at once, of one principal and in all; the one that was idle longest makes room.
const VISITS_OF_ONE_MAX: usize = 16;
const VISITS_MAX: usize = 1024;
/// Most failed attempts to sign in from one address within [`ATTEMPTS_WINDOW`].
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPTS_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Most addresses whose attempts are told apart; the rest share one count.
const ADDRESSES_MAX: usize = 1024;

/// All who are signed in, and who tried to.
#[derive(Debug, Default)]
pub(in crate::serve) struct Visits {
    book: Mutex<HashMap<TokenDigest, Visit>>,
    attempts: Mutex<HashMap<Option<IpAddr>, Attempts>>,
}

#[derive(Debug)]
struct Visit {
    /// Of the key that it was begun with.
    key: TokenDigest,
    principal: PrincipalName,
    began: Tick,
    used: Tick,
}

#[derive(Debug)]
struct Attempts {
    since: Tick,
    failed: u32,
}

/// Why a visit is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A person uses it.
    Use,
    /// A page of theirs asks by itself.
    Watch,
}

impl Visits {
    /// A new visit with a key that was found good; what the cookie is to hold.
    pub(super) fn begin(
        &self,
        key: TokenDigest,
        principal: &PrincipalName,
        random: &[u8; 32],
        now: Tick,
    ) -> String {
        let secret = URL_SAFE_NO_PAD.encode(random);
        let mut book = self.book();
        book.retain(|_, visit| visit.lives(now));
        let own = book.values().filter(|visit| visit.principal == *principal);
        let full = own.count() >= VISITS_OF_ONE_MAX;
        if full || book.len() >= VISITS_MAX {
            let idle = book
                .iter()
                .filter(|(_, visit)| !full || visit.principal == *principal)
                .min_by_key(|(_, visit)| visit.used)
                .map(|(secret, _)| *secret);
            if let Some(idle) = idle {
                book.remove(&idle);
            }
        }
        let visit = Visit {
            key,
            principal: principal.clone(),
            began: now,
            used: now,
        };
        book.insert(TokenDigest::of(&secret), visit);
        secret
    }

    /// The key that the visit of this secret was begun with.
    pub(super) fn find(&self, secret: &str, look: Look, now: Tick) -> Option<TokenDigest> {
        let digest = TokenDigest::of(secret);
        let mut book = self.book();
        let visit = book.get_mut(&digest)?;
        if !visit.lives(now) {
            book.remove(&digest);
            return None;
        }
        if look == Look::Use {
            visit.used = now;
        }
        Some(visit.key)
    }

    /// The visit of this secret is over.
    pub(super) fn end(&self, secret: &str) {
        self.book().remove(&TokenDigest::of(secret));
    }

    /// Whether this address may try to sign in now.
    pub(super) fn may_try(&self, client: IpAddr, now: Tick) -> bool {
        let mut attempts = self.attempts();
        attempts.retain(|_, each| now.since(each.since) < ATTEMPTS_WINDOW);
        let shared = attempts.len() >= ADDRESSES_MAX && !attempts.contains_key(&Some(client));
        let slot = if shared { None } else { Some(client) };
        attempts
            .get(&slot)
            .is_none_or(|each| each.failed < ATTEMPTS_MAX)
    }

    /// An attempt from this address has failed.
    pub(super) fn failed(&self, client: IpAddr, now: Tick) {
        let mut attempts = self.attempts();
        let shared = attempts.len() >= ADDRESSES_MAX && !attempts.contains_key(&Some(client));
        let slot = if shared { None } else { Some(client) };
        let fresh = Attempts {
            since: now,
            failed: 0,
        };
        let each = attempts.entry(slot).or_insert(fresh);
        each.failed = each.failed.saturating_add(1);
    }

    fn book(&self) -> MutexGuard<'_, HashMap<TokenDigest, Visit>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Attempts>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    fn lives(&self, now: Tick) -> bool {
        now.since(self.used) < IDLE_MAX && now.since(self.began) < AGE_MAX
    }
}

/// What each form of a visit carries: only a page of the same visit can know it.
pub(super) fn form_token(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&form_key(secret), FORM).as_ref())
}

/// Whether a form carries its visit's token. In constant time.
pub(super) fn is_form_token(secret: &str, token: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(token)
        .is_ok_and(|tag| hmac::verify(&form_key(secret), FORM, &tag).is_ok())
}

const FORM: &[u8] = b"a form of the console";

fn form_key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn name(text: &str) -> PrincipalName {
        PrincipalName::parse(text).unwrap()
    }

    fn at(span: Duration) -> Tick {
        Tick::from_nanos(0).plus(span)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_visit_ends_when_it_is_idle_and_when_it_is_old_and_watching_is_not_using() {
        let visits = Visits::default();
        let key = TokenDigest::of("key");
        let begin = |number| visits.begin(key, &name("dana"), &[number; 32], at(Duration::ZERO));
        let (idle, old) = (begin(1), begin(2));
        assert_eq!(visits.find(&idle, Look::Use, at(SECOND)), Some(key));
        assert_eq!(visits.find(&idle, Look::Watch, at(IDLE_MAX)), Some(key));
        assert_eq!(
            visits.find(&idle, Look::Watch, at(IDLE_MAX + SECOND)),
            None,
            "what pages ask for by themselves keeps nobody signed in"
        );
        let mut used = Duration::ZERO;
        while used + IDLE_MAX / 2 < AGE_MAX {
            used += IDLE_MAX / 2;
            assert_eq!(visits.find(&old, Look::Use, at(used)), Some(key));
        }
        assert_eq!(visits.find(&old, Look::Use, at(AGE_MAX)), None);
        assert_eq!(visits.find("", Look::Use, at(SECOND)), None);
    }

    #[test]
    fn visits_are_bounded_and_one_principal_can_not_push_others_out() {
        let visits = Visits::default();
        let key = TokenDigest::of("key");
        let begin = |who: &str, number: u16| {
            let mut random = [0; 32];
            random[..2].copy_from_slice(&number.to_be_bytes());
            random[2] = who.as_bytes()[0];
            visits.begin(key, &name(who), &random, at(SECOND * u32::from(number)))
        };
        let other = begin("other", 0);
        let first = begin("dana", 1);
        for number in 2..=17 {
            begin("dana", number);
        }
        let now = at(SECOND * 20);
        assert_eq!(visits.find(&first, Look::Use, now), None);
        assert_eq!(visits.find(&other, Look::Use, now), Some(key));
        assert_eq!(visits.book().len(), VISITS_OF_ONE_MAX + 1);
    }

    #[test]
    fn after_ten_failures_an_address_waits_and_others_do_not() {
        let visits = Visits::default();
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..ATTEMPTS_MAX {
            assert!(visits.may_try(one, at(SECOND)));
            visits.failed(one, at(SECOND));
        }
        assert!(!visits.may_try(one, at(SECOND * 2)));
        assert!(visits.may_try(two, at(SECOND * 2)));
        assert!(visits.may_try(one, at(SECOND + ATTEMPTS_WINDOW)));
        for number in 0..5000_u32 {
            visits.failed(Ipv4Addr::from(number).into(), at(SECOND));
        }
        assert!(visits.attempts().len() <= ADDRESSES_MAX + 1);
    }

    #[test]
    fn a_forms_token_is_its_visits_own() {
        let token = form_token("secret");
        assert!(is_form_token("secret", &token));
        assert!(!is_form_token("another", &token));
        for wrong in ["", "?", &token[1..]] {
            assert!(!is_form_token("secret", wrong));
        }
    }
}
