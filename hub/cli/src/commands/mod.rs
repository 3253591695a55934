//! The commands: one file per noun. Each asks the hub and prints what it answers.

mod approvals;
mod artifacts;
mod attempts;
mod authors;
mod bridges;
mod context;
mod credentials;
mod document;
mod export;
mod help;
mod import;
mod judged;
mod keys;
mod login;
mod machines;
mod noun;
mod preview;
mod request;
mod resolve;
mod rotation;
mod run;
mod runs;
mod secret;
mod signing;
mod sources;
mod status;
mod targets;
mod templates;
mod trial;
mod versions;

use serde_json::{Map, Value, json};
use steward_shared::time::{Clock, SystemClock, Timestamp};

use crate::args::{Cli, Command, EventVerb, Global, ListArgs, ProjectVerb, SiteVerb, TaskVerb};
use crate::client::Client;
use crate::contexts::{self, Context};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use noun::Noun;

/// Does what the command line says.
pub(crate) async fn execute(cli: Cli, screen: &Screen) -> Result<Exit, Error> {
    let Cli { global, command } = cli;
    // The context is fixed here, once; nothing reads it again.
    match command {
        Command::Help { topic } => return help::help(screen, &topic),
        Command::Version => return help::version(screen),
        Command::Context(verb) => return context::context(screen, &global, verb),
        Command::Login(args) => return login::login(screen, &global, args).await,
        Command::Logout => return context::logout(screen, &global),
        Command::Dev(args) => return crate::dev::dev(screen, args).await,
        Command::Approvals(verb) => return approvals::approvals(screen, verb),
        Command::Templates(crate::args::TemplateVerb::Lint { file }) => {
            return templates::lint(screen, &file);
        }
        Command::Templates(crate::args::TemplateVerb::Manifest(file)) => {
            return authors::manifest(screen, &file);
        }
        Command::Templates(crate::args::TemplateVerb::Sign(args)) if args.out.is_some() => {
            return authors::sign_into_file(screen, &args);
        }
        Command::Templates(crate::args::TemplateVerb::Test(args)) if args.live.is_none() => {
            return trial::recorded(screen, &args);
        }
        Command::Templates(crate::args::TemplateVerb::Import(args)) => {
            return import::import(screen, &args);
        }
        Command::Tasks(TaskVerb::Import(args)) => return machines::tasks(screen, &args),
        Command::Targets(crate::args::TargetVerb::Import(args)) => {
            return machines::import(screen, &args);
        }
        Command::Apply(_)
        | Command::Export(_)
        | Command::Artifacts(_)
        | Command::Attempts(_)
        | Command::Bridges(_)
        | Command::Credentials(_)
        | Command::Events(_)
        | Command::Keys(_)
        | Command::Projects(_)
        | Command::Run(_)
        | Command::Runs(_)
        | Command::Sites(_)
        | Command::Sources(_)
        | Command::Status
        | Command::Targets(_)
        | Command::Tasks(_)
        | Command::Templates(_)
        | Command::Vault(_)
        | Command::Whoami => {}
    }
    let desk = Desk::open(screen, &global)?;
    let outcome = ask(&desk, command).await;
    desk.follow();
    outcome
}

/// Does what needs a hub.
async fn ask(desk: &Desk<'_>, command: Command) -> Result<Exit, Error> {
    match command {
        Command::Apply(args) => document::apply(desk, &args).await,
        Command::Export(args) => export::export(desk, &args).await,
        Command::Artifacts(verb) => artifacts::artifacts(desk, verb).await,
        Command::Attempts(verb) => attempts::attempts(desk, verb).await,
        Command::Bridges(verb) => bridges::bridges(desk, verb).await,
        Command::Credentials(verb) => credentials::credentials(desk, verb).await,
        Command::Events(EventVerb::List(args)) => desk.list(&noun::EVENT, &args).await,
        Command::Keys(verb) => keys::keys(desk, verb).await,
        Command::Projects(verb) => projects(desk, verb).await,
        Command::Run(args) => run::run(desk, args).await,
        Command::Runs(verb) => runs::runs(desk, verb).await,
        Command::Sites(verb) => sites(desk, verb).await,
        Command::Sources(verb) => sources::sources(desk, verb).await,
        Command::Status => status::status(desk).await,
        Command::Targets(verb) => targets::targets(desk, verb).await,
        Command::Tasks(verb) => tasks(desk, verb).await,
        Command::Templates(verb) => templates::templates(desk, verb).await,
        Command::Vault(verb) => credentials::vault(desk, verb).await,
        Command::Whoami => status::whoami(desk).await,
        Command::Approvals(_)
        | Command::Context(_)
        | Command::Dev(_)
        | Command::Help { .. }
        | Command::Login(_)
        | Command::Logout
        | Command::Version => Ok(Exit::Done),
    }
}

/// What a command that talks to a hub has before it.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    /// Where it prints.
    pub screen: &'a Screen,
    /// Whom it asks.
    pub client: Client,
    /// The context it was started with.
    pub context: Context,
    /// When it was started.
    pub now: Timestamp,
}

impl<'a> Desk<'a> {
    fn open(screen: &'a Screen, global: &Global) -> Result<Self, Error> {
        let context = resolve::context(global)?;
        Ok(Self {
            screen,
            client: Client::new(&context)?,
            context,
            now: SystemClock.now(),
        })
    }

