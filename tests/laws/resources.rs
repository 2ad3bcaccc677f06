//! Laws of what a call says it acts on: each of several is judged, a value is a literal wherever it stands, and what
//! readers may take differently names nothing.

use crate::builder::{Builder, at, ceiling, grant, pattern, session};
use crate::resource::{encode, value};
use proptest::prelude::*;
use std::net::IpAddr;
use toolgate::policy::attributes::Attributes;
use toolgate::policy::call::{Body, Call};
use toolgate::policy::choice::{Vague, acts_on};
use toolgate::policy::condition::{Content, Found, Why, named};
use toolgate::policy::decision::{Decision, Reason};
use toolgate::policy::json::Value;
use toolgate::policy::model::{GrantMode, Policy};
use toolgate::policy::resource::{
    RESOURCES_BYTES_MAX, RESOURCES_MAX, Resource, ResourceTemplate, Unfilled, Untried,
};
use toolgate::policy::subject::{Grant, Session, Subject};
use toolgate::policy::target::Target;
use toolgate::policy::time::Timestamp;
use toolgate::policy::{AccessRequest, decide};

/// A call of a query, one field and a body.
struct Said<'a> {
    query: &'a str,
    fields: &'a [&'a str],
    content: Option<Content<'a>>,
    session: &'a Session,
}

impl Call for Said<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.query, name)
    }
    fn header(&self, name: &str) -> Found<'_> {
        match self.fields {
            _ if name != "x-user" => Found::Absent,
            [] => Found::Absent,
            [one] => Found::One((*one).into()),
            _ => Found::Many,
        }
    }
    fn body(&self) -> Body<'_> {
        self.content.as_ref().map_or(Body::Unread, Body::Read)
    }
    fn args(&self) -> Option<&Value<'_>> {
        match &self.content {
            Some(Content::Json(value)) => value.at(["args"]).ok().flatten(),
            _ => None,
        }
    }
    fn session(&self, name: &str) -> Option<&str> {
        self.session.attributes.get(name)
    }
    fn agent(&self) -> &str {
        self.session.agent.as_str()
    }
    fn client(&self) -> Option<IpAddr> {
        None
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }
}

/// One route of this resource, and an agent whose ceiling has these patterns.
fn policy(template: &str, patterns: &[&str], mode: GrantMode) -> Policy {
    Builder::new()
        .tool("/t")
        .route("POST /x", "s", Some(template))
        .agent("bot", &[("s", ceiling(mode, patterns))])
        .build()
}

fn acted_on(policy: &Policy, said: &Said<'_>) -> Result<Resource, Vague> {
    let target = Target::parse("/t/x", "gate.example").unwrap();
    let matched = policy.table.find("POST", &target).unwrap();
    let route = policy.route(matched.route);
    acts_on(route, &matched.captures, said).map(Option::unwrap)
}

/// What a body of JSON makes of a template.
fn of_body(template: &str, json: &str) -> Result<Resource, Unfilled> {
    let content = Some(Content::Json(Value::read(json.as_bytes()).unwrap()));
    of_content(template, content)
}

fn of_content(template: &str, content: Option<Content<'_>>) -> Result<Resource, Unfilled> {
    let session = session("bot", &[("org", "9")]);
    let said = Said {
        query: "",
        fields: &[],
        content,
        session: &session,
    };
    let policy = policy(template, &[], GrantMode::OnUse);
    acted_on(&policy, &said).map_err(|vague| match vague {
        Vague::Unfilled(unfilled) => unfilled,
        Vague::Unread => panic!("it is read"),
    })
}

fn list(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| json(value)).collect();
    format!("{{\"ids\":[{}]}}", values.join(","))
}

/// Numbers as numbers where they may be.
fn json(value: &str) -> String {
    match value {
        "7" | "42" => value.to_owned(),
        _ => serde_json::Value::from(value).to_string(),
    }
}

/// Some values, some of them again and again.
fn values() -> impl Strategy<Value = Vec<String>> {
    let known = prop::sample::select(vec!["7", "42", "8", "07", "7 user:8"]);
    let value = prop_oneof![known.prop_map(str::to_owned), value()];
    prop::collection::vec(value, 1..6)
}

fn each_once(values: &[String]) -> Vec<&String> {
    let mut once: Vec<&String> = Vec::new();
    for value in values {
        if !once.contains(&value) {
            once.push(value);
        }
    }
    once
}

