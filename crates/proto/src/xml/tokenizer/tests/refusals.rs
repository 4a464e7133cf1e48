//! Everything that RFC 6120 §11, XML 1.0 and Namespaces in XML make us refuse, one test per rule.

#![allow(clippy::unwrap_used)]

use super::*;

fn not_well_formed(xml: impl AsRef<[u8]>) {
    let error = canonical(&xml).expect_err(&String::from_utf8_lossy(xml.as_ref()));
    assert!(matches!(error, XmlError::NotWellFormed(_)), "{}: {error:?}", String::from_utf8_lossy(xml.as_ref()));
}

fn restricted(xml: &str) {
    let error = canonical(xml).expect_err(xml);
    assert!(matches!(error, XmlError::Restricted(_)), "{xml}: {error:?}");
}

fn header_error(header: &str) -> XmlError {
    canonical_after(header, b"").expect_err(header)
}

fn bad_header(header: &str) {
    let error = header_error(header);
    assert!(matches!(error, XmlError::NotWellFormed(_)), "{header}: {error:?}");
}

#[test]
fn comments_are_refused() {
    for xml in ["<!-- c -->", "<a><!-- c --></a>", "<a><!-", "<a>text<!--"] {
        restricted(xml);
    }
    assert!(matches!(header_error("<!-- c --><a>"), XmlError::Restricted(_)));
}

#[test]
fn processing_instructions_are_refused() {
    for xml in ["<?pi x?>", "<a><?pi?></a>", "<a><?", "<?xml version='1.0'?>", "<a><?xml version='1.0'?></a>"] {
        restricted(xml);
    }
    for header in ["<?pi?><a>", "<?xml-stylesheet href='a'?><a>", " <?xml version='1.0'?><a>"] {
        assert!(matches!(header_error(header), XmlError::Restricted(_)), "{header}");
    }
    let twice = "<?xml version='1.0'?><?xml version='1.0'?><a>";
    assert!(matches!(header_error(twice), XmlError::Restricted(_)));
}

#[test]
fn document_type_declarations_are_refused() {
    for xml in ["<!DOCTYPE a>", "<a><!DOCTYPE a></a>", "<a><!ENTITY b 'c'></a>", "<a><!D"] {
        restricted(xml);
    }
    for header in ["<!DOCTYPE a><a>", "<!DOCTYPE lolz [<!ENTITY lol 'lol'>]><a>", "<?xml version='1.0'?>\n<!DOCTYPE a>"]
    {
        assert!(matches!(header_error(header), XmlError::Restricted(_)), "{header}");
    }
}

#[test]
fn entities_that_xml_does_not_predefine_are_refused() {
    for xml in [
        "<a>&nbsp;</a>",
        "<a b='&nbsp;'/>",
        "<a>&LT;</a>",
        "<a>&p:lt;</a>",
        "<a>&a-b.c_1;</a>",
        "<a>&é;</a>",
        "<a b='&é;'/>",
    ] {
        restricted(xml);
    }
}

#[test]
fn malformed_references_are_refused() {
    for reference in
        ["&;", "&", "& ", "&&", "&lt", "&lt ;", "&#;", "&#x;", "&#X41;", "&#a;", "&#xg;", "&#-1;", "&1;", "&\u{d7};"]
    {
        not_well_formed(format!("<a>{reference}</a>"));
        not_well_formed(format!("<a b='{reference}'/>"));
    }
}

#[test]
fn references_to_characters_outside_of_xml_are_refused() {
    let references = [
        "&#0;",
        "&#8;",
        "&#x1f;",
        "&#xD800;",
        "&#xDFFF;",
        "&#xFFFE;",
        "&#xFFFF;",
        "&#x110000;",
        "&#99999999999999999999;",
    ];
    for reference in references {
        not_well_formed(format!("<a>{reference}</a>"));
        not_well_formed(format!("<a b='{reference}'/>"));
    }
    assert_eq!(canonical("<a>&#x10FFFF;&#0000000000000065;</a>").unwrap(), ["<a>\u{10FFFF}A</a>"]);
}

