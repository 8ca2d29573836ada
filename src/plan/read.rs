//! A plan that was written to a file, read again.

use serde::Deserialize;

use super::{Plan, VERSION};

/// Why a text is no plan that this version reads.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is in the form that people read.
    #[error("this is a plan for people; write one with `--format json` or `--format toml`")]
    Sheet,
    /// It was written by another version of ringfence.
    #[error(
        "this is a plan of version {0}, and this ringfence reads version {VERSION}; {advice}",
        advice = advice(*.0)
    )]
    Version(u32),
    /// It is no plan at all, or one that was changed by hand.
    #[error("this is no plan: {0}")]
    Json(#[from] serde_json::Error),
    /// The same for TOML.
    #[error("this is no plan: {0}")]
    Toml(#[from] toml::de::Error),
}

/// What every version of a plan begins with.
#[derive(Deserialize)]
struct Head {
    plan: u32,
}

impl Plan {
    /// Reads what [`Plan::to_json`] or [`Plan::to_toml`] has written; several plans of JSON may follow each other.
    ///
    /// ```
    /// let error = ringfence::plan::Plan::read("{ \"plan\": 0 }").expect_err("an old plan");
    /// assert_eq!(
    ///     error.to_string(),
    ///     "this is a plan of version 0, and this ringfence reads version 1; \
    ///      plan the manifest again with `ringfence plan --format json`"
    /// );
    /// ```
    ///
    /// # Errors
    /// When it was written by another version, or is no plan.
    pub fn read(text: &str) -> Result<Vec<Plan>, ReadError> {
        if text.starts_with("plan ") && !text.starts_with("plan =") {
            return Err(ReadError::Sheet);
        }
        if !text.trim_start().starts_with('{') {
            let head: Head = toml::from_str(text)?;
            known(head.plan)?;
            return Ok(vec![toml::from_str(text)?]);
        }
        let mut plans = Vec::new();
        // Each first as any value: one of another version has other keys.
        for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
            let value = value?;
            known(Head::deserialize(&value)?.plan)?;
            plans.push(Plan::deserialize(value)?);
        }
        Ok(plans)
    }
}

fn known(version: u32) -> Result<(), ReadError> {
    if version == VERSION {
        return Ok(());
    }
    Err(ReadError::Version(version))
}

fn advice(version: u32) -> &'static str {
    match version < VERSION {
        true => "plan the manifest again with `ringfence plan --format json`",
        false => "use the ringfence that wrote it",
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::profile::Root;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let mut sample = sample::strict();
        sample.job.hold.root = sample::placed(Root::Tmpfs, 1);
        let plan = sample.plan();
        assert_eq!(
            Plan::read(&plan.to_json()).expect("json"),
            std::slice::from_ref(&plan)
        );
        assert_eq!(
            Plan::read(&plan.to_toml()).expect("toml"),
            std::slice::from_ref(&plan)
        );
        let two = format!("{}\n{}", plan.to_json(), plan.to_json());
        assert_eq!(Plan::read(&two).expect("two"), [plan.clone(), plan]);
    }

    #[test]
    fn what_is_no_plan_is_told_what_it_is() {
        let said = |text: &str| Plan::read(text).expect_err("no plan").to_string();
        assert_eq!(
            said("plan = 2\njob = 'x'\n"),
            "this is a plan of version 2, and this ringfence reads version 1; use the ringfence that wrote it"
        );
        assert_eq!(
            said(&sample::strict().plan().to_string()),
            "this is a plan for people; write one with `--format json` or `--format toml`"
        );
        assert_eq!(said("{}"), "this is no plan: missing field `plan`");
        let more = sample::strict()
            .plan()
            .to_json()
            .replacen('{', "{ \"hooks\": 1,", 1);
        assert!(
            said(&more).starts_with("this is no plan: unknown field `hooks`"),
            "{}",
            said(&more)
        );
    }
}
