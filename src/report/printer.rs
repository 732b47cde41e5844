//! The only door for what people read: reporters share it, tests look behind it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// A place to print to; clones share it. A reader that goes away (`| head`) is no failure of a
/// run: what cannot be printed is dropped. Any other failure is (a full disk), see [`Printer::failure`].
#[derive(Clone)]
pub(super) struct Printer(Arc<Mutex<Out>>);

struct Out {
    to: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Printer {
    /// Prints to standard output.
    pub(super) fn stdout() -> Self {
        Self::to(Box::new(io::stdout()))
    }

    /// Prints to standard error.
    pub(super) fn stderr() -> Self {
        Self::to(Box::new(io::stderr()))
    }

    /// Prints to `out`.
    pub(super) fn to(out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(Out { to: out, failed: None })))
    }

    /// Prints a text, as it is.
    pub(super) fn print(&self, text: &str) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = out.to.write_all(text.as_bytes()).and_then(|()| out.to.flush());
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            out.failed.get_or_insert(error);
        }
    }

    /// Why something could not be printed, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failed.take()
    }
}

impl Default for Printer {
    fn default() -> Self {
        Self::stdout()
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Printer")
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// What was printed.
    #[derive(Clone, Default)]
    pub(in crate::report) struct Shown(Arc<Mutex<Vec<u8>>>);

    impl Shown {
        pub(in crate::report) fn printer(&self) -> Printer {
            Printer::to(Box::new(self.clone()))
        }
        pub(in crate::report) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
