//! Which hub is meant: `--context`, then STEWARD_HUB with its own pin and token, then
//! STEWARD_CONTEXT, then the current context.

use steward_certs::fingerprint::Pin;
use steward_shared::secret::Secret;

use crate::args::Global;
use crate::contexts::{self, Context, Contexts};
use crate::error::Error;

/// The context of this process.
pub(crate) fn context(global: &Global) -> Result<Context, Error> {
    let environment = Environment::read();
    if global.context.is_none() && environment.hub.is_some() {
        return environment.alone();
    }
    let contexts = contexts::load(&contexts::state_dir()?)?;
    choose(contexts, global.context.as_deref(), environment)
}

/// The name of the context that commands about contexts mean.
pub(crate) fn name(global: &Global, contexts: &Contexts) -> Option<String> {
    global
        .context
        .clone()
        .or_else(|| variable("STEWARD_CONTEXT"))
        .or_else(|| contexts.current.clone())
}

/// A variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the environment says about the hub.
#[derive(Debug, Default)]
struct Environment {
    hub: Option<String>,
    context: Option<String>,
    pin: Option<String>,
    token: Option<Secret>,
}

impl Environment {
    fn read() -> Self {
        Self {
            hub: variable("STEWARD_HUB"),
            context: variable("STEWARD_CONTEXT"),
            pin: variable("STEWARD_PIN"),
            token: variable("STEWARD_TOKEN").map(Secret::from),
        }
    }

    /// A hub from the environment has its pin and token from there too: a token that was made for
    /// one hub must not reach another.
    fn alone(self) -> Result<Context, Error> {
        let missing = |name: &str| Error::NoContext {
            message: format!("STEWARD_HUB is set and {name} is not"),
            hint: format!("set {name}, or unset STEWARD_HUB to use a context"),
        };
        Ok(Context {
            name: "STEWARD_HUB".to_owned(),
            hub: self.hub.ok_or_else(|| missing("STEWARD_HUB"))?,
            pin: pin(
                &self.pin.ok_or_else(|| missing("STEWARD_PIN"))?,
                "STEWARD_PIN",
            )?,
            token: self.token.ok_or_else(|| missing("STEWARD_TOKEN"))?,
        })
    }
}

/// Reads a pin that somebody has typed.
pub(crate) fn pin(text: &str, from: &str) -> Result<Pin, Error> {
    text.parse().map_err(|error| Error::Usage {
        message: format!("{from}: {error}"),
        hint: Some("the hub prints its pin when it is set up and when it starts".to_owned()),
    })
}

fn choose(
    mut contexts: Contexts,
    flag: Option<&str>,
    environment: Environment,
) -> Result<Context, Error> {
    let login = "steward login https://HUB".to_owned();
    let named = flag.map(str::to_owned).or(environment.context);
    let name = match named.or_else(|| contexts.current.clone()) {
        Some(name) => name,
        None if contexts.all.is_empty() => {
            let message = "not signed in to any hub".to_owned();
            return Err(Error::NoContext {
                message,
                hint: login,
            });
        }
        None => {
            let message = "no context is selected".to_owned();
            let names: Vec<&str> = contexts.all.keys().map(String::as_str).collect();
            let hint = format!("steward context use {}", names.join(" | "));
            return Err(Error::NoContext { message, hint });
        }
    };
    let mut context = contexts
        .all
        .remove(&name)
        .ok_or(Error::UnknownContext(name))?;
    if flag.is_none() {
        if let Some(token) = environment.token {
            context.token = token;
        }
        if let Some(text) = environment.pin {
            context.pin = pin(&text, "STEWARD_PIN")?;
        }
    }
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let context = |name: &str| Context {
            name: name.to_owned(),
            hub: format!("https://{name}"),
            pin: Pin::from_bytes([1; 32]),
            token: Secret::from(format!("stw_{name}")),
        };
        let all = ["dev", "prod"]
            .into_iter()
            .map(|name| (name.to_owned(), context(name)));
        Contexts {
            current: Some("dev".to_owned()),
            all: all.collect(),
        }
    }

    fn environment() -> Environment {
        let token = Some(Secret::from("stw_robot".to_owned()));
        Environment {
            context: Some("prod".to_owned()),
            token,
            ..Environment::default()
        }
    }

    #[test]
    fn flag_goes_before_environment_and_environment_before_the_current_one() {
        let chosen = choose(contexts(), None, Environment::default()).unwrap();
        assert_eq!(
            (chosen.name.as_str(), chosen.token.expose_text()),
            ("dev", Some("stw_dev"))
        );
        let chosen = choose(contexts(), None, environment()).unwrap();
        assert_eq!(
            (chosen.name.as_str(), chosen.token.expose_text()),
            ("prod", Some("stw_robot"))
        );
        let chosen = choose(contexts(), Some("dev"), environment()).unwrap();
        assert_eq!(
            (chosen.name.as_str(), chosen.token.expose_text()),
            ("dev", Some("stw_dev"))
        );
    }

    #[test]
    fn missing_context_is_told_with_the_way_to_one() {
        let error = choose(Contexts::default(), None, Environment::default()).unwrap_err();
        let text = "error: not signed in to any hub\n  try: steward login https://HUB\n";
        assert_eq!(error.words().text(), text);
        let error = choose(contexts(), Some("test"), Environment::default()).unwrap_err();
        let text = "error: there is no context \"test\"\n  try: steward context list\n";
        assert_eq!(error.words().text(), text);
    }

    #[test]
    fn hub_of_the_environment_never_gets_a_stored_token() {
        let hub = Some("https://other".to_owned());
        let environment = Environment {
            hub,
            ..Environment::default()
        };
        let error = environment.alone().unwrap_err();
        assert!(matches!(error, Error::NoContext { .. }), "{error}");
    }
}
