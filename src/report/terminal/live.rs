//! Live progress on standard error: builds with their last line, the cases that run longest with
//! their age, and one bar with the counts. A thread of its own redraws it five times a second, so
//! that the dispatcher only ever takes a short lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::text::{one_line, span};
use super::paint::Paint;
use super::screen::{self, Screen};
use crate::outcome::Verdict;

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(200);
/// So many running cases are shown.
const RUNNING_SHOWN: usize = 4;
/// A case is shown once it has run for so long; shorter ones would only flicker.
const WORTH_SHOWING: Duration = Duration::from_secs(1);

/// The line with the counts, and what it is in a narrow terminal.
const MAIN: &str = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}";
const MAIN_NARROW: &str = "{elapsed_precise} {pos}/{len} {msg}";
/// Columns from which there is room for the bar.
const NARROW: usize = 70;

/// The progress on a terminal; gone when dropped.
#[derive(Debug)]
pub(super) struct Live {
    multi: MultiProgress,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    all: u64,
    finished: u64,
    counts: BTreeMap<Verdict, u64>,
    running: HashMap<u64, (String, Instant)>,
    builds: BTreeMap<String, (String, Instant)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    pub(super) fn new() -> Self {
        Self::on(ProgressDrawTarget::term_like(Box::new(Screen::default())))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        let shared = Arc::new(Shared::default());
        let mut board = Board::new(multi.clone());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            let mut state = for_thread.lock();
            while !state.ended {
                state = for_thread.wake.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
                let view = View::of(&state, Instant::now());
                drop(state);
                board.show(&view);
                state = for_thread.lock();
            }
            drop(state);
            board.clear();
        });
        Self { multi, shared, thread: thread.ok() }
    }

    /// Prints while the bars are out of the way.
    pub(super) fn above(&self, print: impl FnOnce()) {
        self.multi.suspend(print);
    }

    pub(super) fn started(&self, all: u64) {
        self.shared.lock().all = all;
    }

    pub(super) fn build_started(&self, peer: &str, command: &str) {
        self.shared.lock().builds.insert(peer.to_owned(), (one_line(command, 200), Instant::now()));
    }

    pub(super) fn build_output(&self, peer: &str, line: &str) {
        if let Some((last, _)) = self.shared.lock().builds.get_mut(peer) {
            *last = one_line(line, 200);
        }
    }

    pub(super) fn build_finished(&self, peer: &str) {
        self.shared.lock().builds.remove(peer);
    }

    pub(super) fn case_started(&self, index: u64, id: &str) {
        let id = id.chars().take(200).collect();
        self.shared.lock().running.insert(index, (id, Instant::now()));
    }

    pub(super) fn case_finished(&self, index: u64, verdict: Verdict) {
        let mut state = self.shared.lock();
        state.running.remove(&index);
        state.finished += 1;
        *state.counts.entry(verdict).or_default() += 1;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is to be seen at one moment.
#[derive(Debug, PartialEq, Eq)]
struct View {
    builds: Vec<String>,
    running: Vec<String>,
    counts: String,
    finished: u64,
    all: u64,
}

impl View {
    fn of(state: &State, now: Instant) -> Self {
        // Whole seconds: anything finer would flicker.
        let age = |since: &Instant| match now.duration_since(*since).as_secs() {
            seconds @ 0..60 => format!("{seconds} s"),
            seconds => span(Duration::from_secs(seconds)),
        };
        let build = |(peer, (line, since)): (&String, &(String, Instant))| {
            format!("building {} ({}): {line}", one_line(peer, 40), age(since))
        };
        let mut running: Vec<&(String, Instant)> = state.running.values().collect();
        running.retain(|(_, since)| now.duration_since(*since) >= WORTH_SHOWING);
        running.sort_by_key(|(_, since)| *since);
        let more = running.len().saturating_sub(RUNNING_SHOWN);
        let mut lines: Vec<String> = running
            .iter()
            .take(RUNNING_SHOWN)
            .map(|(id, since)| format!("  {:>8}  {}", age(since), one_line(id, 200)))
            .collect();
        if more > 0 {
            lines.push(format!("            and {more} more"));
        }
        let (counts, going) = (Paint { color: false }.counts(&state.counts), state.running.len());
        Self {
            builds: state.builds.iter().map(build).collect(),
            running: lines,
            counts: format!("{counts}; {going} running"),
            finished: state.finished,
            all: state.all,
        }
    }
}

/// The bars; touched by the progress thread only.
struct Board {
    multi: MultiProgress,
    main: ProgressBar,
    builds: Vec<ProgressBar>,
    running: Vec<ProgressBar>,
}

impl Board {
    fn new(multi: MultiProgress) -> Self {
        Self { multi, main: ProgressBar::hidden(), builds: Vec::new(), running: Vec::new() }
    }

    fn show(&mut self, view: &View) {
        let width = usize::from(screen::columns());
        let (template, taken) = if width < NARROW { (MAIN_NARROW, 10) } else { (MAIN, 43) };
        if view.all > 0 && self.main.is_hidden() && !self.multi.is_hidden() && self.main.length().is_none() {
            self.main = self.multi.add(ProgressBar::new(view.all));
        }
        self.main.set_style(style(template));
        self.main.set_position(view.finished);
        let numbers = 1 + view.finished.to_string().len() + view.all.to_string().len();
        fit(&self.multi, &mut self.builds, 0, &view.builds, "{spinner} {msg}", width.saturating_sub(2));
        let below = self.builds.len();
        fit(&self.multi, &mut self.running, below, &view.running, "{msg}", width);
        self.main.set_message(cut(&view.counts, width.saturating_sub(taken + numbers)));
        self.main.tick();
    }

    fn clear(&mut self) {
        for bar in self.builds.drain(..).chain(self.running.drain(..)) {
            bar.finish_and_clear();
        }
        self.main.finish_and_clear();
        let _ = self.multi.clear();
    }
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// As many bars as lines, beginning at `place`, each with its line of at most `width` columns.
fn fit(
    multi: &MultiProgress,
    bars: &mut Vec<ProgressBar>,
    place: usize,
    lines: &[String],
    template: &str,
    width: usize,
) {
    while bars.len() > lines.len() {
        if let Some(bar) = bars.pop() {
            bar.finish_and_clear();
            multi.remove(&bar);
        }
    }
    while bars.len() < lines.len() {
        let bar = ProgressBar::new_spinner().with_style(style(template));
        bars.push(multi.insert(place + bars.len(), bar));
    }
    for (bar, line) in bars.iter().zip(lines) {
        bar.set_message(cut(line, width));
        bar.tick();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use indicatif::TermLike;

    use super::*;

    /// A screen: its lines, and the row of the cursor.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<(Vec<String>, usize)>>);

    impl Paper {
        fn contents(&self) -> String {
            self.0.lock().unwrap().0.join("\n").trim().to_owned()
        }
        fn row(&self, change: impl FnOnce(&mut Vec<String>, &mut usize)) -> io::Result<()> {
            let mut screen = self.0.lock().unwrap();
            let (lines, row) = &mut *screen;
            change(lines, row);
            let rows = (*row + 1).max(lines.len());
            lines.resize(rows, String::new());
            Ok(())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.row(|_, row| *row = row.saturating_sub(n))
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.row(|_, row| *row += n)
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.move_cursor_down(1)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.row(|_, _| ())?;
            self.row(|lines, row| lines[*row].push_str(text))
        }
        fn clear_line(&self) -> io::Result<()> {
            self.row(|_, _| ())?;
            self.row(|lines, row| lines[*row].clear())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_longest_running_cases_are_seen_with_their_age() {
        let now = Instant::now();
        let since = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let mut state = State { all: 9, finished: 2, ..State::default() };
        for (index, seconds) in [(0, 0), (1, 65), (2, 3), (3, 2), (4, 9), (5, 4)] {
            state.running.insert(index, (format!("kv/{index}"), since(seconds)));
        }
        state.counts.insert(Verdict::Failed, 2);
        state.builds.insert("go".into(), ("compiling".into(), since(7)));
        let view = View::of(&state, now);
        assert_eq!(view.builds, ["building go (7 s): compiling"]);
        assert_eq!(view.running[0].trim(), "1 min 05 s  kv/1");
        assert_eq!(view.running.len(), RUNNING_SHOWN + 1);
        assert_eq!(view.running[4].trim(), "and 1 more");
        assert_eq!(view.counts, "2 failed; 6 running");
    }

    #[test]
    fn nothing_is_left_on_the_terminal_but_what_was_printed() {
        let term = Paper::default();
        let live = Live::on(ProgressDrawTarget::term_like(Box::new(term.clone())));
        live.started(2);
        live.build_started("go", "go build");
        live.build_output("go", "one\u{1b}[2Jtwo");
        live.case_started(0, "kv/a");
        live.build_finished("go");
        live.case_finished(0, Verdict::Passed);
        let mut printed = false;
        live.above(|| printed = true);
        drop(live);
        assert!(printed);
        assert_eq!(term.contents().trim(), "");
    }

    #[test]
    fn builds_running_cases_and_the_bar_come_and_go() {
        let term = Paper::default();
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255));
        let mut board = Board::new(multi);
        let view = |builds: &[&str], running: &[&str]| View {
            builds: builds.iter().map(ToString::to_string).collect(),
            running: running.iter().map(ToString::to_string).collect(),
            counts: "1 passed; 1 running".into(),
            finished: 1,
            all: 2,
        };
        board.show(&view(&["building go"], &["kv/slow one", "kv/other"]));
        board.main.force_draw();
        let shown = term.contents();
        let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text} in {shown}"));
        assert!(at("building go") < at("kv/slow one") && at("kv/other") < at("1/2 1 passed; 1 running"), "{shown}");
        board.show(&view(&[], &["kv/other"]));
        board.main.force_draw();
        let shown = term.contents();
        assert!(!shown.contains("building") && !shown.contains("slow") && shown.contains("kv/other"), "{shown}");
        board.clear();
        assert_eq!(term.contents(), "");
    }
}
