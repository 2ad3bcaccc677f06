//! What happened, in a form that is the same every time: ids by order of appearance, ports by name, no hashes.

use crate::wire::Answer;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;

/// The story as it went.
pub struct Transcript {
    text: String,
    /// Random or shifting text -> its name here.
    names: Vec<(String, String)>,
    seen: HashMap<&'static str, usize>,
}

impl Transcript {
    pub fn new(title: &str) -> Self {
        Self {
            text: format!("== {title}\n"),
            names: Vec::new(),
            seen: HashMap::new(),
        }
    }

    /// From here on `text` is written as `name`.
    pub fn name(&mut self, text: impl Into<String>, name: impl Into<String>) {
        self.names.push((text.into(), name.into()));
    }

    pub fn happened(&mut self, what: &str) {
        let what = self.normal(what);
        let _ = writeln!(self.text, "> {what}");
    }

    pub fn answered(&mut self, answer: &Answer, times: u32) {
        let often = if times > 1 {
            format!(" x{times}")
        } else {
            String::new()
        };
        let _ = writeln!(self.text, "< {}{often}", answer.status);
        for (name, value) in &answer.fields {
            if DULL.contains(&name.as_str()) {
                continue;
            }
            let value = self.normal(value);
            let _ = writeln!(self.text, "  {name}: {value}");
        }
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if !body.is_empty() {
            let body = self.normal(&body);
            let _ = writeln!(self.text, "  {}", body.trim_end().replace('\n', "\n  "));
        }
    }

    pub fn backend_saw(&mut self, what: &str) {
        let what = self.normal(what);
        let _ = writeln!(self.text, "@ {what}");
    }

    /// Lines of one step; equal ones are counted.
    pub fn recorded(&mut self, lines: &[String]) {
        let mut shown: Vec<(String, u32)> = Vec::new();
        for line in lines {
            let Ok(Value::Object(mut record)) = serde_json::from_str::<Value>(line) else {
                panic!("not a record: {line}");
            };
            for key in [
                "seq", "prev", "time", "instance", "policy", "request", "digest",
            ] {
                record.remove(key);
            }
            if record
                .get("client")
                .is_some_and(|client| client == "127.0.0.1")
            {
                record.remove("client");
            }
            record.retain(|key, value| !(key.ends_with("_micros") && value.as_u64() == Some(0)));
            let text = self.normal(&Value::Object(record).to_string());
            match shown.iter_mut().find(|(have, _)| *have == text) {
                Some((_, count)) => *count += 1,
                None => shown.push((text, 1)),
            }
        }
        for (line, count) in shown {
            let often = if count > 1 {
                format!(" x{count}")
            } else {
                String::new()
            };
            let _ = writeln!(self.text, "# {line}{often}");
        }
    }

    pub fn finish(self) -> String {
        self.text + "\n"
    }

    fn normal(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.names {
            text = text.replace(from, to);
        }
        // A denial's name is a digest, of its session's id too.
        let name = r#""evaluation_id":""#;
        if let Some(at) = text.find(name).map(|at| at + name.len())
            && let Some(digest) = text.get(at..at + 64)
            && digest.bytes().all(|b| b.is_ascii_hexdigit())
        {
            text.replace_range(at..at + 64, "*");
        }
        for kind in ["req_", "ses_", "grt_", "apr_"] {
            let mut at = 0;
            while let Some(found) = text[at..].find(kind) {
                let start = at + found;
                let end = start + kind.len() + 32;
                at = start + kind.len();
                let Some(id) = text.get(start..end).map(str::to_owned) else {
                    break;
                };
                if !id[kind.len()..].bytes().all(|b| b.is_ascii_hexdigit()) {
                    continue;
                }
                // Requests are told apart by their place; counting them would change every line behind a new one.
                let name = if kind == "req_" {
                    "req_*".to_owned()
                } else {
                    let number = self.seen.entry(kind).or_default();
                    *number += 1;
                    let name = format!("{kind}{number}");
                    self.names.push((id.clone(), name.clone()));
                    name
                };
                text = text.replace(&id, &name);
            }
        }
        text
    }
}

/// Fields that say nothing about the gate, or are checked elsewhere for every answer.
const DULL: [&str; 8] = [
    "date",
    "content-length",
    "toolgate-request-id",
    "connection",
    "via",
    "transfer-encoding",
    "cache-control",
    "x-content-type-options",
];
