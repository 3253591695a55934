//! The server of HTTP of a target, as its document says it, and the steps that are requests to it.

use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, Spanned};

use super::database::{Tls, authority};
use super::document::{Entries, TemplateError};
use super::input::Input;
use super::json::JsonDraft;
use super::kind::InputKind;
use super::manifest::Executor;
use super::request::{Authenticate, Body, Field, Method, Request};
use super::step::{StepKind, When};
use super::steps::Scope;
use super::word::{self, Piece, Word};
use crate::limits::HTTP_AUTHORITIES_MAX;

/// The server of HTTP of a target, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTarget {
    /// The TCP port.
    pub port: u16,
    /// Whether the server proves who it is.
    pub tls: Tls,
    /// The authorities under which its certificate is believed, PEM, one certificate each.
    pub authorities: Vec<String>,
    /// The name that its certificate has and that it is asked by; the address of its target when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpTargetDraft {
    port: Option<Spanned<u32>>,
    tls: Option<Spanned<String>>,
    #[serde(default)]
    authorities: Vec<Spanned<String>>,
    host: Option<Spanned<String>>,
}

impl HttpTargetDraft {
    /// The server, or the first thing that is wrong.
    pub(super) fn http(self, place: Location) -> Result<HttpTarget, TemplateError> {
        let at = |place: Location| move |rule: String| TemplateError::at(place, rule);
        let tls = match self.tls.as_ref().map(|tls| (tls.value.as_str(), tls)) {
            None | Some(("verify", _)) => Tls::Verify,
            Some(("off", _)) => Tls::Off,
            Some((_, tls)) => {
                return Err(TemplateError::at(tls.referenced, "tls is verify or off"));
            }
        };
        let port = match self.port {
            None => HttpTarget::port(tls),
            Some(port) => u16::try_from(port.value)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| TemplateError::at(port.referenced, "a port is 1 to 65535"))?,
        };
        let mut authorities = Vec::new();
        for one in self.authorities {
            let pem = authority(&one.value).map_err(at(one.referenced))?;
            authorities.push(pem);
        }
        let host = self.host.map(|host| {
            let place = host.referenced;
            HttpTarget::host(&host.value).map_err(at(place))
        });
        let target = HttpTarget {
            port,
            tls,
            authorities,
            host: host.transpose()?,
        };
        target.check().map_err(at(place))?;
        Ok(target)
    }
}

impl HttpTarget {
    /// The port where none is said.
    pub const fn port(tls: Tls) -> u16 {
        match tls {
            Tls::Verify => 443,
            Tls::Off => 80,
        }
    }

    /// The name that a server is asked by.
    ///
    /// # Errors
    /// A sentence that says what one is.
    pub fn host(name: &str) -> Result<String, String> {
        let is_host = |kind: InputKind| kind.read(name).is_some();
        if is_host(InputKind::Hostname) || is_host(InputKind::Ip) {
            return Ok(name.to_owned());
        }
        Err("host is a host name or an IP address".to_owned())
    }

    /// Whether its authorities are as many as its TLS needs, and no more than there may be.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.authorities.len() > HTTP_AUTHORITIES_MAX {
            return Err(format!(
                "a server has at most {HTTP_AUTHORITIES_MAX} authorities"
            ));
        }
        match (self.tls, self.authorities.is_empty()) {
            (Tls::Verify, true) => Err(
                "name the authorities under which the server's certificate is believed, PEM: authorities: [ … ]; \
                 or say tls: \"off\""
                    .to_owned(),
            ),
            (Tls::Off, false) => Err("without TLS no authority is asked: leave them out".to_owned()),
            (Tls::Verify, false) | (Tls::Off, true) => Ok(()),
        }
    }
}