    /// Pins the hub's new authority where the pinned one has named it its successor.
    fn follow(&self) {
        let Some(pin) = self.client.followed() else {
            return;
        };
        let Context { name, pin: old, .. } = &self.context;
        let kept = contexts::state_dir().and_then(|dir| contexts::follow(&dir, name, *old, pin));
        self.screen.note(&match kept {
            Ok(true) => format!("the hub's authority has changed, as the old one says; the pin of {name} is {pin} now"),
            Ok(false) => format!("the hub's authority has changed, as the old one says; pin {pin} from now on"),
            Err(error) => format!("the hub's authority has changed: pin {pin} from now on; {error}"),
        });
    }

    /// Prints one object.
    pub(crate) fn show(&self, noun: &Noun, object: &Value) -> Result<Exit, Error> {
        self.screen
            .print(&noun.one(object, self.screen.format, self.now)?)?;
        Ok(Exit::Done)
    }

    /// Asks for one object and prints it.
    pub(crate) async fn look(&self, noun: &Noun, name: &str) -> Result<Exit, Error> {
        let object = self.client.get(&[noun.path, name], &[]).await?;
        self.show(noun, &object)
    }

    /// Asks for a list and prints it.
    pub(crate) async fn list(&self, noun: &Noun, args: &ListArgs) -> Result<Exit, Error> {
        self.list_at(noun, &[noun.path], args).await
    }

    /// Asks for a list that is elsewhere and prints it.
    pub(crate) async fn list_at(
        &self,
        noun: &Noun,
        path: &[&str],
        args: &ListArgs,
    ) -> Result<Exit, Error> {
        self.list_where(noun, path, args, &[]).await
    }

    /// As [`Desk::list_at`], of what the query says.
    pub(crate) async fn list_where(
        &self,
        noun: &Noun,
        path: &[&str],
        args: &ListArgs,
        query: &[(&str, String)],
    ) -> Result<Exit, Error> {
        let page = self.pages(path, args, query).await?;
        self.screen
            .print(&noun.many(&page, self.screen, self.now)?)?;
        if !self.screen.format.for_programs()
            && let Some(next) = page.get("next").filter(|next| !next.is_null())
        {
            let next = next
                .as_str()
                .map_or_else(|| next.to_string(), str::to_owned);
            self.screen
                .note(&format!("there are more: --after {next}, or --all"));
        }
        Ok(Exit::Done)
    }

    /// A list as the hub gives it: one page, or all of them as one.
    pub(crate) async fn pages(
        &self,
        path: &[&str],
        args: &ListArgs,
        more: &[(&str, String)],
    ) -> Result<Value, Error> {
        let garbled = || Error::Garbled { expected: "a list" };
        let limit = if args.all { 1000 } else { args.limit };
        let mut after = args.after.clone();
        let mut items = Vec::new();
        loop {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(after.map(|after| ("after", after)));
            query.extend(more.iter().cloned());
            let mut page = self.client.get(path, &query).await?;
            let next = page.get("next").cloned().unwrap_or_default();
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(some)) => items.extend(some),
                Some(_) | None => return Err(garbled()),
            }
            after = match &next {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    Some(next.to_string())
                }
            };
            if !args.all || after.is_none() {
                return Ok(json!({"items": items, "next": next}));
            }
        }
    }
}

/// A request's body without the fields that were not given.
pub(crate) fn body(fields: &[(&str, Value)]) -> Value {
    let given = fields.iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        given
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<Map<_, _>>(),
    )
}

async fn sites(desk: &Desk<'_>, verb: SiteVerb) -> Result<Exit, Error> {
    match verb {
        SiteVerb::List(args) => desk.list(&noun::SITE, &args).await,
        SiteVerb::Show { site } => desk.look(&noun::SITE, &site).await,
        SiteVerb::Create {
            name,
            title,
            project,
        } => {
            let body = body(&[
                ("name", json!(name)),
                ("title", json!(title)),
                ("project", json!(project)),
            ]);
            let site = desk.client.post(&["sites"], &body).await?;
            desk.show(&noun::SITE, &site)
        }
    }
}

async fn projects(desk: &Desk<'_>, verb: ProjectVerb) -> Result<Exit, Error> {
    match verb {
        ProjectVerb::List(args) => desk.list(&noun::PROJECT, &args).await,
        ProjectVerb::Show { project } => desk.look(&noun::PROJECT, &project).await,
        ProjectVerb::Create { name, title } => {
            let body = body(&[("name", json!(name)), ("title", json!(title))]);
            let project = desk.client.post(&["projects"], &body).await?;
            desk.show(&noun::PROJECT, &project)
        }
    }
}

async fn tasks(desk: &Desk<'_>, verb: TaskVerb) -> Result<Exit, Error> {
    match verb {
        TaskVerb::List(args) => desk.list(&noun::TASK, &args).await,
        TaskVerb::Show { task } => desk.look(&noun::TASK, &task).await,
        TaskVerb::Form { task } => {
            let task = desk.client.get(&["tasks", &task], &[]).await?;
            desk.screen
                .json(task.get("schema").unwrap_or(&Value::Null))?;
            Ok(Exit::Done)
        }
        TaskVerb::Create(file) => document::create(desk, &noun::TASK, &file).await,
        TaskVerb::Import(args) => machines::tasks(desk.screen, &args),
    }
}
