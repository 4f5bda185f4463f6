//! Forks: no guest is at work while the process is copied, and an execution stays where it began.
//!
//! Rules:
//! * Who works without the lock that a fork holds (Python's GIL) has a [`Working`]. A fork waits for all of
//!   them, so that no lock of the engine is held in the child by a thread that isn't there.
//! * An execution belongs to the process in which it began. In a child it can only be closed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

/// Waits until nobody works, and keeps it so. To be called before a fork, on the thread that forks.
pub fn before() {
    let guard = WORK.write().unwrap_or_else(PoisonError::into_inner);
    HALTED.with_borrow_mut(|halted| *halted = Some(guard));
}

/// Lets work go on. To be called after a fork, in the parent, on the thread that forked.
pub fn after_in_parent() {
    HALTED.with_borrow_mut(|halted| drop(halted.take()));
}

/// Lets work go on, and makes every execution there is an inherited one. To be called in the child.
pub fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    after_in_parent();
}

/// How many forks lie between this process and the first.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}
