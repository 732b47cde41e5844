//! Whatever ends a run, nothing of it stays: no process (also not one that hid itself), no socket,
//! no folder, no private key. And peers that flood or never read stall nothing.

#[path = "support/run.rs"]
mod run;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGTERM};
use run::{Going, Place, SOUPSCEN, eventually, text};

/// A plugin that first starts a process without environment, in a session of its own, forked twice.
/// It can be found by its arguments all the same.
const STRAY: &str = r#"env -i setsid /bin/sh -c '/bin/sh -c "echo \$\$ > PLACE/part; mv PLACE/part PLACE/stray; exec tail -f PLACE/mark" >/dev/null 2>&1 </dev/null &' >/dev/null 2>&1
while [ ! -e PLACE/stray ]; do sleep 0.01; done
"#;

/// Serves as a good plugin does.
const SERVES: &str = "exec SOUPSCEN serve kv --storage \"$KV_STORAGE_DIR\" \"$@\"\n";

/// Serves, and does not end when its host asks it to.
const NEVER_ENDS: &str = "SOUPSCEN serve kv &\ntrap '' TERM INT\ntail -f PLACE/mark\n";

/// A case that goes on until somebody ends it.
const HOLDS: &str = "
scripts:
  holds:
    ops:
      - put: { key: k, value: v }
      - stdio: { within: 100s }
        expect: { stdout: never }
";

const PUTS: &str = "
scripts:
  puts:
    ops:
      - put: { key: k, value: v }
";

/// Writes a scenario whose server is the shell script `plugin`.
fn scenario(place: &Place, plugin: &str, scripts: &str, axes: &str) {
    let at = place.path().to_str().unwrap();
    place.write("mark", "");
    place.write("plugin.sh", &plugin.replace("PLACE", at).replace("SOUPSCEN", SOUPSCEN));
    place.write(
        "tree.yaml",
        &format!(
            "soupscen: 1
name: tree
timeouts: {{ case: 110s, start: 100s, op: 100s, grace: 100s }}
peers:
  rust: {{ builtin: {{}} }}
  tree:
    server:
      plugin: {{ run: [/bin/sh, {at}/plugin.sh], env: {{ KV_STORAGE_DIR: '{{{{ storage }}}}', CERT: '{{{{ tls.cert }}}}', KEY: '{{{{ tls.key }}}}', CA: '{{{{ tls.ca }}}}' }} }}
      provides: [service.kv, launch.plugin, transport.unix, tls.none, tls.auto, tls.mutual]
matrix:
  axes: {{ client: [rust], server: [tree], launch: [plugin], {axes} }}
{scripts}"
        ),
    );
}

/// Starts a run that holds, and waits until its plugin serves.
fn holding(place: &Place) -> Going {
    let mut command = place.soupscen();
    command.args(["run", "tree.yaml", "--json", "results.json", "--junit", "junit.xml"]);
    let going = Going::start(command);
    eventually("the stray lives", || place.at("stray").exists());
    eventually("the plugin serves", || sockets(place) > 0);
    // What is looked for afterwards can be found as long as it is there.
    let found = place.processes();
    let stray: i32 = place.read("stray").trim().parse().unwrap();
    assert!(found.contains_key(&stray) && found.contains_key(&going.pid()), "{found:#?}");
    assert!(!place.tmp_is_empty());
    going
}

fn sockets(place: &Place) -> usize {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = |path: &&std::path::PathBuf| {
        let below_a_case = path.parent().is_some_and(|p| p.parent() != Some(&place.at("tmp")));
        below_a_case && path.symlink_metadata().is_ok_and(|m| m.file_type().is_socket())
    };
    place.files("tmp").iter().filter(is_socket).count()
}

/// Nothing of the run is left.
#[track_caller]
fn nothing_is_left(place: &Place) {
    let left = place.processes();
    assert!(left.is_empty(), "{left:#?}");
    assert!(place.tmp_is_empty(), "{:#?}", place.files("tmp"));
}

fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[test]
fn the_end_of_a_run_ends_what_hid_itself() {
    let place = Place::new();
    scenario(&place, &format!("{STRAY}{SERVES}"), PUTS, "tls: [auto]");
    let (ran, results) = place.results("tree.yaml", &[]);
    assert_eq!(results.counts().get("passed"), Some(&1), "{ran}");
    assert!(place.at("stray").exists());
    nothing_is_left(&place);
}

#[test]
fn the_end_of_a_case_ends_its_tree_while_the_run_goes_on() {
    let place = Place::new();
    // The second case, alone on its server, passes only if nothing of the first one lives.
    let plugin = format!(
        "if [ -e PLACE/stray ]; then
  n=0
  while kill -0 $(cat PLACE/stray) 2>/dev/null; do n=$((n+1)); [ $n -gt 500 ] && exit 9; sleep 0.01; done
fi
{STRAY}{SERVES}"
    );
    let scripts = "
scripts:
  one: { isolation: case, ops: [ { put: { key: k, value: v } } ] }
  two: { isolation: case, ops: [ { put: { key: k, value: v } } ] }
";
    scenario(&place, &plugin, scripts, "tls: [auto]");
    let (ran, results) = place.results("tree.yaml", &["--jobs", "1"]);
    assert_eq!(results.counts().get("passed"), Some(&2), "{ran}");
    nothing_is_left(&place);
}

#[test]
fn ctrl_c_ends_in_order_with_reports() {
    let place = Place::new();
    scenario(&place, &format!("{STRAY}{SERVES}"), HOLDS, "tls: [auto]");
    let going = holding(&place);
    going.signal_group(SIGINT);
    let ran = going.end().exits(130);
    assert!(place.read("junit.xml").ends_with("</testsuites>\n"), "{ran}");
    let results = run::Results::read(&place.at("results.json")).unwrap();
    assert_eq!(results.0["summary"]["interrupted"], true);
    ran.says("--resume");
    nothing_is_left(&place);
}

#[test]
fn sigterm_of_the_first_process_ends_in_order() {
    let place = Place::new();
    scenario(&place, &format!("{STRAY}{SERVES}"), HOLDS, "tls: [auto]");
    let going = holding(&place);
    going.signal(SIGTERM);
    going.end().exits(130);
    assert!(place.at("results.json").exists());
    nothing_is_left(&place);
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let place = Place::new();
    // Its grace is longer than this test waits.
    scenario(&place, &format!("{STRAY}{NEVER_ENDS}"), HOLDS, "tls: [auto]");
    let mut going = holding(&place);
    going.signal_group(SIGINT);
    // The first one has arrived when nothing new is admitted; there is no sign of it, so ask again.
    eventually("it ends", || {
        if going.is_running() {
            going.signal_group(SIGINT);
        }
        !going.is_running()
    });
    going.end().exits(130);
    nothing_is_left(&place);
}

/// Kills one of the two first processes of a run.
fn killed(which: impl Fn(i32) -> i32) {
    let place = Place::new();
    scenario(&place, &format!("{STRAY}{NEVER_ENDS}"), HOLDS, "tls: [auto]");
    let going = holding(&place);
    let pid = which(going.pid());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGKILL).unwrap();
    let ran = going.end();
    assert!(!ran.status.success(), "{ran}");
    eventually("all processes are gone", || place.processes().is_empty());
    nothing_is_left(&place);
}

#[test]
fn killing_the_engine_leaves_nothing() {
    killed(|guard| {
        let engine = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "soupscen-clean\n";
        children(guard).into_iter().find(engine).unwrap()
    });
}

#[test]
fn killing_the_guard_leaves_nothing() {
    killed(|guard| guard);
}

