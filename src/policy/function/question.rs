//! An AuthZEN evaluation, read: whose it is said to be, what is to be done to what, and with which arguments.

use crate::policy::json::Value;
use std::fmt::Write as _;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    name: &'a str,
    action_properties: Option<&'a Value<'a>>,
    resource: Sent<'a>,
    args: &'a Value<'a>,
    /// What the agent says it is doing.
    pub intent: Option<&'a str>,
    /// The approval that it says it comes back with.
    pub approval: Option<&'a str>,
    /// Where an issuer asks, for an agent of which of its projects.
    pub project: Option<&'a str>,
}

/// A subject or resource, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// `type`.
    pub kind: &'a str,
    /// `id`; empty where a subject has none.
    pub id: &'a str,
    /// `properties`, an object.
    pub properties: Option<&'a Value<'a>>,
}

/// What is wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` {what}")]
pub struct Flaw {
    /// Where.
    pub member: &'static str,
    /// What.
    pub what: &'static str,
}

pub(super) const fn flaw<T>(member: &'static str, what: &'static str) -> Result<T, Flaw> {
    Err(Flaw { member, what })
}

const MISSING: &str = "is missing";
const NO_OBJECT: &str = "is not an object";
const NO_TEXT: &str = "is not text, or is empty";
const TWICE: &str = "stands there in two spellings";

impl<'a> Question<'a> {
    /// Of one evaluation; what it leaves out is taken from `defaults`, member by member of the top level. Members that are
    /// not known are passed over, as the standard asks.
    ///
    /// # Errors
    /// [`Flaw`]: something is missing, or of another type.
    pub fn read(value: &'a Value<'a>, defaults: Option<&'a Value<'a>>) -> Result<Self, Flaw> {
        let (action, resource, context) = (
            object(value, defaults, "action")?,
            object(value, defaults, "resource")?,
            object(value, defaults, "context")?,
        );
        let Some(action) = action else {
            return flaw("action", MISSING);
        };
        let Some(resource) = resource else {
            return flaw("resource", MISSING);
        };
        let mut question = Self {
            name: match text(action, "name", "action.name")? {
                Some(name) => name,
                None => return flaw("action.name", MISSING),
            },
            action_properties: properties(action, "action.properties")?,
            resource: Sent {
                kind: match text(resource, "type", "resource.type")? {
                    Some(kind) => kind,
                    None => return flaw("resource.type", MISSING),
                },
                id: match text(resource, "id", "resource.id")? {
                    Some(id) => id,
                    None => return flaw("resource.id", MISSING),
                },
                properties: properties(resource, "resource.properties")?,
            },
            args: &NO_ARGS,
            intent: None,
            approval: None,
            project: None,
        };
        if let Some(context) = context {
            question.read_context(context)?;
        }
        Ok(question)
    }

    fn read_context(&mut self, context: &'a Value<'a>) -> Result<(), Flaw> {
        match member(context, "args", "context.args")? {
            None => {}
            Some(args @ Value::Object(_)) => self.args = args,
            Some(_) => return flaw("context.args", NO_OBJECT),
        }
        self.intent = text(context, "intent", "context.intent")?;
        self.project = text(context, "project", "context.project")?;
        self.approval = match member(context, "approval", "context.approval")? {
            None => None,
            Some(approval @ Value::Object(_)) => {
                match text(approval, "id", "context.approval.id")? {
                    None => return flaw("context.approval.id", MISSING),
                    id => id,
                }
            }
            Some(_) => return flaw("context.approval", NO_OBJECT),
        };
        Ok(())
    }

    /// Of what [`Question::text`] wrote.
    ///
    /// # Errors
    /// [`Flaw`]: it was not written by that.
    pub fn kept(value: &'a Value<'a>) -> Result<Self, Flaw> {
        Self::read(value, None)
    }

    /// Who it is said to be about.
    ///
    /// # Errors
    /// [`Flaw`]: there is no such, or it is no subject.
    pub fn subject(
        value: &'a Value<'a>,
        defaults: Option<&'a Value<'a>>,
    ) -> Result<Sent<'a>, Flaw> {
        let Some(subject) = object(value, defaults, "subject")? else {
            return flaw("subject", MISSING);
        };
        let Some(kind) = text(subject, "type", "subject.type")? else {
            return flaw("subject.type", MISSING);
        };
        Ok(Sent {
            kind,
            id: text(subject, "id", "subject.id")?.unwrap_or_default(),
            properties: properties(subject, "subject.properties")?,
        })
    }

    /// The function's name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What it says it is about.
    pub fn resource(&self) -> Sent<'a> {
        self.resource
    }

    /// Its arguments; an empty object where there are none.
    pub fn args(&self) -> &'a Value<'a> {
        self.args
    }

    /// All of it that is judged, in one spelling: an evaluation of itself, members in alphabetical order, numbers as they
    /// were written. Two questions with one text are one question.
    pub fn text(&self) -> String {
        let mut text = String::from(r#"{"action":{"name":"#);
        push_text(&mut text, self.name);
        push_properties(&mut text, self.action_properties);
        text.push_str(r#"},"context":{"args":"#);
        push(&mut text, self.args);
        text.push_str(r#"},"resource":{"id":"#);
        push_text(&mut text, self.resource.id);
        push_properties(&mut text, self.resource.properties);
        text.push_str(r#","type":"#);
        push_text(&mut text, self.resource.kind);
        text.push_str("}}");
        text
    }
}

static NO_ARGS: Value<'static> = Value::Object(Vec::new());

/// A member that is there in one spelling.
pub(super) fn member<'v>(
    of: &'v Value<'v>,
    name: &str,
    said: &'static str,
) -> Result<Option<&'v Value<'v>>, Flaw> {
    of.at([name]).or_else(|_| flaw(said, TWICE))
}

fn object<'v>(
    value: &'v Value<'v>,
    defaults: Option<&'v Value<'v>>,
    name: &'static str,
) -> Result<Option<&'v Value<'v>>, Flaw> {
    if !matches!(value, Value::Object(_)) {
        return flaw("evaluation", NO_OBJECT);
    }
    let own = member(value, name, name)?;
    let found = match (own, defaults) {
        (None, Some(defaults)) => member(defaults, name, name)?,
        (own, _) => own,
    };
    match found {
        None | Some(Value::Object(_)) => Ok(found),
        Some(_) => flaw(name, NO_OBJECT),
    }
}

fn text<'v>(of: &'v Value<'v>, name: &str, said: &'static str) -> Result<Option<&'v str>, Flaw> {
    match member(of, name, said)? {
        None => Ok(None),
        Some(Value::Text(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => flaw(said, NO_TEXT),
    }
}

fn properties<'v>(of: &'v Value<'v>, said: &'static str) -> Result<Option<&'v Value<'v>>, Flaw> {
    match member(of, "properties", said)? {
        None => Ok(None),
        Some(found @ Value::Object(_)) => Ok(Some(found)),
        Some(_) => flaw(said, NO_OBJECT),
    }
}

