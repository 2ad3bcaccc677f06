//! A call in words, taken apart: what is said of it, and whose it would be.
//!
//! What is not said stays unknown. Nothing is repaired: a body and arguments are read as the gate reads them.

use super::super::meant;
use crate::policy::attributes::Attributes;
use crate::policy::id::{GrantId, SessionId};
use crate::policy::json::Value;
use crate::policy::model::{Policy, Protocol, ToolIndex};
use crate::policy::name::{AgentName, PrincipalName, ScopeName, ToolName};
use crate::policy::resource::Resource;
use crate::policy::subject::{Grant, Session, Subject};
use crate::policy::time::{Now, Tick, Timestamp};
use crate::policy::trace::Asked;
use std::net::IpAddr;
use uuid::Uuid;

/// A call that somebody tells of: `DELETE /crm/users/7`, `tools/call list_issues`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is.
    pub call: Spelled,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether these are all that there are.
    pub headers_known: bool,
    /// Its body; `None`: not known.
    pub body: Option<Vec<u8>>,
    /// The arguments of a call that the body names, in JSON; `None`: not known.
    pub args: Option<Vec<u8>>,
    /// What the agent says it is for, empty: nothing; `None`: what its header fields say, where they are known.
    pub intent: Option<String>,
    /// Where it comes from; `None`: not known.
    pub client: Option<IpAddr>,
    /// When it is made; `None`: not known.
    pub at: Option<Timestamp>,
}

/// What a call says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spelled {
    /// By method and target.
    Http {
        /// In upper case.
        method: String,
        /// As it would be sent.
        target: String,
        /// `Host`.
        host: String,
    },
    /// By its body.
    Called {
        /// Whose; `None`: of the only one that it can be for.
        tool: Option<String>,
        /// `tools/call`, `resources/read`; `call`.
        method: String,
        /// What is called, or read.
        name: Option<String>,
    },
}

impl Request {
    /// Of a method, a space and a target, and of the host that is called; or, of a tool whose calls are named by their
    /// body, of the method and what it is for.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str, host: Option<&str>, tool: Option<&str>) -> Result<Self, String> {
        let text = text.trim();
        let (method, rest) = match text.split_once(char::is_whitespace) {
            Some((method, rest)) => (method, Some(rest.trim_start())),
            None => (text, None),
        };
        let by_path = rest.is_some_and(|rest| rest.starts_with('/') || rest.contains("://"));
        let lower = method != method.to_ascii_uppercase();
        let call = match rest {
            _ if tool.is_some() && host.is_some() => {
                return Err(
                    "a call of a tool that is named has no host: leave one of the two out"
                        .to_owned(),
                );
            }
            _ if tool.is_some()
                || lower && !method.starts_with('/') && (!by_path || method.contains('/')) =>
            {
                Spelled::Called {
                    tool: tool.map(str::to_owned),
                    method: method.to_owned(),
                    name: rest.map(str::to_owned),
                }
            }
            Some(target) => by_target(method, target, host)?,
            None => {
                return Err(format!(
                    "`{text}` is not a request: write method and target, `DELETE /crm/users/7`"
                ));
            }
        };
        if method.is_empty() {
            return Err("write method and target, `DELETE /crm/users/7`".to_owned());
        }
        Ok(Self {
            call,
            headers: Vec::new(),
            headers_known: false,
            body: None,
            args: None,
            intent: None,
            client: None,
            at: None,
        })
    }

    /// Its header fields, each as its name and value.
    ///
    /// # Errors
    /// One is none.
    pub fn with_headers<N: AsRef<str>, V: AsRef<str>>(
        mut self,
        fields: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, String> {
        let fields = fields.into_iter().map(|(name, value)| {
            let (name, value) = (name.as_ref(), value.as_ref().trim_matches([' ', '\t']));
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(format!("`{name}` is not the name of a header field"));
            }
            if value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(format!(
                    "the value of `{name}` has a control character in it"
                ));
            }
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        });
        self.headers = fields.collect::<Result<_, _>>()?;
        self.headers_known = true;
        Ok(self)
    }

    /// Its body, of this `Content-Type` where the header fields say none. After these.
    pub fn with_body(mut self, bytes: Vec<u8>, media: &str) -> Self {
        if !self.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
            let field = (CONTENT_TYPE.to_owned(), media.to_owned());
            self.headers.push(field);
        }
        self.body = Some(bytes);
        self
    }

    /// Arguments in JSON.
    ///
    /// # Errors
    /// They are none, or the gate would not read them.
    pub fn with_args(mut self, text: Vec<u8>) -> Result<Self, String> {
        if matches!(self.call, Spelled::Http { .. }) {
            return Err("a call by method and target has no arguments: say which tool it is of, or give a body".to_owned());
        }
        if let Err(error) = Value::read(&text) {
            return Err(format!(
                "the arguments are not JSON that can be judged: {error}"
            ));
        }
        self.args = Some(text);
        Ok(self)
    }

    /// Whether it is said what the call is for; `None`: not known.
    pub(super) fn intended(&self) -> Option<bool> {
        let field = self.headers.iter().find(|(name, _)| name == INTENT);
        match (&self.intent, field) {
            (Some(text), _) => Some(!text.trim().is_empty()),
            (None, Some((_, text))) => Some(!text.is_empty()),
            (None, None) => self.headers_known.then_some(false),
        }
    }

    /// As it is asked of a policy.
    ///
    /// # Errors
    /// The tool it is of is not one of the policy's that could be meant.
    pub(super) fn asked(&self, policy: &Policy) -> Result<Asked<'_>, String> {
        match &self.call {
            Spelled::Http {
                method,
                target,
                host,
            } => Ok(Asked::Http {
                method,
                host,
                target,
            }),
            Spelled::Called { tool, method, name } => Ok(Asked::Called {
                tool: of_tool(policy, tool.as_deref(), method)?,
                method,
                name: name.as_deref(),
            }),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        match &self.call {
            Spelled::Http { method, target, .. } => format!("{method} {target}"),
            Spelled::Called {
                method,
                name: Some(name),
                ..
            } => format!("{method} {name}"),
            Spelled::Called { method, .. } => method.clone(),
        }
    }
}