#[test]
fn private_keys_are_the_owners_and_gone_at_the_end() {
    let place = Place::new();
    let serves = "exec SOUPSCEN serve kv --tls mutual --cert \"$CERT\" --key \"$KEY\" --ca \"$CA\"\n";
    scenario(&place, &format!("{STRAY}{serves}"), HOLDS, "tls: [mutual]");
    let going = holding(&place);
    let keys: Vec<_> = place.files("tmp").into_iter().filter(|path| is_private_key(path)).collect();
    assert!(keys.len() >= 2, "{:#?}", place.files("tmp"));
    for key in keys {
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&key), 0o600, "{}", key.display());
        let top = place.at("tmp").join(key.strip_prefix(place.at("tmp")).unwrap().components().next().unwrap());
        assert_eq!(mode(&top), 0o700, "{}", top.display());
    }
    going.signal_group(SIGINT);
    going.end().exits(130);
    nothing_is_left(&place);
    let kept: Vec<_> = place.files("home").into_iter().filter(|path| is_private_key(path)).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

fn is_private_key(path: &Path) -> bool {
    let regular = path.symlink_metadata().is_ok_and(|m| m.is_file());
    regular && std::fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("PRIVATE KEY-----"))
}

#[test]
fn floods_stall_nothing() {
    let place = Place::new();
    // Before its line on stderr, and for ever after it on both.
    let plugin = "yes 'before the line' | head -c 3000000 >&2
yes '{\"@level\":\"error\",\"@message\":\"flood\"}' >&2 &
( sleep 0.3; exec yes flood ) &
exec SOUPSCEN serve kv\n";
    let scripts = "
scripts:
  put-get: { ops: [ { put: { key: k, value: v } }, { get: { key: k }, expect: { value: v } } ] }
  other: { ops: [ { put: { key: '{{ case.slug }}', value: v } }, { get: { key: '{{ case.slug }}' }, expect: { value: v } } ] }
  fails: { isolation: case, ops: [ { get: { key: absent } } ] }
";
    scenario(&place, plugin, scripts, "tls: [none, auto]");
    let (ran, results) = place.results("tree.yaml", &[]);
    assert_eq!(
        (results.counts().get("passed"), results.counts().get("failed")),
        (Some(&4), Some(&2)),
        "{}",
        ran.status
    );
    // What is kept of it is bounded.
    let kept: u64 = place.files("home").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(kept < 20 << 20, "{kept} bytes are kept");
    ran.exits(1);
    nothing_is_left(&place);
}

/// A run with a good pair and a client whose driver is this shell script.
fn with_driver(driver: &str) -> (Place, run::Ran, run::Results) {
    let place = Place::new();
    let at = place.path().display();
    place.write("driver.sh", driver);
    place.write(
        "driver.yaml",
        &format!(
            "soupscen: 1
name: driver
timeouts: {{ case: 5s, start: 2s, op: 2s, grace: 1s }}
peers:
  rust: {{ builtin: {{}} }}
  odd:
    client:
      driver: {{ run: [/bin/sh, {at}/driver.sh] }}
      provides: [service.kv, launch.*, transport.*, tls.*]
matrix:
  axes: {{ client: [rust, odd], server: [rust], launch: [plugin, direct], tls: [none] }}
{}",
            run::PUT_GET
        ),
    );
    let (ran, results) = place.results("driver.yaml", &[]);
    for launch in ["plugin", "direct"] {
        let launch = format!("launch={launch}");
        assert_eq!(results.case(&["client=rust", &launch])["verdict"], "passed", "{ran}");
        let odd = results.case(&["client=odd", &launch]);
        assert_eq!(odd["verdict"], "errored", "{odd:#}\n{ran}");
        let seen = run::observation(odd);
        assert!(!text(&seen["cause"]["text"]).is_empty(), "{odd:#}");
    }
    nothing_is_left(&place);
    (place, ran.exits(3), results)
}

#[test]
fn a_driver_that_never_reads_stalls_nothing() {
    with_driver("exec sleep 1000\n");
}

#[test]
fn a_driver_that_says_nonsense_for_ever_stalls_nothing() {
    with_driver("exec yes nonsense\n");
    with_driver("exec tr '\\0' x </dev/zero\n");
}

#[test]
fn a_driver_that_floods_stderr_and_ends_is_told_by_its_last_words() {
    let (_, ran, _) = with_driver("yes flood | head -c 3000000 >&2\necho 'no license for today' >&2\nexit 7\n");
    ran.says("no license for today");
}
