//! WASI preview 1, as far as the runtimes of languages need it: clocks, random bytes, printing, sleep and exit.
//!
//! Rules:
//! * One table has every function of preview 1; what isn't in it is refused at load, by name.
//! * There are no files, sockets, arguments and variables. Three descriptors are streams: an empty input, and two that
//!   are printed to the log. Any other is answered with `EBADF`: runtimes take that well, Go panics on `ENOSYS`.
//! * Clocks are coarse: what a guest could measure finer, of its host's other work, is nothing that it needs.

use std::time::Duration;

use wasmtime as wt;
use wasmtime::{FuncType, Linker, Val, ValType};

use crate::guest::Guest;
use crate::import::{Context, enter};
use crate::limits::IMPORT_FUEL;
use crate::wasi_calls::{Call, Errno};

/// The module name that guests import from.
pub const WASI_MODULE: &str = "wasi_snapshot_preview1";

/// What clocks are read in.
pub const CLOCK_TICK: Duration = Duration::from_millis(1);

/// A function of preview 1.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// A letter each: `i` for 32 bits, `l` for 64.
    parameters: &'static str,
    does: Does,
}

/// What a function does.
#[derive(Clone, Copy)]
enum Does {
    /// Nothing, which is success.
    Nothing,
    /// Answers so about a stream, which its first argument must be.
    AboutStream(Errno),
    /// Writes two zeros: there are none, of no bytes.
    CountNone,
    ClockResolution,
    ClockTime,
    Random,
    StreamStatus,
    FileStatus,
    Read,
    Write,
    Poll,
    Exit,
    Raise,
}

const fn function(name: &'static str, parameters: &'static str, does: Does) -> Function {
    Function { name, parameters, does }
}

const fn about_stream(name: &'static str, parameters: &'static str, errno: Errno) -> Function {
    function(name, parameters, Does::AboutStream(errno))
}

/// Every function of preview 1, in the order of its specification.
pub(crate) const FUNCTIONS: [Function; 46] = [
    function("args_get", "ii", Does::Nothing),
    function("args_sizes_get", "ii", Does::CountNone),
    function("environ_get", "ii", Does::Nothing),
    function("environ_sizes_get", "ii", Does::CountNone),
    function("clock_res_get", "ii", Does::ClockResolution),
    function("clock_time_get", "ili", Does::ClockTime),
    about_stream("fd_advise", "illi", Errno::Spipe),
    about_stream("fd_allocate", "ill", Errno::Inval),
    about_stream("fd_close", "i", Errno::Success),
    about_stream("fd_datasync", "i", Errno::Success),
    function("fd_fdstat_get", "ii", Does::StreamStatus),
    about_stream("fd_fdstat_set_flags", "ii", Errno::Success),
    about_stream("fd_fdstat_set_rights", "ill", Errno::Success),
    function("fd_filestat_get", "ii", Does::FileStatus),
    about_stream("fd_filestat_set_size", "il", Errno::Inval),
    about_stream("fd_filestat_set_times", "illi", Errno::Notsup),
    about_stream("fd_pread", "iiili", Errno::Spipe),
    about_stream("fd_prestat_get", "ii", Errno::Badf),
    about_stream("fd_prestat_dir_name", "iii", Errno::Badf),
    about_stream("fd_pwrite", "iiili", Errno::Spipe),
    function("fd_read", "iiii", Does::Read),
    about_stream("fd_readdir", "iiili", Errno::Notdir),
    about_stream("fd_renumber", "ii", Errno::Notsup),
    about_stream("fd_seek", "ilii", Errno::Spipe),
    about_stream("fd_sync", "i", Errno::Success),
    about_stream("fd_tell", "ii", Errno::Spipe),
    function("fd_write", "iiii", Does::Write),
    about_stream("path_create_directory", "iii", Errno::Notdir),
    about_stream("path_filestat_get", "iiiii", Errno::Notdir),
    about_stream("path_filestat_set_times", "iiiilli", Errno::Notdir),
    about_stream("path_link", "iiiiiii", Errno::Notdir),
    about_stream("path_open", "iiiiillii", Errno::Notdir),
    about_stream("path_readlink", "iiiiii", Errno::Notdir),
    about_stream("path_remove_directory", "iii", Errno::Notdir),
    about_stream("path_rename", "iiiiii", Errno::Notdir),
    // The first argument is a text's pointer: whatever it is, the descriptor behind the text is no folder's.
    function("path_symlink", "iiiii", Does::AboutStream(Errno::Badf)),
    about_stream("path_unlink_file", "iii", Errno::Notdir),
    function("poll_oneoff", "iiii", Does::Poll),
    function("proc_exit", "i", Does::Exit),
    function("proc_raise", "i", Does::Raise),
    function("sched_yield", "", Does::Nothing),
    function("random_get", "ii", Does::Random),
    about_stream("sock_accept", "iii", Errno::Notsock),
    about_stream("sock_recv", "iiiiii", Errno::Notsock),
    about_stream("sock_send", "iiiii", Errno::Notsock),
    about_stream("sock_shutdown", "ii", Errno::Notsock),
];

/// The names of all functions, each with a letter for each parameter: `i` for 32 bits, `l` for 64.
pub fn wasi_functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    FUNCTIONS.iter().map(|function| (function.name, function.parameters))
}

/// Defines every function.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wt::Result<()> {
    for function in &FUNCTIONS {
        let ty = function.ty(linker.engine());
        linker.func_new_async(WASI_MODULE, function.name, ty, move |caller, arguments, results| {
            Box::new(async move {
                let errno = function.call(caller, arguments).await?;
                if let [result] = results {
                    *result = Val::I32(errno as i32);
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

impl Function {
    fn ty(&self, engine: &wt::Engine) -> FuncType {
        let parameters = self.parameters.chars().map(|letter| if letter == 'l' { ValType::I64 } else { ValType::I32 });
        let result = (!matches!(self.does, Does::Exit)).then_some(ValType::I32);
        FuncType::new(engine, parameters, result)
    }

    async fn call(&self, mut caller: Context<'_>, arguments: &[Val]) -> wt::Result<Errno> {
        enter(&mut caller, IMPORT_FUEL).await?;
        let mut call = Call { caller, function: self.name, arguments };
        match self.does {
            Does::Nothing => Ok(Errno::Success),
            Does::AboutStream(errno) => Ok(call.about_stream(errno)),
            Does::CountNone => call.count_none(),
            Does::ClockResolution => call.clock_resolution(),
            Does::ClockTime => call.clock_time(),
            Does::Random => call.random().await,
            Does::StreamStatus => call.stream_status(),
            Does::FileStatus => call.file_status(),
            Does::Read => call.read(),
            Does::Write => call.write(),
            Does::Poll => call.poll().await,
            Does::Exit => Err(call.exit()),
            Does::Raise => Err(call.raise()),
        }
    }
}
