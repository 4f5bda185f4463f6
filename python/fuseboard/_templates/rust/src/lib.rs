//! My Plugin: what it makes of a post's title.

use fuseboard_guest::{Error, filter, settings};
use serde::Deserialize;

/// The settings of plugin.toml, with the operator's over them.
#[derive(Deserialize)]
struct Settings {
    ending: String,
}

/// Serves the hook `post.title`. Its value is JSON, here a string; one that isn't never gets here.
///
/// `Some` is the new value, `None` leaves it as it is, and an error ends the invocation with its text.
#[filter]
fn post_title(title: String) -> Result<Option<String>, Error> {
    let title = title.trim();
    if title.is_empty() {
        return Ok(None);
    }
    let settings: Settings = settings()?;
    Ok(Some(format!("{title}{}", settings.ending)))
}

// Where to go on, all of it in `fuseboard_guest`:
// - another hook: a `[[hooks]]` table in plugin.toml and a function here, with `#[filter]` or `#[action]`
// - what the application says beside the value: `context`; what the call is about: `call_info`
// - the log: `log::info!("{title} is long")`; what is left of a limit: `Limit::Fuel.remaining()`
// - with a capability in plugin.toml: `http::Request`, `db::query`, `kv::get`, `call`
