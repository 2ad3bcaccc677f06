//! One message of an answer that does not go on as it came: a list, of which a session is shown what it could be granted, or
//! what is said to an attempt that has another number than the one people saw.
//!
//! Only what is changed is written anew. A message that could be a list and can't be read is not passed on.

use super::asked::Attempt;
use super::message::TASKS;
use super::pins::{self, Pinned, Settling};
use crate::gate::record::Caller;
use crate::policy::json::Value;
use crate::policy::mcp::List;
use crate::policy::model::ToolIndex;
use std::borrow::Cow;
use std::sync::Arc;

/// What becomes of the messages of an answer.
pub(super) enum Change {
    /// Items of lists that the session could not be granted are left out.
    Narrow(Narrow),
    /// A server is said to keep tasks: those of calls that wait for people.
    Declare,
    /// What was said to the attempt that people saw is said to this one.
    Attempt { from: Attempt, to: Attempt },
}

/// What lists are narrowed to.
pub(super) struct Narrow {
    pub caller: Arc<Caller>,
    pub tool: ToolIndex,
    /// Items of `tools/list` that are not as they were accepted are left out too, where the server is pinned.
    pub pinned: Option<Pinned>,
    /// Whether it is an answer to something else: read only if it could define tools all the same.
    pub unasked: bool,
}

/// A message that could be a list and can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// How a message goes on.
pub(super) enum Turned {
    AsItCame,
    To(String),
    /// Not before this has resolved; then it is looked at once more.
    Once(Settling),
}

impl Change {
    /// How the message goes on; `again`: what was new in it is settled.
    pub(super) fn of(&self, message: &[u8], again: bool) -> Result<Turned, Garbled> {
        let changed = match self {
            Change::Narrow(narrow) => return narrow.of(message, again),
            Change::Declare => declared(message),
            Change::Attempt { from, to } => readdressed(message, from, to),
        };
        Ok(changed.map_or(Turned::AsItCame, Turned::To))
    }
}

impl Narrow {
    fn of(&self, message: &[u8], again: bool) -> Result<Turned, Garbled> {
        if self.unasked && !pins::may_define(message) {
            return Ok(Turned::AsItCame);
        }
        let value = Value::read(message).map_err(|_| Garbled)?;
        let (caller, pinned) = (&self.caller, self.pinned.as_ref());
        let (policy, session) = (&caller.ruleset.policy, &caller.session.facts);
        let (mut said, mut news) = (Vec::new(), false);
        let narrowed = narrow(value, |list, item| {
            let shown = list.shows(policy, session, self.tool, item)?;
            let Some(pinned) = pinned.filter(|_| list == List::Tools) else {
                return Some(shown);
            };
            // Whatever this session is shown: what is said to one is said to all.
            let held = pinned.judge(caller, self.tool, item, &mut said)?;
            news |= held.news;
            Some(shown && held.shown)
        })?;
        match pinned.filter(|_| news && !again) {
            Some(pinned) => Ok(Turned::Once(pinned.settle(caller, said))),
            None => Ok(narrowed.map_or(Turned::AsItCame, Turned::To)),
        }
    }
}

