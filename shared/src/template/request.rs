//! One request over HTTP: what a step says, and what it is with its values.
//!
//! A value is data wherever it stands: one segment of the path, one field, one header's value, one string of JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::header;
use super::json::{self, JsonPiece};
use super::secret::Secrets;
use super::url::{self, encoded};
use super::value::Values;
use super::word::Word;
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_FIELDS_MAX, HTTP_HEADERS_MAX, HTTP_STATUSES_MAX};
use crate::secret::Secret;

/// What a request wants of a resource (RFC 9110, 9; RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// To have it.
    Get,
    /// To know of it.
    Head,
    /// To have it take something.
    Post,
    /// To be in its place.
    Put,
    /// To change a part of it.
    Patch,
    /// To be rid of it.
    Delete,
}

impl Method {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether it only asks (RFC 9110, 9.2.1): nothing is done by it of which one would have to know.
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Get | Self::Head => true,
            Self::Post | Self::Put | Self::Patch | Self::Delete => false,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the account of a task's login is proven in each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authenticate {
    /// Account and secret (RFC 7617).
    Basic,
    /// The secret alone (RFC 6750).
    Bearer,
}

impl Authenticate {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Bearer => "bearer",
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What it wants.
    pub method: Method,
    /// Of which resource: its path, each placeholder within one segment.
    pub path: Word,
    /// The query.
    pub query: Vec<Field>,
    /// Headers besides those of the bridge.
    pub headers: Vec<Field>,
    /// The body.
    pub body: Option<Body>,
    /// The statuses that mean success; from 200 to 299 when empty.
    pub status: Vec<u16>,
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The name, which is constant.
    pub name: String,
    /// The value.
    pub value: Word,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Fields, as a browser sends them.
    Form(Vec<Field>),
    /// JSON.
    Json(Vec<JsonPiece>),
    /// A text.
    Text(Word),
}

/// A request with its values.
#[derive(Debug)]
pub struct Asked {
    /// What it wants.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The headers, with what says what the body is.
    pub headers: Vec<(String, Secret)>,
    /// The body.
    pub body: Option<Secret>,
}

/// Why a request cannot be made with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first name that has a part in it.
    pub name: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    pub(super) fn of(word: &Word, why: &(impl ToString + ?Sized)) -> Self {
        Self {
            name: word.names().next().map(str::to_owned),
            message: why.to_string(),
        }
    }

    pub(super) fn named(name: &str, why: &(impl ToString + ?Sized)) -> Self {
        Self {
            name: Some(name.to_owned()),
            message: why.to_string(),
        }
    }

    pub(super) const fn nowhere(message: String) -> Self {
        Self {
            name: None,
            message,
        }
    }
}

impl Request {
    /// Whether it is one that a template can have: hub and bridge ask this alike.
    ///
    /// # Errors
    /// A sentence that says why it is none.
    pub fn check(&self, is_authenticated: bool, secrets: &[&str]) -> Result<(), String> {
        url::path(&self.path)?;
        let in_address = std::iter::once(&self.path).chain(self.query.iter().map(|one| &one.value));
        for word in in_address {
            if word.has_secret(secrets.iter().copied()) {
                return Err(IN_ADDRESS.to_owned());
            }
        }
        fields("query", &self.query, HTTP_FIELDS_MAX)?;
        fields("headers", &self.headers, HTTP_HEADERS_MAX)?;
        for field in &self.headers {
            header::name(&field.name, is_authenticated)?;
            header::constant(&field.value)?;
            let is_type = field.name.eq_ignore_ascii_case("content-type");
            if is_type && !matches!(self.body, Some(Body::Json(_) | Body::Text(_))) {
                return Err("Content-Type is for json and body: a form has its own".to_owned());
            }
        }
        self.signs_in_by(secrets)?;
        match &self.body {
            Some(_) if self.method.is_safe() => {
                return Err(format!("{} has no body", self.method));
            }
            Some(Body::Form(form)) => fields("form", form, HTTP_FIELDS_MAX)?,
            Some(Body::Json(_) | Body::Text(_)) | None => {}
        }
        statuses(&self.status)
    }

