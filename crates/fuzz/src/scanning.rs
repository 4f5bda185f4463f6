//! The target `fuzz-scan`: any bytes are offered to the pre-scan.
//!
//! What must hold: it says yes or no in plain words, a higher ceiling of memory never makes a no of a yes, what it
//! says yes to can be read to its end, and its report agrees with its word.

use fuseboard_core::{ModuleError, Report, inspect, scan};
use wasmparser::Parser;

use crate::calling::assert_is_printable;

pub(crate) const CEILING_BYTES: usize = 16 << 20;
/// What a problem takes to be said, names of the guest's included.
const PROBLEM_BYTES: usize = 4 << 10;

/// Runs the target on an input's bytes.
///
/// # Panics
/// A rule was broken.
pub fn target(bytes: &[u8]) {
    let verdict = scan(bytes, CEILING_BYTES);
    check_report(&inspect(bytes, CEILING_BYTES), verdict.as_ref().err());
    match verdict {
        Err(error) => check_words(&error),
        Ok(()) => {
            assert!(scan(bytes, CEILING_BYTES * 2).is_ok(), "refused under a higher ceiling only");
            let unread = Parser::new(0).parse_all(bytes).find_map(Result::err);
            assert!(unread.is_none(), "accepted, but cannot be read: {unread:?}");
        }
    }
}

pub(crate) fn check_words(error: &ModuleError) {
    assert!(!error.problems.is_empty(), "refused without a word");
    for problem in &error.problems {
        assert_is_printable(problem);
        assert!(problem.len() <= PROBLEM_BYTES, "a problem of {} bytes", problem.len());
    }
}

/// Holds a report to the scan's word, its figures to its problems, and all that a guest named to be shown.
fn check_report(report: &Report, error: Option<&ModuleError>) {
    let refused = error.map_or(&[][..], |error| &error.problems);
    assert_eq!(report.problems, refused, "the report has other problems");
    let over = report.figures.iter().find(|figure| figure.found > figure.most);
    assert!(over.is_none() || !refused.is_empty(), "accepted with {over:?}");
    let imports = report.imports.iter().flat_map(|each| [&each.module, &each.name, &each.ty]);
    let exports = report.exports.iter().flat_map(|each| [&each.name, &each.ty]);
    let functions = report.functions.iter().filter_map(|each| each.name.as_ref());
    let sections = report.sections.iter().filter_map(|each| each.name.as_ref());
    let told = report.problems.iter().chain(&report.tools);
    told.chain(imports).chain(exports).chain(functions).chain(sections).for_each(|text| assert_is_printable(text));
}

/// Says what an input means: the scan's word on it.
#[must_use]
pub fn explained(bytes: &[u8]) -> String {
    let verdict = scan(bytes, CEILING_BYTES).map_or_else(|error| format!("refused: {error}"), |()| "accepted".into());
    format!("a file of {} bytes, {verdict}", bytes.len())
}
