//! One JSON-RPC message of a client, read strictly: what is judged is what every server reads in it.
//!
//! It refuses batches, members that JSON-RPC does not have or that differ from one of its own by case only, an id that is
//! none, a call without an id (a server may run it all the same), and a call that does not say once and plainly what it
//! calls.

use crate::policy::json::Value;
use crate::policy::mcp::{NOTIFICATIONS, Said};
use crate::policy::route::called;

/// A message. Borrows the value that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'v> {
    pub said: Said<'v>,
    /// Of a request; of a response it is the server's.
    pub id: Option<&'v Value<'v>>,
    /// What the method is for: a tool's or prompt's name, a resource's URI.
    pub name: Option<&'v str>,
    /// The arguments of a tool or a prompt.
    pub args: Option<&'v Value<'v>>,
    /// What the message says of itself, where it says anything.
    pub meta: Option<&'v Value<'v>>,
    params: Option<&'v Value<'v>>,
}

/// A message that is refused as such.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault<'v> {
    /// JSON-RPC's.
    pub code: i32,
    pub detail: &'static str,
    /// To be answered by, where it could be read.
    pub id: Option<&'v Value<'v>>,
}

/// JSON-RPC: no JSON.
pub(super) const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: JSON, and no message.
pub(super) const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: a message whose parameters are wrong.
pub(super) const INVALID_PARAMS: i32 = -32602;

impl<'v> Message<'v> {
    pub fn read(value: &'v Value<'v>) -> Result<Self, Fault<'v>> {
        let fault = |detail| Fault {
            code: INVALID_REQUEST,
            detail,
            id: None,
        };
        let members = match value {
            Value::Object(members) => members,
            Value::List(_) => {
                return Err(fault(
                    "a batch is not taken; send each message in a request of its own",
                ));
            }
            _ => return Err(fault("the body must be one JSON-RPC message, an object")),
        };
        let id = match value.at(["id"]) {
            Ok(None) => None,
            Ok(Some(id)) if is_id(id) => Some(id),
            Ok(Some(_)) | Err(_) => {
                return Err(fault(
                    "`id` must be a text or an integer, and stand there once",
                ));
            }
        };
        let fault = |detail| Fault {
            id,
            ..fault(detail)
        };
        // Every reader must find the same members, whatever it thinks of capitals.
        if members.iter().any(|(name, _)| !MEMBERS.contains(&&**name)) {
            return Err(fault(
                "a JSON-RPC message has `jsonrpc`, `id`, `method` and `params`, or `result` or `error`, spelt so, and nothing else",
            ));
        }
        if !matches!(value.at(["jsonrpc"]), Ok(Some(Value::Text(version))) if version == "2.0") {
            return Err(fault("`jsonrpc` must be \"2.0\""));
        }
        let has = |name| members.iter().any(|(have, _)| have == name);
        let said = match (value.at(["method"]), id) {
            (Ok(Some(Value::Text(method))), _) if has("result") || has("error") => {
                let _ = method;
                return Err(fault("a message is a request or a response, not both"));
            }
            (Ok(Some(Value::Text(method))), Some(_)) if method.starts_with(NOTIFICATIONS) => {
                return Err(fault("a notification has no `id`"));
            }
            (Ok(Some(Value::Text(method))), Some(_)) => Said::Request(method),
            (Ok(Some(Value::Text(method))), None) if method.starts_with(NOTIFICATIONS) => {
                Said::Notification(method)
            }
            (Ok(Some(Value::Text(_))), None) => return Err(fault("a request must have an `id`")),
            (Ok(None), Some(_)) if has("result") != has("error") && !has("params") => {
                Said::Response
            }
            _ => return Err(fault("`method` must be there, and be a text")),
        };
        let fault = |detail| Fault {
            code: INVALID_PARAMS,
            ..fault(detail)
        };
        let params = match value.at(["params"]) {
            Ok(Some(params @ Value::Object(_))) => Some(params),
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => return Err(fault("`params` must be an object")),
        };
        let mut message = Self {
            said,
            id,
            name: None,
            args: None,
            meta: None,
            params,
        };
        let member = |name| match params.map_or(Ok(None), |params| params.at([name])) {
            Ok(member) => Ok(member),
            Err(_) => Err(fault("two members of `params` differ by capitals only")),
        };
        message.meta = match member("_meta")? {
            Some(meta @ Value::Object(_)) => Some(meta),
            None => None,
            Some(_) => return Err(fault("`params._meta` must be an object")),
        };
        let (named, has_arguments) = match message.method().unwrap_or_default() {
            "tools/call" | "prompts/get" => ("name", true),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => ("uri", false),
            _ => return Ok(message),
        };
        message.name = match member(named)? {
            Some(Value::Text(uri)) if named == "uri" && !is_plain(uri) => {
                return Err(fault(
                    "`uri` may have no dot segments, fragment, backslashes, control characters, outer blanks, or encoded slashes and plain characters",
                ));
            }
            Some(Value::Text(name)) => Some(name),
            _ => {
                return Err(fault(
                    "`params` must say once and as a text what is called: `name` of a tool or prompt, `uri` of a resource",
                ));
            }
        };
        if has_arguments {
            message.args = match member("arguments")? {
                Some(args @ Value::Object(_)) => Some(args),
                None => Some(&NO_ARGUMENTS),
                Some(_) => return Err(fault("`params.arguments` must be an object")),
            };
        }
        Ok(message)
    }

    /// The method; `None`: it is a response.
    pub fn method(&self) -> Option<&'v str> {
        match self.said {
            Said::Request(method) | Said::Notification(method) => Some(method),
            Said::Response | Said::Stream => None,
        }
    }

    /// A text of the parameters. `None`: there is none, or it is no text.
    pub fn parameter(&self, name: &str) -> Option<&'v str> {
        match self.params?.at([name]) {
            Ok(Some(Value::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// The revision that the message says it speaks.
    ///
    /// # Errors
    /// It says that in a way that readers may take differently.
    pub fn version(&self) -> Result<Option<&'v str>, ()> {
        match self.meta.map_or(Ok(None), |meta| meta.at([VERSION])) {
            Ok(None) => Ok(None),
            Ok(Some(Value::Text(version))) => Ok(Some(version)),
            Ok(Some(_)) | Err(_) => Err(()),
        }
    }

    /// Whether it is of a revision in which tasks are what the gate takes them for.
    pub fn has_tasks(&self) -> bool {
        // Revisions are dates.
        matches!(self.version(), Ok(Some(version)) if version >= TASKS_SINCE)
    }

    /// Whether its client says with it that it takes a task in the place of a result.
    pub fn declares_tasks(&self) -> bool {
        let declared = self
            .meta
            .map(|meta| meta.at([CAPABILITIES, "extensions", TASKS]));
        self.has_tasks() && matches!(declared, Some(Ok(Some(Value::Object(_)))))
    }

    /// What is called, for people: `tools/call list_issues`.
    pub fn call(&self) -> String {
        match (self.method(), self.name) {
            (Some(method), Some(name)) => format!("{method} {name}"),
            (Some(method), None) => method.to_owned(),
            (None, _) => "response".to_owned(),
        }
    }
}

/// The arguments of a message that was read, for conditions and resources; where it sends none there are none in them.
pub(in crate::gate) fn arguments<'v>(message: &'v Value<'_>) -> Option<&'v Value<'v>> {
    match message.at(["params", "arguments"]) {
        Ok(None) => Some(&NO_ARGUMENTS),
        Ok(found) => found,
        Err(_) => None,
    }
}

