//! Function names as their authors wrote them: compilers of Rust and C++ write them otherwise.
//!
//! Rule: a name is a stranger's, and a short one can stand for one without end. So much of it is written, no more.

use std::borrow::Cow;
use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, Symbol};

/// The longest mangled name that is looked at, and the most that is written of one, in bytes.
const MOST_BYTES: usize = 512;

/// Returns a name as its author wrote it, cut where that is long; a name of another kind as it is.
pub(crate) fn demangled(name: &str) -> Cow<'_, str> {
    if name.len() > MOST_BYTES || !name.starts_with("_Z") && !name.starts_with("_R") {
        return name.into();
    }
    let mut written = Cut(String::new());
    // An end that comes by the cut is as good as another.
    let _ = match rustc_demangle::try_demangle(name) {
        Ok(rust) => write!(written, "{rust:#}"),
        Err(_) => match Symbol::new(name) {
            Ok(symbol) => symbol.structured_demangle(&mut written, &DemangleOptions::default()),
            Err(_) => return name.into(),
        },
    };
    written.0.into()
}

/// Takes so much text, and ends whoever writes more.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_their_authors_wrote_them() {
        for (name, shown) in [
            ("_ZN15fuseboard_guest7imports4fail17h0123456789abcdefE", "fuseboard_guest::imports::fail"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_Z3runi", "run(int)"),
            ("_ZN5board4fuse4tripEv", "board::fuse::trip()"),
            ("run", "run"),
            ("main.run", "main.run"),
            ("_Zwhatever", "_Zwhatever"),
            ("_Rwhatever", "_Rwhatever"),
            ("", ""),
        ] {
            assert_eq!(demangled(name), shown);
        }
    }

    /// A name that doubles with each of its 18 parts ends at the cut, and at once.
    #[test]
    fn names_without_end_are_cut() {
        let pairs: String = "02468ACEGIKMOQSUWY".chars().map(|pair| format!("1pIS{pair}_S{pair}_E")).collect();
        let doubling = format!("_Z1f1pIiiE{pairs}");
        assert!(demangled(&doubling).starts_with("f(p<int, int>, p<p<int, int>, p<int, int> >, p<p<p<int, int>,"));
        let nested = format!("_Z1f{}i{}", "1aI".repeat(100), "E".repeat(100));
        for name in [doubling, nested, "_Z".repeat(200), "_RNv".repeat(100)] {
            let began = std::time::Instant::now();
            assert!(demangled(&name).len() <= MOST_BYTES);
            assert!(began.elapsed().as_millis() < 100);
        }
    }
}
