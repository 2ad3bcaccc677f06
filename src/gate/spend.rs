//! Between decision and forwarding: a stored grant's use is taken, and the session is looked at once more.
//!
//! Taking is atomic in memory and then durable, and never given back: a call that fails afterwards has used its grant,
//! because nobody can say whether the backend acted.

use crate::gate::Inner;
use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::ledger::record::Fault;
use crate::policy::decision::{Denial, GrantUse, Permit, Reason};
use crate::store::live::State;

impl Inner {
    /// Takes the use that the permit goes on.
    pub(super) async fn spend(&self, caller: &Caller, permit: &Permit<'_>) -> Result<(), Refusal> {
        let GrantUse::Stored(grant) = permit.grant() else {
            return Ok(());
        };
        match self.sessions.spend(&caller.session, grant, self.clock.now()).await {
            Ok(true) => Ok(()),
            // Another call was faster: for this one the grant does not exist.
            Ok(false) => Err(Refusal::denied(Denial {
                reason: Reason::GrantMissing,
                scope: Some(permit.route().scope.clone()),
                resource: permit.resource().cloned(),
            })),
            Err(fault) => {
                tracing::error!(%fault, %grant, "the use of a grant could not be made durable; the call is refused");
                Err(Refusal::store_unavailable())
            }
        }
    }

    /// Refuses where the session was revoked, expired or put in quarantine while the call was being written down.
    pub(super) fn still_live(&self, caller: &Caller) -> Result<(), Refusal> {
        match caller.session.state(self.clock.now().tick) {
            State::Live => Ok(()),
            ended => Err(Refusal::of_state(ended).after(Fault::SessionEnded)),
        }
    }
}
