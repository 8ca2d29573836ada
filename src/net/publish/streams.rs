//! Connections by TCP: each is made again inside, and passed on both ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::porter::{Inside, PIECE, start};

/// How long a job may take to accept a connection.
const ACCEPT: Duration = Duration::from_secs(10);

/// How long to wait before the next look for a free place, or after a connection that could not be had.
const MOMENT: Duration = Duration::from_millis(10);

/// Leads all that call at `socket` to the port `to` inside.
pub(super) fn serve(socket: &TcpListener, to: u16, inside: &Inside) {
    loop {
        let Ok((caller, _)) = socket.accept() else {
            // ECONNABORTED and a limit of files pass.
            thread::sleep(MOMENT);
            continue;
        };
        let place = loop {
            match inside.connection() {
                Some(place) => break place,
                None => thread::sleep(MOMENT),
            }
        };
        let job = inside.sockets(to);
        let started = start(move || {
            pass_connection(caller, &job);
            drop(place);
        });
        // Without a thread, at a limit of processes, the connection has ended.
        drop(started);
    }
}

/// Connects inside, and passes on both ways until both are at their end. A job that does not listen is an end at once.
fn pass_connection(caller: TcpStream, job: &[SocketAddr]) {
    let connect = |address: &SocketAddr| TcpStream::connect_timeout(address, ACCEPT).ok();
    let Some(job) = job.iter().find_map(connect) else {
        return;
    };
    caller.set_nodelay(true).and_then(|()| job.set_nodelay(true)).ok();
    let (caller, job) = (Arc::new(caller), Arc::new(job));
    let (from, to) = (Arc::clone(&caller), Arc::clone(&job));
    let Ok(inwards) = start(move || pass(&from, &to)) else {
        return;
    };
    pass(&job, &caller);
    inwards.join().ok();
}

/// Passes on one way; its end is passed on as well.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if to.write_all(&piece[..length]).is_err() {
                    // Nobody reads it any more, so nobody need write it.
                    from.shutdown(Shutdown::Read).ok();
                    break;
                }
            }
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
