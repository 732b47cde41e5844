//! Whoever reads what is printed may go away (`| head`): a stream that waits is to end then.

use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

/// Resolves when nobody reads standard output any more; never where that cannot happen. The thread
/// that waits for it ends with the process.
pub(super) async fn gone() {
    let (told, gone) = oneshot::channel::<()>();
    let watch = move || {
        let out = std::io::stdout();
        loop {
            // No events asked for: only "the reader is gone" (POLLERR) wakes this.
            let mut ready = [PollFd::new(out.as_fd(), PollFlags::empty())];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) if ready[0].revents().is_some_and(|r| r.contains(PollFlags::POLLERR)) => break,
                Ok(_) | Err(Errno::EINTR) => {
                    // A terminal that was hung up says so again and again; it has a signal of its own.
                    if ready[0].revents().is_some_and(|r| !r.is_empty()) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        let _ = told.send(());
    };
    let started = std::thread::Builder::new().name("reader-watch".into()).spawn(watch);
    if started.is_err() || gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}