/// `authenticate` of a template.
pub(super) fn authenticate(
    given: Option<&Spanned<String>>,
    executor: Executor,
) -> Result<Option<Authenticate>, TemplateError> {
    let Some(given) = given else {
        return Ok(None);
    };
    if executor != Executor::Http {
        let message = "authenticate is for the executor http";
        return Err(TemplateError::at(given.referenced, message));
    }
    match given.value.as_str() {
        "basic" => Ok(Some(Authenticate::Basic)),
        "bearer" => Ok(Some(Authenticate::Bearer)),
        _ => {
            let message = "authenticate is basic or bearer";
            Err(TemplateError::at(given.referenced, message))
        }
    }
}

/// `http`, and the keys of its step that are for it alone.
pub(super) struct RequestDraft {
    pub(super) http: Spanned<String>,
    pub(super) query: Entries<Spanned<String>>,
    pub(super) headers: Entries<Spanned<String>>,
    pub(super) json: Option<Spanned<JsonDraft>>,
    pub(super) form: Option<Spanned<Entries<Spanned<String>>>>,
    pub(super) body: Option<Spanned<String>>,
    pub(super) status: Option<Spanned<Vec<u16>>>,
}

impl RequestDraft {
    /// The step, or the first thing that is wrong with it.
    pub(super) fn step(
        self,
        when: Option<&When>,
        scope: &mut Scope<'_>,
    ) -> Result<StepKind, TemplateError> {
        let place = self.http.referenced;
        if scope.executor != Executor::Http {
            let message = "requests are for the executor http";
            return Err(TemplateError::at(place, message));
        }
        let (method, path) =
            asked(&self.http.value).map_err(|why| TemplateError::at(place, why))?;
        scope.check(&path, when, place)?;
        outside(&path, place, scope)?;
        let query = fields(self.query, when, scope)?;
        for (field, place) in &query {
            outside(&field.value, *place, scope)?;
        }
        let mut headers = fields(self.headers, when, scope)?;
        for (field, place) in &mut headers {
            super::header::name(&field.name, scope.is_authenticated)
                .and_then(|()| super::header::constant(&field.value))
                .map_err(|why| TemplateError::at(*place, why))?;
        }
        let body = body((self.json, self.form, self.body), when, scope)?;
        let request = Request {
            method,
            path,
            query: query.into_iter().map(|(field, _)| field).collect(),
            headers: headers.into_iter().map(|(field, _)| field).collect(),
            body,
            status: self.status.map_or_else(Vec::new, |status| status.value),
        };
        let secrets: Vec<&str> = scope.secrets.iter().map(String::as_str).collect();
        request
            .check(scope.is_authenticated, &secrets)
            .map_err(|why| TemplateError::at(place, why))?;
        Ok(StepKind::Http(request))
    }
}

/// A method and a path.
fn asked(text: &str) -> Result<(Method, Word), String> {
    let (word, path) = text.split_once(' ').unwrap_or((text, ""));
    let method = Method::ALL
        .into_iter()
        .find(|method| method.as_str() == word);
    let method = method.ok_or(
        "a request is its method and its path: GET, HEAD, POST, PUT, PATCH or DELETE, a space, and /…",
    )?;
    let path = word::text(path.trim()).map_err(|why| why.to_string())?;
    super::url::path(&path)?;
    Ok((method, path))
}

/// Servers and all that lies before them write addresses down.
fn outside(word: &Word, place: Location, scope: &Scope<'_>) -> Result<(), TemplateError> {
    match word.names().find(|name| scope.is_secret(name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "the secret \"{name}\" stands in the path or the query, which servers and all that lies before them \
                 write down: a secret stands in a header, in json, in a form or in a body"
            );
            Err(TemplateError::at(place, message))
        }
    }
}

