//! The resolver of a job: it listens inside the job's network namespace and asks the host's servers.
//!
//! Names that are not listed are asked of nobody, so that nothing leaves in a question. Where a name leads is opened to the
//! job before the job is told.

#[cfg(any(fuzzing, test))]
pub mod fuzz;
mod message;
mod serve;
mod upstream;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::base::iana::Rcode;

use self::message::{Query, Transport, Wrong};
pub(crate) use self::serve::{Jobs, Resolver, open};
pub(crate) use self::upstream::Upstream;
use super::directory::Inquirer;
use super::lookups::Lookups;
use super::sets::Sets;
use crate::egress::{Answer, Policy};

/// How much longer than its answer lasts an address stays open: a job connects a while after it asked.
const GRACE: Duration = Duration::from_secs(5);

/// The longest that an address stays open without being asked for again (RFC 8767, section 4, bounds times to live so).
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What one answer opens at the most, addresses times ways: it is not to hold the others up, nor to fill the sets alone.
const OPENED: usize = 4096;

/// For how long a job is where it was: another may have its address after it.
const MOMENT: Duration = Duration::from_secs(1);

/// Everything that an answer depends on.
struct Desk {
    policy: Policy,
    upstream: Upstream,
    /// Who knows the names of jobs, where there are any.
    jobs: Option<Mutex<Inquirer>>,
    sets: Mutex<Sets>,
    lookups: Mutex<Lookups>,
}

impl Desk {
    /// The answer to a job's message; none when it gets none.
    fn answer(&self, bytes: &[u8], over: Transport) -> Option<Vec<u8>> {
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Wrong::Silence) => return None,
            Err(Wrong::Answer(answer)) => return Some(answer),
        };
        Some(self.resolve(&query, over))
    }

    fn resolve(&self, query: &Query, over: Transport) -> Vec<u8> {
        if let Some(jobs) = self.jobs_called(&query.name) {
            self.remember(|lookups| lookups.answered(&query.name, jobs.iter().copied()));
            return query.local(&jobs, MOMENT, over);
        }
        let ways = match self.policy.of_name(&query.name) {
            Answer::Open => Vec::new(),
            Answer::Listed(ways) => ways,
            Answer::Refused => {
                self.remember(|lookups| lookups.refused(&query.name, None));
                return query.empty(Rcode::REFUSED);
            }
        };
        let Some(heard) = self.upstream.ask(query) else {
            return query.empty(Rcode::SERVFAIL);
        };
        if !query.is_for_addresses() {
            return query.relay(&heard, over);
        }
        let (mut open, closed): (Vec<_>, Vec<_>) = query
            .addresses(&heard)
            .into_iter()
            .partition(|(address, _)| self.policy.may_lead_to(*address));
        // What is not told is not missed: whoever has so many addresses needs one.
        open.truncate((OPENED / ways.len().max(1)).max(1));
        self.remember(|lookups| {
            for (address, _) in &closed {
                lookups.refused(&query.name, Some(*address));
            }
            lookups.answered(&query.name, open.iter().map(|(address, _)| *address));
        });
        if open.is_empty() && !closed.is_empty() {
            return query.empty(Rcode::REFUSED);
        }
        let addresses = open.iter().map(|(address, _)| *address);
        let addresses: Vec<IpAddr> = addresses.filter(|at| self.policy.opens_at(*at)).collect();
        let longest = open
            .iter()
            .map(|(_, lifetime)| *lifetime)
            .max()
            .unwrap_or_default();
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        match sets.fill(&addresses, &ways, longest.min(LONGEST) + GRACE) {
            Ok(()) => query.answer(&heard, &open, over),
            Err(_) => query.empty(Rcode::SERVFAIL),
        }
    }

    /// The addresses of the jobs of this name on the job's network, which hides any host of it; none without one.
    fn jobs_called(&self, name: &str) -> Option<Vec<IpAddr>> {
        let inquirer = self.jobs.as_ref().filter(|_| !name.contains('.'))?;
        let found = inquirer.lock().unwrap_or_else(PoisonError::into_inner).ask(name);
        (!found.is_empty()).then_some(found)
    }

    fn remember(&self, what: impl FnOnce(&mut Lookups)) {
        what(&mut self.lookups.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
