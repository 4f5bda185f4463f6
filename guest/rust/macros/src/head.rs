//! A function's head: what stands before its body.

use std::iter::Peekable;

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree, token_stream};

/// What an author wrote that can't be a hook.
pub(crate) struct Mistake {
    pub(crate) place: Span,
    pub(crate) text: String,
}

impl Mistake {
    pub(crate) fn new(place: Span, text: impl Into<String>) -> Self {
        Self { place, text: text.into() }
    }
}

/// What the attributes need to know of a function.
pub(crate) struct Head {
    pub(crate) name: Ident,
    /// Where its one parameter's type stands.
    pub(crate) parameter: Option<Span>,
    /// Where the type that it returns stands.
    pub(crate) returned: Option<Span>,
}

/// Exports that mean something else to the host.
const TAKEN: [&str; 4] = ["memory", "main", "_start", "_initialize"];

impl Head {
    /// Reads an item; `kind` is the attribute's name.
    pub(crate) fn of(item: TokenStream, kind: &str) -> Result<Self, Mistake> {
        let mut tokens = item.into_iter().peekable();
        skip_attributes_and_visibility(&mut tokens);
        skip_to_fn(&mut tokens, kind)?;
        let Some(TokenTree::Ident(name)) = tokens.next() else { return Err(not_a_function(kind)) };
        if TAKEN.contains(&name.to_string().as_str()) {
            return Err(Mistake::new(
                name.span(),
                format!("`{name}` can't be a hook's export: give the function another name"),
            ));
        }
        let parameters = match tokens.next() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
            other => return Err(generic(other, kind)),
        };
        Ok(Self { name, parameter: parameter(&parameters, kind)?, returned: returned(&mut tokens) })
    }
}

type Tokens = Peekable<token_stream::IntoIter>;

fn skip_attributes_and_visibility(tokens: &mut Tokens) {
    while let Some(token) = tokens.peek() {
        let is_before_function = match token {
            TokenTree::Punct(punct) => punct.as_char() == '#',
            TokenTree::Ident(word) => word.to_string() == "pub",
            TokenTree::Group(_) => true,
            TokenTree::Literal(_) => false,
        };
        if !is_before_function {
            return;
        }
        tokens.next();
    }
}

fn skip_to_fn(tokens: &mut Tokens, kind: &str) -> Result<(), Mistake> {
    for token in tokens.by_ref() {
        let TokenTree::Ident(word) = &token else { return Err(not_a_function(kind)) };
        match word.to_string().as_str() {
            "fn" => return Ok(()),
            "const" => {}
            "async" => {
                return Err(Mistake::new(
                    word.span(),
                    format!("an `#[{kind}]` can't be async: host calls return when they are answered"),
                ));
            }
            "unsafe" | "extern" => {
                return Err(Mistake::new(
                    word.span(),
                    format!("an `#[{kind}]` is a plain function: the export is made for it"),
                ));
            }
            _ => return Err(Mistake::new(word.span(), format!("`#[{kind}]` stands before a function"))),
        }
    }
    Err(not_a_function(kind))
}

fn not_a_function(kind: &str) -> Mistake {
    Mistake::new(Span::call_site(), format!("`#[{kind}]` stands before a function"))
}

fn generic(token: Option<TokenTree>, kind: &str) -> Mistake {
    let place = token.map_or(Span::call_site(), |token| token.span());
    Mistake::new(place, format!("an `#[{kind}]` can't be generic: the hook's value has one type"))
}

/// Returns where the type of the only parameter stands.
fn parameter(parameters: &Group, kind: &str) -> Result<Option<Span>, Mistake> {
    let mut parameters = separated(parameters.stream()).into_iter();
    let Some(first) = parameters.next() else { return Ok(None) };
    if let Some(second) = parameters.next() {
        let text = format!(
            "an `#[{kind}]` takes one parameter, the hook's value; \
             `fuseboard_guest::context()`, `settings()` and `call_info()` give the rest"
        );
        return Err(Mistake::new(second[0].span(), text));
    }
    let mut kind_tokens = first.iter().skip_while(|token| !is_punct(token, ':')).skip(1);
    match kind_tokens.next() {
        None => Err(Mistake::new(first[0].span(), format!("an `#[{kind}]` is a free function: it has no `self`"))),
        Some(token) if is_punct(token, '&') => {
            let text =
                format!("an `#[{kind}]` owns its value: take `String` for `&str`, `Vec<u8>` for `&[u8]`, `T` for `&T`");
            Err(Mistake::new(token.span(), text))
        }
        Some(token) => Ok(Some(token.span())),
    }
}

/// Returns what stands between commas, of which those inside of `<` and `>` don't count.
fn separated(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut parts = vec![Vec::new()];
    let mut depth = 0;
    let mut is_arrow = false;
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' && !is_arrow => depth -= 1,
            _ => {}
        }
        is_arrow = is_punct(&token, '-');
        match parts.last_mut() {
            Some(part) if depth > 0 || !is_punct(&token, ',') => part.push(token),
            _ => parts.push(Vec::new()),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Returns where the type behind `->` begins.
fn returned(tokens: &mut Tokens) -> Option<Span> {
    let is_arrow = |token: &TokenTree| is_punct(token, '-');
    tokens.next_if(is_arrow)?;
    tokens.next()?;
    tokens.next().map(|token| token.span())
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}
