//! Plugins that are wrong on purpose, one switch each (`soupscen serve kv --as-broken SWITCH`): what
//! the scenarios in `scenarios/negative/` run. One table for each place where a plugin can be wrong:
//!
//! | module | what it spoils |
//! |---|---|
//! | [`handshake`] | start, handshake line, and what the plugin was asked for |
//! | [`habit`] | the process: signals, output, children, how it ends |
//! | [`wire`] | the socket: a script of bytes and frames instead of a server |
//! | [`answer`] | the answers to calls, by a sound HTTP/2 server |
//!
//! A new one is one line in a table, a line in `scenarios/negative/saboteurs.yaml`, and the cause that
//! it must have in `tests/saboteurs.rs`.

pub mod answer;
pub mod habit;
pub mod handshake;
pub mod wire;

pub use handshake::{Defect, LATE};

use answer::Answer;
use habit::Habit;
use wire::Script;

/// What a plugin does wrong.
#[derive(Debug, Clone, Copy)]
pub enum Saboteur {
    /// Its handshake.
    Handshake(Defect),
    /// Its process.
    Habit(Habit),
    /// Its socket.
    Wire(&'static Script),
    /// Its answers.
    Answer(&'static Answer),
}

impl Saboteur {
    /// The one of a switch.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let handshake = || Defect::from_name(name).map(Self::Handshake);
        let habit = || Habit::from_name(name).map(Self::Habit);
        let wire = || wire::TABLE.iter().find(|script| script.name == name).map(Self::Wire);
        let answer = || answer::TABLE.iter().find(|answer| answer.name == name).map(Self::Answer);
        handshake().or_else(habit).or_else(wire).or_else(answer)
    }

    /// The switches of all, with what they do.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        let handshake = Defect::TABLE.iter().map(|(_, name, what)| (*name, *what));
        let habits = Habit::TABLE.iter().map(|(_, name, what)| (*name, *what));
        let scripts = wire::TABLE.iter().map(|script| (script.name, script.what));
        let answers = answer::TABLE.iter().map(|answer| (answer.name, answer.what));
        handshake.chain(habits).chain(scripts).chain(answers)
    }

    pub(super) fn defect(self) -> Option<Defect> {
        if let Self::Handshake(defect) = self { Some(defect) } else { None }
    }

    pub(super) fn habit(self) -> Option<Habit> {
        if let Self::Habit(habit) = self { Some(habit) } else { None }
    }

    pub(super) fn script(self) -> Option<&'static Script> {
        if let Self::Wire(script) = self { Some(script) } else { None }
    }

    pub(super) fn answer(self) -> Option<&'static Answer> {
        if let Self::Answer(answer) = self { Some(answer) } else { None }
    }
}

/// The tables as help text.
#[must_use]
pub fn help() -> String {
    Saboteur::all().map(|(name, what)| format!("{name}: {what}")).collect::<Vec<_>>().join("\n")
}

/// Switches with what they do, as an enum with a table.
macro_rules! switches {
    ($(#[$about:meta])* $type:ident { $($variant:ident $name:literal $what:literal;)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $(#[doc = $what] $variant,)+
        }

        impl $type {
            /// All of them, with the names of their switches and what they do.
            pub const TABLE: &'static [(Self, &'static str, &'static str)] = &[$((Self::$variant, $name, $what)),+];

            /// The one of a switch.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::TABLE.iter().find(|(_, known, _)| *known == name).map(|(it, _, _)| *it)
            }
        }
    };
}
use switches;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_means_one_thing() {
        let mut names: Vec<_> = Saboteur::all().map(|(name, _)| name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.iter().all(|name| Saboteur::from_name(name).is_some()));
    }
}
