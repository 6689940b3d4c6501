//! The one escaper behind all templates, and what no page may show.

use std::fmt;

use askama::filters::Escaper;

/// Escapes HTML and drops what [`is_hidden`] names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Html;

impl Escaper for Html {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, string: &str) -> fmt::Result {
        let mut done = 0;
        for (at, c) in string.char_indices() {
            let replacement = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                c if is_hidden(c) => "",
                _ => continue,
            };
            dest.write_str(&string[done..at])?;
            dest.write_str(replacement)?;
            done = at + c.len_utf8();
        }
        dest.write_str(&string[done..])
    }
}

/// Characters that make text look like other text: control characters, those that reverse the direction of what follows,
/// line separators, and those without width (but not the joiner that emoji and some scripts need).
pub(crate) fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{061C}'
        | '\u{200B}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}'
        | '\u{E0000}'..='\u{E007F}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        Html.write_escaped_str(&mut out, text).unwrap();
        out
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            escaped("<a href=\"x\" id='y'>&"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;"
        );
    }

    #[test]
    fn tricks_with_direction_and_control_characters_are_dropped() {
        assert_eq!(escaped("ab\u{202E}cd\u{2066}e\u{0}f\u{1b}[31m\u{7f}"), "abcdef[31m");
        assert_eq!(escaped("two\nlines\tand a tab"), "two\nlines\tand a tab");
    }

    #[test]
    fn other_scripts_and_emoji_pass() {
        let text = "日本語 עברית 👩\u{200D}💻 naïve";
        assert_eq!(escaped(text), text);
    }
}
