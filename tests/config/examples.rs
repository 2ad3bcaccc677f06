//! The examples in `config/`, and the schemas that editors read beside them.

use super::{PROJECT, SERVER, environment, issuer_key, principal_key};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use toolgate::config::{self, SchemaKind, Secrets, schema};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn examples() -> Vec<(PathBuf, SchemaKind)> {
    let mut all = vec![(root().join("toolgate.yaml"), SchemaKind::Server)];
    for entry in fs::read_dir(root().join("projects")).unwrap() {
        all.push((entry.unwrap().path(), SchemaKind::Project));
    }
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        all.push((entry.unwrap().path(), SchemaKind::Project));
    }
    all
}

#[test]
fn the_examples_that_no_server_file_names_load_too() {
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let folder = tempfile::tempdir().unwrap();
        let project = path.file_stem().unwrap().to_str().unwrap();
        fs::create_dir(folder.path().join("projects")).unwrap();
        fs::copy(&path, folder.path().join("projects/one.yaml")).unwrap();
        let server = SERVER.replace("projects: [demo]", &format!("projects: [{project}]"));
        fs::write(folder.path().join("toolgate.yaml"), server).unwrap();
        let loaded = config::load_with(
            &folder.path().join("toolgate.yaml"),
            Secrets::Required,
            &environment,
        );
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.projects.len(), 1);
    }
}

#[test]
fn the_examples_load_without_error_or_warning() {
    let key = issuer_key();
    let environment = |name: &str| match name {
        "TOOLGATE_ISSUER_KEY" => Some(key.clone().into()),
        "TOOLGATE_APPROVER_KEY" => Some(principal_key(8).into()),
        other => environment(other),
    };
    let loaded = config::load_with(
        &root().join("toolgate.yaml"),
        Secrets::Required,
        &environment,
    );
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    let warnings: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| &warning.summary)
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(
        loaded
            .projects
            .iter()
            .any(|policy| policy.project.as_str() == "demo")
    );
}

#[test]
fn without_secrets_the_examples_load_with_warnings_where_secrets_are_optional() {
    let nothing = |_: &str| None;
    let path = root().join("toolgate.yaml");
    let loaded = config::load_with(&path, Secrets::Optional, &nothing)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
    let errors = config::load_with(&path, Secrets::Required, &nothing).unwrap_err();
    assert_eq!(errors.reports().len(), 4, "{errors}");
}

#[test]
fn each_example_begins_with_the_line_that_tells_editors_its_schema() {
    for (path, kind) in examples() {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let named = first
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap();
        let schema = path.parent().unwrap().join(named);
        let name = match kind {
            SchemaKind::Server => "server.json",
            SchemaKind::Project => "project.json",
        };
        assert_eq!(
            schema.canonicalize().unwrap(),
            root().join("schema").join(name).canonicalize().unwrap()
        );
    }
}

#[test]
fn the_schemas_in_the_repository_are_those_that_the_gate_prints() {
    for (name, kind) in [
        ("server.json", SchemaKind::Server),
        ("project.json", SchemaKind::Project),
    ] {
        let path = root().join("schema").join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema(kind)).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap_or_default(),
            text,
            "{name}: UPDATE=1 writes it anew"
        );
    }
}

#[test]
fn the_schemas_accept_what_the_gate_accepts() {
    let mut texts: Vec<(String, SchemaKind)> = examples()
        .into_iter()
        .map(|(path, kind)| (fs::read_to_string(path).unwrap(), kind))
        .collect();
    texts.push((SERVER.into(), SchemaKind::Server));
    texts.push((PROJECT.into(), SchemaKind::Project));
    for (text, kind) in texts {
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let schema = schema(kind);
        let mut wrong = Vec::new();
        validate(&value, &schema, &schema, "", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn the_schemas_refuse_unknown_and_missing_keys() {
    let schema = schema(SchemaKind::Project);
    let refuse = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_yaml::from_str(PROJECT).unwrap();
        change(&mut value);
        let mut wrong = Vec::new();
        validate(&value, &schema, &schema, "", &mut wrong);
        assert!(!wrong.is_empty());
    };
    refuse(&|value| value["projct"] = "x".into());
    refuse(&|value| drop(value.as_object_mut().unwrap().remove("agents")));
    refuse(&|value| value["tools"]["crm"]["routes"][0]["scpoe"] = "x".into());
    refuse(&|value| value["tools"]["crm"]["host"] = "crm.example".into());
    refuse(&|value| value["limits"][0]["per"] = "sesion".into());
    refuse(&|value| value["approvals"] = Value::Null);
}

/// As much of JSON Schema as ours use, but for patterns: keys, types, words and alternatives.
fn validate(value: &Value, schema: &Value, root: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        validate(value, target, root, at, wrong);
    }
    let of = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    let fits = |schema: &Value| {
        let mut wrong = Vec::new();
        validate(value, schema, root, at, &mut wrong);
        wrong.is_empty()
    };
    if schema["allOf"].is_array() && !of("allOf").iter().all(fits) {
        of("allOf")
            .iter()
            .for_each(|each| validate(value, each, root, at, wrong));
    }
    if schema["anyOf"].is_array() && !of("anyOf").iter().any(fits) {
        wrong.push(format!("{at}: fits none of its alternatives"));
    }
    if schema["oneOf"].is_array() && of("oneOf").iter().filter(|each| fits(each)).count() != 1 {
        wrong.push(format!("{at}: does not fit exactly one alternative"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = schema["type"].as_str();
    if wanted.is_some_and(|wanted| wanted != kind && !(wanted == "number" && kind == "integer")) {
        wrong.push(format!("{at}: {kind} instead of {}", schema["type"]));
    }
    if schema["enum"].is_array() && !of("enum").contains(value) {
        wrong.push(format!("{at}: {value} is none of the words"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        wrong.push(format!("{at}: {value} is not the one value"));
    }
    for key in of("required") {
        if value.get(key.as_str().unwrap()).is_none() {
            wrong.push(format!("{at}: {key} is missing"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{key}");
        match (
            schema["properties"].get(key),
            &schema["additionalProperties"],
        ) {
            (Some(schema), _) => validate(inner, schema, root, &at, wrong),
            (None, Value::Bool(false)) => wrong.push(format!("{at}: unknown")),
            (None, schema @ Value::Object(_)) => validate(inner, schema, root, &at, wrong),
            (None, _) => {}
        }
    }
    if schema["items"].is_object() {
        let items = value.as_array().into_iter().flatten();
        items.for_each(|item| validate(item, &schema["items"], root, at, wrong));
    }
}
