//! The portal's own tables as the directory (`routing.directory.mode = "sql"`): read, never written.
//!
//! `query` binds the operator's queries, `mysql` and `postgres` run them, `rows` reads what they give,
//! `breaker` stops asking a database that is down. What is decided from it stands here and in `found`.
//!
//! A number whose owner can't be told is no number of somebody outside: the answer is
//! `directory_unavailable`, and nothing goes to the carrier.
//!
//! Connections live on the runtime of the handle that [`PortalDirectories::new`] gets: one that was made
//! on a runtime of a shard would wait for that shard wherever it is used.

mod breaker;
mod check;
mod database;
mod fault;
mod found;
mod mysql;
mod postgres;
mod query;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::Router;
use super::directory::{OwnNumber, Owner};
use super::draft::Draft;
use super::error::{Code, RoutingError};
use super::phone_number::{PhoneNumber, candidates, is_same_line, spellings};
use super::send::Numbers;
use crate::apps::App;
use crate::config::{AppSettings, DirectoryMode, DirectorySettings, RoutingSettings};
use breaker::Breaker;
pub use check::{Problem, check};
use database::{Connection, Database};
use fault::Fault;
use query::Queries;

/// Time for a connection to come about. A request does not wait for it, but the next one may use it.
const CONNECT: Duration = Duration::from_secs(5);
/// Numbers of a sender for which the recipient's conversations are looked up.
const MAX_OWN: usize = 8;

/// Conversation ids that the portal has already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownConversations {
    /// Of the sender.
    pub sender: Option<String>,
    /// Of the recipient, when internal, by the sender's number.
    recipient: BTreeMap<String, String>,
}

impl KnownConversations {
    /// The recipient's conversation with this number of the sender.
    pub fn recipient(&self, sender_number: &str) -> Option<&str> {
        self.recipient.get(sender_number).map(String::as_str)
    }
}

/// The portals' databases, by app.
pub struct PortalDirectories {
    handle: Handle,
    sources: Mutex<HashMap<String, Arc<Source>>>,
}

impl PortalDirectories {
    /// None yet. Connections live on the runtime of `handle`, which must not be blocked.
    pub fn new(handle: Handle) -> Self {
        Self { handle, sources: Mutex::default() }
    }

    /// The database of an app; another one when its settings have changed.
    fn source(&self, app: &App) -> Result<Arc<Source>, Fault> {
        let (id, settings) = (&app.settings.id, &app.settings.routing.directory);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(id).filter(|source| source.settings == *settings) {
            return Ok(Arc::clone(source));
        }
        let _on_runtime = self.handle.enter();
        let source = Arc::new(Source::new(settings)?);
        // Look-ups under way keep the old one, which ends with the last of them.
        sources.insert(id.clone(), Arc::clone(&source));
        Ok(source)
    }
}

/// One app's database.
struct Source {
    settings: DirectorySettings,
    queries: Queries,
    database: Database,
    breaker: Mutex<Breaker>,
}

/// What is to be looked up, in one go.
#[derive(Debug, Default)]
struct Question {
    /// Whose is this number?
    number: Option<PhoneNumber>,
    /// Which numbers has this user?
    user: Option<String>,
    /// Which conversations do this user and the number's owner have with each other?
    conversations: Option<Pair>,
}

#[derive(Debug)]
struct Pair {
    /// The number that the user sends from, if it was said.
    from: Option<PhoneNumber>,
    /// The other's number.
    to: String,
    /// Whether the request named the user's conversation.
    is_sender_known: bool,
}

#[derive(Debug, Default)]
struct Answer {
    owner: Option<Owner>,
    own_numbers: Vec<OwnNumber>,
    conversations: KnownConversations,
}

/// The directory of one app.
pub struct PortalDirectory {
    app: Arc<App>,
    source: Arc<Source>,
    handle: Handle,
}

impl Router {
    /// The portal's tables, for an app that has them as its directory.
    ///
    /// # Errors
    /// `directory_unavailable`: the URL can't be used.
    pub fn portal_directory(&self, app: &Arc<App>) -> Result<PortalDirectory, RoutingError> {
        let directories = &self.inner.portal_directories;
        let source = directories.source(app).map_err(|fault| {
            tracing::error!(app = app.settings.id.as_str(), %fault, "the portal's directory can't be used");
            unavailable(CONNECT)
        })?;
        Ok(PortalDirectory { app: Arc::clone(app), source, handle: directories.handle.clone() })
    }
}

