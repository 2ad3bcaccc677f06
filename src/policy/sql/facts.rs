//! From the syntax tree to [`Facts`]: every statement, query, table and function in it, wherever it stands.

use super::{Dialect, Facts, Kind, SqlError, TableName, text};
use sqlparser::ast::{
    BinaryOperator, Delete, Expr, FromTable, Insert, LimitClause, ObjectName, ObjectNamePart,
    OnInsert, Query, Select, SetExpr, Statement, TableFactor, TableObject, TableWithJoins,
    UnaryOperator, Update, Value, ValueWithSpan, Visit, Visitor,
};
use sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Reads a text.
///
/// # Errors
/// [`SqlError`]: it must be refused.
pub fn read(text: &str, dialect: Dialect) -> Result<Facts, SqlError> {
    let tokens = text::tokens(text, dialect)?;
    let statements = Parser::new(dialect.grammar())
        .with_recursion_limit(DEPTH_MAX)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|_| SqlError::Syntax(dialect))?;
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
    /// Each name that the `WITH` makes, where its own query lies, and whether it can be seen yet.
    names: Vec<(String, *const Query, bool)>,
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
            Some(ObjectNamePart::Identifier(ident)) => {
                self.facts.functions.insert(ident.value.to_lowercase());
                ControlFlow::Continue(())
            }
            _ => self.beyond("a name that is computed"),
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
        if insert.overwrite || insert.partitioned.is_some() || insert.output.is_some() {
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
        self.facts.unbounded |= !update.selection.as_ref().is_some_and(bounds);
        self.writes_all(std::slice::from_ref(&update.table))
    }

    fn delete(&mut self, delete: &Delete) -> Flow {
        self.has(Kind::Delete);
        if delete.output.is_some() {
            return self.beyond("a delete of this form");
        }
        self.facts.unbounded |= !delete.selection.as_ref().is_some_and(bounds);
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        self.writes_all(from)?;
        for name in &delete.tables {
            // Often an alias of one of the others: then it is listed for nothing, which no rule has.
            self.writes(name)?;
        }
        ControlFlow::Continue(())
    }

    /// What stands in a query beside its `SELECT`s.
    fn body(&mut self, query: &Query, body: &SetExpr) -> Flow {
        match body {
            SetExpr::Values(_) if self.sources.contains(&std::ptr::from_ref(query)) => {}
            SetExpr::Values(_) => self.has(Kind::Select),
            SetExpr::Table(table) => {
                self.has(Kind::Select);
                let parts = [&table.schema_name, &table.table_name];
                let name = parts.into_iter().flatten().cloned().collect();
                // How it was quoted is not told: only as it is written.
                if !self.is_made(&name) {
                    self.facts.reads.insert(name);
                }
            }
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
        // The query of a `WITH` name sees the names before it; with RECURSIVE, all of them.
        if let Some(with) = &query.with {
            let seen = with.recursive;
            let name = |ident: &sqlparser::ast::Ident| {
                self.dialect
                    .folded(&ident.value, ident.quote_style.is_some())
            };
            let names = with.cte_tables.iter();
            let names =
                names.map(|cte| (name(&cte.alias.name), std::ptr::from_ref(&*cte.query), seen));
            let names = names.collect();
            self.scopes.push(Scope { of: query, names });
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
        let query = std::ptr::from_ref(query);
        if self.scopes.last().is_some_and(|scope| scope.of == query) {
            self.scopes.pop();
        }
        if let Some(scope) = self.scopes.last_mut() {
            let own = scope.names.iter_mut().find(|(_, of, _)| *of == query);
            if let Some((_, _, seen)) = own {
                *seen = true;
            }
        }
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
                self.called.push(name);
                self.call(name)
            }
            TableFactor::Table { .. }
            | TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
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
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Most rows that a statement returns; `None`: it does not say.
fn rows(statement: &Statement) -> Option<u64> {
    let Statement::Query(query) = statement else {
        return Some(0);
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
fn bounds(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => bounds(inner),
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::And => bounds(left) || bounds(right),
            BinaryOperator::Or => bounds(left) && bounds(right),
            _ => left != right && names_a_column(expr),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => names_a_column(expr),
        _ => names_a_column(expr),
    }
}

fn names_a_column(expr: &Expr) -> bool {
    struct Column(u32);
    impl Visitor for Column {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> Flow {
            self.0 += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> Flow {
            self.0 -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
            match expr {
                // Those within a query of its own are that query's.
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.0 == 0 => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Column(0)).is_break()
}

/// How deep the grammar may nest.
const DEPTH_MAX: usize = 48;
