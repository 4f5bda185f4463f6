//! What the compiler takes for an operator, and for a function as a whole.
//!
//! An estimate: plain code takes less, down to a third; what isn't priced by itself can take more, which the limits of
//! the compile hold. Each price was measured with thousands of the same operator, which nothing joins or removes, with
//! wasmtime 48 on one core of a small server.

use wasmparser::Operator;

use crate::shape::Shape;

const BYTE_NS: u64 = 300;
const FUNCTION_NS: u64 = 80_000;
const TYPE_VALUE_NS: u64 = 7_000;
const SIGNATURE_VALUE_NS: u64 = 4_000;
const COPIED_ELEMENT_NS: u64 = 20_000;
/// What each pair of copied elements takes: they stand in one function.
const COPIED_ELEMENT_PAIR_NS: u64 = 6;
const COPIED_DATA_NS: u64 = 100_000;
const COPIED_DATA_PAIR_NS: u64 = 15;
const LOCAL_NS: u64 = 70;
const ACCESS_NS: u64 = 18_000;
const BRANCH_NS: u64 = 20_000;
const LOOP_NS: u64 = 25_000;
const TARGET_NS: u64 = 5_000;
const CALL_NS: u64 = 7_000;
const INDIRECT_NS: u64 = 71_000;
const GROW_NS: u64 = 50_000;
const BULK_NS: u64 = 40_000;
const TRUNCATE_NS: u64 = 54_000;
/// A rotation by what isn't a constant, in a chain of them; most are by a constant and take a tenth.
const ROTATE_NS: u64 = 27_000;
const CONVERT_NS: u64 = 4_000;
const REFERENCE_NS: u64 = 4_000;
const COUNT_BITS_NS: u64 = 1_000;
/// Operators on four or two lanes that the processor has no instruction for, or one of many steps.
const LANES_SATURATE_UNSIGNED_NS: u64 = 19_000;
const LANES_SATURATE_NS: u64 = 7_000;
const LANES_LEAST_NS: u64 = 7_000;
const LANES_WIDEN_NS: u64 = 4_000;
const DIVIDE_NS: u64 = 6_000;
const PASSED_NS: u64 = 1_300;
/// What each pair of points in a function where control divides or joins takes.
const PAIR_NS: u64 = 6;
const BLOCK_BY_LOCAL_NS: u64 = 120;
const LOOP_BY_LOCAL_NS: u64 = 500;
/// A division takes registers that all values which live through it must leave.
const DIVISION_BY_VALUE_NS: u64 = 100;
/// A value that isn't a local comes from code of some bytes.
const BYTES_PER_VALUE: u64 = 6;
/// In functions that are larger than programs have them, operators cost more, as the compiler leaves its caches.
const LARGE_BYTES: u64 = 64 << 10;
const NESTED_LOOP_BY_LOCAL_NS: u64 = 8_000;

/// What compiling a type takes, in nanoseconds.
pub(crate) fn of_type(values: u64) -> u64 {
    values * TYPE_VALUE_NS
}

/// What compiling the start-up code that copies so many elements takes, in nanoseconds.
pub(crate) fn of_copied_elements(count: u64) -> u64 {
    each_and_pairs(count, COPIED_ELEMENT_NS, COPIED_ELEMENT_PAIR_NS)
}

/// What compiling the start-up code that copies so many data segments takes, in nanoseconds.
pub(crate) fn of_copied_data(count: u64) -> u64 {
    each_and_pairs(count, COPIED_DATA_NS, COPIED_DATA_PAIR_NS)
}

fn each_and_pairs(count: u64, each_ns: u64, pair_ns: u64) -> u64 {
    count.saturating_mul(each_ns.saturating_add(count.saturating_mul(pair_ns)))
}

