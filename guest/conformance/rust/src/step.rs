//! The steps of a scenario.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;
use std::thread;
use std::time::{Duration, SystemTime};

use fuseboard_guest::http::Request;
use fuseboard_guest::{Error, Limit, Value, call, call_info, context, db, json, kv, log, settings};
use serde::Deserialize;

use crate::hex;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Step {
    Context,
    Settings,
    CallInfo,
    Meter { limit: String },
    Log { level: String, text: String },
    Http { method: String, url: String, headers: Vec<(String, String)>, body: String },
    DbQuery { sql: String, params: Vec<Value> },
    DbExec { sql: String, params: Vec<Value> },
    KvGet { key: String },
    KvSet { key: String, value: String, seconds: Option<u64> },
    KvDelete { key: String },
    KvIncrement { key: String, by: i64 },
    Call { name: String, args: Value },
    Fail { message: String },
    Crash,
    Loop,
    Allocate { mib: usize },
    Text { length: usize },
    Repeat { times: usize, step: Value },
    Told { step: Value },
    Print { text: String, to: String },
    Now,
    Random,
    Sleep { ms: u64 },
}

/// What ends a step without a result of its own.
enum Ended {
    /// The host answered with an error; the next step runs.
    Refused(Error),
    /// The invocation fails.
    Failed(String),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<String> for Ended {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// Runs a step and returns its result.
pub fn result(step: Value) -> Result<Value, String> {
    match tried(step) {
        Ok(result) => Ok(result),
        Err(Ended::Refused(error)) => Ok(json!({"error": error.code().name(), "reason": error.reason()})),
        Err(Ended::Failed(message)) => Err(message),
    }
}

fn tried(step: Value) -> Result<Value, Ended> {
    Step::deserialize(step).map_err(|error| Ended::Failed(error.to_string())).and_then(done)
}

fn done(step: Step) -> Result<Value, Ended> {
    match step {
        Step::Context => Ok(context()?),
        Step::Settings => Ok(settings()?),
        Step::CallInfo => Ok(info()),
        Step::Meter { limit } => Ok(json!(named_limit(&limit)?.remaining())),
        Step::Log { level, text } => Ok(logged(&level, &text)?),
        Step::Http { method, url, headers, body } => Ok(fetched(&method, &url, headers, body)?),
        Step::DbQuery { sql, params } => {
            let rows = db::query_rows(&sql, &params)?;
            Ok(json!({"columns": rows.columns, "rows": rows.rows}))
        }
        Step::DbExec { sql, params } => Ok(json!({"rows_changed": db::exec(&sql, &params)?})),
        Step::KvGet { key } => Ok(json!(kv::get(key)?.map(|value| hex::encode(&value)))),
        Step::KvSet { key, value, seconds } => set(&key, &value, seconds),
        Step::KvDelete { key } => Ok(json!(kv::delete(key)?)),
        Step::KvIncrement { key, by } => Ok(json!(kv::increment(key, by)?)),
        Step::Call { name, args } => Ok(call(&name, &args)?),
        Step::Fail { message } => Err(Ended::Failed(message)),
        Step::Crash => std::process::abort(),
        Step::Loop => endless(),
        Step::Allocate { mib } => Ok(allocated(mib)),
        Step::Text { length } => Ok(json!("x".repeat(length))),
        Step::Repeat { times, step } => Ok(repeated(times, &step)?),
        Step::Told { step } => told(step),
        Step::Print { text, to } => Ok(printed(&text, &to)?),
        Step::Now => Ok(json!(now()?)),
        Step::Random => Ok(json!(random())),
        Step::Sleep { ms } => {
            thread::sleep(Duration::from_millis(ms));
            Ok(Value::Null)
        }
    }
}

fn info() -> Value {
    let info = call_info();
    json!({"hook": info.hook, "request_id": info.request_id, "scope": info.scope, "plugin": info.plugin})
}

fn named_limit(name: &str) -> Result<Limit, String> {
    match name {
        "memory" => Ok(Limit::Memory),
        "fuel" => Ok(Limit::Fuel),
        "timeout" => Ok(Limit::Timeout),
        "http_fetches" => Ok(Limit::HttpFetches),
        "db_queries" => Ok(Limit::DbQueries),
        "kv_write_bytes" => Ok(Limit::KvWriteBytes),
        other => Err(format!("there is no limit {other:?}")),
    }
}

fn logged(level: &str, text: &str) -> Result<Value, String> {
    match level {
        "debug" => log::debug!("{text}"),
        "info" => log::info!("{text}"),
        "warning" => log::warning!("{text}"),
        "error" => log::error!("{text}"),
        "critical" => log::critical!("{text}"),
        other => return Err(format!("there is no level {other:?}")),
    }
    Ok(Value::Null)
}

fn fetched(method: &str, url: &str, headers: Vec<(String, String)>, body: String) -> Result<Value, Error> {
    let request = Request::new(method, url).body(body);
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let response = request.send()?;
    Ok(json!({"status": response.status, "headers": response.headers, "body": response.text()?}))
}

fn set(key: &str, value: &str, seconds: Option<u64>) -> Result<Value, Ended> {
    let value = hex::decode(value)?;
    match seconds {
        None => kv::set(key, value)?,
        Some(seconds) => kv::set_for(key, value, Duration::from_secs(seconds))?,
    }
    Ok(Value::Null)
}

fn endless() -> ! {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

fn allocated(mib: usize) -> Value {
    black_box(vec![1_u8; mib << 20].leak());
    Value::Null
}

fn repeated(times: usize, step: &Value) -> Result<Value, String> {
    (0..times).try_fold(Value::Null, |_, _| result(step.clone()))
}

/// Returns the text of the error that a step is answered with.
fn told(step: Value) -> Result<Value, Ended> {
    match tried(step) {
        Err(Ended::Refused(error)) => Ok(json!(error.to_string())),
        other => other,
    }
}

fn printed(text: &str, to: &str) -> Result<Value, String> {
    match to {
        "stdout" => println!("{text}"),
        "stderr" => eprintln!("{text}"),
        other => return Err(format!("there is no {other:?} to print to")),
    }
    Ok(Value::Null)
}

fn now() -> Result<u64, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map(|time| time.as_secs()).map_err(|error| error.to_string())
}

/// Returns 16 bytes of the library's own randomness, which seeds its hash maps.
fn random() -> String {
    let halves = [RandomState::new(), RandomState::new()].map(|state| state.build_hasher().finish());
    hex::encode(&halves.map(u64::to_be_bytes).concat())
}
