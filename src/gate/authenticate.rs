//! Step 2: bearer token -> live session. Nothing about routes is revealed to strangers.
//!
//! It reads the credential where http.md says it stands and nowhere else, and refuses to tell unknown, malformed,
//! expired and revoked tokens apart. Whether a second credential may stand beside it depends on the tool and is judged
//! after matching (`fields`).

use crate::gate::fields::TOOLGATE_SESSION;
use crate::gate::metadata::Directory;
use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, Peer};
use crate::policy::decision::Reason;
use crate::policy::target::Target;
use crate::policy::time::{Now, Tick};
use crate::policy::token::{self, TokenKind};
use crate::store::live::{LiveSession, Sessions, State};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

/// The session whose token the request carries. It may be in quarantine; it has not ended.
///
/// # Errors
/// No credential, a repeated one, or one that is not good now, or not on this connection.
pub(super) fn authenticate(
    headers: &HeaderMap,
    sessions: &Sessions,
    peer: &Peer,
    now: Tick,
) -> Result<Arc<LiveSession>, Refusal> {
    let token = credential(headers)?;
    let session = token::parse(TokenKind::Session, token)
        .and_then(|digest| sessions.find(&digest))
        .filter(|session| session.state(now) != State::Ended)
        .filter(|session| is_bound_to(session, peer));
    let session = session.ok_or_else(Refusal::credential_invalid)?;
    peer.familiar.greet();
    Ok(session)
}

/// Whether the connection has shown the certificate that the token is bound to, if it is bound at all: a stolen token is
/// worth nothing without the certificate's key.
fn is_bound_to(session: &LiveSession, peer: &Peer) -> bool {
    match session.facts.bound_to {
        None => true,
        bound => bound == peer.channel.certificate(),
    }
}

/// What a stranger is told: that its head is malformed, if so, and else that its credential is not good. An ambiguous
/// target is not spoken of before the credential. Where `oauth` says so, also where tokens come from.
pub(super) fn stranger(
    target: &mut Result<Target, Refusal>,
    refusal: Refusal,
    metadata: &Directory,
) -> Refusal {
    match target {
        Err(misread) if misread.reason() == Reason::RequestMalformed => {
            mem::replace(misread, refusal)
        }
        Ok(target) => refusal.challenging(metadata.url(target)),
        Err(_) => refusal,
    }
}

/// Refuses a session that waits for an operator.
pub(super) fn not_quarantined(caller: &Caller, now: Now) -> Result<(), Refusal> {
    match caller.session.state(now.tick) {
        State::Live => Ok(()),
        ended => Err(Refusal::of_state(ended)),
    }
}

impl Inner {
    /// The session within the ruleset that is in force for it. One snapshot: all that follows reads this version.
    pub(super) fn caller(&self, session: Arc<LiveSession>) -> Result<Arc<Caller>, Refusal> {
        let rulesets = self.rulesets.load();
        // A project that a reload took away: its sessions belong nowhere.
        let ruleset = rulesets
            .get(&session.facts.project)
            .ok_or_else(Refusal::credential_invalid)?;
        Ok(Arc::new(Caller {
            cells: session.cells(&ruleset.policy),
            ruleset: Arc::clone(ruleset),
            session,
        }))
    }

    /// Refuses who has failed too often, whatever credential it has now.
    pub(super) fn admit_try(&self, client: IpAddr, peer: &Peer, now: Tick) -> Result<(), Refusal> {
        // A proxy's connection is many clients'.
        let own = client == peer.address.ip().to_canonical();
        if own && peer.familiar.is_known() || self.tries.admit(client, now) {
            return Ok(());
        }
        Err(Refusal::overloaded(
            "too many calls from this address had no good credential; wait and repeat this one",
        ))
    }

    /// Counts a refusal of somebody who is not known, for the ledger's summary and against its address. Those of who was
    /// not listened to don't count against it, or it would never be listened to again.
    pub(super) fn count_stranger(&self, reason: Reason, client: IpAddr, now: Tick) {
        let failed = matches!(
            reason,
            Reason::CredentialMissing | Reason::CredentialInvalid | Reason::FieldForbidden
        );
        if failed {
            self.tries.fail(client, now);
        }
        if failed || reason == Reason::Overloaded {
            self.strangers.note(client);
        }
    }
}

/// The token's text. `Toolgate-Session`, where it is present, is the credential; then `Authorization` is the backend's
/// affair.
fn credential(headers: &HeaderMap) -> Result<&str, Refusal> {
    if let Some(value) = single(headers, &TOOLGATE_SESSION)? {
        return Ok(value.trim());
    }
    let value = single(headers, &AUTHORIZATION)?.ok_or_else(Refusal::credential_missing)?;
    // RFC 9110, section 11.1: the scheme is case-insensitive. Another scheme is no credential of ours.
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) | None => Err(Refusal::credential_missing()),
    }
}

/// The only value of a field; text that is not ASCII can't be a token and reads as one that is wrong.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // Two credentials, and a proxy in front might have checked the other one.
    if values.next().is_some() {
        return Err(Refusal::field_forbidden(format!(
            "`{name}` was sent more than once; send exactly one credential"
        )));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Refusal::credential_invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&'static str, &str)]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        credential(&headers)
            .map(str::to_owned)
            .map_err(|refusal| refusal.reason())
    }

    #[test]
    fn toolgate_session_is_the_credential_where_it_is_present() {
        let both = [
            ("authorization", "Bearer backend"),
            ("toolgate-session", "tgs_x"),
        ];
        assert_eq!(read(&both), Ok("tgs_x".to_owned()));
        assert_eq!(
            read(&[("authorization", "bEaReR tgs_y")]),
            Ok("tgs_y".to_owned())
        );
    }

    #[test]
    fn another_scheme_is_no_credential_and_two_credentials_are_refused() {
        assert_eq!(read(&[]), Err(Reason::CredentialMissing));
        assert_eq!(
            read(&[("authorization", "Basic eDp5")]),
            Err(Reason::CredentialMissing)
        );
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
        assert_eq!(read(&twice), Err(Reason::FieldForbidden));
        let twice = [("toolgate-session", "a"), ("toolgate-session", "b")];
        assert_eq!(read(&twice), Err(Reason::FieldForbidden));
    }
}
