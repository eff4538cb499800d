//! The kinds of values keys take: how each is read, checked, described and shown.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::raw::Raw;
use super::units;
use super::{ClientEvents, LogFormat, OverQuota, ReadyWhen};

/// One kind of value. Messages complete the sentence "`server.bind`: …" and never hold a secret.
pub(super) trait Kind {
    /// What [`Settings`](super::Settings) holds.
    type Value;
    /// Whether the value may also be given as `<key>_file` in the file.
    const SECRET: bool = false;

    /// For the reference page, with the range if there is one.
    fn describe() -> String;
    fn parse(raw: &Raw) -> Result<Self::Value, String>;
    /// The value as the file would hold it; null when not set, a fingerprint for a secret.
    fn show(value: &Self::Value) -> Value;
}

/// Gives a [`Kind`] whose value is the text itself, checked (and normalised) by a function.
macro_rules! text_kind {
    ($name:ident, $description:literal, $check:path) => {
        text_kind!($name, $description, $check, str::to_owned);
    };
    ($name:ident, $description:literal, $check:path, $show:path) => {
        pub(super) struct $name;

        impl Kind for $name {
            type Value = String;

            fn describe() -> String {
                $description.to_owned()
            }

            fn parse(raw: &Raw) -> Result<String, String> {
                $check(raw.text()?)
            }

            fn show(value: &String) -> Value {
                $show(value).into()
            }
        }
    };
}

pub(super) use text_kind;

pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn describe() -> String {
        "`true` or `false`".to_owned()
    }

    fn parse(raw: &Raw) -> Result<bool, String> {
        raw.boolean()
    }

    fn show(value: &bool) -> Value {
        (*value).into()
    }
}

/// A whole number within a range.
pub(super) struct Count<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> Kind for Count<MIN, MAX> {
    type Value = usize;

    fn describe() -> String {
        format!("number, {MIN} to {MAX}")
    }

    fn parse(raw: &Raw) -> Result<usize, String> {
        let number = raw.integer()?;
        usize::try_from(number)
            .ok()
            .filter(|count| (MIN..=MAX).contains(count))
            .ok_or_else(|| format!("must be from {MIN} to {MAX}, not {number}"))
    }

    fn show(value: &usize) -> Value {
        (*value).into()
    }
}

/// A limit that 0 switches off.
pub(super) struct Limit<N>(PhantomData<N>);

