//! The numbers of guest ABI 1, one constant a line, by the names that the host has for them.

/// What can be read.
pub(crate) mod buffer {
    pub(crate) const VALUE: i32 = 0;
    pub(crate) const CONTEXT: i32 = 1;
    pub(crate) const REPLY_HEAD: i32 = 2;
    pub(crate) const REPLY_BODY: i32 = 3;
    pub(crate) const SETTINGS: i32 = 4;
    pub(crate) const CALL_INFO: i32 = 5;
}

/// What a host call returns instead of the length of the reply's body.
pub(crate) mod answer {
    pub(crate) const DENIED: i32 = -1;
    pub(crate) const BAD_REQUEST: i32 = -2;
    pub(crate) const NOT_FOUND: i32 = -3;
    pub(crate) const BACKEND_FAILED: i32 = -4;
    pub(crate) const TOO_LARGE: i32 = -5;
    pub(crate) const CONFLICT: i32 = -6;
}

/// How grave a line of the log is.
pub(crate) mod level {
    pub(crate) const DEBUG: i32 = 0;
    pub(crate) const INFO: i32 = 1;
    pub(crate) const WARNING: i32 = 2;
    pub(crate) const ERROR: i32 = 3;
    pub(crate) const CRITICAL: i32 = 4;
}

/// The limits of an invocation.
pub(crate) mod limit {
    pub(crate) const MEMORY: i32 = 0;
    pub(crate) const FUEL: i32 = 1;
    pub(crate) const TIMEOUT: i32 = 2;
    pub(crate) const HTTP_FETCHES: i32 = 3;
    pub(crate) const DB_QUERIES: i32 = 4;
    pub(crate) const KV_WRITE_BYTES: i32 = 5;
}
