//! What the fuzz targets of `protocol-tests/fuzz` run: each reader of outside input, with the properties that must hold
//! for any input. A room's own are in its module `fuzzing`, as most readers are private. Neither is part of the
//! program: they are there for tests and for the fuzzer, which sets `cfg(fuzzing)`.

/// Functions of bytes; one that reads text gets what of them is UTF-8.
macro_rules! targets {
    ($(text $text:ident: $read:path;)+ $(bytes $bytes:ident: $take:path;)+) => {
        $(
            #[doc = concat!("`protocol-tests/fuzz/fuzz_targets/", stringify!($text), ".rs`.")]
            pub fn $text(input: &[u8]) {
                $read(&String::from_utf8_lossy(input));
            }
        )+
        $(
            #[doc = concat!("`protocol-tests/fuzz/fuzz_targets/", stringify!($bytes), ".rs`.")]
            pub fn $bytes(input: &[u8]) {
                $take(input);
            }
        )+
        #[cfg(test)]
        const TARGETS: &[(&str, fn(&[u8]))] =
            &[$((stringify!($text), $text),)+ $((stringify!($bytes), $bytes),)+];
    };
}

targets! {
    text client_message: crate::protocol::fuzzing::client_message;
    text http_auth: crate::protocol::fuzzing::http_auth;
    text connection: crate::hub::fuzzing::connection;
    text origins: crate::apps::fuzzing::origins;
    text configuration: crate::config::fuzzing::configuration;
    text dotenv: crate::config::fuzzing::dotenv;
    text setting_values: crate::config::fuzzing::setting_values;
    text urls: crate::config::fuzzing::urls;
    text sql: crate::config::fuzzing::sql;
    text messaging_body: crate::api::fuzzing::body;
    text file_headers: crate::api::fuzzing::file_headers;
    text pages: crate::routing::fuzzing::pages;
    bytes numbers_csv: crate::routing::fuzzing::numbers_csv;
    bytes telnyx_webhook: crate::routing::fuzzing::telnyx_webhook;
    bytes telnyx_answer: crate::routing::fuzzing::telnyx_answer;
    bytes download: crate::routing::fuzzing::download;
}

#[cfg(test)]
mod tests;