impl Router {
    /// Who has a number, as it is stored, where the portal's tables say it; `None` where the directory is our own,
    /// which is asked in the transaction.
    ///
    /// # Errors
    /// `directory_unavailable`, `directory_ambiguous`.
    pub(super) async fn portal_owner(
        &self,
        app: &Arc<App>,
        number: &str,
    ) -> Result<Option<Owner>, RoutingError> {
        if app.settings.routing.directory.mode == DirectoryMode::Own {
            return Ok(None);
        }
        match PhoneNumber::from_stored(number) {
            Some(number) => self.portal_directory(app)?.find_owner(&number).await,
            None => Ok(None),
        }
    }
}

/// Tries the queries of each app's portal. A database that is away may come back, and until then nothing is
/// sent; with a query that is wrong it would never be known who is a user.
///
/// # Errors
/// A query that is wrong.
pub async fn check_all(apps: &[AppSettings]) -> Result<(), String> {
    // All at once: one that does not answer delays the start by its own time.
    let apps: Vec<_> = apps.iter().filter(|app| app.routing.enabled).collect();
    let found = join_all(apps.iter().map(|app| check(&app.routing.directory))).await;
    let mut wrong = Vec::new();
    for (app, problems) in apps.iter().zip(found) {
        for problem in problems {
            if problem.may_pass {
                tracing::error!(
                    app = app.id.as_str(),
                    problem = problem.text,
                    "the portal's directory can't be used"
                );
            } else {
                wrong.push(format!("app {}: {}", app.id, problem.text));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

impl PortalDirectory {
    /// All that is needed to send.
    ///
    /// # Errors
    /// `directory_unavailable`, `directory_ambiguous`.
    pub async fn look_up(&self, draft: &Draft) -> Result<Numbers, RoutingError> {
        let pair = Pair {
            from: draft.from.clone(),
            to: draft.to.identity(),
            is_sender_known: draft.conversation_id.is_some(),
        };
        let question = Question {
            // A short code is nobody's.
            number: draft.to.number().cloned(),
            user: Some(draft.user_id.clone()),
            conversations: Some(pair),
        };
        let Answer { owner, own_numbers, conversations } = self.ask(question).await?;
        Ok(Numbers::Portal { recipient: owner, own_numbers, conversations })
    }

    /// Who has a number.
    ///
    /// # Errors
    /// `directory_unavailable`, `directory_ambiguous`.
    pub async fn find_owner(&self, number: &PhoneNumber) -> Result<Option<Owner>, RoutingError> {
        let question = Question { number: Some(number.clone()), ..Question::default() };
        Ok(self.ask(question).await?.owner)
    }

    /// The numbers a user may send from.
    ///
    /// # Errors
    /// `directory_unavailable`.
    pub async fn own_numbers(&self, user: &str) -> Result<Vec<OwnNumber>, RoutingError> {
        let question = Question { user: Some(user.to_owned()), ..Question::default() };
        Ok(self.ask(question).await?.own_numbers)
    }

    async fn ask(&self, question: Question) -> Result<Answer, RoutingError> {
        let source = &self.source;
        source.breaker().enter(Instant::now()).map_err(unavailable)?;
        let timeout = source.timeout();
        let deadline = Instant::now() + timeout;
        let (app, asked) = (Arc::clone(&self.app), Arc::clone(source));
        // Not cancelled when its time is over: a connection that took long is there for the next one.
        let task =
            self.handle.spawn(async move { asked.answer(&app.settings.routing, &question, deadline).await });
        let outcome = match tokio::time::timeout(timeout, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Fault::Unavailable("the server is stopping".to_owned())),
            Err(_) => Err(Fault::Unavailable(format!("no answer within {} ms", timeout.as_millis()))),
        };
        self.note(&outcome);
        outcome.map_err(|fault| match fault {
            Fault::Unavailable(_) | Fault::Wrong(_) => unavailable(Duration::from_secs(1)),
            Fault::Ambiguous => {
                let message = "the portal's tables give this number to more than one user";
                RoutingError::new(Code::DirectoryAmbiguous, message).at("to")
            }
        })
    }

    /// Tells the breaker and the log.
    fn note(&self, outcome: &Result<Answer, Fault>) {
        let app = self.app.settings.id.as_str();
        match outcome {
            Ok(_) => self.source.breaker().succeed(),
            Err(Fault::Unavailable(reason)) => {
                tracing::error!(app, reason, "the portal's directory is not available");
                if self.source.breaker().fail(Instant::now()) {
                    tracing::error!(
                        app,
                        "the portal's directory failed often; the router does not query it for a while"
                    );
                }
            }
            // It answers: no reason not to ask it about other numbers.
            Err(fault @ (Fault::Wrong(_) | Fault::Ambiguous)) => {
                self.source.breaker().succeed();
                tracing::error!(app, %fault, "a query of the portal's directory returned columns that can't be used");
            }
        }
    }
}

impl Source {
    fn new(settings: &DirectorySettings) -> Result<Self, Fault> {
        let database = Database::new(settings)?;
        let queries = Queries::new(settings, database.dialect());
        Ok(Self { settings: settings.clone(), queries, database, breaker: Mutex::default() })
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timeout(&self) -> Duration {
        database::timeout(&self.settings)
    }

    async fn answer(
        &self,
        settings: &RoutingSettings,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let mut connection = self.database.acquire().await?;
        let asking = async {
            connection.begin(self.timeout()).await?;
            self.ask(&mut connection, settings, question).await
        };
        match tokio::time::timeout_at(deadline.into(), asking).await {
            Ok(answer) => {
                connection.end().await;
                answer
            }
            Err(_) => {
                // What it was doing is not known, so nobody else gets it.
                connection.discard();
                Err(Fault::Unavailable("no answer in time".to_owned()))
            }
        }
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        settings: &RoutingSettings,
        question: &Question,
    ) -> Result<Answer, Fault> {
        let mut answer = Answer::default();
        if let Some(number) = &question.number {
            answer.owner = self.owner(connection, settings, number).await?;
        }
        if let Some(user) = &question.user {
            let user_id = [user.clone()];
            let rows = connection.run(&self.queries.own_numbers, &[("user_id", &user_id)]).await?;
            answer.own_numbers = found::own_numbers(&rows, user, settings);
            if let Some(pair) = &question.conversations {
                answer.conversations = self.conversations(connection, user, pair, &answer).await?;
            }
        }
        Ok(answer)
    }

    /// The owner of a number. A query for `:number` finds one spelling, so it is asked for each of the number's line.
    async fn owner(
        &self,
        connection: &mut Connection,
        settings: &RoutingSettings,
        number: &PhoneNumber,
    ) -> Result<Option<Owner>, Fault> {
        let (all, mut found) = (candidates(number), None);
        for spelling in spellings(number.as_str()) {
            let text = [spelling];
            let values = [("number", &text[..]), ("candidates", &all[..])];
            let rows = connection.run(&self.queries.find_number, &values).await?;
            let Some(owner) = found::owner(&rows, number, settings)? else { continue };
            if owner.is_in_use() {
                return Ok(Some(owner));
            }
            found = found.or(Some(owner));
        }
        Ok(found)
    }

    async fn conversations(
        &self,
        connection: &mut Connection,
        user: &str,
        pair: &Pair,
        answer: &Answer,
    ) -> Result<KnownConversations, Fault> {
        let mut known = KnownConversations::default();
        if !pair.is_sender_known {
            known.sender = self.conversation(connection, user, &pair.to).await?;
        }
        let Some(Owner { is_assigned: true, user_id: Some(recipient), .. }) = &answer.owner else {
            return Ok(known);
        };
        // Which one is sent from is decided later; who has many says it.
        let own = answer.own_numbers.iter().map(|own| own.number.as_str());
        let from = pair.from.as_ref().map(PhoneNumber::as_str);
        for number in own.filter(|own| from.is_none_or(|from| is_same_line(from, own))).take(MAX_OWN) {
            if let Some(id) = self.conversation(connection, recipient, number).await? {
                known.recipient.insert(number.to_owned(), id);
            }
        }
        Ok(known)
    }

    async fn conversation(
        &self,
        connection: &mut Connection,
        user: &str,
        contact: &str,
    ) -> Result<Option<String>, Fault> {
        let Some(query) = &self.queries.find_conversation else { return Ok(None) };
        let user = [user.to_owned()];
        for contact in spellings(contact) {
            let rows = connection.run(query, &[("user_id", &user), ("contact", &[contact])]).await?;
            if let Some(id) = found::conversation(&rows)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

fn unavailable(wait: Duration) -> RoutingError {
    let message = "it can't be told who owns the number: the portal's directory is not available, try again";
    RoutingError { retry_after: Some(wait), ..RoutingError::new(Code::DirectoryUnavailable, message) }
}
