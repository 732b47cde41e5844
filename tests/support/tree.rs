//! The processes of a run, by the part that they play, as `/proc` has them.

use std::collections::BTreeMap;
use std::fs;

/// What a process of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The process that the user started.
    Guard,
    /// Its child, which runs the cases.
    Engine,
    /// Waits beside them for the case that both are killed.
    Cleaner,
    /// Stands above a program that the engine started.
    Keeper,
    /// What a host takes for its plugin.
    ShimFront,
    /// The plugin's parent.
    ShimKeeper,
    /// A plugin, a driver, or what these started.
    Program,
}

/// The processes below `guard` and itself, with their parts.
pub(crate) fn parts(guard: i32) -> Vec<(i32, Part)> {
    let children = children_of_all();
    let mut found = vec![(guard, Part::Guard)];
    let mut at = 0;
    while let Some((pid, part)) = found.get(at).copied() {
        at += 1;
        let below = children.get(&pid).into_iter().flatten();
        found.extend(below.map(|child| (*child, part_of(*child, part))));
    }
    found
}

fn part_of(pid: i32, parent: Part) -> Part {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    match comm.trim_end() {
        "soupscen-keep" => Part::Keeper,
        "soupscen-clean" => Part::Cleaner,
        _ if parent == Part::Guard => Part::Engine,
        "soupscen-shim" => Part::ShimKeeper,
        _ if words.split(|byte| *byte == 0).nth(1) == Some(b"__shim") => Part::ShimFront,
        _ => Part::Program,
    }
}

/// Parent → children that run, of the whole machine at one moment.
pub(crate) fn children_of_all() -> BTreeMap<i32, Vec<i32>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name may hold anything: what follows its last parenthesis counts.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let runs = fields.next().is_some_and(|state| !matches!(state, "Z" | "X"));
        if let Some(Ok(parent)) = fields.next().map(str::parse::<i32>)
            && runs
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}
