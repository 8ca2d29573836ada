//! The wall limit of a job without an init, held by the kernel while this process is stopped.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use crate::plan::Watch;

/// How late this process may be at the wall limit: more than PID 1 grants it, since nobody is left to say how the job
/// ended and to undo what was made; a later run sweeps that.
const LATE: Duration = Duration::from_secs(5);

/// Kills this process when its time is up, stopped or not, and with it the job, whose PR_SET_PDEATHSIG that is. Nothing
/// happens when it is dropped before.
///
/// An init holds the limit itself and says so; a job that is PID 1 has nobody inside who could.
pub(super) struct WallTimer(#[expect(dead_code, reason = "kept for its drop")] Timer);

impl WallTimer {
    /// Starts it; none where there is no wall limit.
    ///
    /// # Errors
    /// EAGAIN at the caller's limit of pending signals (timer_create(2)).
    pub(super) fn start(watch: &Watch) -> Result<Option<WallTimer>, Errno> {
        let Some(after) = watch.at_the_latest(LATE) else {
            return Ok(None);
        };
        let kill = SigEvent::new(SigevNotify::SigevSignal {
            signal: Signal::SIGKILL,
            si_value: 0,
        });
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, kill)?;
        timer.set(Expiration::OneShot(after.into()), TimerSetTimeFlags::empty())?;
        Ok(Some(WallTimer(timer)))
    }
}
