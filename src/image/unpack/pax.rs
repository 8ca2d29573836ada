//! The records of a PAX extended header (pax(1), "pax Extended Header"): `LENGTH KEY=VALUE\n`, read strictly.

use nix::sys::time::TimeSpec;

/// What a PAX header changes of the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<TimeSpec>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The longest name and value of extended attributes (xattr(7), XATTR_NAME_MAX and XATTR_SIZE_MAX).
const LONGEST_XATTR_NAME: usize = 255;
const LONGEST_XATTR_VALUE: usize = 64 << 10;

impl Pax {
    /// Reads all records.
    ///
    /// # Errors
    /// What is wrong, as a fragment.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("its PAX header is malformed")?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        // An empty value takes a global header's word back; without global headers it means: not set.
        let set = !value.is_empty();
        let repeated = match key {
            b"path" => set && self.path.replace(value.to_vec()).is_some(),
            b"linkpath" => set && self.link.replace(value.to_vec()).is_some(),
            b"size" => set && self.size.replace(number(value)?).is_some(),
            b"uid" => set && self.uid.replace(number(value)?).is_some(),
            b"gid" => set && self.gid.replace(number(value)?).is_some(),
            b"mtime" => set && self.mtime.replace(time(value)?).is_some(),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.len() > LONGEST_XATTR_NAME || value.len() > LONGEST_XATTR_VALUE
                    {
                        return Err("it has an extended attribute that no file can have".to_owned());
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if key.starts_with(b"GNU.sparse.") {
                    return Err("it is a sparse file, which layers may not hold".to_owned());
                }
                false
            }
        };
        match repeated {
            true => Err("its PAX header says something twice".to_owned()),
            false => Ok(()),
        }
    }
}

/// Reads one record; the length counts itself, the blank and the newline.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    if length < blank + 4 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    let (record, rest) = (&bytes[blank + 1..length - 1], &bytes[length..]);
    let equals = record.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then_some((&record[..equals], &record[equals + 1..], rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn number(value: &[u8]) -> Result<u64, String> {
    decimal(value).ok_or_else(|| "its PAX header has a malformed number".to_owned())
}

/// Seconds with a fraction; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Result<TimeSpec, String> {
    let malformed = || "its PAX header has a malformed time".to_owned();
    let text = std::str::from_utf8(value).map_err(|_| malformed())?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let seconds = decimal(whole.as_bytes()).ok_or_else(malformed)?;
    let nanoseconds = format!("{fraction:0<9}")[..9]
        .parse::<i64>()
        .map_err(|_| malformed())?;
    Ok(match negative {
        // Times before 1970 are set to 1970.
        true => TimeSpec::new(0, 0),
        false => TimeSpec::new(super::seconds(seconds), nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_change_the_entry() {
        let pax = Pax::parse(b"14 path=a/b c\n12 uid=1000\n30 mtime=1700000000.123456789\n8 gid=7\n27 SCHILY.xattr.user.a=\n\x00b\n14 comment=xy\n");
        let want = Pax {
            path: Some(b"a/b c".to_vec()),
            uid: Some(1000),
            mtime: Some(TimeSpec::new(1_700_000_000, 123_456_789)),
            gid: Some(7),
            xattrs: vec![(b"user.a".to_vec(), b"\n\x00b".to_vec())],
            ..Pax::default()
        };
        assert_eq!(pax, Ok(want));
        assert_eq!(Pax::parse(b"").unwrap(), Pax::default());
        assert_eq!(
            Pax::parse(b"12 mtime=-1\n").unwrap().mtime,
            Some(TimeSpec::new(0, 0))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let huge = format!("{}0 path=a\n", "9".repeat(30));
        for text in [
            "x",
            "5 a=b",
            "6 a=b\n\n",
            "7 =bcd\n",
            "6 abc\n",
            "0 a=b\n",
            "999 a=b\n",
            "-6 a=b\n",
            " a=b\n",
            "10 path=ab",
            huge.as_str(),
            "9 uid=-1\n",
            "9 uid=1x\n",
            "11 mtime=a\n",
            "12 mtime=1.x\n",
            "30 uid=99999999999999999999\n",
        ] {
            assert!(Pax::parse(text.as_bytes()).is_err(), "{text:?} was taken");
        }
        assert_eq!(
            Pax::parse(b"8 uid=1\n8 uid=2\n").unwrap_err(),
            "its PAX header says something twice"
        );
        assert_eq!(
            Pax::parse(b"22 GNU.sparse.major=1\n").unwrap_err(),
            "it is a sparse file, which layers may not hold"
        );
    }
}
