//! The characters that the carrier's smart encoding replaces, if the messaging profile has it on.
//!
//! Source: <https://developers.telnyx.com/docs/messaging/messages/smart-encoding>, 2026-04-10. What is not in its
//! tables stays: emoji, other scripts, accents.

use std::borrow::Cow;

/// Fullwidth forms of ASCII's characters from `!` on follow each other in ASCII's order.
const FULLWIDTH: u32 = 0xff01 - b'!' as u32;

/// A text as smart encoding writes it; borrowed when there is nothing to replace.
pub fn replaced(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(|c| replacement(c).is_some() || is_fullwidth(c)) else {
        return Cow::Borrowed(text);
    };
    let (kept, rest) = text.split_at(first);
    let mut written = String::with_capacity(text.len());
    written.push_str(kept);
    for c in rest.chars() {
        match replacement(c) {
            Some(other) => written.push_str(other),
            None if is_fullwidth(c) => written.extend(char::from_u32(u32::from(c) - FULLWIDTH)),
            None => written.push(c),
        }
    }
    Cow::Owned(written)
}

/// All but U+FF40, the grave accent.
fn is_fullwidth(c: char) -> bool {
    matches!(c, '\u{ff01}'..='\u{ff3f}' | '\u{ff41}'..='\u{ff5e}')
}

/// What a character becomes; empty: it is taken out.
fn replacement(c: char) -> Option<&'static str> {
    if c.is_ascii() && !c.is_ascii_control() && c != '`' {
        return None;
    }
    Some(match c {
        '«' | '»' | '“' | '”' | 'ʺ' | 'ˮ' | '‟' | '❝' | '❞' | '〝' | '〞' | '„' => "\"",
        '‘' | '’' | 'ʻ' | 'ˈ' | 'ʼ' | 'ʽ' | 'ʹ' | '‛' | '´' | 'ˊ' | '`' | 'ˋ' | '❛' | '❜' | '\u{313}'
        | '\u{314}' | '︐' | '︑' => "'",
        '—' | '–' | '⎼' | '⎽' | '―' | '﹣' | '‐' | '•' | '⁃' => "-",
        '÷' | '⧸' | '\u{337}' | '\u{338}' | '⁄' | '∕' => "/",
        '¼' => "1/4",
        '½' => "1/2",
        '¾' => "3/4",
        '⧹' | '⧵' | '\u{20e5}' | '﹨' => "\\",
        '\u{332}' | '‗' => "_",
        '\u{20d2}' | '\u{20d3}' | '∣' | '⎸' | '⎹' | '⏐' | '⎜' | '⎟' => "|",
        '﹫' => "@",
        '﹩' => "$",
        'ǃ' | '︕' | '﹗' => "!",
        '‼' => "!!",
        '﹟' => "#",
        '﹪' => "%",
        '﹠' => "&",
        '…' => "...",
        '‚' | '\u{326}' | '﹐' | '、' | '﹑' | '､' => ",",
        '❨' | '❪' | '﹙' | '⟮' | '⦅' => "(",
        '❩' | '❫' | '﹚' | '⟯' | '⦆' => ")",
        '❴' | '﹛' => "{",
        '❵' | '﹜' => "}",
        '⁎' | '∗' | '⊛' | '✢' | '✣' | '✤' | '✥' | '✱' | '✲' | '✳' | '✺' | '✻' | '✼' | '✽' | '❃' | '❉'
        | '❊' | '❋' | '⧆' | '﹡' => "*",
        '˖' | '﹢' => "+",
        '﹤' | '‹' => "<",
        '\u{347}' | '꞊' | '﹦' => "=",
        '﹥' | '›' => ">",
        '。' | '﹒' | '｡' => ".",
        'ː' | '˸' | '⦂' | '꞉' | '︓' => ":",
        '⁏' | '︔' | '﹔' => ";",
        '︖' | '﹖' => "?",
        'ˆ' | '\u{302}' | '\u{1dcd}' => "^",
        '˜' | '˷' | '\u{303}' | '\u{330}' | '\u{334}' | '∼' => "~",
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => " ",
        '\u{200b}' | '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{2060}' => "",
        '\t' => "       ",
        '\0'
        | '\u{3}'
        | '\u{4}'
        | '\u{10}'..='\u{14}'
        | '\u{17}'
        | '\u{19}'
        | '\u{80}'
        | '\u{8d}'
        | '\u{90}'
        | '\u{9b}'
        | '\u{9f}' => "",
        _ => return letter(c),
    })
}

/// Small capitals and Greek capitals that look like a Latin letter.
fn letter(c: char) -> Option<&'static str> {
    Some(match c {
        'ᴀ' | '\u{391}' => "A",
        'ʙ' | '\u{392}' => "B",
        'ᴄ' => "C",
        'ᴅ' => "D",
        'ᴇ' | '\u{395}' => "E",
        'ꜰ' => "F",
        'ɢ' => "G",
        'ʜ' | '\u{397}' => "H",
        'ɪ' | '\u{399}' => "I",
        'ᴊ' => "J",
        'ᴋ' | '\u{39a}' => "K",
        'ʟ' => "L",
        'ᴍ' | '\u{39c}' => "M",
        'ɴ' | '\u{39d}' => "N",
        'ᴏ' | '\u{39f}' => "O",
        'ᴘ' | '\u{3a1}' => "P",
        'ʀ' => "R",
        'ꜱ' => "S",
        'ᴛ' | '\u{3a4}' => "T",
        'ᴜ' => "U",
        'ᴠ' => "V",
        'ᴡ' => "W",
        '\u{3a7}' => "X",
        'ʏ' | '\u{3a5}' => "Y",
        'ᴢ' | '\u{396}' => "Z",
        _ => return None,
    })
}
