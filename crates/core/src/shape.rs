//! What of a function's code drives the compiler's time and memory.

use wasmparser::{BlockType, FunctionBody, Operator};

use crate::cost;

/// How many values a function type takes and gives.
#[derive(Clone, Copy, Default)]
pub(crate) struct Arity {
    pub(crate) parameters: u64,
    pub(crate) results: u64,
}

impl Arity {
    pub(crate) fn width(self) -> u64 {
        self.parameters + self.results
    }
}

/// What the module says of its types, as far as it was read.
pub(crate) trait Signatures {
    fn of_type(&self, ty: u32) -> Arity;
    fn of_function(&self, function: u32) -> Arity;

    fn of_block(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity { parameters: 0, results: 1 },
            BlockType::FuncType(ty) => self.of_type(ty),
        }
    }
}

/// The counts of one function.
#[derive(Default)]
pub(crate) struct Shape {
    pub(crate) blocks: u64,
    pub(crate) loops: u64,
    pub(crate) branches: u64,
    pub(crate) branch_targets: u64,
    pub(crate) indirect: u64,
    pub(crate) divisions: u64,
    pub(crate) passed: u64,
    pub(crate) deepest: u64,
    pub(crate) deepest_loop: u64,
    /// What its operators take the compiler by themselves.
    pub(crate) operators_ns: u64,
    open_loops: u64,
}

/// A block that is open, and how many values a branch to it passes.
#[derive(Clone, Copy)]
struct Label {
    is_loop: bool,
    values: u64,
}

impl Shape {
    pub(crate) fn of(body: &FunctionBody<'_>, of: &impl Signatures, arity: Arity) -> wasmparser::Result<Self> {
        let mut shape = Self::default();
        let mut open = vec![Label { is_loop: false, values: arity.results }];
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            shape.operators_ns += cost::of_operator(&operator);
            shape.add(&operator, of, &mut open)?;
        }
        Ok(shape)
    }

    fn add(&mut self, operator: &Operator<'_>, of: &impl Signatures, open: &mut Vec<Label>) -> wasmparser::Result<()> {
        match operator {
            Operator::Block { blockty } => self.open(of.of_block(*blockty), false, open),
            Operator::If { blockty } => {
                self.branches += 1;
                self.open(of.of_block(*blockty), false, open);
            }
            Operator::Loop { blockty } => self.open(of.of_block(*blockty), true, open),
            Operator::End => {
                let is_loop = open.pop().is_some_and(|label| label.is_loop);
                self.open_loops -= u64::from(is_loop);
            }
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                self.branches += 1;
                self.passed += values(open, *relative_depth);
            }
            Operator::Return => self.passed += open.first().map_or(0, |function| function.values),
            Operator::BrTable { targets } => {
                self.branches += 1;
                self.branch_targets += u64::from(targets.len());
                for target in targets.targets().chain([Ok(targets.default())]) {
                    self.passed += values(open, target?);
                }
            }
            _ => self.add_call(operator, of),
        }
        Ok(())
    }

    fn add_call(&mut self, operator: &Operator<'_>, of: &impl Signatures) {
        match operator {
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                self.passed += of.of_function(*function_index).width();
            }
            Operator::CallIndirect { type_index, .. } | Operator::ReturnCallIndirect { type_index, .. } => {
                self.indirect += 1;
                self.passed += of.of_type(*type_index).width();
            }
            Operator::TableGet { .. }
            | Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. } => self.indirect += 1,
            _ => self.divisions += u64::from(cost::is_division(operator)),
        }
    }

    fn open(&mut self, arity: Arity, is_loop: bool, open: &mut Vec<Label>) {
        self.blocks += 1;
        self.loops += u64::from(is_loop);
        self.passed += arity.width();
        open.push(Label { is_loop, values: if is_loop { arity.parameters } else { arity.results } });
        self.deepest = self.deepest.max(open.len() as u64 - 1);
        self.open_loops += u64::from(is_loop);
        self.deepest_loop = self.deepest_loop.max(self.open_loops);
    }
}

fn values(open: &[Label], depth: u32) -> u64 {
    let place = open.len().checked_sub(1 + depth as usize);
    place.and_then(|place| open.get(place)).map_or(0, |label| label.values)
}
