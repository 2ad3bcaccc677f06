//! What can be said of conditions before the first call: that one can never hold, or that an arm is never reached because
//! an earlier one holds whenever it does. Only what is certain is said.

use super::read::whole;
use super::{Condition, Literal, Subject, Test, Where};
use crate::policy::decimal::Decimal;

impl Where {
    /// The first condition that holds for no call.
    pub fn contradiction(&self) -> Option<usize> {
        self.0.iter().position(Condition::never_holds)
    }

    /// Whether, wherever `other` holds, this one does: an arm with `other` behind one with this is never reached.
    pub fn covers(&self, other: &Where) -> bool {
        self.0.iter().all(|own| {
            let same = |one: &&Condition| one.subject == own.subject;
            other
                .0
                .iter()
                .find(same)
                .is_some_and(|one| own.follows_from(one))
        })
    }
}

impl Condition {
    fn never_holds(&self) -> bool {
        if let Some(mut hours) = self.hours() {
            let holds = |number| {
                self.tests
                    .iter()
                    .all(|test| test.holds_for(&number) == Some(true))
            };
            return !hours.any(|number| holds(Literal::Number(whole(number))));
        }
        if let Some(mut values) = self.values() {
            return values.next().is_none();
        }
        let bound = |of: fn(&Test) -> Option<Decimal>| self.tests.iter().filter_map(of);
        let ends = bound(at_least).max().zip(bound(at_most).min());
        let crossed = ends.is_some_and(|(least, most)| least > most);
        let absent = self
            .tests
            .iter()
            .any(|test| matches!(test, Test::Exists(false)));
        let nowhere = self
            .tests
            .iter()
            .any(|test| matches!(test, Test::In(list) if list.is_empty()));
        crossed || nowhere || self.is_torn() || absent && self.tests.len() > 1
    }

    /// Asks for a beginning that is longer than the whole may be, or of an argument, which is either, that it be both a
    /// number and a text.
    fn is_torn(&self) -> bool {
        let longest = self.tests.iter().filter_map(|test| match test {
            Test::LengthAtMost(most) => Some(*most),
            _ => None,
        });
        let begins = self.tests.iter().filter_map(|test| match test {
            Test::Prefix(text) => Some(text.chars().count()),
            _ => None,
        });
        let too_long = longest.min().zip(begins.max());
        let number = |test: &Test| matches!(test, Test::AtMost(_) | Test::AtLeast(_));
        let text = |test: &Test| {
            matches!(
                test,
                Test::Prefix(_) | Test::Matches(_) | Test::LengthAtMost(_) | Test::Sql(_)
            )
        };
        let both = self.tests.iter().any(number) && self.tests.iter().any(text);
        too_long.is_some_and(|(most, begins)| begins > most)
            || both && matches!(self.subject, Subject::Args(_))
    }

    /// The values that it holds for, where it lists them.
    fn values(&self) -> Option<impl Iterator<Item = &Literal>> {
        let list = self.tests.iter().find_map(|test| match test {
            Test::OneOf(list) => Some(list),
            _ => None,
        })?;
        let fits = |literal: &&Literal| {
            let mut tests = self.tests.iter();
            tests.all(|test| test.holds_for(literal) == Some(true))
        };
        Some(list.iter().filter(fits))
    }

    /// All that there is of an hour or a day.
    fn hours(&self) -> Option<std::ops::RangeInclusive<i8>> {
        match self.subject {
            Subject::Hour(_) => Some(0..=23),
            Subject::Weekday(_) => Some(1..=7),
            _ => None,
        }
    }

    /// Whether it holds wherever `other`, of the same subject, does.
    fn follows_from(&self, other: &Condition) -> bool {
        if let Some(mut values) = other.values() {
            return values.all(|value| {
                let mut tests = self.tests.iter();
                tests.all(|test| test.holds_for(value) == Some(true))
            });
        }
        let follows = |own: &Test| other.tests.iter().any(|have| own.follows_from(have));
        self.tests.iter().all(follows)
    }
}

impl Test {
    fn follows_from(&self, other: &Test) -> bool {
        match (self, other) {
            (Test::Exists(own), Test::Exists(have)) => own == have,
            // What is judged is there.
            (Test::Exists(true), _) => true,
            (Test::AtMost(own), Test::AtMost(have)) => have <= own,
            (Test::AtLeast(own), Test::AtLeast(have)) => have >= own,
            (Test::Prefix(own), Test::Prefix(have)) => have.starts_with(&**own),
            (Test::Matches(own), Test::Matches(have)) => own == have,
            (Test::LengthAtMost(own), Test::LengthAtMost(have)) => have <= own,
            (Test::NotOneOf(own), Test::NotOneOf(have)) => {
                own.iter().all(|literal| have.contains(literal))
            }
            (Test::In(own), Test::In(have)) => have.iter().all(|one| {
                let covers = |own: &super::Network| own.covers(one);
                own.iter().any(covers)
            }),
            (Test::Sql(own), Test::Sql(have)) => own == have,
            _ => false,
        }
    }
}

fn at_least(test: &Test) -> Option<Decimal> {
    match test {
        Test::AtLeast(least) => Some(*least),
        _ => None,
    }
}

fn at_most(test: &Test) -> Option<Decimal> {
    match test {
        Test::AtMost(most) => Some(*most),
        _ => None,
    }
}
