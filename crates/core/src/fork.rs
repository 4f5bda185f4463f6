//! Forks: no guest is at work while the process is copied, and an execution stays where it began.
//!
//! Rules:
//! * Who works without the lock that a fork holds (Python's GIL) has a [`Working`]. A fork waits for all of
//!   them, so that no lock of the engine is held in the child by a thread that isn't there.
//! * An execution belongs to the process in which it began. In a child it can only be closed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static WORK: RwLock<()> = RwLock::new(());
static GENERATION: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static HALTED: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Keeps forks waiting until it is dropped.
pub struct Working {
    _guard: RwLockReadGuard<'static, ()>,
}

/// Begins work that a fork must not cut in two. Waits for a fork that has begun.
pub fn working() -> Working {
    Working { _guard: WORK.read().unwrap_or_else(PoisonError::into_inner) }
}

/// Has every fork of this process wait for those who work, from now on.
///
/// The handlers are the C library's: they run when all that a program does before a fork is done, and the lock
/// of its interpreter isn't given up any more until the fork is over. Handlers of the interpreter would come
/// before others that may wait for somebody who waits to work.
///
/// # Errors
/// The C library has no memory for them.
pub(crate) fn watch() -> Result<(), &'static str> {
    #[cfg(unix)]
    {
        static REFUSED: OnceLock<i32> = OnceLock::new();
        // Safety: the handlers are functions of this library, which is never unloaded.
        #[expect(unsafe_code, reason = "there is no safe way to learn of a fork")]
        let register = || unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
        if *REFUSED.get_or_init(register) != 0 {
            return Err("there is no memory for fork handlers");
        }
    }
    Ok(())
}

/// Waits until nobody works, and keeps it so.
extern "C" fn before() {
    let guard = WORK.write().unwrap_or_else(PoisonError::into_inner);
    HALTED.with_borrow_mut(|halted| *halted = Some(guard));
}

extern "C" fn after_in_parent() {
    HALTED.with_borrow_mut(|halted| drop(halted.take()));
}

/// Makes every execution that there is an inherited one.
extern "C" fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    after_in_parent();
}

/// Has this process end with the thread that began it, where the system can: on Linux.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    {
        // Safety: it takes and gives numbers only.
        #[expect(unsafe_code, reason = "there is no safe way to ask for it")]
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
    }
}

/// How many forks lie between this process and the first.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}
