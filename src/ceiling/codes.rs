//! The codes of what exceeds a ceiling: stable, documented here, never used again for something else.

use crate::problem::codes::codes;

codes! {
    pub(super),
    LIMIT = "RF0501", "a limit that is missing, optional, or larger than the host's ceiling";
    NETWORK = "RF0502", "a network mode that the host's ceiling does not allow";
    MOUNT = "RF0503", "a part of the host outside of what its ceiling allows jobs to see";
    IMAGE = "RF0504", "an image or registry that the host's ceiling does not allow";
    CAPABILITY = "RF0505", "a capability that the host's ceiling does not allow";
    PROFILE = "RF0506", "a built-in profile that the host's ceiling does not allow";
}
