//! Tasks over HTTP: a real server, servers that break off or never end, and addresses that nobody has allowed.

mod ends;
mod examples;
mod peer;
mod reach;
mod server;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Bridge, Hub, Program, World};

use super::sql::{begin, ended, said};
use super::ssh::{add, leases, printed_whole};

const PASSWORD: &str = "Zeisig \"8\"/Specht";

const TOKEN: &str = "Bussard.3-Milan_token";

/// The server of these tests, written in Python.
pub(crate) struct Httpd {
    program: Arc<Program>,
    pub(crate) port: u16,
}

impl Httpd {
    /// Starts one; with a folder that has a certificate it has TLS.
    pub(crate) async fn start(world: &World, certificate: Option<&Path>) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/http/server.py");
        let mut command = Command::new("python3");
        command.arg("-u").arg(script).args(certificate);
        let program = world.start("httpd", &mut command)?;
        let port = program.line("{\"port\": ").await?;
        let port = port.trim_end_matches('}').parse()?;
        Ok(Self { program, port })
    }

    /// Every request that has come, in order.
    fn requests(&self) -> Result<Vec<Value>> {
        let text = String::from_utf8(self.program.stdout())?;
        let all = text.lines().map(serde_json::from_str::<Value>);
        let all: Vec<Value> = all.collect::<Result<_, _>>()?;
        Ok(all
            .into_iter()
            .filter(|one| one["method"].is_string())
            .collect())
    }
}

/// Makes an authority and a certificate for these names; the authority's own, PEM.
fn certificate(folder: &Path, names: &str) -> Result<String> {
    let script = "set -e; mkdir -p \"$0\"; cd \"$0\"; \
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority; \
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server; \
        printf \"subjectAltName=$1\" > names; \
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
                -out server.crt";
    let made = Command::new("sh")
        .args(["-c", script])
        .arg(folder)
        .arg(names)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(std::fs::read_to_string(folder.join("ca.pem"))?)
}

/// A server, a target of it, and the hub's credentials.
struct Place {
    hub: Hub,
    bridge: Bridge,
    api: Api,
    server: Httpd,
}

async fn place(world: &World) -> Result<Place> {
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let server = Httpd::start(world, None).await?;
    accounts(&hub).await?;
    hub.apply(&target("127.0.0.1", server.port, "tls: 'off'"))
        .await?;
    let api = hub.api()?;
    Ok(Place {
        hub,
        bridge,
        api,
        server,
    })
}

async fn accounts(hub: &Hub) -> Result<()> {
    add(hub, "app", "password", "app").await?;
    hub.set_credential("app", PASSWORD).await?;
    add(hub, "robot", "token", "robot").await?;
    hub.set_credential("robot", TOKEN).await
}

fn target(address: &str, port: u16, more: &str) -> String {
    format!("target: machine\nsite: dmz\naddress: {address}\nhttp: {{ port: {port}, {more} }}\n")
}

/// A template of these steps, with these other keys, and its task, with these other keys.
fn task(name: &str, keys: &str, steps: &str, more: &str) -> String {
    format!(
        "template: {name}\nexecutor: http\n{keys}steps:\n{steps}---\ntask: {name}\ntemplate: {name}\n\
         targets: {{ names: [machine] }}\n{more}"
    )
}

const BASIC: &str = "login: { credential: app }\n";

const BEARER: &str = "login: { credential: robot }\n";

/// What the server was sent is what the templates say, and nothing else.
fn sent(server: &Httpd) -> Result<()> {
    let requests = server.requests()?;
    ensure!(requests.len() == 10, "{requests:?}");
    let first = &requests[0];
    ensure!(first["target"] == "/basic/items/a%20b%2F%C3%BC", "{first}");
    ensure!(first["body"] == "{\"size\":7,\"hot\":true}", "{first}");
    let headers = first["headers"].as_object().context("no headers")?;
    let names: Vec<&str> = headers.keys().map(String::as_str).collect();
    let wanted = [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ];
    ensure!(names == wanted, "{names:?}");
    ensure!(
        headers["host"] == format!("api.example.org:{}", server.port),
        "{first}"
    );
    ensure!(headers["accept-encoding"] == "identity", "{first}");
    Ok(())
}

