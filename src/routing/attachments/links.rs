//! Links to attachments: whoever has one may read, or upload, this one file until the link ends.

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::{Attachment, public_url};
use crate::config::RoutingSettings;
use crate::routing::Router;
use crate::storage;

/// All but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a link is for. One does not serve for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read.
    Download,
    /// To be brought.
    Upload,
}

/// A link as it came.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The app.
    pub app_id: &'a str,
    /// The attachment.
    pub public_id: &'a str,
    /// Seconds since 1970.
    pub expires: &'a str,
    /// HMAC-SHA256 in hex.
    pub signature: &'a str,
}

/// The key of signatures, which follows from the store's.
pub(super) fn key(server_key: &[u8]) -> Vec<u8> {
    let mut mac = mac(server_key);
    mac.update(b"attachments");
    mac.finalize().into_bytes().to_vec()
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("bug: HMAC takes keys of any length")
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

impl Router {
    /// Whether a link is one of ours and has not ended. Compared in constant time.
    pub fn accepts(&self, link: Link<'_>, purpose: Purpose) -> bool {
        let Ok(signature) = hex::decode(link.signature) else { return false };
        let is_ours = self.link_mac(link, purpose).verify_slice(&signature).is_ok();
        is_ours && link.expires.parse().is_ok_and(|expires: i64| storage::now() / 1_000_000 <= expires)
    }

    /// Where an attachment is read.
    pub(super) fn download_url(&self, attachment: &Attachment, settings: &RoutingSettings) -> String {
        self.url(attachment, settings, Purpose::Download, attachment.expires_at)
    }

    /// Where an attachment is brought to.
    pub(super) fn upload_url(&self, attachment: &Attachment, settings: &RoutingSettings) -> String {
        self.url(attachment, settings, Purpose::Upload, attachment.not_before)
    }

    fn url(
        &self,
        attachment: &Attachment,
        settings: &RoutingSettings,
        purpose: Purpose,
        until: i64,
    ) -> String {
        let Attachment { app_id, public_id, name, .. } = attachment;
        let expires = (until / 1_000_000).to_string();
        let link = Link { app_id, public_id, expires: &expires, signature: "" };
        let signature = hex::encode(self.link_mac(link, purpose).finalize().into_bytes());
        // The name is for people, and for phones that go by the ending.
        let [app_id, name] = [app_id, name].map(|text| utf8_percent_encode(text, SEGMENT));
        let base = public_url(settings).unwrap_or_default();
        format!("{base}/attachments/{app_id}/{public_id}/{name}?expires={expires}&signature={signature}")
    }

    fn link_mac(&self, link: Link<'_>, purpose: Purpose) -> Hmac<Sha256> {
        let mut mac = mac(&self.inner.attachments.link_key);
        for part in [purpose.as_str(), link.app_id, link.public_id, link.expires] {
            mac.update(part.as_bytes());
            mac.update(b"\0");
        }
        mac
    }
}
