//! A README, which is Markdown from a stranger, as HTML that is safe to show.

use std::{borrow::Cow, collections::HashMap};

use ammonia::{Builder, UrlRelative};
use pulldown_cmark::{CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::{escape::is_hidden, raw_html};

/// The most of a README that is read, in bytes.
pub const MAX_README_BYTES: usize = 512 * 1024;

/// Markdown nested deeper than this keeps its text and loses its form.
const MAX_DEPTH: usize = 40;

/// Parts of a document; what comes after this many is left out. Half a megabyte of prose has a tenth of it.
const MAX_EVENTS: usize = 200_000;

/// The README as HTML: nothing in it is loaded, runs, has a style, or shares a name with the page around it.
pub(crate) fn sanitised(markdown: &str) -> String {
    let text = &markdown[..markdown.floor_char_boundary(MAX_README_BYTES.min(markdown.len()))];
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS | Options::ENABLE_FOOTNOTES;
    let parsed = Parser::new_ext(text, options).take(MAX_EVENTS).collect();
    let mut events = raw_html::tamed(images_as_text(flattened(parsed)));
    events.iter_mut().for_each(adapt);
    name_headings(&mut events);
    let mut rendered = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut rendered, events.into_iter());
    if raw_html::has_image(&rendered) {
        // Images written as HTML: one pass makes them regular, so that they can be replaced by their text. The pass after it is the one that counts.
        let regular = sanitiser()
            .add_tags(["img"])
            .add_tag_attributes("img", ["alt"])
            .clean(&rendered)
            .to_string();
        rendered = raw_html::images_as_text(&regular);
    }
    let clean = sanitiser()
        .id_prefix(Some("user-content-"))
        .clean(&rendered)
        .to_string();
    if clean.contains(is_hidden) {
        clean.chars().filter(|c| !is_hidden(*c)).collect()
    } else {
        clean
    }
}

fn sanitiser() -> Builder<'static> {
    let mut builder = Builder::default();
    builder
        // Images load, h1 and h2 are the page's own, the others pose as its landmarks or reverse text.
        .rm_tags([
            "img", "map", "area", "h1", "h2", "article", "aside", "footer", "header", "hgroup", "nav", "bdo",
        ])
        .add_clean_content_tags([
            "svg", "math", "iframe", "object", "noscript", "template", "textarea", "select", "title",
        ])
        .add_generic_attributes(["id"])
        .add_tag_attributes("code", ["class"])
        .add_tag_attributes("details", ["open"])
        // Addresses that nobody follows, and that ammonia lets pass as they are.
        .rm_tag_attributes("blockquote", ["cite"])
        .rm_tag_attributes("q", ["cite"])
        .rm_tag_attributes("del", ["cite"])
        .rm_tag_attributes("ins", ["cite"])
        .rm_tag_attributes("td", ["headers"])
        .rm_tag_attributes("th", ["headers"])
        .url_schemes(["http", "https"].into())
        .url_relative(UrlRelative::Custom(Box::new(own_fragment)))
        .link_rel(Some("nofollow noopener noreferrer"))
        .attribute_filter(|_, attribute, value| {
            if attribute == "class" {
                language(value)
            } else {
                Some(value.into())
            }
        });
    builder
}

/// A link into the README itself, whose ids have been prefixed; other relative links lead nowhere here.
fn own_fragment(address: &str) -> Option<Cow<'_, str>> {
    let name = address.strip_prefix('#').filter(|name| !name.is_empty())?;
    Some(format!("#user-content-{name}").into())
}

/// The language of a code block, the only class that passes.
fn language(classes: &str) -> Option<Cow<'_, str>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '#');
    classes
        .split_ascii_whitespace()
        .find(|class| class.len() <= 40 && class.starts_with("language-") && class.chars().all(is_plain))
        .map(Cow::Borrowed)
}

/// The events without the starts and ends of what is nested too deep.
fn flattened(events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let mut depth = 0_usize;
    events
        .into_iter()
        .filter(|event| match event {
            Event::Start(_) => {
                depth += 1;
                depth <= MAX_DEPTH
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                depth < MAX_DEPTH
            }
            _ => true,
        })
        .collect()
}

/// The events with each image replaced by its alternative text; a link needs some text, whatever it was made of.
fn images_as_text(events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Event::Start(Tag::Image { .. }) => {}
            Event::End(TagEnd::Image) => {
                if matches!(out.last(), Some(Event::Start(Tag::Link { .. }))) {
                    out.push(Event::Text("image".into()));
                }
            }
            other => out.push(other),
        }
    }
    out
}

fn adapt(event: &mut Event<'_>) {
    match event {
        Event::Start(Tag::Heading { level, .. }) => *level = demoted(*level),
        Event::End(TagEnd::Heading(level)) => *level = demoted(*level),
        // Rustdoc's notes after the language (`rust,no_run`) are not for the reader.
        Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
            *info = info.split([',', ' ', '{']).next().unwrap_or_default().to_owned().into();
        }
        Event::TaskListMarker(done) => *event = Event::Text(if *done { "☑ ".into() } else { "☐ ".into() }),
        _ => {}
    }
}

/// The page has the first two levels for itself.
fn demoted(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

/// Gives headings the ids that a README's own table of contents expects.
fn name_headings(events: &mut [Event<'_>]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut at = 0;
    while at < events.len() {
        let start = at;
        at += 1;
        if !matches!(events[start], Event::Start(Tag::Heading { .. })) {
            continue;
        }
        let mut name = String::new();
        while at < events.len() && !matches!(events[at], Event::End(TagEnd::Heading(_))) {
            if let Event::Text(text) | Event::Code(text) = &events[at] {
                push_name(&mut name, text);
            }
            at += 1;
        }
        let count = seen.entry(name.clone()).and_modify(|count| *count += 1).or_default();
        let unique = if *count == 0 { name } else { format!("{name}-{count}") };
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
            *id = (!unique.is_empty()).then(|| CowStr::from(unique));
        }
    }
}

/// The rule of the forges: lower case, spaces become hyphens, punctuation goes.
fn push_name(name: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            ' ' => name.push('-'),
            '-' | '_' => name.push(c),
            c if c.is_alphanumeric() => name.extend(c.to_lowercase()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
