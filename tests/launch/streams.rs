//! Standard input, output and error: the caller's own open files, or a terminal of the job's own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::Signal;

use crate::support::{Live, PATIENCE, Test, callers};

#[test]
fn input_and_output_pass_through() {
    Test::sh("cat; echo err >&2")
        .stdin("in\n")
        .stdout("in\n")
        .stderr("err\n")
        .run();
    Test::sh("head -c 3000000 /dev/zero | tr '\\0' a")
        .stdout(&"a".repeat(3_000_000))
        .run();
}

/// Not copies of what is in them: the same open file, with the same place in it.
#[test]
fn files_pipes_and_sockets_are_the_same_open_files() {
    let script = "for ($i = 0; $i < 3; $i++) { open F, \"<&=$i\" or open F, \">&=$i\"; print {$o = STDERR} join(\":\", (stat F)[0,1]), \"\\n\" }";
    let test = Test::command(&["/usr/bin/perl", "-e", script]);
    for caller in callers(None) {
        let folder = std::env::temp_dir().join(format!("rf-test-streams-{}", std::process::id()));
        let file = File::create(&folder).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let id = |file: &dyn AsFd| {
            let seen = nix::sys::stat::fstat(file.as_fd()).unwrap();
            format!("{}:{}", seen.st_dev, seen.st_ino)
        };
        let wanted = [id(&there), id(&writer), id(&file)];
        let streams = [
            Stdio::from(OwnedFd::from(there)),
            Stdio::from(writer),
            Stdio::from(file.try_clone().unwrap()),
        ];
        let ran = test.start_with(caller, streams).unwrap().finish();
        let said = caller.without_notice(&fs::read_to_string(&folder).unwrap());
        assert_eq!(
            (ran.status, said),
            (0, format!("{}\n", wanted.join("\n"))),
            "{caller:?}"
        );
        assert_eq!(
            fs::metadata(&folder).unwrap().ino(),
            file.metadata().unwrap().ino()
        );
        fs::remove_file(folder).unwrap();
        drop((reader, here));
    }
}

#[test]
fn a_closed_stream_is_null() {
    Test::sh("cat; echo no >&2; readlink /proc/self/fd/0")
        .wrapped(&["/bin/sh", "-c", "exec \"$@\" <&- 2>&-", "sh"])
        .stdout("/dev/null\n")
        .any_stderr()
        .run();
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    for lines in ["", "limits.output = \"1GiB\""] {
        let test = Test::command(&["/usr/bin/yes"]).with(lines);
        for caller in callers(None) {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let live = test
                .start_with(caller, [Stdio::null(), writer.into(), Stdio::null()])
                .unwrap();
            reader.read_exact(&mut [0; 100]).unwrap();
            drop(reader);
            // SIGPIPE
            assert_eq!(live.finish().status, 128 + 13, "{caller:?} {lines}");
        }
    }
}

