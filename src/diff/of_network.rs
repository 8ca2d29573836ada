//! What a plan's network steps let a job reach.

use super::held::Held;
use super::measure::Measure;
use crate::plan::NetworkStep;

impl Held {
    pub(super) fn network_steps(&mut self, steps: &[NetworkStep]) {
        let none = || Measure::state(0, "none");
        for step in steps {
            match step {
                NetworkStep::Join { name } => {
                    let name = name.as_ref().map_or("none", String::as_str).to_owned();
                    let absent = Measure::Neutral("none".to_owned());
                    self.put_else("network.name", Measure::Neutral(name), absent, None);
                }
                NetworkStep::Port { alone } => {
                    let measure = match alone {
                        true => Measure::state(1, "without other jobs"),
                        false => Measure::state(2, "with other jobs"),
                    };
                    self.put_else("network.interface", measure, none(), None);
                }
                NetworkStep::Pasta => {
                    let measure = Measure::state(1, "without other jobs");
                    self.put_else("network.interface", measure, none(), None);
                }
                NetworkStep::Publish { at, to, protocol } => {
                    let measure = Measure::given([format!("{at} of the host, to {protocol} {to} inside")]);
                    let key = format!("network.publish.\"{at}\"");
                    self.put_else(key, measure, Measure::given([]), None);
                }
                // How the interface comes to be of use.
                NetworkStep::Loopback | NetworkStep::Addresses => {}
            }
        }
    }
}
