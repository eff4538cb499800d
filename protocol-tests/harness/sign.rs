//! Pusher's signatures, written from the documentation and independent of the server's code.
//!
//! Sources: Pusher docs, "Auth signatures" and "HTTP API reference: authentication".

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// The credentials of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub id: String,
    pub key: String,
    pub secret: String,
}

impl App {
    pub fn new(id: &str, key: &str, secret: &str) -> Self {
        Self { id: id.to_owned(), key: key.to_owned(), secret: secret.to_owned() }
    }

    /// `/apps/{id}/{rest}`.
    pub fn path(&self, rest: &str) -> String {
        format!("/apps/{}/{rest}", self.id)
    }

    /// `auth` of a private channel.
    pub fn channel_auth(&self, socket_id: &str, channel: &str) -> String {
        format!("{}:{}", self.key, hmac_hex(&self.secret, &format!("{socket_id}:{channel}")))
    }

    /// `auth` of a presence channel.
    pub fn presence_auth(&self, socket_id: &str, channel: &str, channel_data: &str) -> String {
        format!("{}:{}", self.key, hmac_hex(&self.secret, &format!("{socket_id}:{channel}:{channel_data}")))
    }

    /// `auth` of `pusher:signin`.
    pub fn user_auth(&self, socket_id: &str, user_data: &str) -> String {
        format!("{}:{}", self.key, hmac_hex(&self.secret, &format!("{socket_id}::user::{user_data}")))
    }
}

pub fn hmac_hex(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length is allowed");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

pub fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

pub fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(elapsed.as_secs()).expect("seconds fit")
}

/// The string to sign: every parameter but the signature, keys in lower case, sorted, values decoded.
pub fn string_to_sign(method: &str, path: &str, params: &[(String, String)]) -> String {
    let mut sorted: Vec<(String, &str)> = params
        .iter()
        .filter(|(name, _)| name != "auth_signature")
        .map(|(name, value)| (name.to_lowercase(), value.as_str()))
        .collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let query = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    format!("{method}\n{path}\n{query}")
}

mod vectors {
    use super::*;

    fn app() -> App {
        App::new("1001", "sb-key", "sb-secret")
    }