impl<N> Kind for Limit<N>
where
    N: Copy + TryFrom<NonZeroU64>,
    NonZeroU64: From<N>,
{
    type Value = Option<N>;

    fn describe() -> String {
        "number, 0 = no limit".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<N>, String> {
        let number = raw.integer()?;
        let count = u64::try_from(number).map_err(|_| format!("must be 0 or more, not {number}"))?;
        match NonZeroU64::new(count) {
            None => Ok(None),
            Some(count) => N::try_from(count)
                .map(Some)
                .map_err(|_| format!("{number} is too large: write a smaller number, or 0 for no limit")),
        }
    }

    fn show(value: &Option<N>) -> Value {
        value.map_or(0, |limit| NonZeroU64::from(limit).get()).into()
    }
}

/// A port that need not be given.
pub(super) struct Port;

impl Kind for Port {
    type Value = Option<u16>;

    fn describe() -> String {
        "number, 0 to 65535".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<u16>, String> {
        let number = raw.integer()?;
        u16::try_from(number).map(Some).map_err(|_| format!("must be 0 to 65535, not {number}"))
    }

    fn show(value: &Option<u16>) -> Value {
        (*value).into()
    }
}

/// A duration within a range of milliseconds.
pub(super) struct Time<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Kind for Time<MIN, MAX> {
    type Value = Duration;

    fn describe() -> String {
        let [min, max] = [MIN, MAX].map(|bound| units::format_duration(Duration::from_millis(bound)));
        format!("duration, {min} to {max}")
    }

    fn parse(raw: &Raw) -> Result<Duration, String> {
        if let Raw::Integer(number) = raw {
            return Err(units::bare_duration(*number));
        }
        let duration = units::parse_duration(raw.text()?)?;
        if (Duration::from_millis(MIN)..=Duration::from_millis(MAX)).contains(&duration) {
            return Ok(duration);
        }
        let [min, max] = [MIN, MAX].map(|bound| units::format_duration(Duration::from_millis(bound)));
        Err(format!("must be from {min} to {max}, not {}", units::format_duration(duration)))
    }

    fn show(value: &Duration) -> Value {
        units::format_duration(*value).into()
    }
}

/// A duration of whole seconds, 1 s to a day.
pub(super) struct WholeSeconds;

impl Kind for WholeSeconds {
    type Value = Duration;

    fn describe() -> String {
        "duration in whole seconds, 1s to 24h".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Duration, String> {
        let duration = Time::<1, 86_400_000>::parse(raw)?;
        if duration.subsec_millis() == 0 {
            return Ok(duration);
        }
        let shown = units::format_duration(duration);
        Err(format!(
            "must be whole seconds, because clients count in seconds: write {}s, not {shown}",
            duration.as_secs().max(1)
        ))
    }

    fn show(value: &Duration) -> Value {
        units::format_duration(*value).into()
    }
}

/// A number of bytes within a range.
pub(super) struct Size<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Kind for Size<MIN, MAX> {
    type Value = usize;

    fn describe() -> String {
        format!("size, {} to {}", units::format_size(MIN), units::format_size(MAX))
    }

    fn parse(raw: &Raw) -> Result<usize, String> {
        if let Raw::Integer(number) = raw {
            return Err(units::bare_size(*number));
        }
        let bytes = units::parse_size(raw.text()?)?;
        let [min, max, found] = [MIN, MAX, bytes].map(units::format_size);
        Some(bytes)
            .filter(|bytes| (MIN..=MAX).contains(bytes))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| format!("must be from {min} to {max}, not {found}"))
    }

    fn show(value: &usize) -> Value {
        units::format_size(*value as u64).into()
    }
}

/// A number of bytes as a limit, which 0 switches off.
pub(super) struct MostBytes;

impl Kind for MostBytes {
    type Value = Option<u64>;

    fn describe() -> String {
        "size, 0B = no limit".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<u64>, String> {
        match raw {
            Raw::Integer(number) => Err(units::bare_size(*number)),
            raw => units::parse_size(raw.text()?).map(|bytes| (bytes > 0).then_some(bytes)),
        }
    }

    fn show(value: &Option<u64>) -> Value {
        units::format_size(value.unwrap_or(0)).into()
    }
}

/// One of a few words.
pub(super) struct OneOf<T>(PhantomData<T>);

pub(super) trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Words for ClientEvents {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("members", Self::Members)];
}

impl Words for ReadyWhen {
    const WORDS: &'static [(&'static str, Self)] =
        &[("broadcasting", Self::Broadcasting), ("all", Self::All)];
}

impl Words for OverQuota {
    const WORDS: &'static [(&'static str, Self)] = &[("stop", Self::Stop), ("retry", Self::Retry)];
}

impl<T: Words> Kind for OneOf<T> {
    type Value = T;

    fn describe() -> String {
        T::WORDS.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or ")
    }

    fn parse(raw: &Raw) -> Result<T, String> {
        let words = || T::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        let text = raw.text().map_err(|_| format!("must be {}, in quotes", words()))?;
        let found = T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| format!("must be {}, not {text:?}", words()))
    }

    fn show(value: &T) -> Value {
        T::WORDS.iter().find(|(_, other)| other == value).map(|(word, _)| *word).into()
    }
}

/// Some of a few words.
pub(super) struct ListOf<T>(PhantomData<T>);

impl<T: Words> Kind for ListOf<T> {
    type Value = Vec<T>;

    fn describe() -> String {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
        format!("list of {}", words.join(", "))
    }

    fn parse(raw: &Raw) -> Result<Vec<T>, String> {
        raw.list()?.iter().map(OneOf::<T>::parse).collect()
    }

    fn show(value: &Vec<T>) -> Value {
        value.iter().map(OneOf::<T>::show).collect()
    }
}

pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn describe() -> String {
        "IP address and port".to_owned()
    }

    fn parse(raw: &Raw) -> Result<SocketAddr, String> {
        let text = raw.text()?;
        text.trim().parse().map_err(|_| {
            format!(
                "{text:?} is not an IP address and a port, as in \"0.0.0.0:6001\" or \"[::1]:6001\"{}",
                meant_address(text.trim()).map_or(String::new(), |meant| format!("; write {meant}"))
            )
        })
    }

    fn show(value: &SocketAddr) -> Value {
        value.to_string().into()
    }
}

