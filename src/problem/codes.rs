//! The codes of problems: stable, documented here, never used again for something else.

/// A table of codes: a constant of the given visibility for each, and the tables `ALL` and `PAGES`.
macro_rules! codes {
    ($seen:vis, $($name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] $seen const $name: &str = $code;)*

        /// Every code with its meaning in one line.
        pub const ALL: &[(&str, &str)] = &[$(($code, $meaning),)*];

        /// Every code with its page of the book.
        pub(crate) const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../book/src/errors/", $code, ".md"))),)*];
    };
}
pub(crate) use codes;

codes! {
    pub,
    TOO_LARGE = "RF0001", "the manifest is larger than a manifest may be";
    SYNTAX = "RF0002", "the text is not TOML";
    TOO_DEEP = "RF0003", "tables are nested deeper than any manifest needs";
    SCHEMA = "RF0004", "the line `schema = 1` is missing, or names another version";
    DUPLICATE_KEY = "RF0005", "a key or table is written twice";

    UNKNOWN_KEY = "RF0101", "a key that ringfence does not know";
    WRONG_TYPE = "RF0102", "a value of the wrong type";
    WRONG_QUANTITY = "RF0103", "a quantity without a number or a clear unit";
    UNKNOWN_WORD = "RF0104", "a word that is not one of the words allowed here";
    NOT_AN_ARRAY = "RF0105", "one string where an array of strings is needed";
    OUT_OF_RANGE = "RF0106", "a number that is too small or too large";
    MISSING_KEY = "RF0107", "a key that must be there is missing";
    MALFORMED = "RF0108", "a string that does not have the form needed here";
    BAD_NAME = "RF0109", "the name of a table or entry does not have the form needed here";
    REFUSED_KEY = "RF0110", "a key or value that ringfence refuses on purpose, for the reason given";
    EXCLUSIVE_KEYS = "RF0111", "two keys that cannot stand side by side";

    UNKNOWN_PROFILE = "RF0201", "a profile that nothing defines";
    INHERITANCE_CYCLE = "RF0202", "profiles that inherit from each other in a circle";
    BUILT_IN_REDEFINED = "RF0203", "a built-in profile cannot be redefined";
    UNKNOWN_VARIABLE = "RF0204", "a variable that nothing defines";
    BAD_VARIABLE = "RF0205", "a dollar sign that starts no variable";
    NO_VARIABLES_HERE = "RF0206", "a variable where none is read";
    UNKNOWN_JOB = "RF0207", "a job that the manifest does not have";
    CHAIN_TOO_LONG = "RF0208", "more profiles in a row than anybody can follow";

    NEEDS_BRIDGE = "RF0301", "a network table that only `mode = \"bridge\"` can hold";
    MOUNT_PLACE = "RF0302", "a place inside where nothing may be mounted";
    MOUNT_SOURCE = "RF0303", "a part of the host that is never given to a job";
    NEVER_GIVEN = "RF0304", "a capability that no job is given";
    NEEDS_NAMESPACE = "RF0305", "a setting that needs a namespace which is switched off";
    TMPFS_OVER_MEMORY = "RF0306", "the file systems in memory together exceed the memory limit";
    BAD_SYSCTL = "RF0307", "a kernel setting that is not of the job's own namespaces";
    NEEDS_DISK_LIMIT = "RF0308", "a writable layer on disk needs a bound";
    BAD_IMAGE = "RF0309", "an image source that cannot be read";
    BAD_POLICY = "RF0310", "a seccomp policy that cannot be built";
    SOFT_OVER_HARD = "RF0311", "a soft limit above its hard limit";
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
        assert!(
            ALL.iter()
                .all(|(code, _)| code.len() == 6 && code.starts_with("RF"))
        );
    }
}