fn fields(
    entries: Entries<Spanned<String>>,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Vec<(Field, Location)>, TemplateError> {
    let mut all = Vec::new();
    for (name, text) in entries.0 {
        if let Some(inside) = super::steps::placeholder(&name.value) {
            let message = format!("{{{{ {inside} }}}} stands in a name, and names are constant");
            return Err(TemplateError::at(name.referenced, message));
        }
        let place = text.referenced;
        let value =
            word::text(&text.value).map_err(|why| TemplateError::at(place, why.to_string()))?;
        scope.check(&value, when, place)?;
        let field = Field {
            name: name.value,
            value,
        };
        all.push((field, place));
    }
    Ok(all)
}

type Bodies = (
    Option<Spanned<JsonDraft>>,
    Option<Spanned<Entries<Spanned<String>>>>,
    Option<Spanned<String>>,
);

fn body(
    given: Bodies,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Option<Body>, TemplateError> {
    match given {
        (None, None, None) => Ok(None),
        (Some(json), None, None) => {
            let place = json.referenced;
            let inputs = scope.inputs;
            let pieces = json.value.pieces(&|name| is_bare(inputs, name));
            let pieces = pieces.map_err(|why| TemplateError::at(place, why))?;
            let names = pieces.iter().filter_map(|piece| piece.name());
            let names = Word {
                pieces: names.map(|name| Piece::Name(name.to_owned())).collect(),
            };
            scope.check(&names, when, place)?;
            Ok(Some(Body::Json(pieces)))
        }
        (None, Some(form), None) => {
            let fields = fields(form.value, when, scope)?;
            Ok(Some(Body::Form(
                fields.into_iter().map(|(field, _)| field).collect(),
            )))
        }
        (None, None, Some(text)) => {
            let word = word::text(&text.value)
                .map_err(|why| TemplateError::at(text.referenced, why.to_string()))?;
            scope.check(&word, when, text.referenced)?;
            Ok(Some(Body::Text(word)))
        }
        (json, form, text) => {
            let form = form.map(|form| form.referenced);
            let second = form
                .filter(|_| json.is_some())
                .or_else(|| text.map(|text| text.referenced))
                .unwrap_or(Location::UNKNOWN);
            let message = "a request has one of json, form and body";
            Err(TemplateError::at(second, message))
        }
    }
}

/// Whether JSON has a type of its own for the values of an input.
fn is_bare(inputs: &[Input], name: &str) -> bool {
    let input = inputs.iter().find(|input| input.name == name);
    input.is_some_and(|input| match input.kind {
        InputKind::Boolean | InputKind::Integer | InputKind::Number | InputKind::Port => true,
        InputKind::Choice
        | InputKind::Duration
        | InputKind::File
        | InputKind::Hostname
        | InputKind::Identifier
        | InputKind::Ip
        | InputKind::Lines
        | InputKind::Package
        | InputKind::Path
        | InputKind::Service
        | InputKind::Text
        | InputKind::Username => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::template::{Manifest, Secrets, TargetDocument, Value};

    const GOOD: &str = "template: t\nexecutor: http\nauthenticate: basic\n\
        inputs:\n  zone: { type: hostname }\n  ip: { type: ip }\n  ttl: { type: integer, default: 300 }\n  \
        on_top: { type: boolean, default: false }\n  share: { type: number, default: '0.5' }\n\
        secrets: [token]\nsteps:\n  - http: POST /api/v1/zones/{{ zone }}/records\n    \
        query: { dry: \"false\", of: \"{{ target.name }} & co\" }\n    \
        headers: { Accept: application/json, X-Api-Key: \"k-{{ token }}\" }\n    \
        json: { name: \"www \\\"{{ zone }}\\\"\", content: [\"{{ ip }}\", 1, 2.5, true, null, \"7\"], ttl: \"{{ ttl }}\", \
        deep: { top: \"{{ on_top }}\", share: \"{{ share }}\", key: \"{{ token }}\" } }\n    \
        status: [200, 201]\n    timeout: 10s\n";

    fn request(manifest: &Manifest) -> &Request {
        let StepKind::Http(request) = &manifest.steps[0].kind else {
            panic!("{manifest:?}");
        };
        request
    }

    fn values(manifest: &Manifest) -> crate::template::Values {
        let given = [("zone", "example.org"), ("ip", "10.0.0.7")];
        let given = given.map(|(name, value)| (name.to_owned(), value.into()));
        let mut values = manifest.values(&given.into()).unwrap();
        for name in ["target.name", "target.address"] {
            values.insert(name.to_owned(), Value::Text("dns-1".to_owned()));
        }
        values
    }

    #[test]
    fn request_has_its_values_where_they_stand() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(manifest.authenticate, Some(Authenticate::Basic));
        let mut secrets = Secrets::default();
        secrets.add("token", "", Secret::from("s\"1".to_owned()));
        let asked = request(&manifest)
            .asked(&values(&manifest), &secrets)
            .unwrap();
        assert_eq!(asked.method, Method::Post);
        assert_eq!(
            asked.target,
            "/api/v1/zones/example.org/records?dry=false&of=dns-1%20%26%20co"
        );
        let body = asked.body.unwrap();
        assert_eq!(
            std::str::from_utf8(body.expose()).unwrap(),
            "{\"name\":\"www \\\"example.org\\\"\",\"content\":[\"10.0.0.7\",1,2.5,true,null,\"7\"],\"ttl\":300,\
             \"deep\":{\"top\":false,\"share\":0.5,\"key\":\"s\\\"1\"}}"
        );
        let headers: Vec<_> = (asked.headers.iter())
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value.expose()).unwrap()))
            .collect();
        assert_eq!(
            headers,
            [
                ("Accept", "application/json"),
                ("X-Api-Key", "k-s\"1"),
                ("Content-Type", "application/json")
            ]
        );
        let again = Manifest::from_canonical(&manifest.canonical()).unwrap();
        assert_eq!(again, manifest);
        assert!(request(&manifest).is_success(201) && !request(&manifest).is_success(204));
    }

    #[test]
    fn what_is_shown_has_blanks_for_secrets_only() {
        let manifest = Manifest::parse(GOOD).unwrap();
        let filled = request(&manifest).filled(&values(&manifest));
        let left: Vec<_> = filled.names().collect();
        assert_eq!(left, ["token", "token"]);
        let path = filled.path(&crate::template::Values::new()).unwrap();
        assert_eq!(path, "/api/v1/zones/example.org/records");
        let Some(Body::Json(pieces)) = &filled.body else {
            panic!("{filled:?}");
        };
        assert_eq!(pieces.len(), 3, "{pieces:?}");
    }

    #[test]
    fn what_a_request_has_not_is_refused_with_its_place() {
        let head =
            "template: t\nexecutor: http\ninputs: { a: { type: text } }\nsecrets: [key]\nsteps:\n";
        for (step, says) in [
            ("  - http: GET /{{ key }}\n", "stands in the path"),
            (
                "  - http: GET /\n    query: { k: \"{{ key.account }}\" }\n",
                "line 7, column 17",
            ),
            ("  - http: get /\n", "a request is its method"),
            ("  - http: GET a\n", "begins with"),
            ("  - http: GET /a?b=c\n", "query:"),
            ("  - http: GET /a/../b\n", "\"..\""),
            ("  - http: GET /\n    json: {}\n", "GET has no body"),
            (
                "  - http: POST /\n    json: {}\n    body: x\n",
                "one of json, form and body",
            ),
            (
                "  - http: POST /\n    json: { \"{{ a }}\": 1 }\n",
                "constant",
            ),
            (
                "  - http: POST /\n    form: { \"{{ a }}\": 1 }\n",
                "names are constant",
            ),
            (
                "  - http: POST /\n    json: { a: .nan }\n",
                "not a finite number",
            ),
            (
                "  - http: GET /\n    headers: { Host: x }\n",
                "the bridge alone",
            ),
            (
                "  - http: GET /\n    headers: { X-HTTP-Method-Override: DELETE }\n",
                "another thing",
            ),
            ("  - http: GET /\n    headers: { A: x, a: y }\n", "twice"),
            ("  - http: GET /\n    headers: { A: \"ü\" }\n", "visible"),
            ("  - http: GET /\n    status: [101]\n", "from 200 to 599"),
            ("  - http: GET /\n    ok: [0]\n", "no ok"),
            ("  - http: GET /\n    stdin: x\n", "no stdin"),
            ("  - http: GET /\n    run: id\n", "one of run"),
            ("  - run: id\n", "steps of http only"),
            ("  - run: id\n    status: [200]\n", "are for http"),
        ] {
            let error = Manifest::parse(&format!("{head}{step}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{step}: {error}");
            assert!(error.starts_with("line "), "{step}: {error}");
        }
    }

    #[test]
    fn key_that_is_for_another_executor_is_refused() {
        for (yaml, says) in [
            (
                "template: t\nexecutor: ssh\nsteps: [ { http: GET / } ]\n",
                "executor http",
            ),
            (
                "template: t\nexecutor: ssh\nauthenticate: basic\nsteps: [ { run: id } ]\n",
                "executor http",
            ),
            (
                "template: t\nexecutor: http\nauthenticate: digest\nsteps: [ { http: GET / } ]\n",
                "basic or bearer",
            ),
            (
                "template: t\nexecutor: http\nauthenticate: bearer\nsteps:\n  - http: GET /\n    \
                 headers: { authorization: x }\n",
                "leave out one",
            ),
            (
                "template: t\nexecutor: http\nrun_as: a\nsteps: [ { http: GET / } ]\n",
                "over HTTP",
            ),
            (
                "template: t\nexecutor: http\ndirectory: /\nsteps: [ { http: GET / } ]\n",
                "a request has none",
            ),
        ] {
            let error = Manifest::parse(yaml).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn value_that_no_request_can_have_is_refused_before_any_run() {
        let yaml = "template: t\nexecutor: http\ninputs: { a: { type: lines }, b: { type: text } }\nsteps:\n  \
                    - http: PUT /x/{{ b }}\n    headers: { X-A: \"{{ a }}\" }\n    body: \"{{ a }}\"\n";
        let manifest = Manifest::parse(yaml).unwrap();
        let given = |a: &str, b: &str| {
            let given = [("a", a), ("b", b)].map(|(name, value)| (name.to_owned(), value.into()));
            manifest
                .values(&given.into())
                .map(drop)
                .map_err(|errors| errors[0].to_string())
        };
        assert_eq!(given("x", "y/z"), Ok(()));
        for (a, b, says) in [
            ("x\ny", "y", "\"a\":"),
            ("ü", "y", "\"a\":"),
            ("x", "..", "\"b\":"),
            ("x", "a/../b", "\"b\":"),
        ] {
            let why = given(a, b).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn target_says_how_its_server_is_reached() {
        let target = |http: &str| {
            let yaml = format!("target: a\nsite: b\naddress: 10.0.0.5\nhttp: {{ {http} }}\n");
            TargetDocument::parse(&yaml)
                .map(|one| one.http.unwrap())
                .map_err(|error| error.message)
        };
        let plain = target("tls: \"off\"").unwrap();
        assert_eq!((plain.port, plain.tls, plain.host), (80, Tls::Off, None));
        let pem = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n";
        let known = target(&format!("authorities: [\"{pem}\"], host: api.example.org")).unwrap();
        assert_eq!((known.port, known.tls), (443, Tls::Verify));
        assert_eq!(known.host.as_deref(), Some("api.example.org"));
        for (wrong, why) in [
            ("", "name the authorities"),
            ("tls: maybe", "verify or off"),
            ("tls: \"off\", port: 0", "1 to 65535"),
            ("tls: \"off\", host: \"a b\"", "a host name"),
        ] {
            let found = target(wrong).unwrap_err();
            assert!(found.contains(why), "{wrong}: {found}");
        }
    }
}