fn push_properties(text: &mut String, properties: Option<&Value<'_>>) {
    if let Some(properties) = properties {
        text.push_str(r#","properties":"#);
        push(text, properties);
    }
}

/// As deep as what was read, which is bounded.
fn push(text: &mut String, value: &Value<'_>) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(digits) => text.push_str(digits),
        Value::Text(said) => push_text(text, said),
        Value::List(list) => {
            text.push('[');
            for (position, value) in list.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                push(text, value);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            text.push('{');
            for (position, (name, value)) in members.into_iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                push_text(text, name);
                text.push(':');
                push(text, value);
            }
            text.push('}');
        }
    }
}

fn push_text(text: &mut String, said: &str) {
    text.push('"');
    for character in said.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<String, Flaw> {
        let value = Value::read(text.as_bytes()).unwrap();
        Question::read(&value, None).map(|question| question.text())
    }

    #[test]
    fn a_question_has_one_spelling_which_reads_as_itself() {
        let one = r#"{"resource":{"type":"user","id":"7","extra":1},"action":{"name":"a"},"context":{"args":{"b":1.0,"a":"\u00e9\u0001\"\\"},"time":"now"},"subject":{"type":"session"}}"#;
        let other = r#"{ "action": {"name":"a"}, "context":{"time":"later","intent":"x","approval":{"id":"1"},"args":{"a":"é\u0001\"\\","b":1.0}}, "resource":{"id":"7","type":"user"} }"#;
        let text = asked(one).unwrap();
        assert_eq!(text, asked(other).unwrap());
        assert_eq!(text, asked(&text).unwrap());
        for changed in [
            ("\"7\"", "\"8\""),
            ("1.0", "1"),
            ("\"name\":\"a\"", "\"name\":\"A\""),
        ] {
            assert_ne!(text, asked(&one.replace(changed.0, changed.1)).unwrap());
        }
    }

    #[test]
    fn what_is_missing_of_another_type_or_there_in_two_spellings_is_named() {
        let rest = r#""resource":{"type":"user","id":"7"}"#;
        let wrong = |text: &str| asked(text).unwrap_err().member;
        assert_eq!(wrong(&format!("{{{rest}}}")), "action");
        assert_eq!(
            wrong(&format!(r#"{{"action":{{}},{rest}}}"#)),
            "action.name"
        );
        assert_eq!(wrong(&format!(r#"{{"action":"a",{rest}}}"#)), "action");
        assert_eq!(
            wrong(&format!(r#"{{"action":{{"name":""}},{rest}}}"#)),
            "action.name"
        );
        assert_eq!(wrong(r#"{"action":{"name":"a"}}"#), "resource");
        assert_eq!(
            wrong(r#"{"action":{"name":"a"},"resource":{"type":"user"}}"#),
            "resource.id"
        );
        assert_eq!(
            wrong(r#"{"action":{"name":"a"},"resource":{"type":"user","id":7}}"#),
            "resource.id"
        );
        let with = |context: &str| {
            wrong(&format!(
                r#"{{"action":{{"name":"a"}},{rest},"context":{context}}}"#
            ))
        };
        assert_eq!(with("[]"), "context");
        assert_eq!(with(r#"{"args":[1]}"#), "context.args");
        assert_eq!(with(r#"{"args":{},"Args":{}}"#), "context.args");
        assert_eq!(with(r#"{"approval":{}}"#), "context.approval.id");
        assert_eq!(with(r#"{"intent":7}"#), "context.intent");
    }

    #[test]
    fn what_an_evaluation_leaves_out_is_taken_whole_from_the_defaults() {
        let all = br#"{"action":{"name":"a","properties":{"soft":true}},"resource":{"type":"user","id":"7"},"context":{"args":{"x":1}}}"#;
        let defaults = Value::read(all).unwrap();
        let own = Value::read(br#"{"action":{"name":"b"},"context":{}}"#).unwrap();
        let question = Question::read(&own, Some(&defaults)).unwrap();
        let expected =
            r#"{"action":{"name":"b"},"context":{"args":{}},"resource":{"id":"7","type":"user"}}"#;
        assert_eq!(question.text(), expected);
    }
}