#[test]
fn characters_outside_of_xml_are_refused() {
    for c in ["\0", "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\u{1f}", "\u{FFFE}", "\u{FFFF}"] {
        not_well_formed(format!("<a>{c}</a>"));
        not_well_formed(format!("<a>é{c}</a>"));
        not_well_formed(format!("<a b='{c}'/>"));
        not_well_formed(format!("<a b=\"é{c}\"/>"));
        not_well_formed(format!("<a><![CDATA[{c}]]></a>"));
        not_well_formed(format!("<{c}/>"));
    }
    assert_eq!(canonical("<a>\u{7f}\u{85}\u{FFFD}\u{10FFFF}</a>").unwrap(), ["<a>\u{7f}\u{85}\u{FFFD}\u{10FFFF}</a>"]);
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let sequences: [&[u8]; 9] = [
        b"\x80",
        b"\xC3",
        b"\xC0\x80",
        b"\xE0\x80\x80",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xF5\x80\x80\x80",
        b"\xFF",
        b"\xE2\x82",
    ];
    for sequence in sequences {
        not_well_formed([b"<a>", sequence, b"</a>"].concat());
        not_well_formed([b"<a>x", sequence, b"&lt;</a>"].concat());
        not_well_formed([b"<a b='", sequence, b"'/>"].concat());
        not_well_formed([b"<a b=\"", sequence, b"\"/>"].concat());
        not_well_formed([b"<a><![CDATA[", sequence, b"]]></a>"].concat());
        not_well_formed([b"<a", sequence, b"/>"].concat());
        not_well_formed([b"<a></a", sequence, b">"].concat());
    }
}

#[test]
fn duplicate_attributes_are_refused() {
    not_well_formed("<a b='1' b='2'/>");
    not_well_formed("<a b='1' c='2' b=\"1\"/>");
    not_well_formed("<a xml:lang='a' xml:lang='b'/>");
    not_well_formed("<a xmlns='urn:a' xmlns='urn:a'/>");
    not_well_formed("<a xmlns:q='urn:a' xmlns:q='urn:b'/>");
    let many: String = (0..20).map(|n| format!(" a{n}='1'")).collect();
    not_well_formed(format!("<a{many} a7='2'/>"));
    assert!(canonical(format!("<a{many}/>")).is_ok());
}

#[test]
fn duplicate_attributes_by_expanded_name_are_refused() {
    not_well_formed("<a xmlns:q='urn:p' p:b='1' q:b='2'/>");
    not_well_formed("<a q:b='2' xmlns:q='urn:q' xmlns:r='urn:q' r:b='1'/>");
    assert!(canonical("<a xmlns:q='urn:q' p:b='1' q:b='2' b='3'/>").is_ok());
    // An attribute without prefix is in no namespace, whatever the default.
    assert!(canonical("<a xmlns='urn:p' b='1' p:b='2'/>").is_ok());
}

#[test]
fn undeclared_prefixes_are_refused() {
    for xml in ["<x:a/>", "<a x:b='1'/>", "<a><b xmlns:x='urn:x'/><x:c/></a>", "<a xmlns:x='urn:x'/><x:a/>"] {
        assert_eq!(canonical(xml).unwrap_err(), XmlError::BadNamespacePrefix, "{xml}");
    }
    for header in ["<stream:stream xmlns='jabber:client'>", "<a x:b='1'>"] {
        assert_eq!(header_error(header), XmlError::BadNamespacePrefix, "{header}");
    }
}

#[test]
fn reserved_prefixes_and_namespaces_are_refused() {
    not_well_formed("<a xmlns:xmlns='urn:a'/>");
    not_well_formed("<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>");
    not_well_formed("<a xmlns:xml='urn:a'/>");
    not_well_formed("<a xmlns:q='http://www.w3.org/XML/1998/namespace'/>");
    not_well_formed("<a xmlns:q='http://www.w3.org/2000/xmlns/'/>");
    not_well_formed("<a xmlns='http://www.w3.org/XML/1998/namespace'/>");
    not_well_formed("<a xmlns='http://www.w3.org/2000/xmlns/'/>");
    not_well_formed("<xmlns:a/>");
    not_well_formed("<xml:a/>");
    bad_header("<a xmlns:xml='urn:a'>");
    // The one declaration that Namespaces in XML 1.0 §3 allows.
    assert_eq!(
        canonical("<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='x'/>").unwrap(),
        ["<a xml:lang='x'/>"]
    );
}

