//! What a file is, by its first bytes.

/// What is offered as a plugin's module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Begins like a core WebAssembly module.
    Module,
    /// A WebAssembly component.
    Component,
    /// WebAssembly of another version.
    OtherVersion,
    /// The beginning of WebAssembly, too short to say of which version.
    Cut,
    /// Native code, as ELF; precompiled modules are that.
    NativeCode,
    /// WebAssembly in text form.
    Text,
    /// Nothing.
    Empty,
    /// Anything else.
    Other,
}

/// A parenthesis, a block comment too, or a comment of a line.
const TEXT_BEGINS: [&[u8]; 2] = [b"(", b";;"];

impl FileKind {
    /// Returns what a file's bytes begin like.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Self::Module,
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', rest @ ..] if rest.len() < 4 => Self::Cut,
            [0, b'a', b's', b'm', ..] => Self::OtherVersion,
            [0x7f, b'E', b'L', b'F', ..] => Self::NativeCode,
            [] => Self::Empty,
            _ if TEXT_BEGINS.iter().any(|begin| bytes.trim_ascii_start().starts_with(begin)) => Self::Text,
            _ => Self::Other,
        }
    }

    /// The kind in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Module => "WebAssembly module",
            Self::Component => "WebAssembly component",
            Self::OtherVersion => "WebAssembly of another version",
            Self::Cut => "beginning of WebAssembly",
            Self::NativeCode => "native code (ELF)",
            Self::Text => "WebAssembly text",
            Self::Empty => "empty",
            Self::Other => "something else",
        }
    }

    /// Why it can't be loaded, or `None` for a module.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Self::Module => None,
            Self::Component => Some("is a WebAssembly component; build a core module instead"),
            Self::OtherVersion => Some("is of a WebAssembly version that Fuseboard does not know"),
            Self::Cut => Some("is cut: it ends within the 8 bytes that WebAssembly begins with"),
            Self::NativeCode => Some("is native code (ELF), perhaps precompiled; only WebAssembly modules are loaded"),
            Self::Text => Some("is WebAssembly text; translate it first, e.g. with wat2wasm"),
            Self::Empty => Some("is empty"),
            Self::Other => Some(r"is not a WebAssembly module: it does not begin with \0asm"),
        }
    }
}
