//! From the syntax tree to [`Facts`]: every statement, query, table and function in it, wherever it stands. It is long because
//! the tree has many places where something can stand.

use super::{Dialect, Facts, Kind, SqlError, TableName, text};
use sqlparser::ast::{
    BinaryOperator, Delete, Expr, FromTable, Ident, Insert, LimitClause, ObjectName,
    ObjectNamePart, OnInsert, Query, Select, SetExpr, Statement, TableFactor, TableObject,
    TableWithJoins, UnaryOperator, Update, Value, ValueWithSpan, Visit, Visitor,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;
use std::ops::ControlFlow;

/// Reads a text.
///
/// # Errors
/// [`SqlError`]: it must be refused.
pub fn read(text: &str, dialect: Dialect) -> Result<Facts, SqlError> {
    let tokens = text::tokens(text, dialect)?;
    let separated = text::separated(&tokens, dialect);
    let mut parser = Parser::new(dialect.grammar())
        .with_recursion_limit(DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    let statements = parser
        .parse_statements()
        .map_err(|_| SqlError::Syntax(dialect))?;
    // The parser stops at an END between statements, where servers take it for a name and read on.
    if parser.peek_token().token != Token::EOF {
        return Err(SqlError::Syntax(dialect));
    }
    if statements.is_empty() {
        return Err(SqlError::Empty);
    }
    let mut reader = Reader {
        dialect,
        facts: Facts {
            statements: statements.len(),
            rows: Some(0),
            ..Facts::default()
        },
        scopes: Vec::new(),
        sources: Vec::new(),
        targets: Vec::new(),
        called: Vec::new(),
    };
    for statement in &statements {
        if statement.visit(&mut reader).is_break() {
            break;
        }
        let rows = rows(statement);
        reader.facts.rows = reader
            .facts
            .rows
            .zip(rows)
            .map(|(one, other)| one.max(other));
    }
    // What is never allowed says so in its own words.
    if reader.facts.beyond.is_none() {
        separated?;
    }
    Ok(reader.facts)
}

/// Goes through a tree. Places in it are told apart by where they lie in memory: the tree stands still meanwhile.
struct Reader {
    dialect: Dialect,
    facts: Facts,
    /// Queries with a `WITH` that we are in, innermost last.
    scopes: Vec<Scope>,
    /// The queries that an `INSERT` takes its rows from.
    sources: Vec<*const Query>,
    /// Names of tables that are written.
    targets: Vec<*const ObjectName>,
    /// Names in the place of a table that are functions.
    called: Vec<*const ObjectName>,
}

struct Scope {
    of: *const Query,
    /// Each name that the `WITH` makes, where its own query lies, and whether it can be seen yet: behind its query, and
    /// within it if it recurs. Whether a name is seen before it is made differs by server, so there it is a table.
    names: Vec<(String, *const Query, bool)>,
    /// `WITH RECURSIVE`.
    recursive: bool,
}

type Flow = ControlFlow<()>;

impl Reader {
    /// Nothing more is asked of a text that no rule can allow.
    fn beyond(&mut self, what: &'static str) -> Flow {
        self.facts.beyond.get_or_insert(what);
        ControlFlow::Break(())
    }

    fn has(&mut self, kind: Kind) {
        self.facts.kinds.insert(kind);
    }

    fn name(&self, name: &ObjectName) -> Option<TableName> {
        let part = |part: &ObjectNamePart| match part {
            ObjectNamePart::Identifier(ident) => Some(
                self.dialect
                    .folded(&ident.value, ident.quote_style.is_some()),
            ),
            ObjectNamePart::Function(_) => None,
        };
        name.0.iter().map(part).collect()
    }

    /// Whether a name is one that a `WITH` around this place makes.
    fn is_made(&self, name: &TableName) -> bool {
        let [name] = &name[..] else { return false };
        let mut made = self.scopes.iter().flat_map(|scope| &scope.names);
        made.any(|(have, _, seen)| *seen && have == name)
    }

    fn call(&mut self, name: &ObjectName) -> Flow {
        match name.0.last() {
            Some(ObjectNamePart::Identifier(_)) => {
                let parts = name.0.iter().map(|part| match part {
                    ObjectNamePart::Identifier(ident) => ident.value.to_lowercase(),
                    ObjectNamePart::Function(_) => String::new(),
                });
                let parts: Vec<String> = parts.collect();
                self.facts.functions.insert(parts.join("."));
                ControlFlow::Continue(())
            }
            _ => self.beyond("a name that is computed"),
        }
    }

    /// `@@datadir`: a function by another name. What a session keeps in `@name` is its own.
    fn variable(&mut self, ident: &Ident) -> Flow {
        if ident.quote_style.is_none() && ident.value.starts_with("@@") {
            self.facts.functions.insert(ident.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    /// The name that a query makes can be seen from here on, if `now` says so.
    fn sees(&mut self, query: &Query, now: impl Fn(&Scope) -> bool) {
        let Some(scope) = self.scopes.last_mut().filter(|scope| now(scope)) else {
            return;
        };
        let of = std::ptr::from_ref(query);
        if let Some((_, _, seen)) = scope.names.iter_mut().find(|name| name.1 == of) {
            *seen = true;
        }
    }

    fn writes(&mut self, name: &ObjectName) -> Flow {
        match self.name(name) {
            Some(table) => {
                self.facts.writes.insert(table);
                self.targets.push(name);
                ControlFlow::Continue(())
            }
            None => self.beyond("a name that is computed"),
        }
    }

    /// Every table of a list with its joins is written: which of them is, is for the server to say.
    fn writes_all(&mut self, tables: &[TableWithJoins]) -> Flow {
        for table in tables {
            let joined = table.joins.iter().map(|join| &join.relation);
            for factor in std::iter::once(&table.relation).chain(joined) {
                match factor {
                    TableFactor::Table {
                        name, args: None, ..
                    } => self.writes(name)?,
                    _ => return self.beyond("a change of something that is not a table"),
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn insert(&mut self, insert: &Insert) -> Flow {
        self.has(Kind::Insert);
        let TableObject::TableName(name) = &insert.table else {
            return self.beyond("an insert into something that is not a table");
        };
        self.writes(name)?;
        let odd = insert.overwrite
            || insert.partitioned.is_some()
            || insert.output.is_some()
            || insert.settings.is_some()
            || insert.format_clause.is_some()
            || insert.multi_table_insert_type.is_some()
            || !insert.multi_table_into_clauses.is_empty()
            || !insert.multi_table_when_clauses.is_empty();
        if odd {
            return self.beyond("an insert of this form");
        }
        if insert.replace_into || insert.or.is_some() {
            self.has(Kind::Update);
        }
        match &insert.on {
            None => {}
            Some(OnInsert::DuplicateKeyUpdate(_) | OnInsert::OnConflict(_)) => {
                self.has(Kind::Update)
            }
            Some(_) => return self.beyond("an insert of this form"),
        }
        self.sources
            .extend(insert.source.as_deref().map(std::ptr::from_ref));
        ControlFlow::Continue(())
    }

    fn update(&mut self, update: &Update) -> Flow {
        self.has(Kind::Update);
        if update.output.is_some() {
            return self.beyond("an update of this form");
        }
        self.bounded_by(update.selection.as_ref());
        self.writes_all(std::slice::from_ref(&update.table))
    }

    fn delete(&mut self, delete: &Delete) -> Flow {
        self.has(Kind::Delete);
        if delete.output.is_some() {
            return self.beyond("a delete of this form");
        }
        self.bounded_by(delete.selection.as_ref());
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        self.writes_all(from)?;
        for name in &delete.tables {
            // Often an alias of one of the others: then it is listed for nothing, which no rule has.
            self.writes(name)?;
        }
        ControlFlow::Continue(())
    }

    fn bounded_by(&mut self, selection: Option<&Expr>) {
        self.facts.unbounded |= !selection.is_some_and(|expr| bounds(expr, self.dialect));
    }

    /// What stands in a query beside its `SELECT`s.
    fn body(&mut self, query: &Query, body: &SetExpr) -> Flow {
        match body {
            SetExpr::Values(_) if self.sources.contains(&std::ptr::from_ref(query)) => {}
            SetExpr::Values(_) => self.has(Kind::Select),
            // How its name was quoted is not told, and so not which table it is.
            SetExpr::Table(_) => return self.beyond("TABLE (write SELECT * FROM)"),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(query, left)?;
                self.body(query, right)?;
            }
            SetExpr::Merge(_) => return self.beyond("MERGE"),
            SetExpr::Select(_)
            | SetExpr::Query(_)
            | SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_) => {}
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Reader {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            _ => self.beyond("a statement other than SELECT, INSERT, UPDATE and DELETE"),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        // The query of a `WITH` name sees the names before it; one that recurs, itself.
        if matches!(&*query.body, SetExpr::SetOperation { .. }) {
            self.sees(query, |scope| scope.recursive);
        }
        if let Some(with) = &query.with {
            let name = |ident: &Ident| {
                self.dialect
                    .folded(&ident.value, ident.quote_style.is_some())
            };
            let names = with.cte_tables.iter();
            let names = names.map(|cte| {
                (
                    name(&cte.alias.name),
                    std::ptr::from_ref(&*cte.query),
                    false,
                )
            });
            let (names, recursive) = (names.collect(), with.recursive);
            self.scopes.push(Scope {
                of: query,
                names,
                recursive,
            });
        }
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return self.beyond("a query of this form");
        }
        if !query.locks.is_empty() {
            self.has(Kind::Update);
        }
        self.body(query, &query.body)
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        let of = std::ptr::from_ref(query);
        if self.scopes.last().is_some_and(|scope| scope.of == of) {
            self.scopes.pop();
        }
        self.sees(query, |_| true);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        self.has(Kind::Select);
        if select.into.is_some() {
            return self.beyond("SELECT ... INTO");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table {
                name,
                args: Some(_),
                ..
            }
            | TableFactor::Function { name, .. } => {
                // `ONLY (users)` is a table to PostgreSQL.
                if matches!(&name.0[..], [part] if part.to_string().eq_ignore_ascii_case("only")) {
                    return self.beyond("a table of this form");
                }
                // SQLite's virtual tables can be called: `notes_fts('x')` reads that table.
                let last = name.0.last().map(ToString::to_string);
                let pure = last
                    .is_some_and(|last| PURE_TABLES.iter().any(|it| last.eq_ignore_ascii_case(it)));
                if pure || !matches!(self.dialect, Dialect::Sqlite | Dialect::Generic) {
                    self.called.push(name);
                }
                self.call(name)
            }
            TableFactor::TableFunction {
                expr: Expr::Function(_),
                ..
            } => ControlFlow::Continue(()),
            TableFactor::Table { .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => self.beyond("a table of this form"),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Flow {
        let place = std::ptr::from_ref(relation);
        if self.called.contains(&place) || self.targets.contains(&place) {
            return ControlFlow::Continue(());
        }
        // A file to some, a name to others.
        let in_quotes = |part: &ObjectNamePart| match part {
            ObjectNamePart::Identifier(ident) => ident.quote_style == Some('\''),
            ObjectNamePart::Function(_) => false,
        };
        if relation.0.iter().any(in_quotes) {
            return self.beyond("a table that is named by a text");
        }
        match self.name(relation) {
            Some(name) => {
                if !self.is_made(&name) {
                    self.facts.reads.insert(name);
                }
                ControlFlow::Continue(())
            }
            None => self.beyond("a name that is computed"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) => self.call(&function.name),
            // MySQL's settings are read like columns, and are as far out of the data as a function that reads them.
            Expr::Identifier(ident) => self.variable(ident),
            Expr::CompoundIdentifier(parts) => match parts.first() {
                Some(first) => self.variable(first),
                None => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Most rows that a statement returns; `None`: it does not say.
fn rows(statement: &Statement) -> Option<u64> {
    let query = match statement {
        Statement::Query(query) => query,
        Statement::Insert(Insert {
            returning: Some(_), ..
        })
        | Statement::Update(Update {
            returning: Some(_), ..
        })
        | Statement::Delete(Delete {
            returning: Some(_), ..
        }) => return None,
        _ => return Some(0),
    };
    let limit = match &query.limit_clause {
        Some(LimitClause::LimitOffset {
            limit, limit_by, ..
        }) if limit_by.is_empty() => limit.as_ref(),
        Some(LimitClause::OffsetCommaLimit { limit, .. }) => Some(limit),
        _ => None,
    };
    let fetch = query
        .fetch
        .as_ref()
        .filter(|fetch| !fetch.percent && !fetch.with_ties);
    let fetch = fetch.and_then(|fetch| fetch.quantity.as_ref());
    match (limit, fetch) {
        (Some(expr), None) | (None, Some(expr)) => number(expr),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(text, _),
            ..
        }) => text.parse().ok(),
        Expr::Nested(inner) => number(inner),
        _ => None,
    }
}

/// Whether a `WHERE` leaves rows out, as far as its form tells: each way for it to hold asks something of a column. What the
/// values are, no form tells.
fn bounds(expr: &Expr, dialect: Dialect) -> bool {
    match expr {
        Expr::Nested(inner) => bounds(inner, dialect),
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::And => bounds(left, dialect) || bounds(right, dialect),
            BinaryOperator::Or => bounds(left, dialect) && bounds(right, dialect),
            _ => bare(left) != bare(right) && names_a_column(expr, dialect),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => names_a_column(expr, dialect),
        _ => names_a_column(expr, dialect),
    }
}

/// Without the parentheses around it.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}

fn names_a_column(expr: &Expr, dialect: Dialect) -> bool {
    struct Column {
        dialect: Dialect,
        /// Queries that we are in: what they name is theirs.
        within: u32,
    }
    impl Column {
        fn is(&self, ident: &Ident) -> bool {
            // A name in double quotes that no column has is a text to SQLite, and any is to some servers.
            let perhaps_text = matches!(self.dialect, Dialect::Sqlite | Dialect::Generic);
            !(ident.value.starts_with('@') || perhaps_text && ident.quote_style == Some('"'))
        }
    }
    impl Visitor for Column {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> Flow {
            self.within += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> Flow {
            self.within -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
            let is = match expr {
                Expr::Identifier(ident) => self.is(ident),
                Expr::CompoundIdentifier(parts) => parts
                    .first()
                    .is_some_and(|ident| !ident.value.starts_with('@')),
                _ => false,
            };
            match is && self.within == 0 {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Column { dialect, within: 0 }).is_break()
}

/// How deep the grammar may nest.
pub(super) const DEPTH_MAX: usize = 48;

/// Functions of SQLite that give rows and read no table.
const PURE_TABLES: [&str; 5] = [
    "generate_series",
    "json_each",
    "json_tree",
    "jsonb_each",
    "jsonb_tree",
];