#[test]
fn a_prefix_for_no_namespace_is_refused() {
    not_well_formed("<a xmlns:q=''/>");
    bad_header("<a xmlns:q=''>");
    assert_eq!(canonical("<a xmlns=''/>").unwrap(), ["<a xmlns=''/>"]);
}

#[test]
fn tags_that_do_not_match_are_refused() {
    for xml in [
        "<a></b>",
        "<a><b></a></b>",
        "<a></A>",
        "<a></ab>",
        "<ab></a>",
        "</a>",
        "<a/></a>",
        "<p:a></a>",
        "<a><b></stream:stream>",
    ] {
        not_well_formed(xml);
    }
    // Another prefix of the same namespace is another name (XML 1.0 §3).
    not_well_formed("<p:a xmlns:q='urn:p'></q:a>");
}

#[test]
fn malformed_names_are_refused() {
    let names =
        ["", "1", "-a", ".a", ":a", "a:", "p:1", "p:a:b", "a\u{D7}", "\u{301}a", "a$", "a@", "&amp;", "p:", "a;"];
    for name in names {
        not_well_formed(format!("<{name}/>"));
        not_well_formed(format!("<a><{name}></{name}></a>"));
        not_well_formed(format!("<a {name}='1'/>"));
        not_well_formed(format!("<a xmlns:{name}='urn:x'/>"));
    }
    let fine = "<é.1-_:x/>".replace(":x", "");
    assert_eq!(canonical(&fine).unwrap(), [fine]);
    assert_eq!(canonical("<a \u{10000}='1'/>").unwrap(), ["<a \u{10000}='1'/>"]);
}

#[test]
fn an_angle_bracket_in_an_attribute_value_is_refused() {
    for xml in ["<a b='<'/>", "<a b=\"x<y\"/>", "<a b='", "<a b='<b/>'/>"].map(|xml| format!("{xml}<")) {
        not_well_formed(xml);
    }
    assert_eq!(canonical("<a b='>'/>").unwrap(), ["<a b='&gt;'/>"]);
}

#[test]
fn an_angle_bracket_in_a_tag_is_refused() {
    for xml in ["<a <b/>", "<<a/>", "<a></a<", "<a b<='1'/>"] {
        not_well_formed(xml);
    }
}

#[test]
fn the_end_of_a_cdata_section_in_text_is_refused() {
    for xml in ["<a>]]></a>", "<a>x]]]]>y</a>", "<a>é]]></a>", "<a>&lt;]]></a>"] {
        not_well_formed(xml);
    }
    let fine = "<a>]] > ]&#93;> ]]&gt; ]]<b/>> ]]<![CDATA[]]>></a>";
    assert_eq!(canonical(fine).unwrap(), ["<a>]] &gt; ]]&gt; ]]&gt; ]]<b/>&gt; ]]&gt;</a>"]);
    assert_eq!(canonical("<a b=']]>'/>").unwrap(), ["<a b=']]&gt;'/>"]);
}

#[test]
fn malformed_cdata_sections_are_refused() {
    for xml in ["<a><![cdata[x]]></a>", "<a><![CDATAx", "<a><![x", "<a><![CDATA [x]]></a>", "<a><![CDATA["]
        .map(|xml| format!("{xml}\0"))
    {
        not_well_formed(xml);
    }
}

#[test]
fn attributes_without_white_space_between_them_are_refused() {
    for xml in ["<a b='1'c='2'/>", "<a b='1'xml:lang='2'/>", "<a b='1''2'/>", "<a'1'/>", "<a b=\"1\"\"/>"]
        .map(|xml| format!("{xml}'>\"><"))
    {
        not_well_formed(xml);
    }
}

