//! The HTML that stands inside Markdown. What is safe in it is ammonia's to decide; here it is kept from costing too much and from
//! disturbing the outline of the page.

use pulldown_cmark::Event;

/// HTML passes only in documents of at most this many parts, since a parser of HTML mends one unclosed table at the cost of the square of what follows it.
const MAX_EVENTS: usize = 20_000;

/// HTML passes only with at most this many tags: each may have to look through all that are open.
const MAX_TAGS: usize = 4_000;

/// An unclosed formatting tag with attributes is opened again in every block that follows; this bounds the product.
const MAX_REOPENED: usize = 400_000;

/// The tags that a parser of HTML opens again in the next block. `a` is not among them: a second one closes the first.
const FORMATTING: [&str; 13] = [
    "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u",
];

/// The events with their HTML made harmless to time and outline; all of it becomes text if there is too much.
pub(crate) fn tamed(events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let (mut tags, mut formatting) = (0, 0);
    for event in &events {
        if let Event::Html(raw) | Event::InlineHtml(raw) = event {
            tags += raw.bytes().filter(|byte| *byte == b'<').count();
            formatting += raw
                .split('<')
                .skip(1)
                .filter(|tag| is_formatting_with_attributes(tag))
                .count();
        }
    }
    if tags == 0 {
        return events;
    }
    let parts = events.len() + tags;
    let passes = parts <= MAX_EVENTS && tags <= MAX_TAGS && formatting * parts <= MAX_REOPENED;
    let tame = |event| match event {
        Event::Html(raw) | Event::InlineHtml(raw) if !passes => Event::Text(raw),
        Event::Html(raw) => Event::Html(demoted(&raw).into()),
        Event::InlineHtml(raw) => Event::InlineHtml(demoted(&raw).into()),
        other => other,
    };
    events.into_iter().map(tame).collect()
}

fn is_formatting_with_attributes(tag: &str) -> bool {
    let name_ends = tag.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tag.len());
    let (name, rest) = tag.split_at(name_ends);
    !rest.starts_with('>')
        && FORMATTING
            .iter()
            .any(|formatting| name.eq_ignore_ascii_case(formatting))
}

/// Headings two levels down, as those of the Markdown around them.
fn demoted(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for (at, piece) in raw.split_inclusive('<').enumerate() {
        let (slash, tag) = piece.strip_prefix('/').map_or(("", piece), |tag| ("/", tag));
        match tag.as_bytes() {
            [b'h' | b'H', level @ b'1'..=b'6', ..] if at > 0 => {
                let level = (level - b'0' + 2).min(6);
                out.push_str(&format!("{slash}h{level}{}", &tag[2..]));
            }
            _ => out.push_str(piece),
        }
    }
    out
}

/// Whether an image may be in it.
pub(crate) fn has_image(html: &str) -> bool {
    html.as_bytes()
        .windows(4)
        .any(|window| window.eq_ignore_ascii_case(b"<img"))
}

/// The HTML, which must have come out of a serialiser, with each image replaced by its alternative text. This is not the place for safety: sanitise what
/// comes out.
pub(crate) fn images_as_text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, image)) = rest.split_once("<img ").or_else(|| rest.split_once("<img")) {
        out.push_str(before);
        let (attributes, after) = image.split_once('>').unwrap_or((image, ""));
        let text = attributes
            .split_once("alt=\"")
            .and_then(|(_, alt)| alt.split('"').next())
            .unwrap_or_default();
        let opens_link = out
            .rfind('<')
            .is_some_and(|at| out[at..].starts_with("<a ") && out.ends_with('>'));
        if !text.trim().is_empty() {
            out.push_str(&text.replace('<', "&lt;"));
            out.push(' ');
        } else if opens_link {
            out.push_str("image ");
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_in_html_go_down_two_levels() {
        assert_eq!(
            demoted("<H1 align=center>x</h1><h5>y</h5>"),
            "<h3 align=center>x</h3><h6>y</h6>"
        );
        assert_eq!(demoted("h1 <hr> </header>"), "h1 <hr> </header>");
    }

    #[test]
    fn images_become_their_text() {
        assert_eq!(images_as_text("a <img alt=\"one &amp; two\"> b"), "a one &amp; two  b");
        assert_eq!(
            images_as_text("<a href=\"x\"><img title=\"t\"></a>"),
            "<a href=\"x\">image </a>"
        );
        assert_eq!(images_as_text("<p><img></p>"), "<p></p>");
        assert_eq!(images_as_text("<img alt=\"<b\" x>"), "&lt;b ");
        assert_eq!(images_as_text("cut <img alt=\"off"), "cut off ");
    }

    #[test]
    fn formatting_is_known_by_name_and_attributes() {
        assert!(is_formatting_with_attributes("B x=1>"));
        assert!(is_formatting_with_attributes("font\n"));
        assert!(!is_formatting_with_attributes("b>"));
        assert!(!is_formatting_with_attributes("br x>"));
        assert!(!is_formatting_with_attributes("/b >"));
    }
}