fn by_target(method: &str, target: &str, host: Option<&str>) -> Result<Spelled, String> {
    let upper = method.to_ascii_uppercase();
    if method != upper {
        return Err(format!(
            "`{method}` is not a method: write `{upper} {target}`"
        ));
    }
    if matches!(method, "CONNECT" | "TRACE") {
        return Err(format!("{method} is never forwarded, whatever the policy"));
    }
    let of_target = target
        .split_once("://")
        .map(|(_, rest)| &rest[..rest.find(['/', '?']).unwrap_or(rest.len())]);
    Ok(Spelled::Http {
        method: method.to_owned(),
        target: target.to_owned(),
        host: host.or(of_target).unwrap_or(HOST).to_owned(),
    })
}

/// The tool that a call is of which its body names.
fn of_tool(policy: &Policy, tool: Option<&str>, method: &str) -> Result<ToolIndex, String> {
    let all = (0..).map(ToolIndex).zip(&policy.tools);
    let mut able = all.filter(|(_, it)| it.protocol.names_calls());
    if let Some(name) = tool {
        if let Some((index, _)) = able.clone().find(|(_, it)| it.name.as_str() == name) {
            return Ok(index);
        }
        if policy.tools.iter().any(|it| it.name.as_str() == name) {
            return Err(format!(
                "calls of the tool `{name}` are not named by their body: write method and target, `DELETE /crm/users/7`"
            ));
        }
        let known = able.map(|(_, it)| it.name.as_str());
        return Err(format!("there is no tool `{name}`{}", meant(name, known)));
    }
    let meant = match method {
        "call" => Protocol::Function,
        _ => Protocol::Mcp,
    };
    let mut fitting = able.by_ref().filter(|(_, it)| it.protocol == meant);
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => Ok(index),
        // Found by name alone, whichever tool they are of.
        (Some((index, _)), Some(_)) if meant == Protocol::Function => Ok(index),
        (None, _) => Err(format!(
            "`{method}` is not a method in upper case, and the project has no tool whose calls are named like that: write method and target, `DELETE /crm/users/7`"
        )),
        (Some((_, one)), Some((_, other))) => {
            let names: [&ToolName; 2] = [&one.name, &other.name];
            Err(format!(
                "say which tool the call is of: `{}`, `{}` and perhaps others have such calls",
                names[0], names[1]
            ))
        }
    }
}

