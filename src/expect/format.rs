//! The forms of a result: for people, and as TAP, JUnit and JSON for machines.

use std::fmt::Write;

use serde::Serialize;

use super::Tested;

/// How a result is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A list for a reader.
    Text,
    /// The Test Anything Protocol, version 14 (testanything.org).
    Tap,
    /// The XML that JUnit made common, as continuous integration reads it.
    Junit,
    /// JSON.
    Json,
}

impl Format {
    /// The whole result as text.
    pub(crate) fn render(self, tested: &[Tested]) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        match self {
            Format::Text => text(&mut out, tested),
            Format::Tap => tap(&mut out, tested),
            Format::Junit => junit(&mut out, tested),
            Format::Json => json(&mut out, tested),
        }
        .expect("a string takes everything");
        out
    }
}

fn counts(tested: &[Tested]) -> (usize, usize) {
    let all = tested.iter().map(|job| job.expectations.len()).sum();
    (all, tested.iter().map(Tested::failures).sum())
}

fn text(out: &mut String, tested: &[Tested]) -> std::fmt::Result {
    for job in tested {
        writeln!(out, "job {}", job.job)?;
        for outcome in &job.expectations {
            match outcome.met {
                true => writeln!(out, "  ok      {}", outcome.expect)?,
                false => writeln!(
                    out,
                    "  FAILED  {}: {}, {}",
                    outcome.expect, outcome.seen, outcome.at
                )?,
            }
        }
    }
    let (all, failed) = counts(tested);
    writeln!(out, "{} of {all} expectations hold", all - failed)
}

fn tap(out: &mut String, tested: &[Tested]) -> std::fmt::Result {
    writeln!(out, "TAP version 14\n1..{}", counts(tested).0)?;
    let outcomes = tested
        .iter()
        .flat_map(|job| job.expectations.iter().map(move |outcome| (&job.job, outcome)));
    for (number, (job, outcome)) in outcomes.enumerate() {
        let ok = if outcome.met { "ok" } else { "not ok" };
        // A number sign would begin a directive.
        let name = outcome.expect.replace('\\', "\\\\").replace('#', "\\#");
        writeln!(out, "{ok} {} - {job}: {name}", number + 1)?;
        if !outcome.met {
            let quoted = |text: &str| serde_json::Value::from(text);
            writeln!(
                out,
                "  ---\n  seen: {}\n  at: {}\n  ...",
                quoted(&outcome.seen),
                quoted(&outcome.at)
            )?;
        }
    }
    Ok(())
}

fn junit(out: &mut String, tested: &[Tested]) -> std::fmt::Result {
    let (all, failed) = counts(tested);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<testsuites name=\"ringfence\" tests=\"{all}\" failures=\"{failed}\">"
    )?;
    for job in tested {
        writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">",
            Xml(&job.job),
            job.expectations.len(),
            job.failures()
        )?;
        for outcome in &job.expectations {
            let name = Xml(&outcome.expect);
            write!(
                out,
                "    <testcase classname=\"ringfence.{}\" name=\"{name}\"",
                Xml(&job.job)
            )?;
            match outcome.met {
                true => writeln!(out, "/>")?,
                false => writeln!(
                    out,
                    ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                    Xml(&outcome.seen),
                    Xml(&outcome.at)
                )?,
            }
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

/// Text inside XML. What the claims hold has no control characters, which XML 1.0 cannot hold at all.
struct Xml<'a>(&'a str);

impl std::fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            c => f.write_char(c),
        })
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    schema: u32,
    expectations: usize,
    failed: usize,
    jobs: &'a [Tested],
}

fn json(out: &mut String, tested: &[Tested]) -> std::fmt::Result {
    let (expectations, failed) = counts(tested);
    let whole = Whole {
        schema: 1,
        expectations,
        failed,
        jobs: tested,
    };
    let text = serde_json::to_string_pretty(&whole).map_err(|_| std::fmt::Error)?;
    writeln!(out, "{text}")
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn sample() -> Vec<Tested> {
        let outcome = |expect: &str, met, seen: &str| Outcome {
            expect: expect.into(),
            met,
            seen: seen.into(),
            at: "x.toml:9:1".into(),
        };
        vec![
            Tested {
                job: "a".into(),
                expectations: vec![
                    outcome("cannot read /etc/shadow", true, "no such file or directory"),
                    outcome("output matches <#1> \\d", false, "it is \"a & b\""),
                ],
            },
            Tested {
                job: "b".into(),
                expectations: vec![outcome("uid is 7", true, "it is 7")],
            },
        ]
    }

    #[test]
    fn a_list_for_a_reader() {
        insta::assert_snapshot!(Format::Text.render(&sample()), @r#"
        job a
          ok      cannot read /etc/shadow
          FAILED  output matches <#1> \d: it is "a & b", x.toml:9:1
        job b
          ok      uid is 7
        2 of 3 expectations hold
        "#);
    }

    #[test]
    fn tap_14() {
        insta::assert_snapshot!(Format::Tap.render(&sample()), @r#"
        TAP version 14
        1..3
        ok 1 - a: cannot read /etc/shadow
        not ok 2 - a: output matches <\#1> \\d
          ---
          seen: "it is \"a & b\""
          at: "x.toml:9:1"
          ...
        ok 3 - b: uid is 7
        "#);
    }

    #[test]
    fn junit_xml() {
        insta::assert_snapshot!(Format::Junit.render(&sample()), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="ringfence" tests="3" failures="1">
          <testsuite name="a" tests="2" failures="1">
            <testcase classname="ringfence.a" name="cannot read /etc/shadow"/>
            <testcase classname="ringfence.a" name="output matches &lt;#1&gt; \d">
              <failure message="it is &quot;a &amp; b&quot;">x.toml:9:1</failure>
            </testcase>
          </testsuite>
          <testsuite name="b" tests="1" failures="0">
            <testcase classname="ringfence.b" name="uid is 7"/>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn json_for_machines() {
        let json: serde_json::Value = serde_json::from_str(&Format::Json.render(&sample())).expect("JSON");
        assert_eq!(json["failed"], 1);
        assert_eq!(json["jobs"][0]["expectations"][1]["met"], false);
        assert_eq!(json["jobs"][1]["expectations"][0]["seen"], "it is 7");
    }
}
