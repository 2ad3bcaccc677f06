//! SQL as a judge must read it: what a text would do, told from its syntax tree, so that a rule can say what it may do.
//!
//! [`read`] says which kinds of statement a text has, wherever they stand in it, which tables it reads and writes, which
//! functions it calls, whether it changes rows without bounds, and how many rows it may return. [`Rule::allows`] compares
//! that with what a policy lists. Everything a rule can't name (DDL, `SELECT ... INTO`, `COPY`, `SET`, `CALL`, ...) is
//! [beyond](Facts::beyond) every rule. What can't be parsed, or what servers read differently from each other or from this
//! parser, is no [`Facts`] at all: it must be refused.
//!
//! It refuses to run, repair or rewrite anything, and is bounded in size and depth.

mod facts;
mod functions;
mod grammar;
mod plain;
mod text;

use grammar::Short;
use sqlparser::dialect::{
    Dialect as Grammar, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect,
};
use std::collections::BTreeSet;
use std::fmt;

pub use facts::read;

/// Whose grammar a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL: unquoted names are lower case.
    Postgres,
    /// MySQL and MariaDB: names are compared as they are written.
    MySql,
    /// SQLite: names are compared without case.
    Sqlite,
    /// Something else: a wide grammar; names are compared as they are written.
    Generic,
}

/// What a rule can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `SELECT`, `VALUES`, `TABLE`; also within another statement.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`; an `INSERT` that updates or replaces what it meets; a `SELECT` that locks rows.
    Update,
    /// `DELETE`.
    Delete,
}

/// A table's name in parts, as its dialect compares it: `["public", "tickets"]`.
pub type TableName = Vec<String>;

/// What a text would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Statements, separated by `;`.
    pub statements: usize,
    /// All kinds in it.
    pub kinds: BTreeSet<Kind>,
    /// Tables it reads. Names that a `WITH` makes are none.
    pub reads: BTreeSet<TableName>,
    /// Tables it writes.
    pub writes: BTreeSet<TableName>,
    /// Functions it calls, in lower case, with the schema that is written; and MySQL's `@@` variables.
    pub functions: BTreeSet<String>,
    /// An `UPDATE` or `DELETE` whose `WHERE` is missing or holds for every row.
    pub unbounded: bool,
    /// Most rows that any of its statements returns, where each says so; `None`: one does not.
    pub rows: Option<u64>,
    /// The first thing in it that no rule can allow.
    pub beyond: Option<&'static str>,
}

/// What a text may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose grammar.
    pub dialect: Dialect,
    /// Kinds of statement; all in the text must be among them.
    pub statements: BTreeSet<Kind>,
    /// Tables that may be read; `None`: any.
    pub reads: Option<BTreeSet<TableName>>,
    /// Tables that may be written; `None`: any.
    pub writes: Option<BTreeSet<TableName>>,
    /// Functions that may be called, in lower case and with the schema that they are called by; `None`: all but those that
    /// [reach out of the data](functions).
    pub functions: Option<BTreeSet<String>>,
    /// Every `UPDATE` and `DELETE` must be bounded.
    pub has_where: bool,
    /// A query must say that it returns no more rows.
    pub limit_at_most: Option<u64>,
    /// Statements in one text.
    pub statements_at_most: usize,
}

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("it is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// More of it than a rule is worth: it could nest without end.
    #[error("it has more than {} words and operators", text::WORDS_MAX)]
    TooMuch,
    /// No statement.
    #[error("there is no statement")]
    Empty,
    /// Servers read it differently.
    #[error("{0}: servers read that in different ways")]
    Ambiguous(&'static str),
    /// Not of the dialect's grammar.
    #[error("it can't be parsed as {0}")]
    Syntax(Dialect),
}

/// The first thing that a rule does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// Of [`Facts::beyond`].
    #[error("{0} is never allowed")]
    Beyond(&'static str),
    /// A kind that is not listed.
    #[error("it has {0}")]
    Kind(Kind),
    /// More statements than one.
    #[error("it has {0} statements")]
    Statements(usize),
    /// A table that is not listed.
    #[error("it reads a table that is not listed: {}", shown(&.0.join(".")))]
    Reads(TableName),
    /// A table that is not listed.
    #[error("it writes a table that is not listed: {}", shown(&.0.join(".")))]
    Writes(TableName),
    /// A function that is not listed, or that reaches out of the data.
    #[error("it calls a function that is not allowed: {}", shown(.0))]
    Function(String),
    /// All rows would be changed.
    #[error("it changes rows without bounds")]
    Unbounded,
    /// It may return more rows, or does not say how many.
    #[error("it does not say that it returns few enough rows")]
    Rows,
}

/// Longest text that is read.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

impl Rule {
    /// Whether all that a text would do is allowed; else the first thing that is not.
    ///
    /// # Errors
    /// [`Unmet`].
    pub fn allows(&self, facts: &Facts) -> Result<(), Unmet> {
        if let Some(beyond) = facts.beyond {
            return Err(Unmet::Beyond(beyond));
        }
        if facts.statements > self.statements_at_most {
            return Err(Unmet::Statements(facts.statements));
        }
        if let Some(kind) = facts.kinds.difference(&self.statements).next() {
            return Err(Unmet::Kind(*kind));
        }
        if let Some(name) = outside(&facts.writes, self.writes.as_ref()) {
            return Err(Unmet::Writes(name.clone()));
        }
        let barred = |name: &&String| match &self.functions {
            Some(listed) => !listed.contains(*name),
            None => functions::reach_out(name),
        };
        if let Some(name) = facts.functions.iter().find(barred) {
            return Err(Unmet::Function(name.clone()));
        }
        if let Some(name) = outside(&facts.reads, self.reads.as_ref()) {
            return Err(Unmet::Reads(name.clone()));
        }
        if self.has_where && facts.unbounded {
            return Err(Unmet::Unbounded);
        }
        match (self.limit_at_most, facts.rows) {
            (Some(most), Some(rows)) if rows > most => Err(Unmet::Rows),
            (Some(_), None) => Err(Unmet::Rows),
            _ => Ok(()),
        }
    }
}

/// A name as it was written, unless it is too long to be told.
fn shown(name: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    name.chars().take(SHOWN_MAX).map(plain).collect()
}

fn outside<'f>(
    names: &'f BTreeSet<TableName>,
    listed: Option<&BTreeSet<TableName>>,
) -> Option<&'f TableName> {
    let listed = listed?;
    names.iter().find(|name| !listed.contains(*name))
}

impl Dialect {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::MySql, Self::Sqlite, Self::Generic];

    fn grammar(self) -> &'static dyn Grammar {
        match self {
            Dialect::Postgres => &Short(PostgreSqlDialect {}),
            Dialect::MySql => &Short(MySqlDialect {}),
            Dialect::Sqlite => &Short(SQLiteDialect {}),
            Dialect::Generic => &Short(GenericDialect),
        }
    }

    /// A part of a table's name as it is compared.
    pub fn folded(self, name: &str, quoted: bool) -> String {
        match self {
            Dialect::Postgres if !quoted => name.to_ascii_lowercase(),
            Dialect::Sqlite => name.to_ascii_lowercase(),
            Dialect::Postgres | Dialect::MySql | Dialect::Generic => name.to_owned(),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Postgres => "postgres",
            Dialect::MySql => "mysql",
            Dialect::Sqlite => "sqlite",
            Dialect::Generic => "generic",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Select => "select",
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
        })
    }
}

#[cfg(test)]
mod tests;
