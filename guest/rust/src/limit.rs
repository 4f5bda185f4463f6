//! What is left of the invocation's limits.

use crate::abi::limit;
use crate::imports;

/// A limit of the invocation. Reaching beyond it ends the invocation and undoes its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Linear memory and tables, in bytes.
    Memory,
    /// Instructions and the host's work for the plugin, in fuel.
    Fuel,
    /// Wall clock, in milliseconds.
    Timeout,
    /// HTTP requests, and redirects followed for them.
    HttpFetches,
    /// Database queries and statements.
    DbQueries,
    /// Bytes of keys and values written.
    KvWriteBytes,
}

impl Limit {
    /// Returns how much is left, in the limit's unit.
    pub fn remaining(self) -> u64 {
        u64::try_from(imports::meter_remaining(self.number())).unwrap_or(0)
    }

    fn number(self) -> i32 {
        match self {
            Self::Memory => limit::MEMORY,
            Self::Fuel => limit::FUEL,
            Self::Timeout => limit::TIMEOUT,
            Self::HttpFetches => limit::HTTP_FETCHES,
            Self::DbQueries => limit::DB_QUERIES,
            Self::KvWriteBytes => limit::KV_WRITE_BYTES,
        }
    }
}
