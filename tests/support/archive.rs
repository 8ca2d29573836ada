//! A writer of tar archives that refuses nothing: what a hostile image holds is written as told.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by several tests, each with its own part; names say it"
)]

/// An archive in memory.
#[derive(Clone, Default)]
pub struct Archive(Vec<u8>);

/// One header, with the defaults of an ordinary file.
#[derive(Clone, Copy)]
pub struct Header<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: &'a [u8],
    /// What the header says; the content's length when none.
    pub size: Option<u64>,
    pub device: (u32, u32),
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header {
            name: b"file",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            link: b"",
            size: None,
            device: (0, 0),
        }
    }
}

impl Archive {
    pub fn new() -> Archive {
        Archive::default()
    }

    /// A header, checksum right, then the content padded to whole blocks. Names beyond 100 bytes are cut.
    pub fn entry(mut self, header: Header<'_>, content: &[u8]) -> Archive {
        let mut block = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &header.name[..header.name.len().min(100)]);
        put(100, format!("{:07o}", header.mode).as_bytes());
        put(108, format!("{:07o}", header.uid).as_bytes());
        put(116, format!("{:07o}", header.gid).as_bytes());
        put(
            124,
            format!("{:011o}", header.size.unwrap_or(content.len() as u64)).as_bytes(),
        );
        put(136, format!("{:011o}", header.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[header.kind]);
        put(157, &header.link[..header.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", header.device.0).as_bytes());
        put(337, format!("{:07o}", header.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &str) -> Archive {
        self.entry(
            Header {
                name: name.as_bytes(),
                ..Header::default()
            },
            content.as_bytes(),
        )
    }

    pub fn dir(self, name: &str) -> Archive {
        self.entry(
            Header {
                name: name.as_bytes(),
                kind: b'5',
                mode: 0o755,
                ..Header::default()
            },
            b"",
        )
    }

    pub fn symlink(self, name: &str, target: &str) -> Archive {
        let header = Header {
            name: name.as_bytes(),
            kind: b'2',
            link: target.as_bytes(),
            ..Header::default()
        };
        self.entry(header, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Archive {
        let header = Header {
            name: name.as_bytes(),
            kind: b'1',
            link: target.as_bytes(),
            ..Header::default()
        };
        self.entry(header, b"")
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut content = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let mut length = bare + bare.to_string().len();
            if length.to_string().len() != bare.to_string().len() {
                length += 1;
            }
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.entry(
            Header {
                name: b"PaxHeaders/x",
                kind: b'x',
                ..Header::default()
            },
            &content,
        )
    }

    /// A GNU record with a long name (`L`) or a long link name (`K`) for the next entry.
    pub fn long(self, kind: u8, name: &[u8]) -> Archive {
        let content = [name, b"\0"].concat();
        self.entry(
            Header {
                name: b"././@LongLink",
                kind,
                ..Header::default()
            },
            &content,
        )
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Archive {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The archive with its two end blocks.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }

    /// The archive without its end.
    pub fn cut(self) -> Vec<u8> {
        self.0
    }
}
