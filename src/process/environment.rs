//! What programs are given of the engine's own environment, and where they are looked for.
//! Read by `spawner` and `peer::build`.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::spawner::SpawnError;

/// Marks every process of a run, for people who look at `/proc/PID/environ`.
pub const MARKER: &str = "SOUPSCEN_RUN";

/// The engine's variables that a program under test gets. Everything else would make a run depend
/// on the shell that it was started from (`PLUGIN_*`, `GODEBUG`, proxies, a virtual environment …).
const KEPT: [&str; 16] = [
    "HOME",
    "JAVA_HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
];

/// Which variables of the engine a program starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherit {
    /// A short list that programs need to run at all (`PATH`, `HOME`, `LANG`, …). For programs under test.
    Clean,
    /// Everything but the engine's own and the plugin protocol's. For build tools, whose proxies,
    /// registries and caches are configured by variables.
    All,
}

/// The environment of a program: what it inherits, then `given` (later entries win), then the marker.
#[must_use]
pub(super) fn compose(inherit: Inherit, given: &[(String, String)], marker: &str) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(key, _)| {
            let name = key.to_string_lossy();
            match inherit {
                Inherit::Clean => KEPT.contains(&name.as_ref()) || name.starts_with("LC_"),
                Inherit::All => !name.starts_with("SOUPSCEN_") && !name.starts_with("PLUGIN_"),
            }
        })
        .collect();
    let marker = (MARKER.to_owned(), marker.to_owned());
    for (key, value) in given.iter().chain(std::iter::once(&marker)) {
        let entry = (OsString::from(key), OsString::from(value));
        match all.iter_mut().find(|(k, _)| *k == entry.0) {
            Some(found) => *found = entry,
            None => all.push(entry),
        }
    }
    all
}

/// Finds a program the way a shell does, but says why it cannot be run before anything is started:
/// a name without `/` on `path` (in the form of `PATH`), anything else from `folder`.
///
/// # Errors
/// Not found, a folder, or without execute permission.
pub fn find_program(name: &str, folder: Option<&Path>, path: Option<&std::ffi::OsStr>) -> Result<PathBuf, SpawnError> {
    let program = || name.to_owned();
    if name.is_empty() {
        return Err(SpawnError::Empty);
    }
    if name.contains('/') {
        let full = match folder {
            Some(folder) if !Path::new(name).is_absolute() => folder.join(name),
            _ => PathBuf::from(name),
        };
        return match runnable(&full) {
            Runnable::Yes => Ok(full),
            Runnable::Folder => Err(SpawnError::Folder { program: program() }),
            Runnable::NoPermission => Err(SpawnError::NotExecutable { program: full.display().to_string() }),
            Runnable::Absent => Err(SpawnError::NotFound { program: full.display().to_string() }),
        };
    }
    let mut unusable = None;
    for entry in std::env::split_paths(path.unwrap_or_default()) {
        // An empty entry means the working directory by old custom; nobody wants that by accident.
        if entry.as_os_str().is_empty() {
            continue;
        }
        let full = entry.join(name);
        match runnable(&full) {
            Runnable::Yes => return Ok(full),
            Runnable::NoPermission => unusable = Some(full),
            Runnable::Folder | Runnable::Absent => {}
        }
    }
    match unusable {
        Some(full) => Err(SpawnError::NotExecutable { program: full.display().to_string() }),
        None => Err(SpawnError::NotOnPath { program: program() }),
    }
}

enum Runnable {
    Yes,
    Folder,
    NoPermission,
    Absent,
}

fn runnable(path: &Path) -> Runnable {
    match path.metadata() {
        Ok(what) if what.is_dir() => Runnable::Folder,
        Ok(what) if what.permissions().mode() & 0o111 == 0 => Runnable::NoPermission,
        Ok(_) => Runnable::Yes,
        Err(_) => Runnable::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_variables_win_and_the_marker_is_last_word() {
        let given = vec![("A".into(), "1".into()), ("A".into(), "2".into()), (MARKER.to_owned(), "forged".into())];
        let env = compose(Inherit::Clean, &given, "run-1");
        let of = |key: &str| env.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect::<Vec<_>>();
        assert_eq!(of("A"), [OsString::from("2")]);
        assert_eq!(of(MARKER), [OsString::from("run-1")]);
        assert_eq!(of("PATH").len(), 1);
        assert!(of("CARGO_MANIFEST_DIR").is_empty(), "only listed variables are inherited");
    }

    #[test]
    fn a_program_that_cannot_be_run_is_named_with_the_reason() {
        let path = std::env::var_os("PATH");
        let find = |name: &str| find_program(name, Some(Path::new("/")), path.as_deref());
        assert!(find("sh").is_ok());
        assert!(matches!(find("no-such-program-here"), Err(SpawnError::NotOnPath { .. })));
        assert!(matches!(find("./no/such"), Err(SpawnError::NotFound { .. })));
        assert!(matches!(find("/etc"), Err(SpawnError::Folder { .. })));
        assert!(matches!(find("/etc/passwd"), Err(SpawnError::NotExecutable { .. })));
        assert!(matches!(find(""), Err(SpawnError::Empty)));
    }
}
