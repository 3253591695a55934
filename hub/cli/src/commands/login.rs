//! `steward login`: who is this hub, and is the token good? Only then is anything kept.

use serde_json::{Value, json};
use steward_certs::fingerprint::Pin;
use steward_shared::secret::Secret;

use super::{resolve, secret};
use crate::args::{Global, LoginArgs};
use crate::client::{Client, base, presented_pin};
use crate::contexts::{self, Context};
use crate::error::Error;
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
    let from = secret::From {
        file: args.token_file.as_deref(),
        stdin: args.token_stdin,
    };
    let named = args.token_file.is_some() || args.token_stdin;
    let token = match resolve::variable("STEWARD_TOKEN") {
        Some(text) if !named => Some(Secret::from(text)),
        Some(_) | None => secret::read(screen, from, "Token")?,
    };
    let token = token.ok_or_else(|| Error::Usage {
        message: "a token is needed and nobody can be asked for it here".to_owned(),
        hint: Some(format!("steward login {} --token-stdin < FILE", args.hub)),
    })?;
    let text = token.expose_text().unwrap_or_default().trim();
    if text.is_empty() {
        return Err(Error::usage("the token is empty, or not text"));
    }
    Ok(Secret::from(text.to_owned()))
}