fn decided(policy: &Policy, session: &Session, grants: &[Grant], resource: Resource) -> bool {
    let access = AccessRequest {
        route: &policy.routes[0],
        resource: Some(resource),
    };
    match decide(policy, Subject { session, grants }, access, at(100)) {
        Decision::Allow(_) => true,
        Decision::Deny(denial) => {
            assert!(matches!(
                denial.reason,
                Reason::ResourceOutsideCeiling | Reason::GrantMissing
            ));
            false
        }
        Decision::Hold(_) => panic!("nobody is asked"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// All of several must lie in the ceiling, each by whichever of its patterns.
    #[test]
    fn a_call_on_several_passes_only_if_each_of_them_would_pass_alone(
        values in values(), own in value(),
        patterns in prop::sample::subsequence(vec!["user:{session.own}", "user:7", "user:42", "org:*"], 1..4),
    ) {
        let policy = policy("user:{body./ids}", &patterns, GrantMode::OnUse);
        let session = session("bot", &[("own", &own)]);
        let Ok(all) = of_body("user:{body./ids}", &list(&values)) else { return Ok(()) };
        let alone = |value: &String| {
            let one = of_body("user:{body./ids}", &list(std::slice::from_ref(value))).unwrap();
            decided(&policy, &session, &[], one)
        };
        prop_assert_eq!(decided(&policy, &session, &[], all.clone()), values.iter().all(alone), "{}", all);
        // And nothing that is not among the values themselves.
        let may = |value: &String| *value == own && patterns.contains(&"user:{session.own}")
            || value == "7" && patterns.contains(&"user:7") || value == "42" && patterns.contains(&"user:42");
        prop_assert_eq!(decided(&policy, &session, &[], all), values.iter().all(may));
    }

    #[test]
    fn two_lists_of_values_never_make_one_text_and_a_value_in_a_list_is_a_literal(
        values in values(), others in values(),
    ) {
        let Ok(resource) = of_body("user:{body./ids}:x", &list(&values)) else { return Ok(()) };
        let once = each_once(&values);
        let each: Vec<_> = once.iter().map(|value| format!("user:{}:x", encode(value))).collect();
        prop_assert_eq!(resource.each().collect::<Vec<_>>(), each);
        prop_assert_eq!(Resource::parse_recorded(resource.as_str()), Ok(resource.clone()));
        if let Ok(other) = of_body("user:{body./ids}:x", &list(&others)) {
            prop_assert_eq!(resource == other, once == each_once(&others));
        }
    }

    #[test]
    fn wherever_a_value_stands_it_is_the_same_literal(id in value()) {
        let session = session("bot", &[]);
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let (query, form) = (format!("a=1&user={encoded}"), format!("user={encoded}&b=2"));
        let text = format!("{{\"user\":{},\"args\":{{\"user\":[{0}]}}}}", serde_json::Value::from(&*id));
        let body = Some(Content::Json(Value::read(text.as_bytes()).unwrap()));
        let form = Some(Content::Form(&form));
        for (template, content) in [
            ("user:{query.user}", &None), ("user:{header.X-User}", &None), ("user:{body./user}", &body),
            ("user:{body./user}", &form), ("user:{args./user}", &body), ("user:{args./user/0}", &body),
        ] {
            let policy = policy(template, &["user:7"], GrantMode::OnUse);
            // What stands in query and form is there twice.
            let query = if matches!(content, Some(Content::Form(_))) { "a=1" } else { &*query };
            let said = Said { query, fields: &[&id], content: content.clone(), session: &session };
            match acted_on(&policy, &said) {
                Ok(resource) => {
                    prop_assert_eq!(resource.as_str(), format!("user:{}", encode(&id)));
                    prop_assert_eq!(decided(&policy, &session, &[], resource), id == "7");
                }
                Err(Vague::Unfilled(unfilled)) => {
                    let odd = !id.is_ascii() || id.chars().any(char::is_control);
                    prop_assert!(id.is_empty() || odd, "{}", unfilled);
                    prop_assert_eq!(unfilled.reason(), Reason::Unevaluable);
                }
                Err(Vague::Unread) => prop_assert!(content.is_none() && template.contains("args"), "{}", template),
            }
        }
    }

    #[test]
    fn what_is_read_as_several_is_what_a_call_can_act_on(text in "(user:[0-9]{1,2}|org:a|user:\\*| |user:){0,6}") {
        if let Ok(read) = Resource::parse_recorded(&text) {
            prop_assert_eq!(read.as_str(), &text);
            for one in read.each() {
                prop_assert!(Resource::parse(one).is_ok());
                prop_assert_eq!(read.each().filter(|other| *other == one).count(), 1);
            }
        }
    }
}

#[test]
fn what_names_nothing_or_may_be_read_twice_leaves_no_resource() {
    for (json, why) in [
        ("{}", Why::Absent),
        ("{\"IDS\":\"7\"}", Why::Many),
        ("{\"ids\":\"7\",\"Ids\":\"8\"}", Why::Many),
        ("[]", Why::Kind),
        ("{\"ids\":null}", Why::Kind),
        ("{\"ids\":true}", Why::Kind),
        ("{\"ids\":{}}", Why::Kind),
        ("{\"ids\":\"\"}", Why::Empty),
        ("{\"ids\":[]}", Why::Empty),
        ("{\"ids\":[\"7\",\"\"]}", Why::Empty),
        ("{\"ids\":[[\"7\"]]}", Why::Kind),
        ("{\"ids\":[\"7\",null]}", Why::Kind),
        ("{\"ids\":[7,{\"id\":8}]}", Why::Kind),
        ("{\"ids\":\"7\\u0000\"}", Why::Nul),
        ("{\"ids\":\"7\\n\"}", Why::Control),
        ("{\"ids\":\"7\\u0085\"}", Why::Control),
        // Nothing that is not seen, and no letter that passes for another: full-width, mathematical, Kelvin's, a Cyrillic
        // one in a word of Latin letters.
        ("{\"ids\":\"ad\\u200bmin\"}", Why::Homograph),
        ("{\"ids\":\"a\\u200dda\"}", Why::Homograph),
        ("{\"ids\":\"a\\u202eda\"}", Why::Homograph),
        ("{\"ids\":\"\\uff41da\"}", Why::Homograph),
        ("{\"ids\":\"\\ud835\\udc1ada\"}", Why::Homograph),
        ("{\"ids\":\"\\u212aim\"}", Why::Homograph),
        ("{\"ids\":\"\\u0430da\"}", Why::Homograph),
        ("{\"ids\":[\"ada\",\"\\u03bfda\"]}", Why::Homograph),
        ("{\"ids\":7.0}", Why::Digits),
        ("{\"ids\":7e0}", Why::Digits),
        ("{\"ids\":1E2}", Why::Digits),
        ("{\"ids\":-0}", Why::Digits),
        ("{\"ids\":[7,7.5]}", Why::Digits),
        // Readers that compute with doubles take it for the next one.
        ("{\"ids\":9007199254740993}", Why::Number),
        ("{\"ids\":123456789012345678901234567890}", Why::Number),
    ] {
        let unfilled = of_body("user:{body./ids}", json).unwrap_err();
        assert_eq!(unfilled.why, why, "{json}");
        assert_eq!(unfilled.reason(), Reason::Unevaluable);
        assert_eq!(unfilled.to_string(), format!("`{{body./ids}}` {why}"));
    }
    for (json, text) in [
        ("{\"ids\":7}", "user:7"),
        ("{\"ids\":\"7\"}", "user:7"),
        ("{\"ids\":-7}", "user:-7"),
        ("{\"ids\":9007199254740991}", "user:9007199254740991"),
        ("{\"ids\":[7,\"8\",7,\"7\"]}", "user:7 user:8"),
        ("{\"ids\":[\"8 user:7\"]}", "user:8%20user%3A7"),
        ("{\"ids\":\"*\"}", "user:%2A"),
        ("{\"ids\":\"J\u{f6}rg\"}", "user:J%C3%B6rg"),
        (
            "{\"ids\":\"\u{436}\u{443}\u{43a}-v2\"}",
            "user:%D0%B6%D1%83%D0%BA-v2",
        ),
        ("{\"ids\":\"\u{2764}\u{fe0f}\"}", "user:%E2%9D%A4%EF%B8%8F"),
    ] {
        let filled = of_body("user:{body./ids}", json);
        assert_eq!(filled.unwrap().as_str(), text, "{json}");
    }
}

#[test]
fn a_form_a_query_and_a_field_name_something_once_or_nothing() {
    for (form, said) in [
        ("ids=7", Ok("user:7")),
        ("ids=%37&x=1", Ok("user:7")),
        ("ids=a+b", Ok("user:a%20b")),
        ("ids=7&ids=8", Err(Why::Many)),
        ("ids=7&IDS=8", Err(Why::Many)),
        ("ids[]=7", Err(Why::Many)),
        ("ids=7;x=1", Err(Why::Many)),
        ("ids=", Err(Why::Empty)),
        ("", Err(Why::Absent)),
        ("ids=%zz", Err(Why::Unreadable)),
        ("ids=7&%ff=1", Err(Why::Unreadable)),
    ] {
        let filled = of_content("user:{body./ids}", Some(Content::Form(form)));
        let filled = filled.as_ref().map(Resource::as_str);
        assert_eq!(filled.map_err(|unfilled| unfilled.why), said, "{form}");
        let session = session("bot", &[]);
        let of = |template, query, fields| {
            let said = Said {
                query,
                fields,
                content: None,
                session: &session,
            };
            acted_on(&policy(template, &[], GrantMode::OnUse), &said).map_err(|vague| match vague {
                Vague::Unfilled(unfilled) => unfilled.why,
                Vague::Unread => panic!("nothing is read of it"),
            })
        };
        let queried = of("user:{query.ids}", form, &[]);
        assert_eq!(
            queried.as_ref().map(Resource::as_str),
            said.as_ref().map(|it| *it),
            "{form}"
        );
        let named = |fields| of("user:{header.x-user}", "", fields);
        assert_eq!(named(&["7, 8"]).unwrap().as_str(), "user:7,%208");
        assert_eq!(named(&["7", "7"]), Err(Why::Many));
        assert_eq!(named(&[""]), Err(Why::Empty));
        assert_eq!(named(&[]), Err(Why::Absent));
    }
}

#[test]
fn one_place_of_a_template_may_be_a_list_and_no_more() {
    let template = "org:{body./org}:user:{body./ids}";
    let filled = of_body(template, "{\"org\":\"a b\",\"ids\":[1,2]}");
    assert_eq!(
        filled.unwrap().as_str(),
        "org:a%20b:user:1 org:a%20b:user:2"
    );
    let filled = of_body(template, "{\"org\":[\"a\",\"b\"],\"ids\":1}");
    assert_eq!(filled.unwrap().as_str(), "org:a:user:1 org:b:user:1");
    let both = of_body(template, "{\"org\":[\"a\",\"b\"],\"ids\":[1,2]}");
    assert_eq!(both.unwrap_err().why, Why::Lists);
    let twice = of_body("user:{body./ids}-{body./ids}", "{\"ids\":[1,2]}");
    assert_eq!(twice.unwrap_err().why, Why::Lists);
}

#[test]
fn a_call_acts_on_no_more_than_can_be_said() {
    let ids = |count: usize, width: usize| {
        let ids: Vec<_> = (0..count).map(|id| format!("\"{id:0width$}\"")).collect();
        format!("{{\"ids\":[{}]}}", ids.join(","))
    };
    let fill = |json: String| of_body("user:{body./ids}", &json);
    assert_eq!(
        fill(ids(RESOURCES_MAX, 4)).unwrap().each().count(),
        RESOURCES_MAX
    );
    assert_eq!(fill(ids(RESOURCES_MAX + 1, 4)).unwrap_err().why, Why::Count);
    // `user:` and a space besides, but for the last.
    let width = RESOURCES_BYTES_MAX / 32 - 6;
    assert_eq!(
        fill(ids(32, width)).unwrap().as_str().len(),
        RESOURCES_BYTES_MAX - 1
    );
    assert_eq!(fill(ids(32, width + 1)).unwrap_err().why, Why::Long);
    assert_eq!(fill(ids(1, 1020)).unwrap_err().why, Why::Long);
    assert_eq!(fill(ids(1, 1019)).unwrap().as_str().len(), 1024);
    // Longer than anything before it is encoded.
    assert_eq!(
        fill(format!("{{\"ids\":\"{}\"}}", "*".repeat(400)))
            .unwrap_err()
            .why,
        Why::Long
    );
}

#[test]
fn a_call_on_several_goes_on_a_grant_for_all_and_on_none_for_one_of_them() {
    let policy = policy("user:{body./ids}", &["user:*"], GrantMode::OnRequest);
    let session = session("bot", &[]);
    let passes = |json: &str, grants: &[Option<&str>]| {
        let grants = grants.iter().zip(1..);
        let grants: Vec<_> = grants
            .map(|(resource, number)| grant(number, "s", *resource, 1, at(200).tick))
            .collect();
        let resource = of_body("user:{body./ids}", json).unwrap();
        decided(&policy, &session, &grants, resource)
    };
    let (one, two) = ("{\"ids\":[7]}", "{\"ids\":[7,8]}");
    assert!(passes(one, &[Some("user:7")]));
    assert!(!passes(two, &[Some("user:7"), Some("user:8")]));
    assert!(passes(two, &[Some("user:7"), None]));
    assert!(passes("{\"ids\":[7,7]}", &[Some("user:7")]));
}

#[test]
fn what_a_record_holds_of_several_is_read_back_or_refused() {
    for text in ["user:7", "user:7 user:8", "user:8 org:7:x"] {
        assert_eq!(Resource::parse_recorded(text).unwrap().as_str(), text);
    }
    let many: Vec<_> = (0..=RESOURCES_MAX).map(|id| format!("user:{id}")).collect();
    for text in [
        "",
        " ",
        "user:7 ",
        " user:7",
        "user:7  user:8",
        "user:7 user:7",
        "user:7 user:*",
        "user:7 8",
        &many.join(" "),
    ] {
        assert!(Resource::parse_recorded(text).is_err(), "{text}");
    }
    // A grant is for one.
    assert!(Resource::parse("user:7 user:8").is_err());
}

#[test]
fn attributes_that_let_a_call_on_several_pass_are_found_where_they_can_be() {
    let patterns = ["user:{session.a}", "org:{session.b}", "user:7"].map(pattern);
    let recorded = |text: &str| Resource::parse_recorded(text).unwrap();
    let solved = |text: &str| recorded(text).solve(&patterns).unwrap().unwrap();
    assert_eq!(solved("user:8"), Attributes::from([("a", "8")]));
    assert_eq!(
        solved("user:8 org:9"),
        Attributes::from([("a", "8"), ("b", "9")])
    );
    for text in ["user:8", "user:8 org:9", "user:8 user:7 org:9"] {
        let resource = recorded(text);
        assert!(resource.is_within(&patterns, &solved(text)), "{text}");
    }
    let two = recorded("user:8 user:9");
    assert_eq!(two.solve(&patterns), Ok(None));
    // What is tried first may be wrong for what comes later.
    let patterns = ["doc:{session.a}", "doc:x-{session.b}"].map(pattern);
    let two = recorded("doc:x-1 doc:7");
    let attributes = two.solve(&patterns).unwrap().unwrap();
    assert!(two.is_within(&patterns, &attributes), "{attributes:?}");
    // Nor is it said that there is no way where not all were tried.
    let parts = "{session.a}{session.b}{session.c}{session.d}{session.e}";
    let many = pattern(&format!("doc:{parts}{parts}{parts}-"));
    let long = recorded(&format!("doc:{}", "a".repeat(200)));
    assert_eq!(long.solve(&[many]), Err(Untried));
}

proptest! {
    #[test]
    fn attributes_with_which_a_call_on_several_passed_are_found_or_too_many_ways_are_said(
        patterns in prop::collection::vec(prop::sample::select(vec![
            "d:{session.a}", "d:x{session.b}", "d:{session.a}{session.b}", "d:{session.b}-{session.a}", "d:x", "d:{session.a}:{session.a}",
        ]), 1..4),
        chosen in prop::collection::vec(0usize..4, 1..5),
        a in "[ax-]{1,3}", b in "[ax-]{1,3}",
    ) {
        let all: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
        let attributes = Attributes::from([("a", &*a), ("b", &*b)]);
        let mut texts = Vec::new();
        for at in chosen {
            let text = all[at % all.len()].filled(&attributes).unwrap();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let acted_on = Resource::parse_recorded(&texts.join(" ")).unwrap();
        prop_assert!(acted_on.is_within(&all, &attributes));
        let solved = acted_on.solve(&all).unwrap().unwrap();
        prop_assert!(acted_on.is_within(&all, &solved), "{:?}", solved);
    }
}

#[test]
fn templates_read_what_they_say_and_are_written_as_they_are_read() {
    for text in [
        "user:{id}",
        "user:{session.customer_id}",
        "user:{query.user.id}",
        "user:{header.x-user}",
        "user:{body.}",
        "user:{body./a~1b/0}",
        "issue:{args./number}",
        "thing:{resource.id}",
        "thing:{resource.properties./owner/id}",
    ] {
        let template = ResourceTemplate::parse(text).unwrap();
        assert_eq!(template.to_string(), text);
        let unread = !["body", "args", "resource"]
            .iter()
            .any(|kind| text.contains(kind));
        assert_eq!(template.reads_body(), !unread, "{text}");
    }
    for text in [
        "user:{path.id}",
        "user:{body.id}",
        "user:{body/id}",
        "user:{body./a~2}",
        "user:{query.}",
        "user:{header.a b}",
        "user:{header.}",
        "user:{resource.type}",
        "user:{resource.properties}",
        "user:{agent.x}",
        "{body./kind}:x",
        "user:{body./a",
        "user:{}",
    ] {
        assert!(ResourceTemplate::parse(text).is_err(), "{text}");
    }
}