#[test]
fn malformed_attributes_are_refused() {
    for xml in [
        "<a b/>",
        "<a b=/>",
        "<a b=1/>",
        "<a ='1'/>",
        "<a b '1'/>",
        "<a b=='1'/>",
        "<a b=`1`/>",
        "<a / >",
        "<a /b='1'>",
        "<a b='1' / >",
    ] {
        not_well_formed(xml);
    }
}

#[test]
fn malformed_closing_tags_are_refused() {
    for xml in ["<a></ a>", "<a></a b='1'>", "<a></a/>", "<a></>", "<a></a'>"] {
        not_well_formed(xml);
    }
    assert_eq!(canonical("<a></a \r\n>").unwrap(), ["<a/>"]);
}

#[test]
fn text_between_stanzas_is_refused() {
    for xml in ["x", "<a/>x<b/>", "&#32;", "&lt;", "<![CDATA[ ]]>", "<a/>]]>", "\u{FEFF}<a/>", "\u{A0}", "\0", "\u{c}"]
    {
        not_well_formed(xml);
    }
    assert_eq!(canonical(" \r\n\t<a/> \n<b/>\n").unwrap(), ["<a/>", "<b/>"]);
}

#[test]
fn text_before_the_root_element_is_refused() {
    for header in ["x<a>", "\u{FEFF}<a>", "&lt;<a>", "</a>", "<?xml version='1.0'?>x<a>", "\0<a>"] {
        bad_header(header);
    }
    assert!(canonical_after(" \r\n<a>", b"").is_ok());
    assert!(canonical_after("<?xml version='1.0'?> \n<a>", b"").is_ok());
}

#[test]
fn malformed_xml_declarations_are_refused() {
    let malformed = [
        "<?xml?>",
        "<?xml ?>",
        "<?xml version='1.0'>",
        "<?xml encoding='utf-8'?>",
        "<?xml version='1.0'encoding='utf-8'?>",
        "<?xml version='1.0' encoding='utf-8' version='1.0'?>",
        "<?xml version='1.0' standalone='yes' encoding='utf-8'?>",
        "<?xml version='1.0' standalone='maybe'?>",
        "<?xml version='1.1'?>",
        "<?xml version=1.0?>",
        "<?xml version='1.0' other=''?>",
        "<?xml version='1.0' ? >",
        "<?xml version='1.0' encoding='utf-8\u{1}'?>",
    ];
    for declaration in malformed {
        bad_header(&format!("{declaration}<a>"));
    }
    for declaration in [
        "<?xml version='1.0'?>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
        "<?xml version = '1.0' encoding = 'utf-8' standalone = 'no' ?>",
        "<?xml\nversion='1.0'\tstandalone='yes'?>",
    ] {
        assert!(canonical_after(&format!("{declaration}<a>"), b"").is_ok(), "{declaration}");
    }
}

#[test]
fn other_encodings_are_refused() {
    for encoding in ["ISO-8859-1", "UTF-16", "utf8", ""] {
        let header = format!("<?xml version='1.0' encoding='{encoding}'?><a>");
        assert_eq!(header_error(&header), XmlError::UnsupportedEncoding, "{encoding}");
    }
    bad_header("\u{0}<\u{0}a");
}

#[test]
fn bytes_after_the_root_element_are_refused() {
    not_well_formed("</stream:stream>x");
    not_well_formed("</stream:stream><a/>");
    assert!(canonical("</stream:stream> \r\n").is_ok());
}

#[test]
fn the_closing_tag_of_another_root_is_refused() {
    for xml in ["</stream>", "</stream:streams>", "</ stream:stream>", "</stream:stream a='1'>", "</stream:stream/>"] {
        not_well_formed(xml);
    }
    assert!(canonical("</stream:stream >").is_ok());
}

#[test]
fn an_error_is_told_again() {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    let error = tokenizer.next(&mut &b"x"[..]).unwrap_err();
    assert_eq!(tokenizer.next(&mut &b"<a>"[..]).unwrap_err(), error);
    assert_eq!(tokenizer.next(&mut &b""[..]).unwrap_err(), error);
    tokenizer.restart();
    assert!(matches!(tokenizer.next(&mut &b"<a>"[..]), Ok(Some(Token::StreamStart(_)))));
}
