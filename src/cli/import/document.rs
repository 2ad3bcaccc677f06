//! An OpenAPI 3 document, read as far as an import needs it: which calls there are, where the tool is, and how it is
//! authenticated to.
//!
//! It is walked as a tree: documents in the wild bend their schema, and nothing here depends on the rest of it. References
//! are followed within the document, a bounded number of times. What can't be read is left out and said, with why.

use super::draft::Upstream;
use crate::cli::output::harmless;
use serde_json::{Map, Value};

/// What is known of a tool.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub title: String,
    pub operations: Vec<Operation>,
    pub left_out: Vec<(String, String)>,
    pub notes: Vec<String>,
    server: Option<String>,
    pub credential: Option<Credential>,
}

/// One call of it.
#[derive(Debug)]
pub(super) struct Operation {
    /// In capitals.
    pub method: String,
    pub path: String,
    pub id: Option<String>,
    pub tag: Option<String>,
    /// A line about it, harmless to look at.
    pub summary: Option<String>,
    pub deprecated: bool,
}

/// How the tool is authenticated to, as far as a header says it.
#[derive(Debug)]
pub(super) struct Credential {
    pub header: String,
    /// In front of the secret.
    pub scheme: &'static str,
}

impl Document {
    /// JSON or YAML.
    ///
    /// # Errors
    /// In words: it is neither, or no OpenAPI 3.
    pub fn read(text: &str) -> Result<Self, String> {
        let root = parse(text)?;
        match (root["openapi"].as_str(), root["swagger"].as_str()) {
            (Some(version), _) if version.starts_with("3.") => {}
            (Some(version), _) => {
                return Err(format!(
                    "it is OpenAPI {}; 3.0 and 3.1 are read",
                    line(version)
                ));
            }
            (None, Some(_)) => {
                return Err("it is Swagger 2.0; convert it to OpenAPI 3 first".to_owned());
            }
            (None, None) => {
                return Err("it is no OpenAPI document: `openapi` is missing".to_owned());
            }
        }
        let mut document = Self {
            title: line(root["info"]["title"].as_str().unwrap_or("untitled")),
            server: root["servers"][0]["url"]
                .as_str()
                .map(|url| filled(url, &root["servers"][0])),
            ..Self::default()
        };
        document.credential = credential(&root, &mut document.notes);
        let none = Map::new();
        for (path, item) in root["paths"].as_object().unwrap_or(&none) {
            // Extensions stand between paths.
            if path.starts_with("x-") {
                continue;
            }
            match resolved(&root, item) {
                Ok(item) => document.path(&root, path, item),
                Err(why) => document.left_out.push((line(path), why)),
            }
        }
        if root["webhooks"].is_object() {
            document.notes.push(
                "webhooks are calls of the tool's, not of an agent's: none was imported".to_owned(),
            );
        }
        Ok(document)
    }

    /// Where the tool is, as far as the document says.
    pub fn upstream(&self) -> Upstream {
        let Some(url) = &self.server else {
            return Upstream::Unknown(String::new());
        };
        let plain = url.trim_end_matches('/');
        let whole = plain.starts_with("https://") || plain.starts_with("http://");
        let odd = plain.contains(['{', '}', '?', '#', '@', '$', ' ', '\\']);
        match (whole, odd) {
            (true, false) => Upstream::Said(plain.to_owned()),
            (false, false) if plain.starts_with('/') => Upstream::Unknown(plain.to_owned()),
            _ => Upstream::Unknown(String::new()),
        }
    }

    fn path(&mut self, root: &Value, path: &str, item: &Value) {
        for method in METHODS {
            let operation = &item[method];
            if !operation.is_object() {
                continue;
            }
            let method = method.to_ascii_uppercase();
            let what = format!("{method} {}", line(path));
            if self.operations.len() >= OPERATIONS_MAX {
                let why = format!("more than {OPERATIONS_MAX} operations are not imported at once");
                self.left_out.push((what, why));
                continue;
            }
            if let Some(why) = unfit(root, &method, item, operation) {
                self.left_out.push((what, why));
                continue;
            }
            let text = |name: &str| operation[name].as_str();
            let summary = text("summary").or(text("description")).map(line);
            self.operations.push(Operation {
                method,
                path: path.to_owned(),
                id: text("operationId").map(str::to_owned),
                tag: operation["tags"][0].as_str().map(str::to_owned),
                summary: summary.filter(|summary| !summary.is_empty()),
                deprecated: operation["deprecated"] == true,
            });
        }
    }
}

fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"));
    }
    serde_yaml::from_str(text)
        .map_err(|error| format!("it is not YAML: {}", line(&error.to_string())))
}

/// Why an operation can't be a route of this tool.
fn unfit(root: &Value, method: &str, item: &Value, operation: &Value) -> Option<String> {
    if method == "TRACE" {
        return Some("the method TRACE is never forwarded".to_owned());
    }
    let elsewhere = [operation, item]
        .into_iter()
        .find_map(|of| of["servers"][0]["url"].as_str());
    if elsewhere.is_some_and(|url| Some(url) != root["servers"][0]["url"].as_str()) {
        return Some(
            "it is at another server than the rest: import it as a tool of its own".to_owned(),
        );
    }
    for list in [&operation["parameters"], &item["parameters"]] {
        for parameter in list.as_array().into_iter().flatten() {
            let parameter = match resolved(root, parameter) {
                Ok(parameter) => parameter,
                Err(why) => return Some(format!("one of its parameters can't be read: {why}")),
            };
            let style = parameter["style"].as_str();
            // Header fields, cookies and the query pass as they come: no route depends on them.
            if parameter["in"] == "path" && style == Some("matrix") {
                return Some(
                    "its path has `;` parameters, which are refused as ambiguous".to_owned(),
                );
            }
        }
    }
    None
}

/// What a value is that may be a reference to another place of the document.
fn resolved<'d>(root: &'d Value, value: &'d Value) -> Result<&'d Value, String> {
    let mut found = value;
    for _ in 0..REFERENCES_MAX {
        let Some(reference) = found["$ref"].as_str() else {
            return Ok(found);
        };
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(format!(
                "`{}` is in another document, which is not read",
                line(reference)
            ));
        };
        let pointer = unescaped(pointer);
        found = root
            .pointer(&pointer)
            .ok_or_else(|| format!("`{}` leads nowhere", line(reference)))?;
    }
    Err("its references lead from one to the next without an end".to_owned())
}

/// A fragment, percent-decoded.
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A server's URL with the defaults of its variables.
fn filled(url: &str, server: &Value) -> String {
    let mut url = url.to_owned();
    let none = Map::new();
    for (name, variable) in server["variables"].as_object().unwrap_or(&none) {
        if let Some(default) = variable["default"].as_str() {
            url = url.replace(&format!("{{{name}}}"), default);
        }
    }
    url
}

/// How the tool is authenticated to: the first way that is a header field.
fn credential(root: &Value, notes: &mut Vec<String>) -> Option<Credential> {
    let schemes = root["components"]["securitySchemes"].as_object()?;
    let mut elsewhere = false;
    for scheme in schemes.values() {
        let Ok(scheme) = resolved(root, scheme) else {
            continue;
        };
        let of_http = scheme["scheme"].as_str().map(str::to_ascii_lowercase);
        match (scheme["type"].as_str(), of_http.as_deref()) {
            (Some("http"), Some("basic")) => return Some(authorization("Basic ")),
            (Some("http"), _) | (Some("oauth2" | "openIdConnect"), _) => {
                return Some(authorization("Bearer "));
            }
            (Some("apiKey"), _) if scheme["in"] == "header" => {
                let name = scheme["name"].as_str()?.to_ascii_lowercase();
                let header = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
                return Some(Credential {
                    header: header.to_string(),
                    scheme: "",
                });
            }
            _ => elsewhere = true,
        }
    }
    if elsewhere {
        notes.push("the tool is not authenticated to by a header field: the gate can't put a credential in for the agent".to_owned());
    }
    None
}

fn authorization(scheme: &'static str) -> Credential {
    Credential {
        header: "authorization".to_owned(),
        scheme,
    }
}

/// On one line, short, and unable to order a terminal or an editor about.
fn line(text: &str) -> String {
    let one: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = one.chars().take(LINE_CHARS_MAX).collect();
    if short.len() < one.len() {
        short.push('…');
    }
    harmless(&short)
}

/// As they stand in a path item.
const METHODS: [&str; 9] = [
    "get", "head", "post", "put", "patch", "delete", "options", "query", "trace",
];
/// Most of one import.
const OPERATIONS_MAX: usize = 5000;
/// References that lead to references.
const REFERENCES_MAX: usize = 16;
/// Longest comment out of a document.
const LINE_CHARS_MAX: usize = 100;
