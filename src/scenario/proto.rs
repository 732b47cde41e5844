//! Which methods a scenario's proto services have, so that a misspelt one is found before anything
//! runs. Compiles with the files that `Files` gives; the layers above compile for themselves.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::files::{Files, normal};

/// More files than this are not followed from one service.
const MAX_IMPORTS: usize = 512;

/// Full service name → its methods, or what is wrong, as one sentence.
pub(super) fn methods(
    files: &dyn Files,
    paths: &[PathBuf],
    import: &[PathBuf],
) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut sources = Sources::default();
    let mut names = Vec::new();
    for path in paths {
        let root = import.iter().find(|root| path.starts_with(root));
        let name = root.and_then(|root| path.strip_prefix(root).ok()).map_or_else(|| path.clone(), Path::to_path_buf);
        let name = name.to_string_lossy().replace('\\', "/");
        let text = read(files, path).map_err(|problem| format!("`{}`: {problem}", path.display()))?;
        sources.0.insert(name.clone(), text);
        names.push(name);
    }
    let mut pending = names.clone();
    while let Some(name) = pending.pop() {
        let Some(text) = sources.0.get(&name) else { continue };
        let file = File::from_source(&name, text).map_err(|error| format!("`{name}`: {error}"))?;
        for dependency in file.file_descriptor_proto().dependency.clone() {
            if sources.0.contains_key(&dependency) || sources.0.len() > MAX_IMPORTS {
                continue;
            }
            // A file that is in none of the folders may be one of Google's, which the compiler has.
            if let Some(text) = import.iter().find_map(|root| read(files, &normal(&root.join(&dependency))).ok()) {
                sources.0.insert(dependency.clone(), text);
                pending.push(dependency);
            }
        }
    }
    let mut resolver = ChainFileResolver::new();
    resolver.add(sources);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    for name in &names {
        compiler.open_file(name).map_err(|error| format!("`{name}`: {error}"))?;
    }
    let pool = compiler.descriptor_pool();
    let services = pool.services();
    Ok(services.map(|s| (s.full_name().to_owned(), s.methods().map(|m| m.name().to_owned()).collect())).collect())
}

fn read(files: &dyn Files, path: &Path) -> Result<String, String> {
    let bytes = files.read(path).map_err(|problem| problem.to_string())?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
}

#[derive(Default)]
struct Sources(HashMap<String, String>);

impl FileResolver for Sources {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        let name = path.to_string_lossy().into_owned();
        self.0.contains_key(&name).then_some(name)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}