/// What stands in the table of routes for the call of a kept body. `None`: it is no message.
pub fn path_of(body: &[u8]) -> Option<String> {
    let value = Value::read(body).ok()?;
    let message = Message::read(&value).ok()?;
    called(message.method()?, message.name)
}

/// A text or an integer, neither longer than anybody needs.
pub(super) fn is_id(id: &Value<'_>) -> bool {
    match id {
        Value::Text(text) => text.len() <= ID_BYTES_MAX,
        Value::Number(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

/// The body as it tells one call from another: clients number their messages and trace them anew with each attempt, so
/// `id`, progress token and trace context are left out. `None`: it is no message.
///
/// What is let go on the strength of this is never the attempt but what was shown and kept, byte for byte.
pub(in crate::gate) fn identity(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(mut members)) = Value::read(body) else {
        return None;
    };
    members.retain(|(name, _)| name != "id");
    let params = members.iter_mut().find(|(name, _)| name == "params");
    if let Some((_, Value::Object(params))) = params
        && let Some((_, Value::Object(meta))) = params.iter_mut().find(|(name, _)| name == "_meta")
    {
        meta.retain(|(name, _)| !VOLATILE.contains(&&**name));
        let bare = meta.is_empty();
        // An attempt without any is the same attempt.
        params.retain(|(name, _)| name != "_meta" || !bare);
    }
    let mut text = String::with_capacity(body.len());
    Value::Object(members).write(&mut text);
    Some(text)
}

static NO_ARGUMENTS: Value<'static> = Value::Object(Vec::new());
/// Whether every reader of URIs finds the segments that the gate finds: parsers drop tabs, trim, take `\` for `/`, decode
/// what needs no encoding, and resolve dots.
fn is_plain(uri: &str) -> bool {
    let hidden = |code: &[u8]| {
        let hex = code.strip_prefix(b"%").map(std::str::from_utf8);
        let byte = hex.and_then(|hex| u8::from_str_radix(hex.ok()?, 16).ok());
        byte.is_some_and(|byte| {
            byte.is_ascii_alphanumeric() || byte.is_ascii_control() || b"-._~\\/".contains(&byte)
        })
    };
    uri.trim() == uri
        && !uri
            .bytes()
            .any(|byte| byte.is_ascii_control() || matches!(byte, b'\\' | b'#'))
        && !uri.as_bytes().windows(3).any(hidden)
        && !uri.split(['/', '?']).any(|part| matches!(part, "." | ".."))
}

const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The extension of tasks.
pub(super) const TASKS: &str = "io.modelcontextprotocol/tasks";
/// Before it, tasks were a part of the protocol, and another one.
const TASKS_SINCE: &str = "2026-07-28";
const VOLATILE: [&str; 4] = ["progressToken", "traceparent", "tracestate", "baggage"];
const ID_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(text: &str, see: impl FnOnce(Result<Message<'_>, Fault<'_>>) -> T) -> T {
        let value = Value::read(text.as_bytes()).unwrap();
        see(Message::read(&value))
    }

    fn code(text: &str) -> Option<i32> {
        read(text, |message| message.err().map(|fault| fault.code))
    }

    #[test]
    fn a_call_says_its_method_name_and_arguments() {
        let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"list_issues","arguments":{"repo":"a"}}}"#;
        read(text, |message| {
            let message = message.unwrap();
            assert_eq!(message.said, Said::Request("tools/call"));
            assert_eq!(message.name, Some("list_issues"));
            assert_eq!(message.call(), "tools/call list_issues");
            let repo = message.args.unwrap().at(["repo"]).unwrap().unwrap();
            assert_eq!(repo, &Value::Text("a".into()));
        });
    }

    #[test]
    fn what_is_no_plain_message_is_refused() {
        for text in [
            "[]",
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            r#""tools/call""#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"ID":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"]}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#,
            r#"{"jsonrpc":"2.0","method":"initialize"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"notifications/x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","result":{},"params":{"name":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
        ] {
            assert_eq!(code(text), Some(INVALID_REQUEST), "{text}");
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["x"]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","Name":"y"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":[]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":null}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{},"Arguments":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"name":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":7}}"#,
        ] {
            assert_eq!(code(text), Some(INVALID_PARAMS), "{text}");
        }
    }

    #[test]
    fn attempts_differ_by_number_token_and_trace_and_by_nothing_else() {
        let call = |id: &str, meta: &str, amount: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"pay","arguments":{{"amount":{amount},"id":{amount}}}{meta}}}}}"#
            );
            identity(text.as_bytes()).unwrap()
        };
        let first = call("1", "", "5");
        assert_eq!(first, call("\"x\"", "", "5"));
        assert_eq!(
            first,
            call(
                "2",
                r#","_meta":{"progressToken":9,"traceparent":"00-a"}"#,
                "5"
            )
        );
        assert_ne!(first, call("1", "", "50"));
        assert_ne!(first, call("1", "", "5.0"));
        assert_ne!(first, call("1", r#","_meta":{"approved":true}"#, "5"));
        assert!(identity(b"[]").is_none() && identity(b"{\"id\":1,\"id\":2}").is_none());
    }

    #[test]
    fn a_uri_that_its_server_may_read_otherwise_names_nothing() {
        for uri in [
            "repo:///acme/../other/secret",
            "repo://acme/pub/%2e%2e/../other/x",
            "file:///srv/public/.\t./..\\etc/shadow",
            "repo://acme/x/./y",
            "repo://acme/sec%72et",
            "repo://acme/a%2Fb",
            "repo://acme/secret ",
            "repo://acme/secret#x",
        ] {
            assert!(!is_plain(uri), "{uri}");
        }
        for uri in [
            "repo://acme/a b.md",
            "repo://acme/100%25",
            "repo://acme/.git",
            "note://internal?x=1",
            "x%zz",
        ] {
            assert!(is_plain(uri), "{uri}");
        }
    }
}
