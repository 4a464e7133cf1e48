//! The documents that Magpie implements, as people and other programs read them: both lists come from [`Modules::ABOUT`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{About, Modules};

/// What is not implemented whole, and what is missing.
const PARTIAL: &[(u16, &str)] = &[(359, "Takes out forged ids; gives none.")];

/// The page `docs/xeps.md`.
pub fn xeps_markdown() -> String {
    let mut page = String::from("# What Magpie implements\n\n## RFCs\n\n| RFC | title |\n|---|---|\n");
    for (number, title) in rfcs() {
        writeln!(page, "| [{number}]({}) | {title} |", rfc_address(number)).expect(STRINGS);
    }
    page.push_str("\n## XEPs\n\n| XEP | title | version | |\n|---|---|---|---|\n");
    for (number, about) in xeps() {
        let missing = missing(number).map(|missing| format!("partial: {missing}")).unwrap_or_default();
        let About { title, version, .. } = about;
        writeln!(page, "| [{number:04}]({}) | {title} | {version} | {missing} |", xep_address(number)).expect(STRINGS);
    }
    page
}

/// The file `doap.xml` (XEP-0453: DOAP usage in XMPP).
pub fn doap() -> String {
    let mut file = String::from(
        "<?xml version='1.0' encoding='UTF-8'?>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'
         xmlns='http://usefulinc.com/ns/doap#'
         xmlns:xmpp='https://linkmauve.fr/ns/xmpp-doap#'>
  <Project>
    <name>Magpie</name>
    <shortdesc xml:lang='en'>XMPP server</shortdesc>
    <license rdf:resource='https://spdx.org/licenses/Apache-2.0.html'/>
    <license rdf:resource='https://spdx.org/licenses/MIT.html'/>
    <programming-language>Rust</programming-language>
    <os>Linux</os>
    <category rdf:resource='https://linkmauve.fr/ns/xmpp-doap#category-server'/>
",
    );
    for number in rfcs().into_keys() {
        writeln!(file, "    <implements rdf:resource='{}'/>", rfc_address(number)).expect(STRINGS);
    }
    for (number, about) in xeps() {
        let (status, note) = match missing(number) {
            None => ("complete", String::new()),
            Some(missing) => ("partial", format!("        <xmpp:note xml:lang='en'>{missing}</xmpp:note>\n")),
        };
        let (address, version) = (xep_address(number), about.version);
        write!(
            file,
            "    <implements>
      <xmpp:SupportedXep>
        <xmpp:xep rdf:resource='{address}'/>
        <xmpp:status>{status}</xmpp:status>
        <xmpp:version>{version}</xmpp:version>
{note}      </xmpp:SupportedXep>
    </implements>
",
        )
        .expect(STRINGS);
    }
    file.push_str("  </Project>\n</rdf:RDF>\n");
    file
}

const STRINGS: &str = "writing to a string cannot fail";

fn all() -> impl Iterator<Item = &'static About> {
    Modules::ABOUT.iter().copied().flatten()
}

/// By number, each once: two modules may share a document.
fn xeps() -> BTreeMap<u16, &'static About> {
    all().filter_map(|about| Some((about.xep?, about))).collect()
}

/// Title by number.
fn rfcs() -> BTreeMap<u16, &'static str> {
    all().filter(|about| about.xep.is_none()).filter_map(|about| rfc(about.title)).collect()
}

/// `RFC 6120: title`
fn rfc(title: &str) -> Option<(u16, &str)> {
    let (number, title) = title.strip_prefix("RFC ")?.split_once(": ")?;
    Some((number.parse().ok()?, title))
}

fn missing(xep: u16) -> Option<&'static str> {
    PARTIAL.iter().find(|(number, _)| *number == xep).map(|(_, missing)| *missing)
}

fn xep_address(number: u16) -> String {
    format!("https://xmpp.org/extensions/xep-{number:04}.html")
}