/// A terminal of the test's own, and everything that appears on it.
struct Terminal {
    master: File,
    slave: OwnedFd,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn new() -> Terminal {
        let size = Winsize {
            ws_row: 33,
            ws_col: 77,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if send.send(piece[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            master,
            slave,
            shown,
            text: String::new(),
        }
    }

    fn streams(&self) -> [Stdio; 3] {
        [0; 3].map(|_| Stdio::from(self.slave.try_clone().unwrap()))
    }

    /// Reads until `text` was shown.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        while !self.text.contains(text) {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(piece) => self.text += &String::from_utf8_lossy(&piece),
                Err(_) => panic!("{text:?} never came: {:?}", self.text),
            }
        }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// What `stty` says of it.
    fn stty(&self, words: &[&str]) -> String {
        let name = nix::unistd::ttyname(&self.slave).unwrap();
        let out = Command::new("stty")
            .arg("-F")
            .arg(name)
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}

/// CVE-2017-5226: a job that holds the caller's terminal can type into the caller's shell.
#[test]
fn the_callers_terminal_is_not_the_jobs() {
    let script = "for i in 0 1 2; do [ -t $i ] && echo $i is a terminal; done; tty; read line; echo got $line; (: < /dev/tty) 2>&1; exit 6";
    let test = Test::sh(script);
    for caller in callers(None) {
        let mut terminal = Terminal::new();
        let before = terminal.stty(&["-a"]);
        let live = test.start_with(caller, terminal.streams()).unwrap();
        terminal.wait_for("not a tty");
        terminal.type_in("a line\n");
        terminal.wait_for("got a line");
        assert_eq!(live.finish().status, 6);
        terminal.wait_for("/dev/tty: No such device or address");
        assert!(!terminal.text.contains("is a terminal"), "{}", terminal.text);
        assert_eq!(terminal.stty(&["-a"]), before);
    }
}

#[test]
fn with_t_the_job_has_a_terminal_of_its_own() {
    let script = "tty; stat -c %u:%a $(tty); stty size; ls -m /dev/pts; : < $(tty) && read line; echo got $line; exit 6";
    let test = Test::sh(script).args(&["-t"]);
    for caller in callers(None) {
        let mut terminal = Terminal::new();
        let before = terminal.stty(&["-a"]);
        let live = test.start_with(caller, terminal.streams()).unwrap();
        terminal.wait_for("/dev/pts/0\r\n65532:620\r\n33 77\r\n0, ptmx\r\n");
        // The caller's is raw meanwhile: the job's does the echo.
        assert!(terminal.stty(&["-a"]).contains("-icanon"));
        terminal.type_in("a line\r");
        terminal.wait_for("a line\r\ngot a line\r\n");
        assert_eq!(live.finish().status, 6);
        assert_eq!(terminal.stty(&["-a"]), before);
    }
}

#[test]
fn with_t_keys_and_sizes_reach_the_job() {
    let script = "trap 'echo interrupted' INT; trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; [ -e /out/end ] && exit 5; done";
    let test = Test::sh(script)
        .args(&["-t"])
        .with("mounts.\"/out\" = { bind = \"out\", access = \"ro\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap());
    for caller in callers(None) {
        let mut terminal = Terminal::new();
        let live = test.start_with(caller, terminal.streams()).unwrap();
        terminal.wait_for("ready");
        terminal.type_in("\x03");
        terminal.wait_for("interrupted");
        terminal.stty(&["rows", "21", "cols", "99"]);
        live.signal(Signal::SIGWINCH);
        terminal.wait_for("21 99");
        fs::write(live.folder().join("out/end"), "").unwrap();
        assert_eq!(live.finish().status, 5, "{}", terminal.text);
    }
}

/// `-t` in a pipeline: the streams are no terminals, the job's is one all the same.
#[test]
fn with_t_the_streams_need_not_be_terminals() {
    Test::sh("tty; cat; echo $?")
        .args(&["-t"])
        .stdin("typed\n\x04")
        .stdout("/dev/pts/0\r\ntyped\r\ntyped\r\n0\r\n")
        .any_stdout()
        .each(|ran| {
            let text = ran.stdout.replace("^D\u{8}\u{8}", "");
            assert!(
                text.contains("/dev/pts/0\r\n") && text.ends_with("typed\r\n0\r\n"),
                "{text:?}"
            );
        });
}

#[test]
fn a_hang_up_of_the_terminal_ends_the_job() {
    let test = Test::sh("echo ready; exec sleep 1000").args(&["-t"]);
    for caller in callers(None) {
        let mut terminal = Terminal::new();
        let live: Live = test.start_with(caller, terminal.streams()).unwrap();
        terminal.wait_for("ready");
        live.signal(Signal::SIGHUP);
        assert_eq!(live.finish().status, 128 + 1);
    }
}

/// The launcher must not spin or grow while nobody reads.
#[test]
fn a_slow_reader_gets_everything() {
    let test = Test::sh("head -c 1000000 /dev/zero | tr '\\0' a").with("limits.output = \"1GiB\"");
    for caller in callers(None) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let live = test
            .start_with(caller, [Stdio::null(), writer.into(), Stdio::null()])
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        assert_eq!(live.finish().status, 0);
        assert_eq!(reading.join().unwrap(), 1_000_000);
    }
}