/// The address that a port alone, an address alone or `localhost` with a port means, in quotes. A port alone
/// may mean this machine, which is all that development mode accepts, or every address.
fn meant_address(text: &str) -> Option<String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(format!("\"{}\"", SocketAddr::new(address, 6001)));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match host.trim_start_matches("http://").trim_start_matches("ws://") {
        _ if !is_port(port) => None,
        "localhost" => Some(format!("\"127.0.0.1:{port}\"")),
        "*" => Some(format!("\"0.0.0.0:{port}\"")),
        "" => Some(format!(
            "\"127.0.0.1:{port}\" to listen on this machine only, or \"0.0.0.0:{port}\" to listen on all addresses"
        )),
        _ => None,
    }
}

pub(super) struct Networks;

impl Kind for Networks {
    type Value = Vec<IpNet>;

    fn describe() -> String {
        "list of networks".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<IpNet>, String> {
        let parse = |item: &Raw| {
            let text = item.text()?;
            let address = || text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address));
            let network = text.parse().ok().or_else(address);
            network.ok_or_else(|| format!("{text:?} is not a network such as \"10.0.0.0/8\" or \"::1/128\""))
        };
        raw.list()?.iter().map(parse).collect()
    }

    fn show(value: &Vec<IpNet>) -> Value {
        value.iter().map(IpNet::to_string).collect()
    }
}

/// Number of shards, or `"auto"`.
pub(super) struct Shards;

impl Shards {
    /// Bits of the word that says which shards a channel has subscribers on.
    const MAX: i64 = 64;
}

impl Kind for Shards {
    type Value = Option<NonZeroU32>;

    fn describe() -> String {
        format!("`\"auto\"` or a number, 1 to {}", Self::MAX)
    }

    fn parse(raw: &Raw) -> Result<Option<NonZeroU32>, String> {
        if raw.text() == Ok("auto") {
            return Ok(None);
        }
        let number = raw.integer().map_err(|message| format!("{message}; write \"auto\" or a number"))?;
        u32::try_from(number)
            .ok()
            .and_then(NonZeroU32::new)
            .filter(|_| number <= Self::MAX)
            .map(Some)
            .ok_or_else(|| format!("must be \"auto\" or from 1 to {}, not {number}", Self::MAX))
    }

    fn show(value: &Option<NonZeroU32>) -> Value {
        value.map_or("auto".into(), |shards| shards.get().into())
    }
}

/// A number of bytes, or `"auto"`.
pub(super) struct Memory;

impl Memory {
    const MIN: u64 = 16 << 20;
    const MAX: u64 = 1 << 40;
}

type Bytes = Size<{ Memory::MIN }, { Memory::MAX }>;

impl Kind for Memory {
    type Value = Option<usize>;

    fn describe() -> String {
        format!("`\"auto\"` or a {}", Bytes::describe())
    }

    fn parse(raw: &Raw) -> Result<Option<usize>, String> {
        if raw.text() == Ok("auto") {
            return Ok(None);
        }
        Bytes::parse(raw).map(Some)
    }

    fn show(value: &Option<usize>) -> Value {
        value.as_ref().map_or("auto".into(), Bytes::show)
    }
}

pub(super) struct Folder;

impl Kind for Folder {
    type Value = PathBuf;

    fn describe() -> String {
        "folder".to_owned()
    }