/// Something is made, read and deleted over TLS, once with a password and once with a token; what is not there any more
/// is a failure that says what the server answered. What is sent is what the template says, and nothing else.
#[tokio::test]
async fn story_http() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let folder = world.path("tls");
    let authority = certificate(&folder, "IP:127.0.0.1,DNS:api.example.org")?;
    let server = Httpd::start(&world, Some(&folder)).await?;
    accounts(&hub).await?;
    let known = format!("authorities: [{}], host: api.example.org", json!(authority));
    hub.apply(&target("127.0.0.1", server.port, &known)).await?;
    let api = hub.api()?;
    for (how, login) in [("basic", BASIC), ("bearer", BEARER)] {
        let inputs = "inputs: { name: { type: text }, size: { type: integer }, hot: { type: boolean, default: true } }\n";
        let keys = format!("authenticate: {how}\n{inputs}");
        let steps = format!(
            "  - http: PUT /{how}/items/{{{{ name }}}}\n    json: {{ size: \"{{{{ size }}}}\", hot: \"{{{{ hot }}}}\" }}\n    \
             status: [201]\n  - http: HEAD /{how}/items/{{{{ name }}}}\n  - http: GET /{how}/items/{{{{ name }}}}\n    \
             headers: {{ Accept: application/json }}\n"
        );
        hub.apply(&task(&format!("make-{how}"), &keys, &steps, login))
            .await?;
        let inputs = json!({ "name": "a b/ü", "size": 7 });
        let (stdout, stderr) = said(&api, &format!("make-{how}"), inputs).await?;
        ensure!(
            stdout == "{\"saved\": true}{\"size\":7,\"hot\":true}",
            "{stdout}"
        );
        ensure!(
            stderr.starts_with("HTTP/1.1 201 Created\ncontent-type: application/json\n"),
            "{stderr}"
        );
        let steps = format!("  - http: DELETE /{how}/items/{{{{ name }}}}\n    status: [204]\n");
        let keys = format!("authenticate: {how}\ninputs: {{ name: {{ type: text }} }}\n");
        hub.apply(&task(&format!("drop-{how}"), &keys, &steps, login))
            .await?;
        let inputs = json!({ "name": "a b/ü" });
        said(&api, &format!("drop-{how}"), inputs.clone()).await?;
        let (job, stdout, _) = ended(&api, &format!("drop-{how}"), inputs).await?;
        let exit = &job["attempt"]["exit"];
        ensure!(
            job["attempt"]["state"] == "failed" && exit["code"] == 22,
            "{job}"
        );
        ensure!(
            exit["message"] == "the server answered 404 Not Found",
            "{job}"
        );
        ensure!(stdout.contains("no such item"), "{stdout}");
    }
    sent(&server)?;
    let counted = leases(&api).await?;
    ensure!(
        counted.get("lease.opened") == counted.get("lease.ended"),
        "{counted:?}"
    );
    let name = ["-i", "name=x", "-i", "size=1"];
    let words = [&["run", "make-basic", "--dry-run"][..], &name].concat();
    let dry = hub.cli(&words).await?.succeeded()?;
    for words in [
        "over HTTP, port",
        "PUT /basic/items/x",
        "{\"size\":1,\"hot\":true}",
        "(basic)",
    ] {
        ensure!(dry.stdout.contains(words), "{words}: {}", dry.stdout);
    }
    bridge.operator(&["check"]).await?.succeeded()?;
    world.passed().await
}

