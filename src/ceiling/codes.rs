//! The codes of what exceeds a ceiling: stable, documented here, never used again for something else.

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub(super) const $name: &str = $code;)*

        /// Every code with its meaning in one line.
        pub const ALL: &[(&str, &str)] = &[$(($code, $meaning),)*];

        /// Every code with its page of the book.
        pub(crate) const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../book/src/errors/", $code, ".md"))),)*];
    };
}

codes! {
    LIMIT = "RF0501", "a limit that is missing, optional, or larger than the host's ceiling";
    NETWORK = "RF0502", "a network mode that the host's ceiling does not allow";
    MOUNT = "RF0503", "a part of the host outside of what its ceiling allows jobs to see";
    IMAGE = "RF0504", "an image or registry that the host's ceiling does not allow";
    CAPABILITY = "RF0505", "a capability that the host's ceiling does not allow";
    PROFILE = "RF0506", "a built-in profile that the host's ceiling does not allow";
}
