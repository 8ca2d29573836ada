//! The eight bytes that processes of one run send each other over SEQPACKET sockets.
//!
//! No strings and no allocation: the launcher owns the plan and renders the message. A socket of this
//! type keeps the bounds of records, so a record arrives whole or not at all (unix(7)).

use nix::errno::Errno;

/// Where in a run something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In PID 1, before the steps: its own preparation.
    Start,
    /// In PID 1's steps.
    Init,
    /// In the steps of the process that becomes the job.
    Workload,
    /// In execve(2).
    Exec,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// PID 1 to launcher: it has made those of its namespaces that it makes alone.
    Unshared,
    /// Launcher to PID 1: the files by which it joins its v1 groups come with the record.
    Cgroup,
    /// Launcher to PID 1: the id maps are written and the trees have their owners, go on.
    Go,
    /// Launcher to PID 1: the network is made.
    Network,
    /// A step failed with this error.
    Failed(Stage, u16, Errno),
    /// PID 1 has opened the job's terminal; its descriptor comes with the record.
    Terminal,
    /// All steps but the filters are done.
    Ready,
    /// What the kernel says of the process equals the plan; execve(2) is next.
    Verified,
    /// The job ended with this raw status of wait(2).
    Ended(i32),
    /// A writable layer was full when the job ended.
    LayerFull,
    /// PID 1 has ended the job, which had outlived its wall limit.
    Wall,
    /// The answer to the probe of this number: what was asked for, or a negative error number.
    Answer(u16, i32),
}

impl Record {
    /// The length of every record.
    pub(crate) const LEN: usize = 8;

    /// The record as bytes: kind, stage, index, value.
    pub(crate) fn encode(self) -> [u8; Record::LEN] {
        let (kind, stage, index, value) = match self {
            Record::Go => (1, 0, 0, 0),
            Record::Failed(stage, index, errno) => (2, stage as u8, index, errno as i32),
            Record::Terminal => (3, 0, 0, 0),
            Record::Ready => (4, 0, 0, 0),
            Record::Verified => (5, 0, 0, 0),
            Record::Ended(status) => (6, 0, 0, status),
            Record::LayerFull => (7, 0, 0, 0),
            Record::Wall => (8, 0, 0, 0),
            Record::Answer(index, value) => (9, 0, index, value),
            Record::Unshared => (10, 0, 0, 0),
            Record::Cgroup => (11, 0, 0, 0),
            Record::Network => (12, 0, 0, 0),
        };
        let mut bytes = [0; Record::LEN];
        bytes[0] = kind;
        bytes[1] = stage;
        bytes[2..4].copy_from_slice(&index.to_ne_bytes());
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    /// The record of these bytes; none when they are not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Record> {
        let bytes: [u8; Record::LEN] = bytes.try_into().ok()?;
        let index = u16::from_ne_bytes([bytes[2], bytes[3]]);
        let value = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let stage = match bytes[1] {
            0 => Stage::Start,
            1 => Stage::Init,
            2 => Stage::Workload,
            3 => Stage::Exec,
            _ => return None,
        };
        Some(match bytes[0] {
            1 => Record::Go,
            2 => Record::Failed(stage, index, Errno::from_raw(value)),
            3 => Record::Terminal,
            4 => Record::Ready,
            5 => Record::Verified,
            6 => Record::Ended(value),
            7 => Record::LayerFull,
            8 => Record::Wall,
            9 => Record::Answer(index, value),
            10 => Record::Unshared,
            11 => Record::Cgroup,
            12 => Record::Network,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_survives_the_wire() {
        for record in [
            Record::Go,
            Record::Network,
            Record::Failed(Stage::Init, 513, Errno::ENOSPC),
            Record::Failed(Stage::Exec, 0, Errno::ENOENT),
            Record::Terminal,
            Record::Ready,
            Record::Verified,
            Record::Ended(0x8b),
            Record::LayerFull,
            Record::Wall,
            Record::Answer(256, -13),
        ] {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Record::decode(&[0; 8]), None);
        assert_eq!(Record::decode(&[4; 7]), None);
        assert_eq!(Record::decode(&[2, 9, 0, 0, 0, 0, 0, 0]), None);
    }
}
