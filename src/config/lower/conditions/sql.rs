//! `sql` of a condition: kinds of statement, tables and functions by name. It refuses what would have no effect.

use crate::config::error::Reports;
use crate::config::leaf::Text;
use crate::config::raw::conditions as raw;
use crate::config::read::{At, clipped};
use crate::policy::sql::{Dialect, Kind, Rule, TableName};
use std::collections::BTreeSet;

/// `None`: something in it was reported.
pub(super) fn rule(raw: &raw::Sql, reports: &mut Reports) -> Option<Rule> {
    refuse_idle(raw, reports);
    let dialect = match raw.dialect.as_ref()?.value {
        raw::Dialect::Postgres => Dialect::Postgres,
        raw::Dialect::MySql => Dialect::MySql,
        raw::Dialect::Sqlite => Dialect::Sqlite,
        raw::Dialect::Generic => Dialect::Generic,
    };
    let kind = |at: &At<raw::Kind>| match at.value {
        raw::Kind::Select => Kind::Select,
        raw::Kind::Insert => Kind::Insert,
        raw::Kind::Update => Kind::Update,
        raw::Kind::Delete => Kind::Delete,
    };
    let mut tables = |list: &[At<Text>]| -> Option<BTreeSet<TableName>> {
        // All of them are looked at, so that all are reported.
        let tables: Vec<_> = list.iter().map(|at| table(at, dialect, reports)).collect();
        tables.into_iter().collect()
    };
    let reads = match &raw.tables {
        Some(at) => Some(tables(&at.value.0)?),
        None => None,
    };
    let writes = match &raw.writes {
        Some(at) => Some(tables(&at.value.0)?),
        None => None,
    };
    let functions = match &raw.functions {
        Some(at) => Some(functions(&at.value.0, reports)?),
        None => None,
    };
    Some(Rule {
        dialect,
        statements: raw.statements.as_ref()?.value.0.iter().map(kind).collect(),
        writes: writes.or_else(|| reads.clone()),
        reads,
        functions,
        has_where: raw.has_where.as_ref().is_none_or(|at| at.value.0),
        limit_at_most: raw.limit_at_most.as_ref().map(|at| at.value.0.into()),
        statements_at_most: raw
            .statements_at_most
            .as_ref()
            .map_or(1, |at| usize::try_from(at.value.0).unwrap_or(1)),
    })
}

/// What would have no effect on the statements that are allowed.
fn refuse_idle(raw: &raw::Sql, reports: &mut Reports) {
    let Some(statements) = &raw.statements else {
        return;
    };
    let has = |kinds: &[raw::Kind]| {
        statements
            .value
            .0
            .iter()
            .any(|at| kinds.contains(&at.value))
    };
    use raw::Kind::{Delete, Insert, Select, Update};
    let idle = [
        (
            raw.writes.as_ref().map(|at| at.place),
            has(&[Insert, Update, Delete]),
            "`writes` has no effect on statements that write nothing",
            "`insert`, `update` or `delete`",
        ),
        (
            raw.has_where.as_ref().map(|at| at.place),
            has(&[Update, Delete]),
            "`has_where` is asked of updates and deletes alone",
            "`update` or `delete`",
        ),
        (
            raw.limit_at_most.as_ref().map(|at| at.place),
            has(&[Select]),
            "`limit_at_most` is asked of queries alone",
            "`select`",
        ),
    ];
    for (place, has_effect, message, kinds) in idle {
        if let Some(place) = place.filter(|_| !has_effect) {
            reports.error(
                place,
                message,
                format!("remove it, or add {kinds} to `statements`"),
            );
        }
    }
}

/// `public.tickets`, with `"Tickets"` for a name that is written in quotes.
fn table(at: &At<Text>, dialect: Dialect, reports: &mut Reports) -> Option<TableName> {
    let part = |part: &str| {
        let quoted = part
            .strip_prefix('"')
            .and_then(|part| part.strip_suffix('"'));
        match quoted {
            Some(name) if !name.is_empty() && !name.contains('"') => {
                Some(dialect.folded(name, true))
            }
            _ if is_plain(part) => Some(dialect.folded(part, false)),
            _ => None,
        }
    };
    let name: Option<TableName> = at.value.0.split('.').map(part).collect();
    if name.is_none() {
        let message = format!("`{}` is not the name of a table", clipped(&at.value.0));
        let help = "write `tickets` or `public.tickets`, each table by its name; one that needs quotes in SQL as `'\"Tickets\"'`";
        reports.error(at.place, message, help);
    }
    name
}

/// `count`, `public.total`; compared without case.
fn functions(list: &[At<Text>], reports: &mut Reports) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for at in list {
        let name = at.value.0.strip_prefix("@@").unwrap_or(&at.value.0);
        if !name.split('.').all(is_plain) {
            let message = format!("`{}` is not the name of a function", clipped(&at.value.0));
            let help = "write `count`, without parentheses; one that is called by its schema as `public.total`";
            reports.error(at.place, message, help);
            return None;
        }
        names.insert(at.value.0.to_ascii_lowercase());
    }
    Some(names)
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    !name.is_empty() && name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}
