//! The format of development mode: the time of day, what happened, to whom.
//!
//! ```text
//! 12:03:11 connect         127.0.0.1 4613.7702 pusher-js 8.6.0 origin=http://localhost:5173
//! 12:03:11 subscribe       4613.7702 private-orders verdict=accepted why="the signature is valid"
//! 12:03:12 WARN            the disk is full path=/var/lib/switchboard
//! ```

use std::fmt::{self, Write};

use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::traffic;

const TIME: &[FormatItem<'_>] = format_description!("[hour]:[minute]:[second]");
/// Fields whose values speak for themselves.
const NAMELESS: [&str; 6] = ["address", "socket", "client", "channel", "event", "request"];
/// Width of the column with what happened: the longest common one fits.
const COLUMN: usize = 15;
/// Known to whoever has one app only.
const LEFT_OUT: &str = "app";

/// One line an event, in local time.
pub struct Short {
    offset: UtcOffset,
}

impl Short {
    pub fn new(offset: UtcOffset) -> Self {
        Self { offset }
    }
}

impl<S, N> FormatEvent<S, N> for Short
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = OffsetDateTime::now_utc().to_offset(self.offset);
        let now = now.format(TIME).map_err(|_| fmt::Error)?;
        let meta = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, rest } = fields;
        let is_coloured = writer.has_ansi_escapes();
        let paint = |style: &'static str, text: String| {
            if is_coloured { format!("\x1b[{style}m{text}\x1b[0m") } else { text }
        };
        write!(writer, "{} ", paint("2", now))?;
        if meta.target() == traffic::TARGET {
            let style = if message.contains("refuse") { "33" } else { "36" };
            writeln!(writer, "{}{rest}", paint(style, format!("{message:<COLUMN$}")))
        } else {
            let level = format!("{:<COLUMN$}", meta.level());
            writeln!(writer, "{} {message}{rest}", paint(style_of(*meta.level()), level))
        }
    }
}

fn style_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => "34",
    }
}

/// The message, and everything else as it stands behind it.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(&escaped(value)),
            LEFT_OUT => {}
            name => {
                self.rest.push(' ');
                if !NAMELESS.contains(&name) {
                    self.rest.push_str(name);
                    self.rest.push('=');
                }
                let escaped = escaped(value);
                let is_plain = NAMELESS.contains(&name) || !escaped.contains([' ', '"']);
                if is_plain && !escaped.is_empty() {
                    self.rest.push_str(&escaped);
                } else {
                    // Writing to a String cannot fail.
                    let _ = write!(self.rest, "\"{}\"", escaped.replace('"', "\\\""));
                }
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// With everything that is no printable character written as an escape: a line stays one line, and a
/// terminal shows it as it is.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn written(is_coloured: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(is_coloured)
            .with_writer(lines.clone())
            .event_format(Short::new(UtcOffset::UTC))
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// Without the time.
    fn line(log: impl FnOnce()) -> String {
        let text = written(false, log);
        let (time, rest) = text.split_once(' ').expect("a time");
        assert_eq!(time.split(':').map(str::len).collect::<Vec<_>>(), [2, 2, 2], "{text}");
        rest.to_owned()
    }

    #[test]
    fn traffic_has_the_verb_in_a_column_and_plain_values_behind_it() {
        let text = line(|| {
            tracing::debug!(
                target: traffic::TARGET,
                app = "1001",
                address = "127.0.0.1",
                socket = %"1.2",
                client = "pusher-js 8.6.0",
                origin = "http://localhost:5173",
                "connect"
            );
        });
        assert_eq!(text, "connect         127.0.0.1 1.2 pusher-js 8.6.0 origin=http://localhost:5173\n");
        let text =
            line(|| tracing::debug!(target: traffic::TARGET, why = "not yours", receivers = 3, "publish"));
        assert_eq!(text, "publish         why=\"not yours\" receivers=3\n");
    }

    #[test]
    fn other_lines_begin_with_their_level() {
        let text = line(|| tracing::warn!(path = "/x y", count = 2, "the disk is full"));
        assert_eq!(text, "WARN            the disk is full path=\"/x y\" count=2\n");
    }

    #[test]
    fn nothing_from_outside_breaks_a_line_or_reaches_the_terminal_as_a_command() {
        let evil = "a\nb\x1b[31m\u{202e}\"q\"";
        let text = line(|| tracing::debug!(target: traffic::TARGET, channel = evil, why = evil, "subscribe"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
        assert!(text.contains(r#"a\nb\u{1b}[31m\u{202e}"q""#), "{text}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let log = || tracing::error!("x");
        assert!(written(true, log).contains("\x1b[31m"));
        assert!(!written(false, log).contains('\x1b'));
    }
}