/// The documents of XMPP itself are where XEP-0453 shows them; the others are with their editor.
fn rfc_address(number: u16) -> String {
    match number {
        6120..=6122 | 7590 | 7622 | 7395 | 7712 => format!("https://xmpp.org/rfcs/rfc{number}.html"),
        _ => format!("https://www.rfc-editor.org/rfc/rfc{number}.html"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    use magpie_proto::{Element, ns};

    /// `cargo xtask generate` runs this with `MAGPIE_GENERATE` set, which writes the files.
    #[test]
    fn the_generated_files_are_what_the_modules_say() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (name, content) in [("docs/xeps.md", xeps_markdown()), ("docs/doap.xml", doap())] {
            let path = root.join(name);
            if std::env::var_os("MAGPIE_GENERATE").is_some() {
                std::fs::write(&path, &content).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == content, "{name} is out of date: run `cargo xtask generate`");
        }
    }

    /// What others use has no conversation of its own: where it is seen.
    const SEEN_ELSEWHERE: [(u16, &str); 7] = [
        (4, "crates/server/tests/conversations/0045-configuration.txt"),
        (68, "crates/server/tests/conversations/0045-configuration.txt"),
        (82, "crates/proto/src/xeps/date_time.rs"),
        (128, "crates/server/tests/conversations/0157-contact.txt"),
        (203, "crates/server/tests/conversations/0160-offline.txt"),
        (227, "crates/magpie/tests/command_line/portable.rs"),
        (297, "crates/server/tests/conversations/0313-archive.txt"),
    ];

    #[test]
    fn every_xep_has_a_conversation_or_a_place_where_it_is_seen() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = std::fs::read_dir(root.join("crates/server/tests/conversations")).unwrap();
        let files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        for (xep, about) in xeps() {
            let own = files.iter().any(|file| file.starts_with(&format!("{xep:04}-")));
            let elsewhere = SEEN_ELSEWHERE.iter().find(|(other, _)| *other == xep).map(|(_, path)| root.join(path));
            match elsewhere {
                None => assert!(own, "XEP-{xep:04}: {} has no conversation", about.title),
                Some(path) => assert!(!own && path.exists(), "XEP-{xep:04}: {}", path.display()),
            }
        }
    }

    #[test]
    fn every_document_that_is_no_xep_is_an_rfc_by_its_title() {
        for about in all().filter(|about| about.xep.is_none()) {
            assert!(rfc(about.title).is_some(), "{}", about.title);
        }
    }

    #[test]
    fn a_document_that_is_stated_twice_has_one_title_and_version() {
        let stated: BTreeSet<_> = all().map(|about| (about.xep, about.title, about.version)).collect();
        assert_eq!(stated.iter().filter(|(xep, ..)| xep.is_some()).count(), xeps().len());
    }

    #[test]
    fn what_is_partial_is_implemented() {
        assert!(PARTIAL.iter().all(|(number, _)| xeps().contains_key(number)));
    }

    #[test]
    fn the_page_has_a_row_for_each_document() {
        let page = xeps_markdown();
        let rows = page.lines().filter(|line| line.starts_with("| [")).count();
        assert_eq!(rows, rfcs().len() + xeps().len());
        assert!(page.contains("| [0199](https://xmpp.org/extensions/xep-0199.html) | XMPP Ping | 2.0.1 |  |\n"));
        assert!(page.contains("| [6120](https://xmpp.org/rfcs/rfc6120.html) | Extensible Messaging"));
        assert!(page.contains("| partial: Takes out forged ids"));
    }

    #[test]
    fn the_file_is_well_formed_and_names_each_document_once() {
        let file = doap();
        let (_, xml) = file.split_once('\n').unwrap();
        let root = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        let project = root.children().next().unwrap();
        let implements = project.children().filter(|child| child.name() == "implements");
        assert_eq!(implements.count(), rfcs().len() + xeps().len());
        assert_eq!(file.matches("xep-0030.html").count(), 1);
        assert_eq!(file.matches("<xmpp:status>partial</xmpp:status>").count(), PARTIAL.len());
    }
}
