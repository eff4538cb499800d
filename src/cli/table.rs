//! Text for people in aligned columns, no line longer than [`WIDTH`] where it can be wrapped.

use textwrap::core::display_width;
use textwrap::{Options, WordSplitter};

/// Columns of a line. The terminal's own width is not asked for: what is piped has the same lines.
pub(super) const WIDTH: usize = 100;
/// Blanks between two columns.
const GAP: usize = 2;

/// One line for each row. The last column is as long as it is.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    lines(rows, |text, _| vec![text.to_owned()])
}

/// As [`aligned`], but the last column is wrapped at [`WIDTH`] and goes on below itself.
pub(super) fn wrapped(rows: &[Vec<String>]) -> String {
    lines(rows, |text, start| wrap(text, WIDTH.saturating_sub(start).max(20)))
}

/// Lines of at most so many columns; a longer word is broken.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width).word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()).collect()
}

fn lines(rows: &[Vec<String>], last_column: impl Fn(&str, usize) -> Vec<String>) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| display_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
    let start: usize = widths.iter().map(|width| width + GAP).sum();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - display_width(cell) + GAP));
        }
        let last = row.get(widths.len()).map_or_else(Vec::new, |cell| last_column(cell, start));
        let mut parts = last.iter();
        line.push_str(parts.next().map_or("", String::as_str));
        push_line(&mut text, &line);
        for part in parts {
            push_line(&mut text, &format!("{:start$}{part}", ""));
        }
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Control characters could move the cursor or break a line.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let table =
            rows(&[&["a", "b", "c"], &["long", "", "x y"], &["電話", "é", ""], &["a\nb\u{1b}[2J", "1", "2"]]);
        assert_eq!(
            aligned(&table),
            "a        b  c\nlong        x y\n電話     é\na\u{fffd}b\u{fffd}[2J  1  2\n"
        );
        assert_eq!(aligned(&[]), "");
    }

    #[test]
    fn the_last_column_goes_on_below_itself() {
        let text = wrapped(&rows(&[&["check", &"word ".repeat(40)], &["x", &"y".repeat(200)]]));
        assert!(text.lines().all(|line| display_width(line) <= WIDTH), "{text}");
        assert!(text.lines().skip(1).take(2).all(|line| line.starts_with("       word")), "{text}");
    }
}
