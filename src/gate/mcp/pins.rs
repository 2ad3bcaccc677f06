//! Tools of a server that is pinned: what a list says of them is held against what was accepted before it goes on, and a
//! call of one that is not as it was accepted is refused.
//!
//! What is new in a list is durable and recorded before the agent sees it: a task of its own sees to that, so that an agent
//! that leaves does not stop it half way. It refuses to accept anything for a person.

use crate::gate::Inner;
use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::policy::json::Value;
use crate::policy::mcp::List;
use crate::policy::model::ToolIndex;
use crate::policy::pin::{Definition, Routed, concerns, path_of, routed};
use crate::policy::route::Matched;
use crate::store::live::pins::{Shown, Sight, SightError, ToolPins};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

/// The pins that a list is held against.
pub(super) struct Pinned {
    gate: Arc<Inner>,
    pins: Arc<ToolPins>,
    sight: Sight,
}

/// What comes of an item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// It may be shown, as far as this is known.
    pub shown: bool,
    /// What is new of it must be durable before anything goes on.
    pub news: bool,
}

/// Resolves when what a list has of news is in force.
pub(super) type Settling = oneshot::Receiver<Result<(), SightError>>;

impl Pinned {
    /// Of a tool of the caller's policy; `None`: it is not pinned.
    pub(super) fn of(
        gate: &Arc<Inner>,
        caller: &Caller,
        tool: ToolIndex,
        sight: Sight,
    ) -> Option<Self> {
        let pins = caller.ruleset.pins(tool)?;
        Some(Self {
            gate: Arc::clone(gate),
            pins: Arc::clone(pins),
            sight,
        })
    }

    /// What comes of an item of `tools/list`, which joins `said` where a route could call it: what nothing calls is shown to
    /// nobody, and nothing is kept of it. `None`: it is no such item.
    pub(super) fn judge(
        &self,
        caller: &Caller,
        tool: ToolIndex,
        item: &Value<'_>,
        said: &mut Vec<Definition>,
    ) -> Option<Held> {
        let definition = Definition::of(item)?;
        let policy = &caller.ruleset.policy;
        let path = path_of(&definition.name);
        let Some((path, how)) = path.and_then(|path| {
            let how = routed(policy, tool, &path)?;
            Some((path, how))
        }) else {
            return Some(Held {
                shown: false,
                news: false,
            });
        };
        let shown = self.pins.shown(&path, definition.digest, self.sight);
        said.push(definition);
        Some(Held {
            // What is news and could not be kept is not shown, nor what changed: but on trial it passes, and so it is seen.
            shown: shown == Shown::Accepted || how == Routed::InShadow,
            news: shown == Shown::News,
        })
    }

    /// Takes in what a list says.
    pub(super) fn settle(&self, caller: &Caller, said: Vec<Definition>) -> Settling {
        let (settled, settling) = oneshot::channel();
        let (gate, pins, sight) = (Arc::clone(&self.gate), Arc::clone(&self.pins), self.sight);
        let session = caller.session.facts.id;
        self.gate.errands.spawn(async move {
            let now = gate.clock.now().wall;
            let sessions = &gate.sessions;
            let seen = sessions.sight(&pins, &said, sight, session, now).await;
            if let Err(error) = &seen {
                tracing::error!(%error, "what a server says of its tools could not be made durable; the list is refused");
            }
            // Whoever wanted the list may have left.
            let _ = settled.send(seen);
        });
        settling
    }
}

/// Whether a message could define tools, whatever was asked: its text has the member's name, or letters that are escaped,
/// or bytes that no text of JSON in UTF-8 has.
pub(super) fn may_define(message: &[u8]) -> bool {
    let has = |text: &[u8]| message.windows(text.len()).any(|window| window == text);
    has(List::Tools.member().as_bytes()) || has(b"\\u00") || message.contains(&0)
}

/// What is said where news could not be settled.
pub(super) fn unsettled(settled: Result<Result<(), SightError>, RecvError>) -> Option<Refusal> {
    match settled {
        Ok(Ok(())) => None,
        Ok(Err(SightError::Store(_))) => Some(Refusal::store_unavailable()),
        Ok(Err(SightError::Ledger(_))) => Some(Refusal::ledger_unavailable()),
        // It panicked, or the gate stops.
        Err(_) => Some(Refusal::internal()),
    }
}

/// Refuses the call of a tool that is not as it was accepted. Looked at without a lock, and only where the server is pinned.
pub(in crate::gate) fn as_accepted(caller: &Caller, call: &Matched<'_>) -> Result<(), Refusal> {
    if !concerns(&caller.ruleset.policy, call) {
        return Ok(());
    }
    let Some(pins) = caller.ruleset.pins(call.tool) else {
        return Ok(());
    };
    let standing = pins.standing(call.path);
    match standing.refuses() {
        None => Ok(()),
        Some(reason) => Err(Refusal::not_as_accepted(reason, standing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_could_define_tools_is_looked_at_however_it_spells_that() {
        for text in [
            r#"{"id":1,"result":{"tools":[]}}"#,
            r#"{"id":1,"result":{"t\u006fols":[]}}"#,
            r#"{"id":1,"result":{"\u0074\u006F\u006f\u006c\u0073":[]}}"#,
        ] {
            assert!(may_define(text.as_bytes()), "{text}");
        }
        assert!(!may_define(br#"{"id":1,"result":{"content":"a\nb"}}"#));
    }
}