/// What compiling a function takes, in nanoseconds.
pub(crate) fn of_function(bytes: u64, signature_values: u64, locals: u64, shape: &Shape) -> u64 {
    // A loop divides more than a branch does, an indirect call more than both: it looks its target up.
    let points = shape.branches + shape.loops * 3 / 2 + shape.indirect * 5 / 2;
    let products = [
        points.saturating_mul(points).saturating_mul(PAIR_NS),
        (shape.branches + shape.indirect).saturating_mul(locals).saturating_mul(BLOCK_BY_LOCAL_NS),
        shape.loops.saturating_mul(locals).saturating_mul(LOOP_BY_LOCAL_NS),
        shape.divisions.saturating_mul(locals + bytes / BYTES_PER_VALUE).saturating_mul(DIVISION_BY_VALUE_NS),
        shape.deepest_loop.saturating_mul(locals).saturating_mul(NESTED_LOOP_BY_LOCAL_NS),
    ];
    let operators_ns = if bytes > LARGE_BYTES { shape.operators_ns * 5 / 2 } else { shape.operators_ns };
    let sums = [
        FUNCTION_NS,
        bytes * BYTE_NS,
        signature_values * SIGNATURE_VALUE_NS,
        locals * LOCAL_NS,
        shape.branches * BRANCH_NS,
        shape.loops * LOOP_NS,
        shape.branch_targets * TARGET_NS,
        shape.indirect * INDIRECT_NS,
        shape.passed * PASSED_NS,
        operators_ns,
    ];
    sums.into_iter().chain(products).fold(0, u64::saturating_add)
}

/// What an operator takes beside its bytes and its place in the control flow, in nanoseconds.
pub(crate) fn of_operator(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Call { .. } | Operator::ReturnCall { .. } => CALL_NS,
        Operator::MemoryGrow { .. } => GROW_NS,
        Operator::MemoryFill { .. }
        | Operator::MemoryCopy { .. }
        | Operator::MemoryInit { .. }
        | Operator::DataDrop { .. }
        | Operator::ElemDrop { .. } => BULK_NS,
        _ if is_division(operator) => DIVIDE_NS,
        Operator::I32TruncF32S
        | Operator::I32TruncF32U
        | Operator::I32TruncF64S
        | Operator::I32TruncF64U
        | Operator::I64TruncF32S
        | Operator::I64TruncF32U
        | Operator::I64TruncF64S
        | Operator::I64TruncF64U => TRUNCATE_NS,
        Operator::RefFunc { .. } => REFERENCE_NS,
        _ if is_access(operator) => ACCESS_NS,
        _ => of_number(operator).max(of_lanes(operator)),
    }
}

/// What an operator on one number takes beside its bytes, where that is much.
fn of_number(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::I32Rotl | Operator::I32Rotr | Operator::I64Rotl | Operator::I64Rotr => ROTATE_NS,
        Operator::I32TruncSatF32S
        | Operator::I32TruncSatF32U
        | Operator::I32TruncSatF64S
        | Operator::I32TruncSatF64U
        | Operator::I64TruncSatF32S
        | Operator::I64TruncSatF32U
        | Operator::I64TruncSatF64S
        | Operator::I64TruncSatF64U
        | Operator::F32ConvertI32S
        | Operator::F32ConvertI32U
        | Operator::F32ConvertI64S
        | Operator::F32ConvertI64U
        | Operator::F64ConvertI32S
        | Operator::F64ConvertI32U
        | Operator::F64ConvertI64S
        | Operator::F64ConvertI64U
        | Operator::F32Copysign
        | Operator::F64Copysign => CONVERT_NS,
        Operator::I32Popcnt
        | Operator::I64Popcnt
        | Operator::I32Clz
        | Operator::I64Clz
        | Operator::I32Ctz
        | Operator::I64Ctz => COUNT_BITS_NS,
        _ => 0,
    }
}

