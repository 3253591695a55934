//! `steward login`: who is this hub, and is the token good? Only then is anything kept.

use std::fs;
use std::io::{self, Read};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use steward_certs::fingerprint::Pin;
use steward_shared::secret::Secret;

use super::resolve;
use crate::args::{Global, LoginArgs};
use crate::client::{Client, base, presented_pin};
use crate::contexts::{self, Context};
use crate::error::{Error, unreadable};
use crate::exit::Exit;
use crate::output::Screen;

/// Signs in and selects the new context.
pub(crate) async fn login(
    screen: &Screen,
    global: &Global,
    args: LoginArgs,
) -> Result<Exit, Error> {
    let url = base(&args.hub)?;
    let hub = url.as_str().trim_end_matches('/').to_owned();
    let name = match &global.context {
        Some(name) => name.clone(),
        None => url.host_str().unwrap_or("hub").to_owned(),
    };
    let state_dir = contexts::state_dir()?;
    let known = contexts::load(&state_dir)?.all.remove(&name);
    if known.is_some_and(|known| known.hub != hub) {
        return Err(Error::Usage {
            message: format!("context \"{name}\" is for another hub"),
            hint: Some(format!("steward login {hub} --context ANOTHER-NAME")),
        });
    }
    let pin = pin(screen, &hub, args.pin.as_deref()).await?;
    let token = token(screen, &args)?;
    let context = Context {
        name: name.clone(),
        hub: hub.clone(),
        pin,
        token,
    };
    let whoami = Client::new(&context)?.get(&["whoami"], &[]).await?;
    contexts::save(&state_dir, &name, &hub, pin, &context.token, true)?;
    if screen.format.for_programs() {
        screen.json(
            &json!({"context": name, "hub": hub, "pin": pin.to_string(), "whoami": whoami}),
        )?;
    } else {
        let user = whoami
            .get("user")
            .and_then(Value::as_str)
            .unwrap_or("somebody");
        screen.note(&format!(
            "Signed in to {hub} as {}; the context is \"{name}\"",
            crate::output::clean(user)
        ));
    }
    Ok(Exit::Done)
}

async fn pin(screen: &Screen, hub: &str, given: Option<&str>) -> Result<Pin, Error> {
    if let Some(text) = given {
        return resolve::pin(text, "--pin");
    }
    if let Some(text) = resolve::variable("STEWARD_PIN") {
        return resolve::pin(&text, "STEWARD_PIN");
    }
    if !screen.can_ask {
        return Err(Error::Usage {
            message: "--pin is needed to know the hub, because nobody can be asked here".to_owned(),
            hint: Some(format!(
                "steward login {hub} --pin sha256:HEX     (the hub prints its pin)"
            )),
        });
    }
    let pin = presented_pin(hub).await?;
    screen.note(&format!("The hub at {hub} presents the pin\n  {pin}"));
    screen.note("Compare it with the one that the hub printed when it was set up.");
    match screen.ask("Is it the same? [y/N] ")?.as_str() {
        "y" | "Y" | "yes" => Ok(pin),
        _ => Err(Error::usage("the pin was not confirmed, nothing was sent")),
    }
}

fn token(screen: &Screen, args: &LoginArgs) -> Result<Secret, Error> {
    let text = if let Some(path) = &args.token_file {
        fs::read_to_string(path).map_err(unreadable(path))?
    } else if args.token_stdin {
        let mut text = String::new();
        let limited = &mut io::stdin().take(TOKEN_BYTES_MAX);
        limited
            .read_to_string(&mut text)
            .map_err(Error::file("read the token from standard input"))?;
        text
    } else if let Some(text) = resolve::variable("STEWARD_TOKEN") {
        text
    } else if screen.can_ask {
        screen.write(steward_shared::log::Stream::Stderr, b"Token: ")?;
        let text = Silence::begin().map(|_silence| {
            let mut text = String::new();
            io::stdin().read_line(&mut text).map(|_| text)
        });
        screen.note("");
        text.and_then(|text| text)
            .map_err(Error::file("read the token"))?
    } else {
        return Err(Error::Usage {
            message: "a token is needed and nobody can be asked for it here".to_owned(),
            hint: Some(format!("steward login {} --token-stdin < FILE", args.hub)),
        });
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::usage("the token is empty"));
    }
    Ok(Secret::from(text.to_owned()))
}

/// The terminal without echo, for as long as this lives.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that does not take its settings back.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0).ok();
    }
}

const TOKEN_BYTES_MAX: u64 = 16 * 1024;
