//! How much of everything that is bounded a module has, where most of it is, and what is too much.

use crate::bounds::{BOUNDS, Bound, Count};
use crate::text::quoted;

/// More problems than these are not kept: nobody reads them.
const MOST_PROBLEMS: usize = 20;
const MEMORY_NAME: &str = "bytes of initial memory under the operator's ceiling";

/// The largest count that was met of something, and the function that it was met in.
#[derive(Clone, Copy, Default)]
pub(crate) struct Found {
    pub(crate) count: u64,
    pub(crate) function: Option<u32>,
}

impl Found {
    fn meet(&mut self, count: u64, function: Option<u32>) {
        if count > self.count {
            *self = Self { count, function };
        }
    }
}

/// What is wrong with a module; the names of its functions may be known only later.
enum Problem {
    Said(String),
    TooMuch { what: &'static str, most: u64, found: Found },
}

/// All figures of a module, and its problems in the order in which they were found.
pub(crate) struct Figures {
    found: [Found; BOUNDS.len()],
    memory: Found,
    memory_ceiling: u64,
    problems: Vec<Problem>,
    unread: bool,
}

impl Figures {
    pub(crate) fn under(memory_ceiling: u64) -> Self {
        let found = [Found::default(); BOUNDS.len()];
        Self { found, memory: Found::default(), memory_ceiling, problems: Vec::new(), unread: false }
    }

    /// Holds a count to its bound.
    pub(crate) fn add(&mut self, count: Count, found: u64) {
        self.add_in(count, found, None);
    }

    /// Holds a function's count to its bound.
    pub(crate) fn add_in(&mut self, count: Count, found: u64, function: Option<u32>) {
        self.found[count as usize].meet(found, function);
        let bound = count.bound();
        if found > bound.most {
            let what = if function.is_some() { bound.short_name() } else { bound.name };
            self.push(Problem::TooMuch { what, most: bound.most, found: Found { count: found, function } });
        }
    }

    pub(crate) fn add_memory(&mut self, bytes: u64) {
        let found = Found { count: bytes, function: None };
        self.memory.meet(bytes, None);
        if bytes > self.memory_ceiling {
            self.push(Problem::TooMuch { what: MEMORY_NAME, most: self.memory_ceiling, found });
        }
    }

    pub(crate) fn say(&mut self, problem: impl Into<String>) {
        self.push(Problem::Said(problem.into()));
    }

    /// Takes note of bytes that make no sense. The first are told: what comes after may only follow from them.
    pub(crate) fn cannot_read(&mut self, error: &wasmparser::Error) {
        if !std::mem::replace(&mut self.unread, true) {
            self.say(format!("cannot be read: {error}"));
        }
    }

    /// Whether everything could be read so far.
    pub(crate) fn is_all_read(&self) -> bool {
        !self.unread
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Every figure: what is counted, the most that is allowed, and what was found.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64, Found)> + '_ {
        let bounded = |bound: &'static Bound| (bound.name, bound.most, self.found[bound.count as usize]);
        let memory = (MEMORY_NAME, self.memory_ceiling, self.memory);
        BOUNDS.iter().map(bounded).chain([memory])
    }

    /// The problems as sentences. `names` is only asked where one of them lies in a function.
    pub(crate) fn problems<'a>(&self, names: impl FnOnce() -> Vec<Option<&'a str>>) -> Vec<String> {
        let in_function =
            |problem: &Problem| matches!(problem, Problem::TooMuch { found, .. } if found.function.is_some());
        let names = if self.problems.iter().any(in_function) { names() } else { Vec::new() };
        self.problems.iter().map(|problem| problem.text(&names)).collect()
    }
}

impl Problem {
    fn text(&self, names: &[Option<&str>]) -> String {
        match self {
            Self::Said(text) => text.clone(),
            Self::TooMuch { what, most, found } => {
                let place = found.function.map_or_else(String::new, |index| place(index, names));
                format!("{place}{} {what}; the most is {most}", found.count)
            }
        }
    }
}

fn place(index: u32, names: &[Option<&str>]) -> String {
    match names.get(index as usize).copied().flatten() {
        Some(name) => format!("function {index} ({}): ", quoted(name)),
        None => format!("function {index}: "),
    }
}