    /// The path with its values.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn path(&self, values: &Values) -> Result<String, Fault> {
        url::rendered(&self.path, values)
    }

    /// The request with its values, secrets among them.
    ///
    /// # Errors
    /// [`Fault`]; it says nothing of a secret but its name.
    pub fn asked(&self, values: &Values, secrets: &Secrets) -> Result<Asked, Fault> {
        let mut target = self.path(values)?;
        let mut joint = '?';
        for field in &self.query {
            let value = field.value.render_text(values);
            let value = value.map_err(|why| Fault::of(&field.value, &why))?;
            let (name, value) = (encoded(field.name.as_bytes()), encoded(value.as_bytes()));
            target.push_str(&format!("{joint}{name}={value}"));
            joint = '&';
        }
        url::short(&target).map_err(|why| Fault::of(&self.path, &why))?;
        let mut headers = Vec::new();
        for field in &self.headers {
            let value = header::value(&field.value, values, secrets)?;
            headers.push((field.name.clone(), value));
        }
        let body = self.body.as_ref().map(|body| body.asked(values, secrets));
        let body = body.transpose()?;
        if body
            .as_ref()
            .is_some_and(|body| body.expose().len() > HTTP_BODY_BYTES_MAX)
        {
            let why = format!("the body has more than {HTTP_BODY_BYTES_MAX} bytes");
            return Err(Fault::nowhere(why));
        }
        if let Some(body) = &self.body
            && !self.has_header("content-type")
        {
            let kind = Secret::from(body.content_type().to_owned());
            headers.push(("Content-Type".to_owned(), kind));
        }
        Ok(Asked {
            method: self.method,
            target,
            headers,
            body,
        })
    }

    /// Whether a status means success.
    pub fn is_success(&self, status: u16) -> bool {
        if self.status.is_empty() {
            return (200..300).contains(&status);
        }
        self.status.contains(&status)
    }

    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let fields = self.query.iter().chain(&self.headers);
        let form: &[Field] = match &self.body {
            Some(Body::Form(form)) => form,
            Some(Body::Json(_) | Body::Text(_)) | None => &[],
        };
        let (json, text): (&[JsonPiece], Option<&Word>) = match &self.body {
            Some(Body::Json(pieces)) => (pieces, None),
            Some(Body::Text(word)) => (&[], Some(word)),
            Some(Body::Form(_)) | None => (&[], None),
        };
        let words = std::iter::once(&self.path)
            .chain(fields.chain(form).map(|field| &field.value))
            .chain(text);
        words
            .flat_map(Word::names)
            .chain(json.iter().filter_map(JsonPiece::name))
    }

    /// The request with each name that has a value as that value.
    #[must_use]
    pub(super) fn filled(&self, values: &Values) -> Self {
        let all = |fields: &[Field]| fields.iter().map(|one| one.filled(values)).collect();
        Self {
            method: self.method,
            path: self
                .path
                .filled_with(values, |text| encoded(text.as_bytes())),
            query: all(&self.query),
            headers: all(&self.headers),
            body: self.body.as_ref().map(|body| match body {
                Body::Form(form) => Body::Form(all(form)),
                Body::Json(pieces) => {
                    let mut filled = Vec::new();
                    for piece in pieces {
                        match piece.filled(values) {
                            JsonPiece::Constant(text) => json::push(&mut filled, &text),
                            left @ (JsonPiece::Bare(_) | JsonPiece::Inside(_)) => filled.push(left),
                        }
                    }
                    Body::Json(filled)
                }
                Body::Text(word) => Body::Text(word.filled(values)),
            }),
            status: self.status.clone(),
        }
    }

    fn has_header(&self, name: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|field| field.name.eq_ignore_ascii_case(name))
    }
}

impl Body {
    fn asked(&self, values: &Values, secrets: &Secrets) -> Result<Secret, Fault> {
        match self {
            Self::Json(pieces) => json::rendered(pieces, values, secrets),
            Self::Text(word) => word
                .render_input(values, secrets)
                .map_err(|why| Fault::of(word, &why)),
            Self::Form(form) => {
                let mut parts: Vec<Secret> = Vec::new();
                for (at, field) in form.iter().enumerate() {
                    let value = field.value.render_input(values, secrets);
                    let value = value.map_err(|why| Fault::of(&field.value, &why))?;
                    let joint = if at == 0 { "" } else { "&" };
                    let name = encoded(field.name.as_bytes());
                    parts.push(Secret::from(format!("{joint}{name}=")));
                    parts.push(Secret::from(encoded(value.expose())));
                }
                let parts: Vec<&[u8]> = parts.iter().map(Secret::expose).collect();
                Ok(Secret::new(parts.concat()))
            }
        }
    }

    const fn content_type(&self) -> &'static str {
        match self {
            Self::Form(_) => "application/x-www-form-urlencoded",
            Self::Json(_) => "application/json",
            Self::Text(_) => "text/plain; charset=utf-8",
        }
    }
}

impl Field {
    fn filled(&self, values: &Values) -> Self {
        Self {
            name: self.name.clone(),
            value: self.value.filled(values),
        }
    }
}

/// Names are there once, and not more of them than there may be.
fn fields(what: &str, all: &[Field], most: usize) -> Result<(), String> {
    if all.len() > most {
        return Err(format!("{what} has more than {most} entries"));
    }
    for (at, field) in all.iter().enumerate() {
        if field.name.is_empty() {
            return Err(format!("a name in {what} is empty"));
        }
        let mut before = all.iter().take(at);
        if before.any(|one| one.name.eq_ignore_ascii_case(&field.name)) {
            return Err(format!("{} is given twice in {what}", field.name));
        }
    }
    Ok(())
}

fn statuses(all: &[u16]) -> Result<(), String> {
    if all.len() > HTTP_STATUSES_MAX || !all.iter().all(|status| (200..600).contains(status)) {
        return Err(format!(
            "status is at most {HTTP_STATUSES_MAX} numbers from 200 to 599"
        ));
    }
    Ok(())
}

/// Why a secret is no part of an address.
const IN_ADDRESS: &str = "a secret stands in the path or the query, which servers and all that lies before them write \
                          down: it stands in a header, in json, in a form or in a body";
