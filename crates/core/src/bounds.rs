//! The bounds of the pre-scan: one table, with what goes wrong above each.
//!
//! Figures in the reasons were measured with wasmtime 48's compiler on one core of a small server.

use crate::limits::{TABLE_ELEMENTS, TABLES};

/// A bound of the pre-scan.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub(crate) count: Count,
    /// What is counted, in whole words where the place isn't known: "nested blocks of a function".
    pub name: &'static str,
    /// The most that is allowed.
    pub most: u64,
    /// What goes wrong above it.
    pub reason: &'static str,
}

const OF_A_FUNCTION: &str = " of a function";

impl Bound {
    /// What is counted, said after the function's name.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.strip_suffix(OF_A_FUNCTION).unwrap_or(self.name)
    }
}

/// What is counted, in the order of [`BOUNDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Functions,
    Types,
    TypeWidth,
    Imports,
    Exports,
    NameBytes,
    Globals,
    Memories,
    Tables,
    TableElements,
    DataSegments,
    DataBytes,
    CopiedData,
    SpreadData,
    ElementSegments,
    CopiedElements,
    ConstantOperators,
    CustomSections,
    BodyBytes,
    Locals,
    Nesting,
    LoopNesting,
    Branches,
    BranchTargets,
    IndirectCalls,
    PassedValues,
    LoopsByLocals,
    BlocksByLocals,
    Work,
}

impl Count {
    pub(crate) fn bound(self) -> &'static Bound {
        &BOUNDS[self as usize]
    }

    /// How many of something are looked at: no more than are allowed.
    pub(crate) fn most(self) -> usize {
        usize::try_from(self.bound().most).unwrap_or(usize::MAX)
    }
}

/// What data can span and still be one image that is mapped: wasmtime's own constant, however sparse the data is.
pub(crate) const IMAGE_BYTES: u64 = 16 << 20;

const fn bound(count: Count, name: &'static str, most: u64, reason: &'static str) -> Bound {
    Bound { count, name, most, reason }
}

/// Every bound.
pub static BOUNDS: [Bound; 29] = [
    bound(Count::Functions, "functions", 20_000, "each costs the compiler some 85 µs, even when it is empty"),
    bound(Count::Types, "types", 10_000, "a piece of code is compiled for each, used or not"),
    bound(
        Count::TypeWidth,
        "parameters and results of a type",
        200,
        "each call, export and type copies them one by one; 5,000 types of this width took 5.7 s",
    ),
    bound(Count::Imports, "imports", 1_000, "there are some 60; each is looked up and linked"),
    bound(Count::Exports, "exports", 10_000, "each is kept by name; 10,000 took 1.6 s with their functions"),
    bound(
        Count::NameBytes,
        "bytes in the name of an import, an export or a function",
        50_000,
        "names are kept with the module and read for each backtrace",
    ),
    bound(Count::Globals, "globals", 10_000, "each instance makes them anew, before any fuel is counted"),
    bound(Count::Memories, "memories", 1, "a guest has one; the proposal of several is off"),
    bound(Count::Tables, "tables", TABLES as u64, "the pool has room for so many in each slot"),
    bound(
        Count::TableElements,
        "initial elements of a table",
        TABLE_ELEMENTS as u64,
        "the pool has room for so many in each table",
    ),
    bound(Count::DataSegments, "data segments", 100_000, "the engine takes no more"),
    bound(Count::DataBytes, "bytes of data", IMAGE_BYTES, "the module holds them as long as it is loaded"),
    bound(
        Count::CopiedData,
        "data segments with one at a computed offset or past the memory",
        1_000,
        "one of them is enough to make all code that copies, which grows faster than they do: 16,000 took 4.8 s",
    ),
    bound(
        Count::SpreadData,
        "data segments spread over 16 MiB or more",
        2_000,
        "they can't be mapped as one image and become code that copies, as those with a computed offset",
    ),
    bound(Count::ElementSegments, "element segments", 1_000, "each is kept, and set up for every instance"),
    bound(
        Count::CopiedElements,
        "elements that start-up code copies",
        10_000,
        "the code is one function, which grows with their square: 10,000 took 0.8 s, 100,000 (100 KB) took 38 s",
    ),
    bound(
        Count::ConstantOperators,
        "operators in a constant expression",
        100,
        "the compiler keeps each and works it out: a million of them in globals took 0.65 s",
    ),
    bound(Count::CustomSections, "custom sections", 1_000, "they have no use here; real modules have some ten"),
    bound(
        Count::BodyBytes,
        "bytes of a function",
        1 << 20,
        "one function is compiled at once: 1 MB of calls took the compiler 1.1 GB",
    ),
    bound(
        Count::Locals,
        "parameters and locals of a function",
        10_000,
        "a function's frame must fit the guest's stack",
    ),
    bound(
        Count::Nesting,
        "nested blocks of a function",
        5_000,
        "5,000 nested ifs took 0.2 s; validation keeps all that are open",
    ),
    bound(
        Count::LoopNesting,
        "nested loops of a function",
        100,
        "100 of them around 1,000 locals in use, 9 KB, took 0.7 s; it grows with the square of the depth",
    ),
    bound(
        Count::Branches,
        "branches of a function",
        10_000,
        "it grows with the square: 2,500 took 0.1 s, 10,000 took 0.9 s",
    ),
    bound(
        Count::BranchTargets,
        "branch table targets of a function",
        65_535,
        "the compiler refuses tables of more; each is a jump of the control flow",
    ),
    bound(
        Count::IndirectCalls,
        "indirect calls and table accesses of a function",
        5_000,
        "each is several branches, and it grows with the square: 5,000 took 1.4 s, 20,000 (97 KB) took 14 s",
    ),
    bound(
        Count::PassedValues,
        "values passed by blocks, branches and calls of a function",
        100_000,
        "each is a copy of its own, which takes the compiler up to 1.3 µs",
    ),
    bound(
        Count::LoopsByLocals,
        "loops times locals of a function",
        100_000,
        "each loop may carry each local: 30 loops around 3,000 locals took 1.2 s",
    ),
    bound(
        Count::BlocksByLocals,
        "blocks times locals of a function",
        12_000_000,
        "each block may carry each local: 5,900 blocks and 2,000 locals took 3.7 s and 450 MB",
    ),
    bound(
        Count::Work,
        "estimated milliseconds of compiling a MiB of code",
        6_500,
        "many functions that keep every other bound add up: 134 KB of declared locals took 12.8 s",
    ),
];

#[cfg(test)]
mod tests {
    use super::BOUNDS;

    /// A count leads to its own bound, and every bound says why.
    #[test]
    fn bounds_stand_in_the_order_of_their_counts() {
        for (place, bound) in BOUNDS.iter().enumerate() {
            assert_eq!(bound.count as usize, place, "{}", bound.name);
            assert!(bound.most > 0 && bound.reason.len() > 20, "{}", bound.name);
        }
    }
}
