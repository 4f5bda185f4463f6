//! A row of the database as a type of the plugin's.

use std::fmt::Display;
use std::iter::zip;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::{Error, Value};

/// A row to decode: a map from columns where a struct or a map is asked for, else a sequence.
pub(crate) struct Row<'rows> {
    pub(crate) columns: &'rows [String],
    pub(crate) values: Vec<Value>,
}

impl<'rows> Row<'rows> {
    fn cells(self) -> impl Iterator<Item = Cell<'rows>> {
        zip(self.columns, self.values).map(|(column, value)| Cell { column, value })
    }
}

impl<'de> Deserializer<'de> for Row<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        SeqDeserializer::new(self.cells()).deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.cells().map(|cell| (cell.column, cell))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

/// A value in a row, whose errors name the column.
struct Cell<'rows> {
    column: &'rows str,
    value: Value,
}

impl<'de> IntoDeserializer<'de, Error> for Cell<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor).map_err(in_column(self.column))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_option(visitor).map_err(in_column(self.column))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_newtype_struct(name, visitor).map_err(in_column(self.column))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor).map_err(in_column(self.column))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

fn in_column<E: Display>(column: &str) -> impl FnOnce(E) -> Error {
    move |error| Error::custom(format_args!("{column}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::Row;
    use crate::db::Bytes;

    fn row<T: DeserializeOwned>(values: Value) -> Result<T, String> {
        let columns = ["id", "text"].map(String::from);
        let Value::Array(values) = values else { panic!("a row is an array") };
        T::deserialize(Row { columns: &columns, values }).map_err(|error| error.to_string())
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Note {
        text: Option<Text>,
        id: i64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Text(String);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum State {
        Draft,
    }

    #[test]
    fn a_struct_or_a_map_is_filled_by_name() {
        assert_eq!(row(json!([7, "a"])), Ok(Note { id: 7, text: Some(Text("a".to_owned())) }));
        assert_eq!(row(json!([7, null])), Ok(Note { id: 7, text: None }));
        assert_eq!(row(json!([7, 8])), Ok(BTreeMap::from([("id".to_owned(), 7), ("text".to_owned(), 8)])));
    }

    #[test]
    fn a_tuple_is_filled_by_order() {
        assert_eq!(row(json!([7, "aGk="])), Ok((7, Bytes(b"hi".to_vec()))));
        assert_eq!(row(json!([7, "draft"])), Ok((7, State::Draft)));
        assert_eq!(row(json!([7, 1.5])), Ok(json!([7, 1.5])));
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_column() {
        let string = "text: invalid type: string \"a\", expected i64".to_owned();
        assert_eq!(row::<(i64, i64)>(json!([7, "a"])), Err(string));
        let null = "id: invalid type: null, expected i64".to_owned();
        assert_eq!(row::<Note>(json!([null, "a"])), Err(null));
        assert_eq!(
            row::<(i64, Bytes)>(json!([7, "!"])),
            Err("text: no base64: Invalid symbol 33, offset 0.".to_owned())
        );
        assert_eq!(row::<(i64,)>(json!([7, "a"])), Err("invalid length 2, expected 1 element in sequence".to_owned()));
    }
}
