//! The plugin's own database. Changes last when the invocation completes.
//!
//! Parameters stand for `$1`, `$2` … in the SQL: a tuple, an array or a slice, `()` where there are none. Bytes go as
//! [`Bytes`].
//!
//! ```no_run
//! use fuseboard_guest::{Error, db};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Note {
//!     id: i64,
//!     text: String,
//! }
//!
//! fn replaced(post: i64, text: &str) -> Result<Vec<Note>, Error> {
//!     let old = db::query("SELECT id, text FROM notes WHERE post = $1", (post,))?;
//!     db::exec("UPDATE notes SET text = $2 WHERE post = $1", (post, text))?;
//!     Ok(old)
//! }
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::abi::buffer;
use crate::error::{answered, asked};
use crate::row::Row;
use crate::{Code, Error, imports, json};

/// Runs a statement that gives rows, and returns them as values of a type of yours.
///
/// A struct is filled by the columns' names, a tuple by their order.
///
/// # Errors
/// What the host answered: [`Code::BadRequest`] for SQL that the database doesn't take …;
/// [`Code::BadReply`] where a row doesn't fit the type of yours.
pub fn query<T: DeserializeOwned>(sql: &str, params: impl Params) -> Result<Vec<T>, Error> {
    let Rows { columns, rows } = query_rows(sql, params)?;
    let typed = |values| T::deserialize(Row { columns: &columns, values });
    let rows = rows.into_iter().map(typed).collect::<Result<_, _>>();
    rows.map_err(|error| Error::new(asked("query", sql), Code::BadReply, error.to_string()))
}

/// Runs a statement that gives rows, and returns them with the columns' names, untyped.
///
/// # Errors
/// What the host answered.
pub fn query_rows(sql: &str, params: impl Params) -> Result<Rows, Error> {
    let what = || asked("query", sql);
    let params = json::encode(&params.as_array(), what)?;
    answered(imports::db_query(sql.as_bytes(), &params), what)?;
    json::decode_reply(&imports::read(buffer::REPLY_BODY), what)
}

/// Runs a statement that changes something, and returns how many rows.
///
/// # Errors
/// What the host answered: [`Code::Denied`] where only reading was granted,
/// [`Code::Conflict`] where a constraint of a table stands against it …
pub fn exec(sql: &str, params: impl Params) -> Result<u64, Error> {
    #[derive(Deserialize)]
    struct Head {
        rows_changed: u64,
    }
    let what = || asked("exec", sql);
    let params = json::encode(&params.as_array(), what)?;
    answered(imports::db_exec(sql.as_bytes(), &params), what)?;
    json::decode_reply(&imports::read(buffer::REPLY_HEAD), what).map(|head: Head| head.rows_changed)
}

/// Rows as they came.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Rows {
    /// The columns' names.
    pub columns: Vec<String>,
    /// A value for each column in each row; bytes are base64 text.
    pub rows: Vec<Vec<Value>>,
}

/// Bytes as a parameter, or in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64)
    }
}

struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes as base64 text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
        STANDARD.decode(text).map(Bytes).map_err(|error| E::custom(format_args!("no base64: {error}")))
    }
}

/// What can stand for `$1`, `$2` … in SQL.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the parameters of an SQL statement",
    label = "not a tuple, an array or a slice",
    note = "parameters are a tuple of values that are `Serialize`, at most 12, such as `(id,)` or `(id, &title)`",
    note = "or an array or slice of them; `()` is none"
)]
pub trait Params: private::Params {}

mod private {
    pub trait Params {
        fn as_array(&self) -> impl serde::Serialize;
    }
}

impl<T: private::Params> Params for T {}

impl private::Params for () {
    fn as_array(&self) -> impl Serialize {
        [(); 0]
    }
}

impl<T: Serialize, const N: usize> private::Params for [T; N] {
    fn as_array(&self) -> impl Serialize {
        self.as_slice()
    }
}

impl<T: Serialize> private::Params for &[T] {
    fn as_array(&self) -> impl Serialize {
        *self
    }
}

impl<T: Serialize> private::Params for &Vec<T> {
    fn as_array(&self) -> impl Serialize {
        self.as_slice()
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Serialize),+> private::Params for ($($name,)+) {
            fn as_array(&self) -> impl Serialize {
                self
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);
tuples!(A B C D E F G H I J);
tuples!(A B C D E F G H I J K);
tuples!(A B C D E F G H I J K L);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Bytes;
    use super::private::Params;

    fn written(params: impl Params) -> Value {
        json!(params.as_array())
    }

    #[test]
    fn parameters_are_an_array() {
        assert_eq!(written(()), json!([]));
        assert_eq!(written((7,)), json!([7]));
        assert_eq!(written((7, "a", 1.5, None::<bool>)), json!([7, "a", 1.5, null]));
        assert_eq!(written(["a", "b"]), json!(["a", "b"]));
        assert_eq!(written(&vec![json!(1), json!("b")]), json!([1, "b"]));
        assert_eq!(written((Bytes(b"hi".to_vec()),)), json!([{"base64": "aGk="}]));
    }
}
