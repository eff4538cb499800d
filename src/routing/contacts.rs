//! What users call their contacts.

use std::sync::Arc;

use super::draft::{self, invalid};
use super::error::{Code, RoutingError};
use super::events::Events;
use super::phone_number::Destination;
use super::records::{Contact, Conversation, ConversationKey};
use super::{Router, directory, phone_number};
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::storage::{self, Transaction};

impl Router {
    /// Names a user's contact, or takes its name away. `number` in any usual spelling, or what an existing
    /// contact has instead of a number (the name of an alphanumeric sender).
    ///
    /// # Errors
    /// `invalid_number`; `invalid_field`: the name.
    pub async fn name_contact(
        &self,
        app: Arc<App>,
        user: String,
        number: String,
        name: Option<String>,
    ) -> Result<Contact, RoutingError> {
        let name = draft::name(name.as_deref())?;
        let portal_owner = self.portal_owner(&app, &phone_number::contact_identity(&number)).await?;
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let now = storage::now();
                let (known, number) = find(tx, &app, &user, &number)?;
                if let Some(contact) = known.filter(|contact| contact.name == name) {
                    return Ok(contact);
                }
                let key = ConversationKey {
                    app_id: &app.settings.id,
                    user_id: &user,
                    own_number: "",
                    contact_number: &number,
                    thread_id: "",
                };
                let ids = app.settings.routing.ids.kind;
                let owner = match app.settings.routing.directory.mode {
                    DirectoryMode::Own => directory::find(tx, key.app_id, &number)?,
                    DirectoryMode::Sql => portal_owner.clone(),
                };
                let is_internal = owner.is_some_and(|owner| owner.is_in_use());
                let contact = Contact::rename(tx, &key, name.as_deref(), is_internal, ids, now)?;
                for conversation in Conversation::of_contact(tx, &contact)? {
                    let mut events = Events::new(&app);
                    events.conversation_updated(&conversation)?;
                    router.publish(tx, &app, &conversation.thread_id, events, None, now)?;
                }
                Ok(contact)
            })
            .await
    }
}

/// The contact meant, or the number of a new one.
fn find(
    tx: &mut Transaction<'_>,
    app: &App,
    user: &str,
    number: &str,
) -> Result<(Option<Contact>, String), RoutingError> {
    let app_id = app.settings.id.as_str();
    let identity = phone_number::contact_identity(number);
    if identity.is_empty() {
        return Err(invalid("number", "number is missing"));
    }
    if let Some(contact) = Contact::find(tx, app_id, user, &identity)? {
        let number = contact.number.clone();
        return Ok((Some(contact), number));
    }
    let settings = &app.settings.routing;
    let number = Destination::parse(number, &settings.numbers, settings.default_region.as_deref())
        .map_err(|error| RoutingError::new(Code::InvalidNumber, error.to_string()).at("number"))?;
    let known = Contact::find(tx, app_id, user, &number.identity())?;
    let number = known.as_ref().map_or_else(|| number.identity(), |contact| contact.number.clone());
    Ok((known, number))
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Lab;
    use super::*;

    async fn name(lab: &Lab, number: &str, name: Option<&str>) -> Result<Contact, RoutingError> {
        let (user, number, name) = ("7".to_owned(), number.to_owned(), name.map(str::to_owned));
        lab.router.name_contact(Arc::clone(&lab.app), user, number, name).await
    }

    #[tokio::test]
    async fn a_contact_is_named_in_any_spelling_and_its_conversation_is_told() {
        let lab = Lab::new().await;
        let made = name(&lab, "(312) 555-0101", Some(" Ada ")).await.expect("named");
        assert_eq!((made.number.as_str(), made.name.as_deref()), ("+13125550101", Some("Ada")));
        assert!(lab.events().is_empty(), "there is no conversation yet");
        let sent = lab.send("7", "+13125550101", "hello").await;
        lab.events();
        let renamed = name(&lab, "+1 312-555-0101", Some("Grace")).await.expect("renamed");
        assert_eq!((renamed.id, renamed.name.as_deref()), (made.id, Some("Grace")));
        let events = lab.events();
        assert_eq!((events.len(), events[0].channel.as_str()), (1, "user.7"));
        assert_eq!(events[0].name, "App\\Events\\ConversationUpdated");
        let told = &events[0].data["conversation"];
        assert_eq!((&told["contact"]["name"], &told["last_message"]), (&"Grace".into(), &"hello".into()));
        name(&lab, "+13125550101", Some("Grace")).await.expect("nothing to do");
        assert!(lab.events().is_empty());
        assert_eq!(name(&lab, "+13125550101", None).await.expect("cleared").name, None);
        let theirs = lab.received(&[sent]).await.remove(0);
        assert_eq!(
            lab.conversation(theirs.conversation_id).await.contact.name,
            None,
            "other users keep theirs"
        );
    }

    #[tokio::test]
    async fn a_contact_without_number_can_be_named_if_it_exists() {
        let lab = Lab::new().await;
        let refused = name(&lab, "ACME", Some("Acme")).await.expect_err("no such contact");
        assert_eq!((refused.code, refused.field.as_deref()), (Code::InvalidNumber, Some("number")));
        lab.sql(
            "INSERT INTO contacts (app_id, user_id, number, is_internal, created_at, updated_at) \
             VALUES ('1001', '7', 'ACME', 0, 1, 1)",
        )
        .await;
        assert_eq!(name(&lab, "ACME", Some("Acme Inc.")).await.expect("named").number, "ACME");
        assert_eq!(name(&lab, " ", Some("x")).await.expect_err("empty").code, Code::InvalidField);
        let long = "x".repeat(256);
        assert_eq!(name(&lab, "ACME", Some(&long)).await.expect_err("long").field.as_deref(), Some("name"));
    }
}
