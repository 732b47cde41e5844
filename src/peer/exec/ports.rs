//! Free ports, and whose they are once a server should have taken one.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, TcpListener};

/// A port that nobody listens on, at this moment.
pub(super) fn free() -> std::io::Result<u16> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr().map(|address| address.port())
}

/// Whether somebody listens on it.
pub(super) fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_err()
}

/// Whether somebody else than `pid` and its descendants listens on it, as far as /proc tells. What a
/// process has open that gave up its rights, or took others, cannot be seen: nobody is to blame then.
pub(super) fn is_others(port: u16, pid: i32) -> bool {
    let listening = listeners(port);
    if listening.is_empty() {
        return false;
    }
    let listens = |pid: i32| sockets(pid).any(|inode| listening.contains(&inode));
    let own = tree(pid);
    !own.iter().any(|pid| listens(*pid)) && processes().any(|pid| !own.contains(&pid) && listens(pid))
}

/// The keeper of a program that is still there: orphans of the program come to it.
pub(super) fn keeper(pid: i32) -> Option<i32> {
    let parent = parent(pid)?;
    let own = i32::try_from(std::process::id()).ok();
    (parent > 1 && Some(parent) != own).then_some(parent)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its last parenthesis is state and parent.
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
}

/// Inodes of the sockets that listen on a port (proc(5), `/proc/net/tcp`: state 0A).
fn listeners(port: u16) -> HashSet<String> {
    let mut found = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let (Some(local), Some(&"0A"), Some(inode)) = (words.get(1), words.get(3), words.get(9)) else { continue };
            let own = local.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
            if own == Some(port) {
                found.insert((*inode).to_owned());
            }
        }
    }
    found
}

/// Whether `pid` or a descendant of it is seen to listen on it; neither is one that has gone already.
pub(super) fn is_own(port: u16, pid: i32) -> bool {
    let listening = listeners(port);
    tree(pid).into_iter().any(|pid| sockets(pid).any(|inode| listening.contains(&inode)))
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
}

/// A process with all that came from it and still has its parents.
fn tree(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in processes() {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        all.extend(children.remove(&pid).unwrap_or_default());
        at += 1;
    }
    all
}

/// Inodes of the sockets that a process has open.
fn sockets(pid: i32) -> impl Iterator<Item = String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let inode = target.to_string_lossy().strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
        Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_its_owners_and_nobody_elses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_taken(port));
        assert!(!is_others(port, own));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(is_others(port, i32::try_from(child.id()).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(listener);
        assert!(!is_taken(port));
        assert!(!is_others(port, own), "who does not listen has not been robbed");
    }

    /// As with the socket of a process that may not be looked into, nobody is seen to have this one:
    /// it is on its way through another.
    #[test]
    fn a_listener_that_nobody_is_seen_to_have_is_no_strangers() {
        let hides = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]; \
                     a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [s.fileno()]); s.close(); \
                     print(port, flush=True); sys.stdin.read()";
        let mut command = std::process::Command::new("python3");
        let piped = std::process::Stdio::piped;
        let started = command.args(["-c", hides]).stdin(piped()).stdout(piped()).spawn();
        // Tests need Rust alone; where peers are required, Python is one.
        let Ok(mut child) = started else {
            assert!(std::env::var_os("SOUPSCEN_REQUIRE_PEERS").is_none(), "python3 is missing");
            return;
        };
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let port = line.trim().parse().unwrap();
        assert!(is_taken(port));
        assert!(!is_others(port, i32::try_from(child.id()).unwrap()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
