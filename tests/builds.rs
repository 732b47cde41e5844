//! Builds as a user meets them: what becomes of one when the run is interrupted, and what is said of
//! one that cannot be.

#[path = "support/run.rs"]
mod run;

use nix::sys::signal::Signal::SIGINT;
use run::{Going, Place, eventually};

/// A scenario whose only pair needs a build. It is named without a folder, as one is that lies in
/// the working directory: commands have to start there.
fn scenario(place: &Place, build: &str) {
    place.write(
        "build.yaml",
        &format!(
            "soupscen: 1\nname: build\npeers:\n  rust: {{ builtin: {{}} }}\n  built:\n    build: {build}\n    \
             server: {{ plugin: {{ run: [\"{{{{ output }}}}/plugin\"] }}, provides: [launch.plugin, service.kv] }}\n\
             matrix:\n  axes: {{ client: [rust], server: [built], launch: [plugin] }}\n{}",
            run::PUT_GET
        ),
    );
}

fn soupscen(place: &Place) -> std::process::Command {
    let mut command = place.soupscen();
    command.args(["run", "build.yaml"]).env("SOUPSCEN_CACHE", place.at("cache"));
    command
}

#[test]
fn an_interrupted_run_does_not_wait_for_its_builds() {
    let place = Place::new();
    // Longer than a run may take before the test calls it hanging.
    scenario(&place, "{ run: [sh, -c, 'touch started; exec sleep 1000'] }");
    let going = Going::start(soupscen(&place));
    eventually("the build has started in the scenario's folder", || place.at("started").exists());
    going.signal_group(SIGINT);
    going.end().exits(130).says("INTERRUPTED");
    eventually("nothing of the build is left", || place.processes().is_empty());
}

#[test]
fn a_failed_build_shows_its_last_lines_and_a_missing_tool_how_to_get_it() {
    let place = Place::new();
    scenario(&place, "{ run: [sh, -c, 'echo compiling; echo \"main.c:1: no\" >&2; exit 7'] }");
    run::ran(soupscen(&place)).exits(3).says("ended with status 7").says("main.c:1: no");
    scenario(&place, "{ run: [frobnicate, all], tools: { frobnicate: { install: cargo install frobnicate } } }");
    run::ran(soupscen(&place))
        .exits(3)
        .says("needs `frobnicate` for `frobnicate all`")
        .says("to get it: cargo install frobnicate");
}
