//! Limits of each process of the job (setrlimit(2)): set, and read back.

use nix::errno::Errno;
use nix::libc::RLIM_INFINITY;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::profile::{Rlimit, RlimitValue};

/// What a limit becomes for a process with this one's limits: a hard limit above the own one is lowered to it, since
/// only a tighter one can be set without privilege (setrlimit(2)).
///
/// # Errors
/// None that getrlimit(2) gives for these arguments.
pub(crate) fn effective(kind: Rlimit, value: RlimitValue) -> Result<RlimitValue, Errno> {
    let (_, own) = getrlimit(resource(kind))?;
    let hard = value.hard.unwrap_or(RLIM_INFINITY).min(own);
    let soft = value.soft.unwrap_or(RLIM_INFINITY).min(hard);
    let limit = |number| Some(number).filter(|number| *number != RLIM_INFINITY);
    Ok(RlimitValue {
        soft: limit(soft),
        hard: limit(hard),
    })
}

/// Sets a limit as [`effective`] has it.
///
/// # Errors
/// ENOTRECOVERABLE when the kernel then says another value.
pub(super) fn set(kind: Rlimit, value: RlimitValue) -> Result<(), Errno> {
    let limit = effective(kind, value)?;
    let numbers = (
        limit.soft.unwrap_or(RLIM_INFINITY),
        limit.hard.unwrap_or(RLIM_INFINITY),
    );
    setrlimit(resource(kind), numbers.0, numbers.1)?;
    if getrlimit(resource(kind))? == numbers {
        Ok(())
    } else {
        Err(Errno::ENOTRECOVERABLE)
    }
}

fn resource(kind: Rlimit) -> Resource {
    match kind {
        Rlimit::As => Resource::RLIMIT_AS,
        Rlimit::Core => Resource::RLIMIT_CORE,
        Rlimit::Cpu => Resource::RLIMIT_CPU,
        Rlimit::Data => Resource::RLIMIT_DATA,
        Rlimit::Fsize => Resource::RLIMIT_FSIZE,
        Rlimit::Locks => Resource::RLIMIT_LOCKS,
        Rlimit::Memlock => Resource::RLIMIT_MEMLOCK,
        Rlimit::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Rlimit::Nice => Resource::RLIMIT_NICE,
        Rlimit::Nofile => Resource::RLIMIT_NOFILE,
        Rlimit::Nproc => Resource::RLIMIT_NPROC,
        Rlimit::Rss => Resource::RLIMIT_RSS,
        Rlimit::Rtprio => Resource::RLIMIT_RTPRIO,
        Rlimit::Rttime => Resource::RLIMIT_RTTIME,
        Rlimit::Sigpending => Resource::RLIMIT_SIGPENDING,
        Rlimit::Stack => Resource::RLIMIT_STACK,
    }
}
