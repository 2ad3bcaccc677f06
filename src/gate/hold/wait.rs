//! Waiting for people: as long as the chain says or the agent prefers, not beyond the session, and not beyond the gate.

use crate::gate::Inner;
use crate::io::metrics::Holding;
use crate::io::sweep::{self, Guard, Lapse};
use crate::policy::approval::Stage;
use crate::store::live::LiveSession;
use crate::store::live::approvals::LiveApproval;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What an agent says of how long it waits (RFC 7240).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gate) struct Preferred {
    respond_async: bool,
    wait: Option<Duration>,
}

/// Which preference was what made the answer come when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gate) enum Applied {
    /// The chain's own time was up, or the gate stops.
    Neither,
    /// The agent's.
    Preferred,
}

impl Preferred {
    /// As `Prefer` says; what can't be read is no preference.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut preferred = Self::default();
        for preference in crate::gate::fields::listed(headers, &PREFER) {
            let Ok(text) = std::str::from_utf8(preference) else {
                continue;
            };
            // Parameters of a preference are behind semicolons.
            let text = text.split(';').next().unwrap_or_default();
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("respond-async") {
                preferred.respond_async = true;
            } else if name.trim().eq_ignore_ascii_case("wait")
                && preferred.wait.is_none()
                && let Ok(seconds) = value.parse()
            {
                preferred.wait = Some(Duration::from_secs(seconds));
            }
        }
        preferred
    }

    /// How long is waited where at most `bound` is.
    pub fn at_most(self, bound: Duration) -> Duration {
        if self.respond_async {
            return Duration::ZERO;
        }
        self.wait.map_or(bound, |wait| wait.min(bound))
    }

    /// How long is waited where it must be said to be waited for at all.
    pub fn asked(self, bound: Duration) -> Duration {
        self.wait.map_or(Duration::ZERO, |wait| wait.min(bound))
    }

    /// Says which was honoured.
    pub fn applied(self, applied: Applied, headers: &mut HeaderMap) {
        if applied == Applied::Neither {
            return;
        }
        let said = match (self.respond_async, self.wait) {
            (true, _) => Some("respond-async".to_owned()),
            (false, Some(wait)) => Some(format!("wait={}", wait.as_secs())),
            (false, None) => None,
        };
        if let Some(Ok(value)) = said.map(|said| HeaderValue::from_str(&said)) {
            headers.insert(PREFERENCE_APPLIED, value);
        }
    }

    fn rules(self, span: Duration) -> bool {
        self.respond_async || self.wait == Some(span)
    }
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gate) enum Waited {
    /// The approval stands elsewhere.
    News,
    /// It was waited long enough, or the gate stops.
    Enough,
    /// The session was revoked, expired or is in quarantine.
    Ended,
}

/// One call that waits. Counted for as long as it does.
pub(in crate::gate) struct Wait {
    stage: watch::Receiver<Stage>,
    stopping: watch::Receiver<bool>,
    guard: Guard,
    span: Duration,
    over: bool,
    _counted: Holding,
}

impl Wait {
    pub fn begin(
        gate: &Inner,
        session: &Arc<LiveSession>,
        approval: &LiveApproval,
        span: Duration,
    ) -> Self {
        let session: Arc<LiveSession> = Arc::clone(session);
        let guard = sweep::here(&gate.clock).guard(Some(session), span);
        guard.until(gate.clock.tick().plus(span));
        let facts = &approval.facts;
        Self {
            stage: approval.watch(),
            stopping: gate.holding_ends.subscribe(),
            guard,
            span,
            over: span.is_zero(),
            _counted: gate.metrics.holding(&facts.project, &facts.chain),
        }
    }

    /// Where the approval stands now; what comes after this is news.
    pub fn stage(&mut self) -> Stage {
        *self.stage.borrow_and_update()
    }

    /// Until there is something to say.
    pub async fn next(&mut self) -> Waited {
        // The gate may have been stopping before this call came.
        if self.over || *self.stopping.borrow() {
            return Waited::Enough;
        }
        let (stage, stopping) = (&mut self.stage, &mut self.stopping);
        let news = async {
            tokio::select! {
                biased;
                // Gone only with the gate.
                changed = stage.changed() => match changed {
                    Ok(()) => Waited::News,
                    Err(_) => Waited::Enough,
                },
                _ = stopping.wait_for(|stopping| *stopping) => Waited::Enough,
            }
        };
        match self.guard.watch(pin!(news)).await {
            Ok(waited) => waited,
            Err(Lapse::Deadline) => {
                self.over = true;
                Waited::Enough
            }
            Err(Lapse::Ended) => Waited::Ended,
        }
    }

    /// Whether what the agent prefers was what ended it.
    pub fn applied(&self, preferred: Preferred) -> Applied {
        if self.over && preferred.rules(self.span) {
            Applied::Preferred
        } else {
            Applied::Neither
        }
    }
}

/// Where an approval stands, for an agent to read.
pub(in crate::gate) const fn stage_in_words(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending => {
            "a person is asked; repeat exactly the same call later to get its answer, or poll this path"
        }
        Stage::Approved => "a person agreed; repeat exactly the same call now, and it is made",
        Stage::Denied => "a person said no; the call was not made and is not to be repeated",
        Stage::Expired => {
            "nobody answered in time, or nobody came for the answer; the call was not made"
        }
        Stage::Withdrawn => "it was taken back, or is no longer valid; the call was not made",
        Stage::Executing => {
            "a person agreed, and the call is being made; repeat exactly the same call to get its answer"
        }
        Stage::Executed => {
            "the call was made; repeat exactly the same call to get its answer if you did not get it yet"
        }
        Stage::Unknown => {
            "the call was begun and nobody knows how it ended; find out with another call whether it took effect"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&'static str]) -> Preferred {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(PREFER, HeaderValue::from_static(field));
        }
        Preferred::read(&headers)
    }

    #[test]
    fn the_agent_waits_as_long_as_it_likes_and_no_longer_than_the_chain_has() {
        let hold = Duration::from_secs(50);
        assert_eq!(read(&[]).at_most(hold), hold);
        assert_eq!(read(&["wait=10"]).at_most(hold).as_secs(), 10);
        assert_eq!(read(&["Wait = \"7\"; x=y"]).at_most(hold).as_secs(), 7);
        assert_eq!(read(&["wait=100"]).at_most(hold), hold);
        assert_eq!(
            read(&["return=minimal, respond-async", "wait=10"]).at_most(hold),
            Duration::ZERO
        );
        assert_eq!(read(&["wait=-1"]).at_most(hold), hold);
        assert_eq!(read(&["wait=99999999999999999999999"]).at_most(hold), hold);
    }
}
