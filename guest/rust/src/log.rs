//! The plugin's log: `log::info!("{count} words")`.
//!
//! An invocation can log 1,024 lines and, by default, 64 KiB; what goes beyond is dropped after one notice.

use std::fmt;

use crate::abi::level;
use crate::imports;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// What was done.
    Info,
    /// Something is odd, and the plugin went on.
    Warning,
    /// Something couldn't be done.
    Error,
    /// The plugin is of no use like this.
    Critical,
}

/// Logs a text at a level. The macros are shorter.
pub fn write(level: Level, text: &str) {
    let number = match level {
        Level::Debug => level::DEBUG,
        Level::Info => level::INFO,
        Level::Warning => level::WARNING,
        Level::Error => level::ERROR,
        Level::Critical => level::CRITICAL,
    };
    imports::log(number, text);
}

/// For the macros: a text without arguments isn't copied.
#[doc(hidden)]
pub fn format(level: Level, arguments: fmt::Arguments<'_>) {
    match arguments.as_str() {
        Some(text) => write(level, text),
        None => write(level, &arguments.to_string()),
    }
}

macro_rules! macros {
    ($dollar:tt $($hidden:ident $name:ident $level:ident $doc:literal;)+) => {$(
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $hidden {
            ($dollar($dollar argument:tt)*) => {
                $crate::log::format($crate::log::Level::$level, ::core::format_args!($dollar($dollar argument)*))
            };
        }

        #[doc = $doc]
        #[doc(inline)]
        pub use $hidden as $name;
    )+};
}

macros! { $
    __log_debug debug Debug "Logs at level debug, with the arguments of [`format!`].";
    __log_info info Info "Logs at level info, with the arguments of [`format!`].";
    __log_warning warning Warning "Logs at level warning, with the arguments of [`format!`].";
    __log_error error Error "Logs at level error, with the arguments of [`format!`].";
    __log_critical critical Critical "Logs at level critical, with the arguments of [`format!`].";
}
