//! Fuzz targets for what reads a stranger's bytes, and a generator of random modules.
//!
//! | module | is |
//! |---|---|
//! | [`scanning`] | the target `fuzz-scan`: any bytes are offered to the pre-scan |
//! | [`loading`] | the target `fuzz-load`: a module, perhaps made from dice, is loaded and run |
//! | [`calling`] | the target `fuzz-abi`: a guest calls imports with any pointers, lengths and numbers |
//! | [`preview1`] | the target `fuzz-wasi`: a guest calls the functions of WASI with any arguments |
//! | `session` | one input of the target `fuzz-abi` |
//! | [`script`] | what that guest is told to do, and how it is written down for it |
//! | [`model`] | what the ABI's page says that those calls do, written a second time |
//! | [`smith`] | random modules from dice |
//! | [`inputs`] | the inputs that fuzzing starts from: small modules, and inputs that were findings once |
//!
//! Rules:
//! * A target panics where a rule of the host was broken, and nowhere else; what a panic says names the rule.
//! * A target is a function of its bytes alone, so that an input found is an input that is found again.
//! * Nothing here runs in the product, nor is anything of the product changed for it.
#![allow(clippy::panic, reason = "how a target says that it found something")]

pub mod calling;
pub mod inputs;
pub mod loading;
pub mod model;
pub mod preview1;
pub mod scanning;
pub mod script;
mod session;
pub mod smith;
