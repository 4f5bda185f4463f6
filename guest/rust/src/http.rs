//! HTTP requests, to the origins that the operator granted.
//!
//! ```no_run
//! use fuseboard_guest::http::Request;
//! use fuseboard_guest::{Error, json};
//!
//! fn translated(text: &str) -> Result<String, Error> {
//!     let response = Request::post("https://api.example.com/translate")
//!         .header("Accept", "text/plain")
//!         .json(&json!({"text": text, "to": "en"}))?
//!         .send()?;
//!     Ok(if response.status == 200 { response.text()? } else { text }.to_owned())
//! }
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::abi::buffer;
use crate::error::{answered, asked};
use crate::{Code, Error, imports, json};

/// A request, built step by step.
#[derive(Clone, Debug, Serialize)]
#[must_use = "a request is sent by `send`"]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    #[serde(skip)]
    body: Vec<u8>,
}

impl Request {
    /// Begins a request: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Begins a GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Begins a POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header. Those that are the host's to set, such as `Host`, are refused when it is sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, with the header `Content-Type`.
    ///
    /// # Errors
    /// [`Code::WrongType`] where the value can't be written as JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let body = json::encode(value, || self.named())?;
        Ok(self.header("Content-Type", "application/json").body(body))
    }

    /// Sends it. Redirects are followed, at most 5, where their targets are granted.
    ///
    /// A status such as 404 or 500 is a response, not an error.
    ///
    /// # Errors
    /// What the host answered: [`Code::Denied`] for an origin that isn't granted,
    /// [`Code::BackendFailed`] where nobody answered …
    pub fn send(self) -> Result<Response, Error> {
        let head = json::encode(&self, || self.named())?;
        answered(imports::http_request(&head, &self.body), || self.named())?;
        let head: Head = json::decode_reply(&imports::read(buffer::REPLY_HEAD), || self.named())?;
        let body = imports::read(buffer::REPLY_BODY);
        Ok(Response { status: head.status, headers: head.headers, body, request: self.named() })
    }

    fn named(&self) -> String {
        asked(&self.method, &self.url)
    }
}

#[derive(Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The status, 200 if all went well.
    pub status: u16,
    /// Names and values, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What was asked, for errors.
    request: String,
}

impl Response {
    /// Returns the first header of a name, whose case doesn't matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    ///
    /// # Errors
    /// [`Code::BadReply`] where it isn't UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        let text = std::str::from_utf8(&self.body);
        text.map_err(|error| Error::new(self.request.clone(), Code::BadReply, format!("the body is no text: {error}")))
    }

    /// Decodes the body's JSON.
    ///
    /// # Errors
    /// [`Code::BadReply`] where it doesn't fit the type of yours.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::decode_reply(&self.body, || self.request.clone())
    }
}