    fn parse(raw: &Raw) -> Result<PathBuf, String> {
        match raw.text()? {
            "" => Err("is empty; write \".\" for the current folder".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }

    fn show(value: &PathBuf) -> Value {
        value.display().to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    fn message<T: std::fmt::Debug>(result: Result<T, String>) -> String {
        result.expect_err("refused")
    }

    #[test]
    fn numbers_keep_their_range() {
        assert_eq!(Count::<1, 10>::parse(&Raw::Integer(10)), Ok(10));
        assert_eq!(message(Count::<1, 10>::parse(&Raw::Integer(0))), "must be from 1 to 10, not 0");
        assert_eq!(message(Count::<1, 10>::parse(&Raw::Integer(-1))), "must be from 1 to 10, not -1");
        assert_eq!(Shards::parse(&Raw::Integer(64)), Ok(NonZeroU32::new(64)));
        assert_eq!(Shards::parse(&text("auto")), Ok(None));
        for wrong in [Raw::Integer(0), Raw::Integer(65), text("many")] {
            assert!(message(Shards::parse(&wrong)).contains("\"auto\""));
        }
    }

    #[test]
    fn zero_means_no_limit() {
        assert_eq!(Limit::<NonZeroU32>::parse(&Raw::Integer(0)), Ok(None));
        assert_eq!(Limit::<NonZeroU32>::parse(&Raw::Integer(7)), Ok(NonZeroU32::new(7)));
        assert_eq!(Limit::<NonZeroU64>::parse(&Raw::Integer(1 << 40)), Ok(NonZeroU64::new(1 << 40)));
        assert!(message(Limit::<NonZeroU32>::parse(&Raw::Integer(1 << 40))).contains("0 for no limit"));
        assert_eq!(message(Limit::<NonZeroU32>::parse(&Raw::Integer(-1))), "must be 0 or more, not -1");
    }

    #[test]
    fn times_and_sizes_need_units_and_keep_their_range() {
        type Second = Time<1_000, 60_000>;
        assert_eq!(Second::parse(&text("1m")), Ok(Duration::from_secs(60)));
        assert!(message(Second::parse(&Raw::Integer(30))).starts_with("\"30\" needs a unit"));
        assert_eq!(message(Second::parse(&text("2m"))), "must be from 1s to 1m, not 2m");
        type Kilobyte = Size<1, 1024>;
        assert_eq!(Kilobyte::parse(&text("1KB")), Ok(1024));
        assert!(message(Kilobyte::parse(&Raw::Integer(10))).starts_with("\"10\" needs a unit"));
        assert_eq!(message(Kilobyte::parse(&text("0B"))), "must be from 1B to 1KB, not 0B");
        assert_eq!(WholeSeconds::parse(&text("2m")), Ok(Duration::from_secs(120)));
        assert!(message(WholeSeconds::parse(&text("1500ms"))).contains("whole seconds"));
        assert!(message(WholeSeconds::parse(&text("0s"))).contains("1ms to 24h"));
    }

    #[test]
    fn no_bytes_are_no_limit() {
        assert_eq!(MostBytes::parse(&text("0B")), Ok(None));
        assert_eq!(MostBytes::parse(&text("10GB")), Ok(Some(10 << 30)));
        assert_eq!(MostBytes::show(&Some(10 << 30)), "10GB");
        assert_eq!(MostBytes::show(&None), "0B");
        assert!(message(MostBytes::parse(&Raw::Integer(0))).contains("\"0\""));
    }

    #[test]
    fn words_addresses_and_networks() {
        assert_eq!(OneOf::<ClientEvents>::parse(&text("members")), Ok(ClientEvents::Members));
        let refused = message(OneOf::<ClientEvents>::parse(&text("all")));
        assert_eq!(refused, "must be \"off\" or \"members\", not \"all\"");
        assert!(Address::parse(&text("[::1]:6001")).is_ok());
        for wrong in ["6001", "localhost:6001", "127.0.0.1", ":6001", "127.0.0.1:70000"] {
            assert!(message(Address::parse(&text(wrong))).contains("not an IP address and a port"));
        }
        for (wrong, right) in [
            ("*:6001", "0.0.0.0:6001"),
            ("localhost:6001", "127.0.0.1:6001"),
            ("127.0.0.1", "127.0.0.1:6001"),
            ("::1", "[::1]:6001"),
        ] {
            let message = message(Address::parse(&text(wrong)));
            assert!(message.ends_with(&format!("; write {right:?}")), "{message}");
        }
        for port in ["7000", ":7000"] {
            let message = message(Address::parse(&text(port)));
            assert!(
                message.ends_with(
                    "; write \"127.0.0.1:7000\" to listen on this machine only, or \"0.0.0.0:7000\" to listen on all \
                     addresses"
                ),
                "{message}"
            );
        }
        let networks = Networks::parse(&Raw::Untyped("10.0.0.0/8, ::1".to_owned(), ',')).expect("valid");
        assert_eq!(Networks::show(&networks), serde_json::json!(["10.0.0.0/8", "::1/128"]));
        assert!(message(Networks::parse(&Raw::List(vec![text("10.0.0.0/33")]))).contains("10.0.0.0/33"));
    }
}
