//! The codes of a planner's problems: stable, documented here, never used again for something else.
//! A manifest's own problems have the codes below RF0400.

use crate::problem::codes::codes;

codes! {
    pub(super),
    NO_USER = "RF0401", "a user or group that cannot be understood or is not in the image";
    ROOT_UNSAID = "RF0402", "a user name that is root in the image, without `user = \"root\"` being written";
    ID_RANGE = "RF0403", "a user or group id outside what a job's user namespace holds";
    NO_COMMAND = "RF0404", "neither the job nor the image says what to run";
    BAD_STRING = "RF0405", "a word, variable or path that no program can be given";
    BAD_WORKDIR = "RF0406", "a working directory that is not a plain place inside";
    NO_FEATURE = "RF0407", "the kernel, or its configuration, lacks what every sandbox or this one needs";
    NO_CONTROLLER = "RF0408", "a limit needs a control group controller that the caller cannot use";
    TOO_MANY_CPUS = "RF0409", "more processors than the host allows";
    NOT_A_DEVICE = "RF0410", "an io limit on something that is no block device";
    NO_LAYER = "RF0411", "the writable layer cannot be held on this host as it is asked for";
    NO_SOURCE = "RF0412", "the source of a bind mount is missing or of a kind that is not given to jobs";
    NO_IDMAP = "RF0413", "the file system of a bind mount's source cannot show its files as the job's";
    MOUNT_CLASH = "RF0414", "two things at one place inside, or one that hides what every job needs";
    NO_BRIDGE = "RF0415", "a bridge network that this host or caller cannot make";
    NO_LANDLOCK = "RF0416", "the kernel's Landlock is too old, or missing";
    NO_SECCOMP = "RF0417", "the kernel has no seccomp filters";
    BAD_POLICY = "RF0418", "a seccomp policy that cannot be built, or under which no program starts or ends";
    FILTERS_NEED_NNP = "RF0419", "filters cannot be installed without no_new_privs";
    TIME_NEEDS_INIT = "RF0420", "a time namespace, whose maker stays outside of it, without an init";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_meaning() {
        let mut codes: Vec<_> = ALL.iter().map(|(code, _)| code).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
        assert!(ALL.iter().all(|(code, _)| code.starts_with("RF04")));
    }
}
