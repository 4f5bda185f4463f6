//! The attributes `#[filter]` and `#[action]` of `fuseboard-guest`, whose documentation has them.
//!
//! They look at a function's head only, and keep the function as it is, so they read tokens themselves: a plugin without
//! serde's derives builds in a few seconds, because nothing here needs a parser of all of Rust.

mod head;

use proc_macro::{Delimiter, Group, Literal, Span, TokenStream, TokenTree};

use head::{Head, Mistake};

/// Makes a function a filter: it takes the hook's value and gives the new one.
///
/// What it returns may be
///
/// - a value: it replaces the old one
/// - an `Option` of one: `None` leaves the old one
/// - a `Result` of either, whose error is anything with a text: it ends the invocation, and undoes its writes
///
/// Values are read and written as JSON by serde. For a hook whose type is bytes, write `#[filter(bytes)]` and take a
/// `Vec<u8>`. A filter that doesn't look at the value takes no parameter.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expanded(&arguments, item, Kind::Filter)
}

/// Makes a function an action: it takes the hook's value and returns nothing, or a `Result<(), …>`.
///
/// The error is anything with a text: it ends the invocation, and undoes its writes. For a hook whose type is bytes, write
/// `#[action(bytes)]` and take a `Vec<u8>`. An action that doesn't look at the value takes no parameter.
#[proc_macro_attribute]
pub fn action(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expanded(&arguments, item, Kind::Action)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Filter,
    Action,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Action => "action",
        }
    }
}

/// Returns the function, and behind it its export or what is wrong with it.
fn expanded(arguments: &TokenStream, mut item: TokenStream, kind: Kind) -> TokenStream {
    let is_bytes = is_bytes(arguments, kind);
    let head = Head::of(item.clone(), kind.name());
    item.extend(match (is_bytes, head) {
        (Ok(is_bytes), Ok(head)) => match returns_what_it_should(&head, kind) {
            Ok(()) => export(&head, kind, is_bytes),
            Err(mistake) => compile_error(&mistake),
        },
        (Err(mistake), _) | (_, Err(mistake)) => compile_error(&mistake),
    });
    item
}

fn is_bytes(arguments: &TokenStream, kind: Kind) -> Result<bool, Mistake> {
    let Some(first) = arguments.clone().into_iter().next() else { return Ok(false) };
    if arguments.to_string() == "bytes" {
        return Ok(true);
    }
    let name = kind.name();
    let text = format!(
        "write `#[{name}]`, or `#[{name}(bytes)]` where the hook's type is bytes; which hook it is stands in plugin.toml"
    );
    Err(Mistake::new(first.span(), text))
}

fn returns_what_it_should(head: &Head, kind: Kind) -> Result<(), Mistake> {
    if kind == Kind::Action || head.returned.is_some() {
        return Ok(());
    }
    let text = "a filter returns the new value, or an `Option` where `None` leaves it as it is; \
                a function that only does something is an `#[action]`";
    Err(Mistake::new(head.name.span(), text))
}

/// Returns the export as code, in which the author's types are blamed for what doesn't fit them.
fn export(head: &Head, kind: Kind, is_bytes: bool) -> TokenStream {
    let name = head.name.to_string();
    let name = Literal::string(name.trim_start_matches("r#"));
    let here = Span::call_site();
    let body = joined([
        code("use ::fuseboard_guest::hook::{AlwaysChanges as _, NeverFails as _};", here),
        code("::fuseboard_guest::hook::begin(); let returned =", here),
        call(head, is_bytes),
        code(settle(kind, is_bytes), head.returned.unwrap_or(here)),
    ]);
    let function = joined([
        code(&format!("#[cfg_attr(target_family = \"wasm\", unsafe(export_name = {name}))]"), here),
        code("#[allow(dead_code, unused_imports)] extern \"C\" fn export()", here),
        grouped(Delimiter::Brace, body),
    ]);
    joined([code("const _: () =", here), grouped(Delimiter::Brace, function), code(";", here)])
}

/// Returns the call of the function with the value, if it takes it.
fn call(head: &Head, is_bytes: bool) -> TokenStream {
    let read = if is_bytes { "::fuseboard_guest::hook::bytes()" } else { "::fuseboard_guest::hook::value()" };
    let value = head.parameter.map(|place| code(read, place)).unwrap_or_default();
    let name = TokenTree::Ident(head.name.clone());
    joined([name.into(), grouped(Delimiter::Parenthesis, value), code(";", Span::call_site())])
}

/// Returns what becomes of what the function returned.
fn settle(kind: Kind, is_bytes: bool) -> &'static str {
    match (kind, is_bytes) {
        (Kind::Action, _) => "::fuseboard_guest::hook::done(::fuseboard_guest::hook::Returned(returned).or_fail());",
        (Kind::Filter, false) => {
            "let value = ::fuseboard_guest::hook::Returned(returned).or_fail();
            if let Some(value) = ::fuseboard_guest::hook::Returned(value).or_unchanged() {
                ::fuseboard_guest::hook::write(&value);
            }"
        }
        (Kind::Filter, true) => {
            "let value = ::fuseboard_guest::hook::Returned(returned).or_fail();
            if let Some(value) = ::fuseboard_guest::hook::Returned(value).or_unchanged() {
                ::fuseboard_guest::hook::write_bytes(&value);
            }"
        }
    }
}

/// Returns code whose errors are shown at a place in the author's source.
fn code(text: &str, place: Span) -> TokenStream {
    let tokens: TokenStream = text.parse().unwrap_or_default();
    placed(tokens, Span::call_site().located_at(place))
}

fn placed(tokens: TokenStream, span: Span) -> TokenStream {
    let placed = |mut token: TokenTree| {
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), self::placed(group.stream(), span)).into();
        }
        token.set_span(span);
        token
    };
    tokens.into_iter().map(placed).collect()
}

fn joined<const N: usize>(parts: [TokenStream; N]) -> TokenStream {
    parts.into_iter().collect()
}

fn grouped(delimiter: Delimiter, tokens: TokenStream) -> TokenStream {
    TokenTree::from(Group::new(delimiter, tokens)).into()
}

fn compile_error(mistake: &Mistake) -> TokenStream {
    code(&format!("::core::compile_error!({:?});", mistake.text), mistake.place)
}
