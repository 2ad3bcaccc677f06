//! `where` of a route: what is asked of a call besides method and path.

use crate::config::collection::{List, ListOrNone, Map, OneOrMore};
use crate::config::leaf::{Count, Flag, Literal, Network, Number, Text, Whole};
use crate::config::read::{record, words};

/// Subjects, each with its tests.
pub(in crate::config) type Where = Map<Text, Tests>;

record! {
    /// What is asked of a subject; all of it must hold.
    Tests: "what is asked of a subject";
    /// It is this: text, a number, `true` or `false`.
    optional equals = "equals": Literal,
    /// It is one of these.
    optional one_of = "one_of": List<Literal>,
    /// It is none of these.
    optional not_one_of = "not_one_of": List<Literal>,
    /// The text begins so.
    optional prefix = "prefix": Text,
    /// A regular expression for the whole text; evaluated in linear time.
    optional matches = "matches": Text,
    /// The number is no larger.
    optional at_most = "at_most": Number,
    /// The number is no smaller.
    optional at_least = "at_least": Number,
    /// Whether it is there.
    optional exists = "exists": Flag,
    /// The text has no more characters, the list no more items.
    optional length_at_most = "length_at_most": Whole<1_000_000>,
    /// Networks that the client's address lies in, for the subject `client` alone.
    optional cidr = "cidr": OneOrMore<Network>,
    /// The text is SQL that does no more than this.
    optional sql = "sql": Sql,
    /// The time zone of `time.hour` and `time.weekday`, as the IANA names it: `Europe/Berlin`.
    optional zone = "zone": Text,
    ; some_of "equals", "one_of", "not_one_of", "prefix", "matches", "at_most", "at_least", "exists", "length_at_most", "cidr", "sql"
    ; schema { "minProperties": 1 }
}

record! {
    /// What SQL may do. What can't be parsed, what servers read in different ways, and every statement but the four below
    /// is refused.
    Sql: "`sql`";
    /// Whose grammar it is read by.
    required dialect = "dialect": Dialect,
    /// Kinds of statement it may have, sub-queries and `WITH` included.
    required statements = "statements": List<Kind>,
    /// Tables it may read and write: `tickets`, `public.tickets`. Default: any.
    optional tables = "tables": List<Text>,
    /// Tables it may write, where those are fewer. Default: those of `tables`.
    optional writes = "writes": List<Text>,
    /// Functions it may call. Default: all but those that reach files, the network, the server or its sessions.
    optional functions = "functions": ListOrNone<Text>,
    /// Whether every UPDATE and DELETE needs a WHERE that is not true of every row. Default: true.
    optional has_where = "has_where": Flag,
    /// Rows that a query may return; it must say so itself, with LIMIT or FETCH. Default: any number.
    optional limit_at_most = "limit_at_most": Count<1_000_000_000>,
    /// Statements in one text. Default: 1.
    optional statements_at_most = "statements_at_most": Count<1_000>,
}

words! {
    /// Whose grammar SQL is read by.
    Dialect: "a value of `dialect`";
    Postgres = "postgres",
    MySql = "mysql",
    Sqlite = "sqlite",
    Generic = "generic",
}

words! {
    /// A kind of statement.
    Kind: "a kind of statement";
    Select = "select",
    Insert = "insert",
    Update = "update",
    Delete = "delete",
}
