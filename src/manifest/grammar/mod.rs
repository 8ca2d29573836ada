//! The form of strings: what a name, a place or an address may look like.
//!
//! Every check looks at one string alone and touches nothing. Whatever could be taken for something
//! else further down (an option, a second line, another path) is refused here.

mod expect;
mod kernel;
mod names;
mod network;
mod paths;

pub(crate) use self::expect::{destination, known_capability, pattern, probed_path};
pub(crate) use self::kernel::{
    capability, cpuset, device, syscall, sysctl_name, sysctl_namespace, sysctl_value,
};
pub(crate) use self::names::{
    argument, environment_name, hostname, image, name, user, variable_name, variable_text,
};
pub(crate) use self::network::{hosts, socket, sockets};
pub(crate) use self::paths::{bind_source, forbidden_source, mount_place, path, workdir};

use crate::problem::codes;
use crate::units::UnitError;

/// A check of one string.
pub(crate) type Check = fn(&str) -> Result<(), Wrong>;

/// Why a string does not have its form. The message is the string and then `wrong`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// One of [`codes`].
    pub code: &'static str,
    /// Follows the string: `is not absolute`.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Wrong {
    fn new(code: &'static str, wrong: impl Into<String>, right: impl Into<String>) -> Wrong {
        Wrong {
            code,
            wrong: wrong.into(),
            right: right.into(),
        }
    }

    fn form(wrong: impl Into<String>, right: impl Into<String>) -> Wrong {
        Wrong::new(codes::MALFORMED, wrong, right)
    }
}

impl From<UnitError> for Wrong {
    fn from(error: UnitError) -> Wrong {
        Wrong::new(codes::WRONG_QUANTITY, error.wrong, error.right)
    }
}

/// No control characters: a second line or an escape sequence in a name is never meant well.
fn plain(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err(Wrong::form("names nothing", "leave it out"));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Wrong::form(
            format!("has the control character {}", c.escape_default()),
            "",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
#[track_caller]
pub(crate) fn assert_form(check: Check, good: &[&str], bad: &[(&str, &str)]) {
    for text in good {
        assert_eq!(check(text), Ok(()), "{text:?}");
    }
    for (text, wrong) in bad {
        assert_eq!(
            check(text).map_err(|error| error.wrong),
            Err((*wrong).to_owned()),
            "{text:?}"
        );
    }
}
