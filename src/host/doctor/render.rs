//! The report as text for a terminal.

use std::fmt::Write;

use super::{Mend, Report, State};

/// Where the text after a state begins.
const INDENT: &str = "          ";

impl Report {
    /// The whole text; with colour, by the escape sequences of ECMA-48.
    pub fn render(&self, colour: bool) -> String {
        let mut text = format!("{}\n\nprofiles\n", self.host);
        let mut line = |line: String| writeln!(text, "{line}").expect("a String takes all");
        for verdict in &self.verdicts {
            line(format!(
                "{} {:<9} {}",
                state(verdict.state, colour),
                verdict.profile,
                verdict.why
            ));
        }
        line("\nwhat they stand on".into());
        for finding in &self.findings {
            line(format!("{} {}", state(finding.state, colour), finding.what));
            for why in &finding.why {
                line(format!("{INDENT}  {why}"));
            }
            for mend in &finding.mend {
                line(match mend {
                    Mend::Run(command) => format!("{INDENT}  $ {command}"),
                    Mend::Do(words) => format!("{INDENT}  > {words}"),
                });
            }
        }
        text
    }
}

/// A state, as wide as the widest.
fn state(state: State, colour: bool) -> String {
    let (word, code) = match state {
        State::Works => ("works", 32),
        State::Reduced => ("reduced", 33),
        State::Missing => ("missing", 31),
    };
    if colour {
        format!("  \x1b[{code}m{word:<7}\x1b[0m")
    } else {
        format!("  {word:<7}")
    }
}
