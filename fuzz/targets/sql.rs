//! SQL of conditions: every text is answered, in every dialect; and what a rule for reading one table allows is no longer
//! allowed once something else is done behind it or in front of it.

use toolgate::policy::sql::{Dialect, Kind, Rule, read};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for dialect in Dialect::ALL {
        let rule = Rule {
            dialect,
            statements: [Kind::Select].into(),
            reads: Some([vec!["tickets".to_owned()]].into()),
            writes: Some([].into()),
            functions: None,
            has_where: true,
            limit_at_most: None,
            statements_at_most: 4,
        };
        let allows =
            |text: &str| read(text, dialect).is_ok_and(|facts| rule.allows(&facts).is_ok());
        if !allows(text) {
            continue;
        }
        for more in [
            "\n;DROP TABLE tickets",
            "\n;DELETE FROM tickets",
            "\n;SELECT 1 FROM users",
            "\n UNION SELECT a FROM users",
        ] {
            assert!(
                !allows(&format!("{text}{more}")),
                "{dialect}: {text:?} with {more:?}"
            );
        }
        assert!(
            !allows(&format!("DROP TABLE tickets;\n{text}")),
            "{dialect}: {text:?} behind another"
        );
    }
}