/// What an operator on lanes takes beside its bytes, where that is much.
fn of_lanes(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::I32x4TruncSatF32x4U => LANES_SATURATE_UNSIGNED_NS,
        Operator::I32x4TruncSatF32x4S | Operator::I32x4TruncSatF64x2SZero | Operator::I32x4TruncSatF64x2UZero => {
            LANES_SATURATE_NS
        }
        Operator::F32x4Min | Operator::F32x4Max | Operator::F64x2Min | Operator::F64x2Max => LANES_LEAST_NS,
        Operator::I16x8ExtMulLowI8x16S
        | Operator::I16x8ExtMulHighI8x16S
        | Operator::I16x8ExtMulLowI8x16U
        | Operator::I16x8ExtMulHighI8x16U
        | Operator::I32x4ExtMulLowI16x8S
        | Operator::I32x4ExtMulHighI16x8S
        | Operator::I32x4ExtMulLowI16x8U
        | Operator::I32x4ExtMulHighI16x8U
        | Operator::I64x2ExtMulLowI32x4S
        | Operator::I64x2ExtMulHighI32x4S
        | Operator::I64x2ExtMulLowI32x4U
        | Operator::I64x2ExtMulHighI32x4U
        | Operator::I16x8ExtAddPairwiseI8x16S
        | Operator::I16x8ExtAddPairwiseI8x16U
        | Operator::I32x4ExtAddPairwiseI16x8S
        | Operator::I32x4ExtAddPairwiseI16x8U
        | Operator::I32x4DotI16x8S
        | Operator::F64x2ConvertLowI32x4U
        | Operator::F64x2PromoteLowF32x4
        | Operator::F32x4ConvertI32x4U => LANES_WIDEN_NS,
        _ => 0,
    }
}

/// Whether an operator reads or writes memory, behind a check of its own.
fn is_access(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::I32Load { .. }
            | Operator::I64Load { .. }
            | Operator::F32Load { .. }
            | Operator::F64Load { .. }
            | Operator::I32Load8S { .. }
            | Operator::I32Load8U { .. }
            | Operator::I32Load16S { .. }
            | Operator::I32Load16U { .. }
            | Operator::I64Load8S { .. }
            | Operator::I64Load8U { .. }
            | Operator::I64Load16S { .. }
            | Operator::I64Load16U { .. }
            | Operator::I64Load32S { .. }
            | Operator::I64Load32U { .. }
            | Operator::I32Store { .. }
            | Operator::I64Store { .. }
            | Operator::F32Store { .. }
            | Operator::F64Store { .. }
            | Operator::I32Store8 { .. }
            | Operator::I32Store16 { .. }
            | Operator::I64Store8 { .. }
            | Operator::I64Store16 { .. }
            | Operator::I64Store32 { .. }
            | Operator::V128Load { .. }
            | Operator::V128Load8x8S { .. }
            | Operator::V128Load8x8U { .. }
            | Operator::V128Load16x4S { .. }
            | Operator::V128Load16x4U { .. }
            | Operator::V128Load32x2S { .. }
            | Operator::V128Load32x2U { .. }
            | Operator::V128Load8Splat { .. }
            | Operator::V128Load16Splat { .. }
            | Operator::V128Load32Splat { .. }
            | Operator::V128Load64Splat { .. }
            | Operator::V128Load32Zero { .. }
            | Operator::V128Load64Zero { .. }
            | Operator::V128Store { .. }
            | Operator::V128Load8Lane { .. }
            | Operator::V128Load16Lane { .. }
            | Operator::V128Load32Lane { .. }
            | Operator::V128Load64Lane { .. }
            | Operator::V128Store8Lane { .. }
            | Operator::V128Store16Lane { .. }
            | Operator::V128Store32Lane { .. }
            | Operator::V128Store64Lane { .. }
    )
}

pub(crate) fn is_division(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::I32DivS
            | Operator::I32DivU
            | Operator::I32RemS
            | Operator::I32RemU
            | Operator::I64DivS
            | Operator::I64DivU
            | Operator::I64RemS
            | Operator::I64RemU
    )
}