/// An address, as somebody writes it.
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an address: write 203.0.113.7 or 2001:db8::7"))
}

/// A moment, as somebody writes it.
///
/// # Errors
/// It is none.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write a time as 2026-03-01T12:00:00Z".to_owned())?;
    Ok(Timestamp::from_micros(time.as_microsecond()))
}

const CONTENT_TYPE: &str = "content-type";
const INTENT: &str = "toolgate-intent";
/// Where nobody says which host is called.
const HOST: &str = "localhost";

/// Whose call it would be.
#[derive(Debug)]
pub struct Imagined {
    /// A session as if it had just been minted.
    pub session: Session,
    /// What it would hold.
    pub grants: Vec<Grant>,
}

impl Imagined {
    /// A session of this agent with these attributes, which holds a grant of each of these.
    pub fn new(
        policy: &Policy,
        agent: AgentName,
        attributes: Attributes,
        held: Vec<(ScopeName, Option<Resource>)>,
        now: Now,
    ) -> Self {
        let session = Session {
            ends: Tick::from_nanos(u64::MAX),
            project: policy.project.clone(),
            agent,
            attributes,
            parent: None,
            narrowing: None,
            bound_to: None,
            id: SessionId::new(Uuid::nil()),
            run: None,
            minted_by: PrincipalName::parse("nobody").expect("this is a name"),
            minted_at: now.wall,
            expires_at: Timestamp::from_micros(i64::MAX),
        };
        let numbered = (1u128..).zip(held);
        let grants = numbered.map(|(number, (scope, resource))| {
            Grant::imagined(GrantId::new(Uuid::from_u128(number)), scope, resource)
        });
        Self {
            session,
            grants: grants.collect(),
        }
    }

    /// For a decision.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            session: &self.session,
            grants: &self.grants,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_words_is_taken_apart_and_what_is_none_is_said() {
        let of = |text: &str, host| Request::parse(text, host, None);
        let host_of = |text: &str, host| match of(text, host).unwrap().call {
            Spelled::Http { host, .. } => host,
            Spelled::Called { .. } => panic!("{text} has a target"),
        };
        let read = of("DELETE  /crm/users/7", None).unwrap();
        assert_eq!(read.line(), "DELETE /crm/users/7");
        assert_eq!(host_of("DELETE  /crm/users/7", None), "localhost");
        assert_eq!(
            host_of("GET https://crm.example:8443/users?x=1", None),
            "crm.example:8443"
        );
        assert_eq!(host_of("GET /", Some("crm.example")), "crm.example");
        for (wrong, says) in [
            ("/crm/users/7", "write method and target"),
            ("delete /x", "write `DELETE /x`"),
            ("CONNECT x:1", "never forwarded"),
            ("", "write method and target"),
        ] {
            assert!(of(wrong, None).unwrap_err().contains(says), "{wrong}");
        }
    }

    #[test]
    fn a_call_that_its_body_names_is_told_from_one_with_a_target() {
        let called = |text, tool| match Request::parse(text, None, tool).unwrap().call {
            Spelled::Called { method, name, .. } => (method, name),
            Spelled::Http { .. } => panic!("{text} has no target"),
        };
        let of = |method: &str, name: &str| (method.to_owned(), Some(name.to_owned()));
        assert_eq!(
            called("tools/call list_issues", None),
            of("tools/call", "list_issues")
        );
        assert_eq!(called("call delete_user", None), of("call", "delete_user"));
        assert_eq!(
            called("resources/read repo://a/b", None),
            of("resources/read", "repo://a/b")
        );
        assert_eq!(called("tools/list", None), ("tools/list".to_owned(), None));
        assert_eq!(called("call /odd", Some("code")), of("call", "/odd"));
        assert!(Request::parse("call x", Some("a.example"), Some("code")).is_err());
    }
}
