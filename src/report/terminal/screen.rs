//! Standard error as the bars see it: a terminal that is a little narrower than it is.
//!
//! The bars leave the cursor at the end of their last line, so that what is printed next begins a new
//! one. A terminal echoes Ctrl-C as `^C` right there: in the last columns that goes on in the next
//! row, unknown to the bars, whose first line then stays on the screen when they are drawn again.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// Columns that are left free: what a terminal echoes of two Ctrl-C.
const ECHO: u16 = 4;
/// Columns and rows where nobody tells.
const UNTOLD: (u16, u16) = (80, 24);

/// Standard error. Goes on in the next row at the end of its columns, as a terminal does: the bars
/// write no line feeds and rely on it.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What goes out in one piece, so that nothing flickers.
    pending: String,
    column: usize,
}

impl Screen {
    fn put(&self, text: &str, columns: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for c in text.chars() {
            if matches!(c, '\r' | '\n') {
                state.column = 0;
            } else {
                if state.column >= columns {
                    state.pending.push_str("\r\n");
                    state.column = 0;
                }
                state.column += 1;
            }
            state.pending.push(c);
        }
    }

    fn control(&self, sequence: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pending.push_str(sequence);
    }

    /// Moves the cursor: an `n` of 0 would be read as 1.
    fn go(&self, n: usize, way: char) {
        if n > 0 {
            self.control(&format!("\x1b[{n}{way}"));
        }
    }
}

/// Columns that bars may have.
pub(super) fn columns() -> u16 {
    size().0.saturating_sub(ECHO).max(1)
}

fn size() -> (u16, u16) {
    terminal_size::terminal_size_of(io::stderr()).map_or(UNTOLD, |(width, height)| (width.0, height.0))
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        columns()
    }

    fn height(&self) -> u16 {
        size().1
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A');
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B');
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C');
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D');
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(text, usize::from(columns()));
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r")?;
        self.control("\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).pending);
        let mut out = io::stderr().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_a_terminal_echoes() {
        let screen = Screen::default();
        assert!(screen.width() + ECHO <= size().0.max(ECHO + 1));
    }

    #[test]
    fn a_row_that_is_full_goes_on_in_the_next() {
        let screen = Screen::default();
        screen.move_cursor_up(0).unwrap();
        screen.move_cursor_up(2).unwrap();
        screen.clear_line().unwrap();
        for text in ["abc", " ", "defg", "hi", "\r", "j"] {
            screen.put(text, 4);
        }
        assert_eq!(screen.state.lock().unwrap().pending, "\x1b[2A\r\x1b[2Kabc \r\ndefg\r\nhi\rj");
    }
}