    fn owned(params: &[(&str, &str)]) -> Vec<(String, String)> {
        params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn signature(
        secret: &str,
        method: &str,
        path: &str,
        key: &str,
        time: &str,
        params: &[(&str, &str)],
    ) -> String {
        let mut all = owned(params);
        all.extend(owned(&[("auth_key", key), ("auth_timestamp", time), ("auth_version", "1.0")]));
        hmac_hex(secret, &string_to_sign(method, path, &all))
    }

    #[test]
    fn channel_signatures_equal_those_of_the_python_sdk() {
        assert_eq!(
            app().channel_auth("1234.5678", "private-user.42"),
            "sb-key:80f2f83fbc2915bd5a544a2883345694bced21118e3d192572169e45b08b1b0e"
        );
        assert_eq!(
            app().presence_auth(
                "1234.5678",
                "presence-room",
                r#"{"user_id": "42", "user_info": {"name": "Ann"}}"#
            ),
            "sb-key:c09c96e6d359cb75418d5e9e15ae8ba41a7b32d37b260f9f4edf2d15f77d3a9c"
        );
        assert_eq!(
            app().user_auth("1234.5678", r#"{"id": "42"}"#),
            "sb-key:5755796e9cc855b60c2f4df7b7b0ee7caada1b936c53b2eb8361265471ca0f87"
        );
        assert_eq!(
            app().user_auth("1234.5678", r#"{"id":"42"}"#),
            "sb-key:d2dbfef4e554635d3d48df9a47307decba243a25caa3644d6c0838b9a7336b72"
        );
        assert_eq!(
            app().channel_auth("1234.5678", "private-encrypted-room"),
            "sb-key:89ba7c422b22e397e9d55a67eaf0db047ff487717ad65a6988f9d02bfba564c6"
        );
    }

    #[test]
    fn channel_signatures_equal_those_of_the_documentation() {
        let docs = App::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8");
        assert_eq!(
            docs.channel_auth("1234.1234", "private-foobar"),
            "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
        );
        assert_eq!(
            docs.user_auth("1234.1234", r#"{"id":"12345"}"#),
            "278d425bdf160c739803:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"
        );
        assert_eq!(
            docs.presence_auth(
                "1234.1234",
                "presence-foobar",
                r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#
            ),
            "278d425bdf160c739803:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"
        );
    }

    #[test]
    fn publish_signatures_equal_those_of_the_sdks() {
        let body = r#"{"name": "MessageReceived", "channels": ["user.42"], "data": "{\"id\": 7, \"body\": \"h\u00e9\"}"}"#;
        assert_eq!(body.len(), 98);
        assert_eq!(md5_hex(body.as_bytes()), "aec9df0cc31327709bdf013a546eabec");
        let sign = |method, path, params: &[(&str, &str)]| {
            signature("sb-secret", method, path, "sb-key", "1767225600", params)
        };
        assert_eq!(
            sign("POST", "/apps/1001/events", &[("body_md5", "aec9df0cc31327709bdf013a546eabec")]),
            "a47db53e8116c8995962859e068ebebc3f0bd386f864c0972934e6cb486bebf5"
        );
        assert_eq!(
            sign(
                "POST",
                "/apps/1001/users/42/terminate_connections",
                &[("body_md5", "99914b932bd37a50b983c5e7c90ae93b")]
            ),
            "f32957af64b4d1fea2e7f4250a9275bb5508115bed9f5eaa2691be40e868bf16"
        );
        assert_eq!(
            sign("POST", "/apps/1001/batch_events", &[("body_md5", "0565b46ffb66a34f71a42f52ea633103")]),
            "c3cbcea3b2dd5f3a25699f070bf310b88f96258bbf225fbb2fb2155ffae3e666"
        );
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(
            signature(
                "7ad3773142a6692b25b8",
                "POST",
                "/apps/3/events",
                "278d425bdf160c739803",
                "1353088179",
                &[("body_md5", &md5_hex(body))]
            ),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }

    #[test]
    fn query_signatures_equal_those_of_the_sdks() {
        let sign = |path, params: &[(&str, &str)]| {
            signature("sb-secret", "GET", path, "sb-key", "1767225600", params)
        };
        let nothing = ("body_md5", "d41d8cd98f00b204e9800998ecf8427e");
        let (channels, room) = ("/apps/1001/channels", "/apps/1001/channels/presence-room");
        let prefix = ("filter_by_prefix", "presence-");
        let (count, both) = (("info", "user_count"), ("info", "user_count,subscription_count"));
        assert_eq!(
            sign(channels, &[prefix, count, nothing]),
            "099bece54899b34a9ed81db8c6e5579a15d4833aed908137ff66cef2b340671e"
        );
        assert_eq!(
            sign(channels, &[prefix, count]),
            "6e5dcbfb105db3bad07b895e689d3ad4c59f4b1964672929676300134e2c3166"
        );
        assert_eq!(
            sign(room, &[both, nothing]),
            "68b87044aaef4c7011103afbc956891c0a22cb4323a6d98f286661dc5ace41e7"
        );
        assert_eq!(sign(room, &[both]), "36a4d00cbe0b553224fb75206798ea34efab0bc6668639c6dbed931da63368e7");
        assert_eq!(
            sign(channels, &[both]),
            "a0e257c83fbf341409572df693bc20c7efbe489f2a63d0cdbd6a561d4dc5efd4"
        );
        assert_eq!(
            sign(channels, &[("info[]", "user_count"), ("info[]", "subscription_count")]),
            "5ac5fe9580fdc0713ee5d3260487bff98bf4b84d5c97c8e43bec76187fadae55"
        );
    }
}
