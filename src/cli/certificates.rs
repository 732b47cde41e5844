//! Looks at the certificate files of a scenario before any peer is started: what is wrong with a
//! file is said once, at its place, and not by every case that would have used it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::printer::Printer;
use crate::axis::values::TlsFiles;
use crate::diag::{Diagnostic, Severity};
use crate::pki::{Identity, PkiError};
use crate::plan::Plan;
use crate::scenario::model::AxisValue;

/// Prints every problem; `false` when a file cannot be used.
pub(super) fn usable(plan: &Plan, printer: &Printer) -> bool {
    let scenario = plan.scenario();
    let axes = scenario.blocks.iter().flat_map(|block| &block.axes).filter(|axis| axis.name == "tls");
    let problems: Vec<Diagnostic> = axes.flat_map(|axis| &axis.values).flat_map(problems).collect();
    printer.diagnostics(&scenario.sources, &problems);
    problems.iter().all(|problem| problem.severity != Severity::Error)
}

fn problems(value: &AxisValue) -> Vec<Diagnostic> {
    let Some(TlsFiles { ca, cert, key, .. }) = &value.files else { return Vec::new() };
    let ca = ca.as_ref().map(|path| Identity::load_trust(path));
    let own = cert.as_ref().zip(key.as_ref()).map(|(cert, key)| Identity::load(cert, key));
    [ca, own].into_iter().flatten().filter_map(|loaded| problem(value, loaded)).collect()
}

fn problem(value: &AxisValue, loaded: Result<Identity, PkiError>) -> Option<Diagnostic> {
    let here = format!("`{}` of `tls` names it", value.name);
    match loaded {
        Err(error) => {
            let help = match error {
                PkiError::Mismatch { .. } => "give the key that the certificate was made with",
                _ => "paths start from the folder of the scenario's file",
            };
            Some(Diagnostic::error("bad-certificate", error.to_string()).at(value.span, here).help(help))
        }
        Ok(identity) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            let over = i64::try_from(now).is_ok_and(|now| now > identity.facts().not_after);
            let file = identity.files().map(|files| files.cert.display().to_string()).unwrap_or_default();
            over.then(|| {
                Diagnostic::warning("expired-certificate", format!("the certificate in `{file}` has expired"))
                    .at(value.span, here)
                    .help("who verifies it will refuse it; to try that out, say `make: { server: { expired: true } }`")
            })
        }
    }
}
