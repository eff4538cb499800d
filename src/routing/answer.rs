//! Whoever wrote can be answered: with a conversation or an existing contact, its stored address is where a message
//! goes, exactly as it is. Short codes, names and numbers of a plan that nobody here knows are such addresses; the
//! carrier wrote them itself, and says whether it takes replies to them.

use std::sync::Arc;

use super::Router;
use super::draft::{Draft, SendRequest, UserRef, invalid};
use super::error::{Code, RoutingError};
use super::phone_number::{Destination, contact_identity};
use super::portal_ids;
use super::records::{Contact, Conversation};
use crate::apps::App;
use crate::config::{DirectoryMode, RoutingSettings};
use crate::storage::{StorageError, Transaction};

impl Router {
    /// Checks a request. Its recipient is the number in `to`, or a contact that the user has already, or, without
    /// `to`, the contact of the conversation; with `reply_all` the whole group of a message.
    ///
    /// # Errors
    /// The first field that is wrong, or the store's.
    pub async fn draft(&self, app: &Arc<App>, request: &SendRequest) -> Result<Draft, RoutingError> {
        let settings = &app.settings.routing;
        let user = UserRef::required(request.user_id.as_ref())?;
        if let Some(id) = &request.reply_all {
            let group = self.group_of(Arc::clone(app), user, id.text()).await?;
            return Draft::to_group(request, group, settings);
        }
        let to = match (&request.to, &request.conversation_id) {
            (Some(to), _) => self.written(app, user, to.one()?, settings).await?,
            (None, Some(id)) => self.contact_of(app, user, id.text()).await?,
            (None, None) => {
                return Err(invalid(
                    "to",
                    "to is missing: send a number, or the conversation_id of a conversation",
                ));
            }
        };
        Draft::new(request, to, settings)
    }

    /// The recipient that `to` means.
    async fn written(
        &self,
        app: &Arc<App>,
        user: String,
        to: &str,
        settings: &RoutingSettings,
    ) -> Result<Destination, RoutingError> {
        let read = Destination::parse(to, &settings.numbers, settings.default_region.as_deref());
        let identity = contact_identity(to);
        if read.as_ref().is_ok_and(|read| read.identity() == identity) {
            return read.map_err(|error| refused(&error));
        }
        let (app, wanted) = (Arc::clone(app), identity.clone());
        let known = self.database().read(move |tx| Contact::find(tx, &app.settings.id, &user, &wanted));
        // The contact may be stored in another spelling of its line; what was written is sent to.
        match known.await? {
            Some(_) if !identity.is_empty() => Ok(Destination::stored(&identity)),
            _ => read.map_err(|error| refused(&error)),
        }
    }

    /// The contact of a conversation.
    async fn contact_of(
        &self,
        app: &Arc<App>,
        user: String,
        id: String,
    ) -> Result<Destination, RoutingError> {
        let app = Arc::clone(app);
        let found = self.database().read(move |tx| conversation(tx, &app, &user, &id)).await?;
        let not_found = || RoutingError::not_found("conversation").at("conversation_id");
        let number = found.ok_or_else(not_found)?.contact.number;
        if number.is_empty() {
            let message = "the contact of this conversation has no address: the carrier named no sender";
            return Err(RoutingError::new(Code::InvalidNumber, message).at("conversation_id"));
        }
        Ok(Destination::stored(&number))
    }
}

/// The conversation that a request for a send names: in existing-database mode by the portal's id of it.
fn conversation(
    tx: &mut Transaction<'_>,
    app: &App,
    user: &str,
    id: &str,
) -> Result<Option<Conversation>, StorageError> {
    let app_id = app.settings.id.as_str();
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Conversation::find(tx, app_id, user, id);
    }
    let id = portal_ids::named(id).unwrap_or(id);
    Conversation::find(tx, app_id, user, &portal_ids::name(id))
}

fn refused(error: &impl ToString) -> RoutingError {
    RoutingError::new(Code::InvalidNumber, error.to_string()).at("to")
}
