//! What a module says of itself, as far as it was read: no more of anything than its bound allows.

use std::ops::Range;

use wasmparser::{
    Export, ExternalKind, FuncType, GlobalType, Import, KnownCustom, MemoryType, Name, NameSectionReader,
    ProducersSectionReader, TableType, TypeRef,
};

use crate::shape::{Arity, Signatures};

/// A part of the file.
pub(crate) struct Part<'a> {
    pub(crate) kind: &'static str,
    /// A custom section's.
    pub(crate) name: Option<&'a str>,
    pub(crate) range: Range<usize>,
}

/// Data segments, element segments or functions: how many, and the bytes or elements in all of them, kept or not.
#[derive(Clone, Copy, Default)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) content: u64,
}

#[derive(Default)]
pub(crate) struct Content<'a> {
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) types: Vec<Option<FuncType>>,
    /// The types of all functions, imported ones first.
    pub(crate) functions: Vec<u32>,
    pub(crate) imported_functions: u32,
    /// The bytes of each function's body.
    pub(crate) bodies: Vec<u64>,
    pub(crate) imports: Vec<Import<'a>>,
    pub(crate) exports: Vec<Export<'a>>,
    pub(crate) tables: Vec<TableType>,
    pub(crate) memories: Vec<MemoryType>,
    pub(crate) globals: Vec<GlobalType>,
    /// How many globals there are, kept or not.
    pub(crate) global_count: u64,
    pub(crate) code: Total,
    pub(crate) elements: Total,
    pub(crate) data: Total,
    pub(crate) start: Option<u32>,
    pub(crate) names: Option<NameSectionReader<'a>>,
    pub(crate) producers: Option<ProducersSectionReader<'a>>,
}

impl Signatures for Content<'_> {
    fn of_type(&self, ty: u32) -> Arity {
        let ty = self.types.get(ty as usize).and_then(Option::as_ref);
        ty.map_or_else(Arity::default, |ty| Arity {
            parameters: ty.params().len() as u64,
            results: ty.results().len() as u64,
        })
    }

    fn of_function(&self, function: u32) -> Arity {
        self.functions.get(function as usize).map_or_else(Arity::default, |ty| self.of_type(*ty))
    }
}

impl<'a> Content<'a> {
    pub(crate) fn import(&mut self, import: Import<'a>) {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                self.imported_functions += 1;
            }
            TypeRef::Table(ty) => self.tables.push(ty),
            TypeRef::Memory(ty) => self.memories.push(ty),
            TypeRef::Global(ty) => {
                self.globals.push(ty);
                self.global_count += 1;
            }
            TypeRef::Tag(_) => {}
        }
        self.imports.push(import);
    }

    pub(crate) fn custom(&mut self, section: &wasmparser::CustomSectionReader<'a>) {
        match section.as_known() {
            KnownCustom::Name(names) => self.names = Some(names),
            KnownCustom::Producers(producers) => self.producers = Some(producers),
            _ => {}
        }
    }

    /// Each function's name: the name section's, else the one that it is imported or exported under.
    pub(crate) fn function_names(&self) -> Vec<Option<&'a str>> {
        let mut names = vec![None; self.functions.len()];
        for export in self.exports.iter().filter(|export| export.kind == ExternalKind::Func) {
            give(&mut names, export.index, export.name);
        }
        let imported =
            self.imports.iter().filter(|import| matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
        for (index, import) in (0..).zip(imported) {
            give(&mut names, index, import.name);
        }
        for (index, name) in self.named_functions() {
            give(&mut names, index, name);
        }
        names
    }

    /// What the name section calls the functions, as far as it can be read.
    pub(crate) fn named_functions(&self) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        let parts = self.names.clone().into_iter().flatten().map_while(Result::ok);
        let maps = parts.filter_map(|part| if let Name::Function(map) = part { Some(map) } else { None });
        maps.flat_map(|map| map.into_iter().map_while(Result::ok)).map(|naming| (naming.index, naming.name))
    }

    /// Which tools made the module, as it says: "language: C11".
    pub(crate) fn tools(&self) -> impl Iterator<Item = String> + use<'a> {
        let fields = self.producers.clone().into_iter().flatten().map_while(Result::ok);
        fields.flat_map(|field| {
            let values = field.values.into_iter().map_while(Result::ok);
            values.map(move |value| format!("{}: {} {}", field.name, value.name, value.version))
        })
    }

    /// An import's or export's type as text.
    pub(crate) fn type_text(&self, ty: TypeRef) -> String {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                let ty = self.types.get(ty as usize).and_then(Option::as_ref);
                ty.map_or_else(|| "unknown".to_owned(), signature)
            }
            TypeRef::Table(ty) => format!("{} {}", sizes(ty.initial, ty.maximum, "elements"), ty.element_type),
            TypeRef::Memory(ty) => sizes(ty.initial, ty.maximum, "pages"),
            TypeRef::Global(ty) => format!("{}{}", ty.content_type, if ty.mutable { ", mutable" } else { "" }),
            TypeRef::Tag(_) => "exception".to_owned(),
        }
    }

    /// What an export leads to, or `None` where there is no such thing.
    pub(crate) fn exported(&self, export: &Export<'a>) -> Option<TypeRef> {
        let index = export.index as usize;
        match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => self.functions.get(index).copied().map(TypeRef::Func),
            ExternalKind::Table => self.tables.get(index).copied().map(TypeRef::Table),
            ExternalKind::Memory => self.memories.get(index).copied().map(TypeRef::Memory),
            ExternalKind::Global => self.globals.get(index).copied().map(TypeRef::Global),
            ExternalKind::Tag => None,
        }
    }
}

fn give<'a>(names: &mut [Option<&'a str>], index: u32, name: &'a str) {
    if let Some(place) = names.get_mut(index as usize) {
        *place = Some(name);
    }
}

fn signature(ty: &FuncType) -> String {
    let list = |types: &[wasmparser::ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("({}) -> ({})", list(ty.params()), list(ty.results()))
}

fn sizes(initial: u64, maximum: Option<u64>, unit: &str) -> String {
    match maximum {
        Some(maximum) => format!("{initial} to {maximum} {unit}"),
        None => format!("{initial} {unit} or more"),
    }
}

/// The name of a kind of section.
pub(crate) fn section_kind(id: u8) -> &'static str {
    const KINDS: [&str; 14] = [
        "custom",
        "type",
        "import",
        "function",
        "table",
        "memory",
        "global",
        "export",
        "start",
        "element",
        "code",
        "data",
        "data count",
        "tag",
    ];
    KINDS.get(usize::from(id)).copied().unwrap_or("unknown")
}
