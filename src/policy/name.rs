//! Names that the YAML gives to things. Parsed once; cheap to clone; never empty.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("a name can't be empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has at most {NAME_BYTES_MAX} characters")]
    TooLong,
    /// A character outside the set, or a badly placed separator.
    #[error(
        "a name is made of letters, digits, `.`, `_` and `-`, and begins and ends with a letter or digit"
    )]
    Character,
}

/// Names become metric labels and ledger fields, so they are bounded.
pub const NAME_BYTES_MAX: usize = 100;

fn check(text: &str) -> Result<(), NameError> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !edge(bytes.first()) || !edge(bytes.last()) || !bytes.iter().all(inner) {
        return Err(NameError::Character);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        // Most names that meet are clones of one: then there is nothing to compare.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        // As that of its text, by which tables are asked.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl $name {
            /// The only door: letters, digits, `.`, `_`, `-`; 1 to [`NAME_BYTES_MAX`] bytes.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(/// An isolated ruleset.
    ProjectName);
name!(/// A kind of agent.
    AgentName);
name!(/// A backend API behind the gate.
    ToolName);
name!(/// One rule, unique in its project.
    RouteId);
name!(/// The permission a route needs, dotted.
    ScopeName);
name!(/// A bound on rate, repeats or cost.
    LimitId);
name!(/// Who uses the admin API.
    PrincipalName);
name!(/// Who decides approvals, and how.
    ChainName);
name!(/// Principals that may decide approvals together.
    GroupName);
name!(/// Where news is sent.
    NotifyName);
