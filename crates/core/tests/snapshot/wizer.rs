//! The oracle: another implementation of snapshots, on the engine as it is by default.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wasmtime as wt;
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

struct State {
    store: wt::Store<()>,
    instance: wt::Instance,
}

impl InstanceState for State {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name).unwrap();
        match global.get(&mut self.store) {
            wt::Val::I32(value) => SnapshotVal::I32(value),
            wt::Val::I64(value) => SnapshotVal::I64(value),
            wt::Val::F32(value) => SnapshotVal::F32(value),
            wt::Val::F64(value) => SnapshotVal::F64(value),
            wt::Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            other => panic!("a global of another type: {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name).unwrap();
        contents(memory.data(&self.store));
    }
}

/// Returns wizer's snapshot, or its reason.
pub(crate) fn snapshot(wasm: &[u8], named: Option<&str>) -> wt::Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(named.unwrap_or("none"));
    let (context, instrumented) = wizer.instrument(wasm)?;
    let mut config = wt::Config::new();
    config.gc_support(false);
    let engine = wt::Engine::new(&config)?;
    let module = wt::Module::from_binary(&engine, &instrumented)?;
    let mut linker = wt::Linker::new(&engine);
    let mut store = wt::Store::new(&engine, ());
    linker.define_unknown_imports_as_default_values(&mut store, &module)?;
    let instance = linker.instantiate(&mut store, &module)?;
    for export in ["_initialize"].into_iter().chain(named) {
        if let Ok(function) = instance.get_typed_func::<(), ()>(&mut store, export) {
            function.call(&mut store, ())?;
        }
    }
    done(wizer.snapshot(&context, &mut State { store, instance }))
}

/// Waits for what never has to.
fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("wizer waits"),
    }
}
