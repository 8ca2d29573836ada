//! What a plan is made from, and what is found on the way.

use std::ops::Range;

use super::{Image, Notice, Request};
use crate::host::facts::{Caller, Facts, Feature, Support};
use crate::problem::Problem;
use crate::profile::{Job, Origin};

/// What a plan is made from.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) job: &'a Job,
    pub(super) facts: &'a Facts,
    pub(super) image: &'a Image,
    pub(super) request: &'a Request,
}

/// What is found on the way: problems refuse the plan, notices stand in it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<Notice>,
}

impl Given<'_> {
    /// Why the host lacks a feature; `None` when it has it.
    pub(super) fn lacks(&self, feature: Feature) -> Option<&str> {
        match self.facts.kernel_features.get(&feature) {
            Some(Support::Yes) => None,
            Some(Support::No(reason)) => Some(reason),
            None => Some("this host does not have it"),
        }
    }

    pub(super) fn as_root(&self) -> bool {
        self.facts.caller == Caller::Root
    }
}

impl Found {
    pub(super) fn refuse(
        &mut self,
        code: &'static str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(Problem::new(code, span, message, help));
    }

    pub(super) fn notice(&mut self, about: impl Into<String>, text: impl Into<String>) {
        self.notices.push(Notice {
            about: about.into(),
            text: text.into(),
        });
    }
}

/// Who asks for a value, for messages: "profile `ci`".
pub(super) fn asker(origin: &Origin) -> String {
    match origin {
        Origin::Manifest { table, .. } => match table.split_once('.') {
            Some((kind, name)) => format!("{kind} `{name}`"),
            None => format!("`{table}`"),
        },
        Origin::BuiltIn(profile) => format!("profile `{}`", profile.name()),
        Origin::Arguments => "the command line".to_owned(),
    }
}