/// Leaves out of a message's lists what is not shown. What is left is another session's business even less than the whole
/// was: it is nobody's to keep for others.
fn narrow(
    mut message: Value<'_>,
    mut shows: impl FnMut(List, &Value<'_>) -> Option<bool>,
) -> Result<Option<String>, Garbled> {
    let Value::Object(members) = &mut message else {
        return Err(Garbled);
    };
    let result = members.iter_mut().find(|(name, _)| name == "result");
    let Some((_, Value::Object(result))) = result else {
        return Ok(None);
    };
    let mut lists = false;
    for list in List::ALL {
        let held = result.iter_mut().find(|(name, _)| name == list.member());
        let Some((_, held)) = held else {
            continue;
        };
        let Value::List(items) = held else {
            return Err(Garbled);
        };
        lists = true;
        let all = std::mem::take(items);
        for item in all {
            if shows(list, &item).ok_or(Garbled)? {
                items.push(item);
            }
        }
    }
    if !lists {
        return Ok(None);
    }
    if let Some((_, scope)) = result.iter_mut().find(|(name, _)| name == "cacheScope") {
        *scope = Value::Text(Cow::Borrowed("private"));
    }
    let mut text = String::new();
    message.write(&mut text);
    Ok(Some(text))
}

/// What a server says of itself, with the extension of tasks among it. `None`: it says it already, or says nothing of the
/// kind, and is passed on as it is.
pub(super) fn declared(message: &[u8]) -> Option<String> {
    let mut value = Value::read(message).ok()?;
    let mut place = &mut value;
    for name in ["result", "capabilities"] {
        let Value::Object(members) = place else {
            return None;
        };
        place = &mut members.iter_mut().find(|(have, _)| have == name)?.1;
    }
    let Value::Object(capabilities) = place else {
        return None;
    };
    if !capabilities.iter().any(|(have, _)| have == EXTENSIONS) {
        capabilities.push((EXTENSIONS.into(), Value::Object(Vec::new())));
    }
    let extensions = capabilities.iter_mut().find(|(have, _)| have == EXTENSIONS);
    match extensions {
        Some((_, Value::Object(extensions))) if extensions.iter().all(|(it, _)| it != TASKS) => {
            extensions.push((TASKS.into(), Value::Object(Vec::new())));
        }
        _ => return None,
    }
    let mut text = String::new();
    value.write(&mut text);
    Some(text)
}

const EXTENSIONS: &str = "extensions";

/// The message for another attempt, where it is for the first.
fn readdressed(message: &[u8], from: &Attempt, to: &Attempt) -> Option<String> {
    let mut value = Value::read(message).ok()?;
    let Value::Object(members) = &mut value else {
        return None;
    };
    let is = |value: &Value<'_>, token: &Option<Box<str>>| {
        let mut text = String::new();
        value.write(&mut text);
        token.as_deref() == Some(&*text)
    };
    let asks = members.iter().any(|(name, _)| name == "method");
    let place = match asks {
        false => members.iter_mut().find(|(name, _)| name == "id"),
        true => {
            let params = members.iter_mut().find(|(name, _)| name == "params");
            match params {
                Some((_, Value::Object(params))) => {
                    params.iter_mut().find(|(name, _)| name == "progressToken")
                }
                _ => None,
            }
        }
    };
    let (_, place) = place?;
    let (old, new) = match asks {
        false => (&from.id, to.id.as_deref()?),
        true => (&from.token, to.token.as_deref()?),
    };
    if !is(place, old) {
        return None;
    }
    *place = Value::read(new.as_bytes()).ok()?;
    let mut text = String::new();
    value.write(&mut text);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrowed(text: &str) -> Result<Option<String>, Garbled> {
        narrow(Value::read(text.as_bytes()).unwrap(), |list, item| {
            let key = match list {
                List::Resources => "uri",
                List::Templates => "uriTemplate",
                List::Tools | List::Prompts => "name",
            };
            match item.at([key]) {
                Ok(Some(Value::Text(name))) => Some(name.starts_with("ok")),
                _ => None,
            }
        })
    }

    #[test]
    fn only_what_is_shown_is_left_of_a_list_and_all_else_stays() {
        let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"no"},{"name":"ok","inputSchema":{"x":1.50}}],"nextCursor":"c","ttlMs":9,"cacheScope":"public"}}"#;
        let left = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok","inputSchema":{"x":1.50}}],"nextCursor":"c","ttlMs":9,"cacheScope":"private"}}"#;
        assert_eq!(narrowed(list).unwrap().unwrap(), left);
        for other in [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no","data":{"tools":7}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{}}}}"#,
        ] {
            assert_eq!(narrowed(other), Ok(None), "{other}");
        }
        for garbled in [
            "[]",
            r#"[{"result":{"tools":[{"name":"no"}]}}]"#,
            r#"{"result":{"tools":{"name":"no"}}}"#,
            r#"{"result":{"tools":["no"]}}"#,
            r#"{"result":{"tools":[{"name":["no"]}]}}"#,
            r#"{"result":{"resources":[{"name":"ok"}]}}"#,
        ] {
            assert_eq!(narrowed(garbled), Err(Garbled), "{garbled}");
        }
    }

    #[test]
    fn a_server_is_said_to_keep_tasks_and_nothing_else_is_said_of_it() {
        let of = |text: &str| declared(text.as_bytes());
        let bare = r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{}},"ttlMs":5}}"#;
        let said = r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"ttlMs":5}}"#;
        assert_eq!(of(bare).as_deref(), Some(said));
        for same in [
            said,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"extensions":7}}}"#,
            "no JSON",
        ] {
            assert_eq!(of(same), None, "{same}");
        }
    }

    #[test]
    fn an_answer_reaches_the_attempt_that_waits_and_nothing_else_in_it_changes() {
        let attempt = |id: &str, token: Option<&str>| Attempt {
            id: Some(id.into()),
            token: token.map(Into::into),
        };
        let (from, to) = (attempt("1", Some("\"a\"")), attempt("\"x\"", Some("7")));
        let of = |text: &str| readdressed(text.as_bytes(), &from, &to);
        assert_eq!(
            of(r#"{"jsonrpc":"2.0","id":1,"result":{"id":1}}"#).unwrap(),
            r#"{"jsonrpc":"2.0","id":"x","result":{"id":1}}"#
        );
        assert_eq!(
            of(r#"{"method":"notifications/progress","params":{"progressToken":"a","progress":0.50}}"#).unwrap(),
            r#"{"method":"notifications/progress","params":{"progressToken":7,"progress":0.50}}"#
        );
        for same in [
            r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}"#,
            "not json",
        ] {
            assert_eq!(of(same), None, "{same}");
        }
    }
}
