//! A strict reader of HTML for tests: what a browser would mend, it refuses.

use std::collections::HashSet;

pub(crate) const HOSTILE: &str =
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\u{202E}\u{0}\u{1b}[2J&amp;</title></textarea>";

const VOID: [&str; 7] = ["br", "col", "hr", "img", "input", "link", "meta"];

#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Element {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// All elements in order. Panics unless every tag is closed in order and every attribute is quoted, once.
pub(crate) fn elements(html: &str) -> Vec<Element> {
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = html.strip_prefix("<!doctype html>").unwrap_or(html);
    while let Some((text, tag)) = rest.split_once('<') {
        assert!(!text.contains('>'), "a bare > in {text:?}");
        if let Some(end) = tag.strip_prefix('/') {
            let (name, after) = end.split_once('>').expect("an end tag ends");
            assert_eq!(
                open.pop().as_deref(),
                Some(name),
                "closes what is open; before: {text:?}"
            );
            rest = after;
            continue;
        }
        let (element, closed, after) = element(tag);
        if !closed && !VOID.contains(&element.name.as_str()) {
            open.push(element.name.clone());
        }
        found.push(element);
        rest = after;
    }
    assert!(!rest.contains('>'), "a bare > in {rest:?}");
    assert_eq!(open, Vec::<String>::new(), "left open");
    found
}

fn element(tag: &str) -> (Element, bool, &str) {
    let name_ends = tag
        .find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .expect("a tag ends");
    let is_camel_case = ["linearGradient"].iter().find(|name| tag.starts_with(**name));
    let name_ends = is_camel_case.map_or(name_ends, |name| name.len());
    assert!(
        name_ends > 0,
        "no name in {:?}",
        tag.chars().take(40).collect::<String>()
    );
    let name = tag[..name_ends].to_owned();
    let mut rest = &tag[name_ends..];
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("/>") {
            return (Element { name, attributes }, true, after);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (Element { name, attributes }, false, after);
        }
        let ends = rest
            .find(['=', ' ', '>', '/', '"', '\'', '<'])
            .expect("an attribute ends");
        let key = rest[..ends].to_owned();
        assert!(
            !key.is_empty(),
            "no attribute name in {:?}",
            rest.chars().take(40).collect::<String>()
        );
        rest = &rest[ends..];
        let mut value = "";
        if let Some(quoted) = rest.strip_prefix("=\"") {
            (value, rest) = quoted.split_once('"').expect("a value ends");
        } else {
            assert!(!rest.starts_with('='), "{key} is not quoted");
        }
        assert!(attributes.iter().all(|(other, _)| *other != key), "{key} twice");
        attributes.push((key, value.to_owned()));
    }
}

/// What holds for every page, whatever it shows.
pub(crate) fn assert_page(html: &str) -> Vec<Element> {
    assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"));
    let all = elements(html);
    let count = |name: &str| all.iter().filter(|element| element.name == name).count();
    for once in [
        "html", "head", "title", "body", "h1", "main", "header", "footer", "script",
    ] {
        assert_eq!(count(once), 1, "{once}");
    }
    assert_eq!(count("style") + count("iframe") + count("object") + count("base"), 0);
    assert_eq!(count("img"), 1, "the brand alone");
    assert!(all.iter().any(|element| element.get("name") == Some("viewport")));
    assert!(html.contains("not affiliated with crates.io or the Rust project"));
    assert_eq!(html.find(crate::escape::is_hidden), None);
    let ids: Vec<&str> = all.iter().filter_map(|element| element.get("id")).collect();
    let distinct: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "ids are unique: {ids:?}");
    for element in &all {
        assert_element(element, &distinct);
    }
    all
}

fn assert_element(element: &Element, ids: &HashSet<&str>) {
    for (key, value) in &element.attributes {
        assert!(
            key != "style" && !key.starts_with("on"),
            "{element:?} would break the content security policy"
        );
        match key.as_str() {
            "for" | "aria-labelledby" => assert!(ids.contains(value.as_str()), "{element:?} names nothing"),
            "src" | "action" => assert!(value.starts_with('/') && !value.starts_with("//"), "{element:?}"),
            "href" => assert_target(element, value, ids),
            _ => {}
        }
    }
}

fn assert_target(element: &Element, target: &str, ids: &HashSet<&str>) {
    if let Some(id) = target.strip_prefix('#') {
        assert!(
            ids.contains(id) || id.starts_with("user-content-"),
            "{element:?} leads nowhere"
        );
    } else if target.starts_with("http://") || target.starts_with("https://") {
        assert_eq!(element.get("rel"), Some("nofollow noopener noreferrer"), "{element:?}");
    } else {
        assert!(target.starts_with('/') && !target.starts_with("//"), "{element:?}");
    }
}
