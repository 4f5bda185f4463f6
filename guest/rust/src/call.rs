//! Functions of the application.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::buffer;
use crate::error::{answered, asked};
use crate::{Error, imports, json};

/// Calls a function of the application by its name and returns its result.
///
/// The arguments go by name: a struct, a map or `json!({…})`. Ask for the result as [`Value`](crate::Value), or as
/// `Option<…>`, where it can be anything.
///
/// ```no_run
/// use fuseboard_guest::{Error, Value, call, json};
///
/// fn tell(subject: &str) -> Result<(), Error> {
///     let _: Value = call("mail.send", &json!({"to": "editor@example.com", "subject": subject}))?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// [`Code::Denied`](crate::Code::Denied) where it wasn't granted, [`Code::BadRequest`](crate::Code::BadRequest) where the
/// arguments don't fit, [`Code::BackendFailed`](crate::Code::BackendFailed) where it failed,
/// [`Code::BadReply`](crate::Code::BadReply) where its result doesn't fit the type of yours.
pub fn call<T: DeserializeOwned>(name: &str, arguments: &(impl Serialize + ?Sized)) -> Result<T, Error> {
    let what = || asked("call", name);
    let arguments = json::encode(arguments, what)?;
    answered(imports::call(name.as_bytes(), &arguments), what)?;
    json::decode_reply(&imports::read(buffer::REPLY_BODY), what)
}
