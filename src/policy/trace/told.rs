//! A call that is told of instead of made: as much of it as somebody says, read as the gate would read it.

use crate::policy::call::{Body, Call, RefusedBody};
use crate::policy::condition::{Content, Found, Subject, named};
use crate::policy::content::{Media, Unreadable, is_taken_for, one};
use crate::policy::fields::{FieldFault, Rules, check_request};
use crate::policy::json::Value;
use crate::policy::model::Tool;
use crate::policy::subject::Session;
use crate::policy::target::Target;
use crate::policy::time::Timestamp;
use core::net::IpAddr;
use http::{HeaderMap, HeaderName, HeaderValue};

/// What is said of a call. Of what is not said nothing is known.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// Whose it is.
    pub session: &'a Session,
    /// What stands behind the `?` of its target, if anything; `None`: not known.
    pub query: Option<&'a str>,
    /// Header fields, names in lower case.
    pub fields: &'a [(String, String)],
    /// Whether these are all that there are; if not, no more is known than the type of a body that is known.
    pub all_fields: bool,
    /// Its body.
    pub body: Option<ToldBody<'a>>,
    /// The arguments, of a call that the body names.
    pub args: Option<&'a Value<'a>>,
    /// Whether it is said what it is for; `None`: not known.
    pub intended: Option<bool>,
    /// Where it comes from.
    pub client: Option<IpAddr>,
    /// When it is made.
    pub now: Option<Timestamp>,
}

/// A body that is told of.
#[derive(Clone, Debug)]
pub struct ToldBody<'a> {
    bytes: u64,
    content: Result<Content<'a>, Unreadable>,
}

impl<'a> ToldBody<'a> {
    /// Reads it, sent with these fields.
    pub fn read(bytes: &'a [u8], fields: &[(String, String)]) -> Self {
        let content = Media::read(of(fields, "content-encoding"), of(fields, CONTENT_TYPE));
        Self {
            bytes: bytes.len() as u64,
            content: content.and_then(|media| media.content(bytes)),
        }
    }
}

fn of<'f>(fields: &'f [(String, String)], name: &str) -> impl Iterator<Item = &'f [u8]> {
    let of = fields.iter().filter(move |(have, _)| have == name);
    of.map(|(_, value)| value.as_bytes())
}

impl Call for Told<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.query.unwrap_or_default(), name)
    }

    fn header(&self, name: &str) -> Found<'_> {
        let fields = self.fields;
        let mut nominated = of(fields, "connection").flat_map(|value| value.split(|b| *b == b','));
        // What is taken away before it is forwarded is not there.
        if nominated.any(|it| it.trim_ascii().eq_ignore_ascii_case(name.as_bytes())) {
            return Found::Unreadable;
        }
        // Another that some backends take for it.
        let mut names = fields.iter().map(|(name, _)| &**name);
        match names.any(|other| is_taken_for(other, name)) {
            true => Found::Many,
            false => one(of(fields, name)),
        }
    }

    fn body(&self) -> Body<'_> {
        match &self.body {
            Some(ToldBody {
                content: Ok(content),
                ..
            }) => Body::Read(content),
            // What names the call is read, with its arguments.
            None if self.args.is_some() => Body::Read(&NOTHING),
            Some(_) | None => Body::Unread,
        }
    }

    fn args(&self) -> Option<&Value<'_>> {
        self.args
    }

    fn session(&self, name: &str) -> Option<&str> {
        self.session.attributes.get(name)
    }

    fn agent(&self) -> &str {
        self.session.agent.as_str()
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn now(&self) -> Timestamp {
        self.now.unwrap_or(Timestamp::from_micros(0))
    }

    fn knows(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Path(_) | Subject::Session(_) | Subject::Agent => true,
            Subject::Query(_) => self.query.is_some(),
            Subject::Header(name) => {
                self.all_fields || self.body.is_some() && **name == *CONTENT_TYPE
            }
            Subject::Body(_) => self.body.is_some(),
            Subject::Args(_) => self.args.is_some(),
            // Of a function: what it is about is for its caller to say.
            Subject::Id | Subject::Property(_) => false,
            Subject::Client => self.client.is_some(),
            Subject::Hour(_) | Subject::Weekday(_) => self.now.is_some(),
        }
    }

    fn forbidden(&self, tool: &Tool, target: Option<&Target>) -> Option<FieldFault> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
        let target = target.map_or("", Target::as_str);
        check_request(&headers, target, &Rules::of(tool)).err()
    }

    fn intended(&self) -> Option<bool> {
        self.intended
    }

    fn refused_body(&self, bytes_max: u64) -> Option<RefusedBody> {
        let body = self.body.as_ref()?;
        if body.bytes > bytes_max {
            return Some(RefusedBody::Long(bytes_max));
        }
        body.content.as_ref().err().map(|why| (*why).into())
    }
}

const CONTENT_TYPE: &str = "content-type";
const NOTHING: Content<'static> = Content::Json(Value::Null);