/// What a server shows of the secrets that it was sent is masked, in its body, in what is said of it and in what is said
/// of where it points to; nothing of them is in any program's log.
#[tokio::test]
async fn http_secrets_are_never_shown() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge: _bridge,
        api,
        server,
    } = place(&world).await?;
    let steps = "  - http: POST /shows\n    headers: { X-Api-Key: \"k:{{ key }}\" }\n    \
                 json: { key: \"{{ key }}\" }\n    status: [302, 200]\n  - http: POST /form\n    form: { key: \"{{ key }}\" }\n  \
                 - http: POST /text\n    body: \"{{ key.account }} has {{ key }}\"\n";
    let more = |login: &str| format!("{login}secrets: {{ key: robot }}\n");
    hub.apply(&task(
        "shows",
        "authenticate: basic\nsecrets: [key]\n",
        steps,
        &more(BASIC),
    ))
    .await?;
    let run = begin(&api, "shows", json!({})).await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["state"] == "succeeded", "{job}");
    let stdout = printed_whole(&api, &run, "stdout").await?;
    let stderr = printed_whole(&api, &run, "stderr").await?;
    let pair = "YXBwOlplaXNpZyAiOCIvU3BlY2h0";
    let shown = [&stdout, &stderr, &job.to_string()]
        .map(String::as_str)
        .concat();
    ensure!(shown.matches("[masked]").count() >= 4, "{shown}");
    let requests = server.requests()?;
    ensure!(
        requests[0]["headers"]["authorization"] == format!("Basic {pair}"),
        "{requests:?}"
    );
    ensure!(
        requests[0]["headers"]["x-api-key"] == format!("k:{TOKEN}"),
        "{requests:?}"
    );
    ensure!(
        requests[1]["body"] == format!("key={TOKEN}"),
        "{requests:?}"
    );
    ensure!(
        requests[2]["body"] == format!("robot has {TOKEN}"),
        "{requests:?}"
    );
    let mut logs = String::new();
    for entry in std::fs::read_dir(world.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "err") {
            logs += &String::from_utf8_lossy(&std::fs::read(&path)?);
        }
    }
    for secret in [TOKEN, "Specht", pair] {
        ensure!(!shown.contains(secret), "{secret}: {shown}");
        ensure!(!logs.contains(secret), "{secret} is in a log");
    }
    // A token that HTTP cannot carry is told before anything is sent.
    hub.set_credential("robot", "zwei Krähen").await?;
    let keys = "authenticate: bearer\n";
    hub.apply(&task("spaced", keys, "  - http: POST /\n", BEARER))
        .await?;
    let (job, _, _) = ended(&api, "spaced", json!({})).await?;
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    ensure!(
        job.to_string().contains("a character that none has"),
        "{job}"
    );
    ensure!(!job.to_string().contains("Krähen"), "{job}");
    ensure!(server.requests()?.len() == 3, "something was sent");
    world.passed().await
}

/// A secret in a header of an answer is masked as it came: also where it has what is escaped, and where only its begin is
/// shown.
#[tokio::test]
async fn http_secrets_are_masked_before_a_header_is_cut() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge: _bridge,
        api,
        server: _server,
    } = place(&world).await?;
    hub.set_credential("robot", "Sperber's-Nest'7").await?;
    for (name, before) in [("short", "k:"), ("long", &"x".repeat(1016))] {
        let step = format!(
            "  - http: POST /points\n    headers: {{ X-Api-Key: \"{before}{{{{ key }}}}\" }}\n"
        );
        let secret = "secrets: { key: robot }\n";
        hub.apply(&task(name, "secrets: [key]\n", &step, secret))
            .await?;
        let (job, stdout, stderr) = ended(&api, name, json!({})).await?;
        ensure!(job["attempt"]["exit"]["code"] == 22, "{job}");
        let message = job["attempt"]["exit"]["message"].to_string();
        ensure!(stderr.contains(&format!("{before}[masked]")), "{stderr}");
        // A sentence for people is cut before that.
        let told = name != "short" || message.contains("k:[masked]");
        ensure!(told, "{message}");
        for shown in [&job.to_string(), &stdout, &stderr] {
            ensure!(!shown.contains("Sperber"), "{shown}");
        }
    }
    world.passed().await
}
