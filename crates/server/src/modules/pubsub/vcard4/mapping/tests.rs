#![allow(clippy::unwrap_used)]

use super::*;
use magpie_proto::ns;

fn temp(content: &str) -> Element {
    Element::parse(format!("<vCard xmlns='vcard-temp'>{content}</vCard>").as_bytes(), ns::CLIENT).unwrap()
}

fn card(content: &str) -> Element {
    Element::parse(format!("<vcard xmlns='{NS_VCARD}'>{content}</vcard>").as_bytes(), ns::CLIENT).unwrap()
}

/// Each property with its like: exactly as it is made of the other.
const PAIRS: &[(&str, &str)] = &[
    ("<FN>A &amp; B</FN>", "<fn><text>A &amp; B</text></fn>"),
    (
        "<N><FAMILY>Saint-Andre</FAMILY><GIVEN>Peter</GIVEN><MIDDLE>X</MIDDLE></N>",
        "<n><surname>Saint-Andre</surname><given>Peter</given><additional>X</additional></n>",
    ),
    ("<NICKNAME>stpeter</NICKNAME>", "<nickname><text>stpeter</text></nickname>"),
    ("<BDAY>1966-08-06</BDAY>", "<bday><date>1966-08-06</date></bday>"),
    (
        "<ADR><HOME/><PREF/><EXTADD>6</EXTADD><STREET>Wynkoop</STREET><PCODE>80202</PCODE><CTRY>USA</CTRY></ADR>",
        "<adr><parameters><type><text>home</text></type><pref><integer>1</integer></pref></parameters>\
         <ext>6</ext><street>Wynkoop</street><code>80202</code><country>USA</country></adr>",
    ),
    (
        "<TEL><WORK/><FAX/><NUMBER>+1-303-308-3219</NUMBER></TEL>",
        "<tel><parameters><type><text>work</text><text>fax</text></type></parameters><uri>tel:+1-303-308-3219</uri></tel>",
    ),
    ("<TEL><NUMBER>030 1234, ext. 5</NUMBER></TEL>", "<tel><text>030 1234, ext. 5</text></tel>"),
    (
        "<EMAIL><WORK/><USERID>a@b</USERID></EMAIL>",
        "<email><parameters><type><text>work</text></type></parameters><text>a@b</text></email>",
    ),
    ("<JABBERID>stpeter@jabber.org</JABBERID>", "<impp><uri>xmpp:stpeter@jabber.org</uri></impp>"),
    ("<GEO><LAT>39.59</LAT><LON>-105.01</LON></GEO>", "<geo><uri>geo:39.59,-105.01</uri></geo>"),
    ("<TITLE>Director</TITLE>", "<title><text>Director</text></title>"),
    (
        "<ORG><ORGNAME>XSF</ORGNAME><ORGUNIT>Council</ORGUNIT></ORG>",
        "<org><text>XSF</text><text>Council</text></org>",
    ),
    (
        "<CATEGORIES><KEYWORD>a</KEYWORD><KEYWORD>b</KEYWORD></CATEGORIES>",
        "<categories><text>a</text><text>b</text></categories>",
    ),
    ("<DESC>About</DESC>", "<note><text>About</text></note>"),
    ("<URL>https://stpeter.im/</URL>", "<url><uri>https://stpeter.im/</uri></url>"),
    ("<KEY><CRED>key</CRED></KEY>", "<key><text>key</text></key>"),
    (
        "<LOGO><TYPE>image/gif</TYPE><BINVAL>YWJj</BINVAL></LOGO>",
        "<logo><uri>data:image/gif;base64,YWJj</uri></logo>",
    ),
    ("<SOUND><EXTVAL>http://a/</EXTVAL></SOUND>", "<sound><uri>http://a/</uri></sound>"),
    ("<PHOTO><EXTVAL>http://a/</EXTVAL></PHOTO>", "<photo><uri>http://a/</uri></photo>"),
];

#[test]
fn each_property_has_its_like_in_the_other_form_and_comes_back_the_same() {
    for (old, new) in PAIRS {
        let (old, new) = (temp(old), card(new));
        let (old, new) = (old.children().next().unwrap(), new.children().next().unwrap());
        assert_eq!(newer(old).as_ref(), Some(new));
        assert_eq!(older(new).as_ref(), Some(old));
    }
}

#[test]
fn what_the_other_form_has_no_room_for_stays_where_it_was() {
    let before = card(
        "<fn><parameters><language><language-tag>en</language-tag></language></parameters><text>A</text></fn>\
         <gender><sex><text>M</text></sex></gender><impp><uri>sip:a@b</uri></impp><note><text/></note>",
    );
    let after = to_vcard4(&temp("<FN>A</FN><TITLE>T</TITLE><MAILER>m</MAILER>"), Some(&before));
    let expected = card(
        "<fn><parameters><language><language-tag>en</language-tag></language></parameters><text>A</text></fn>\
         <title><text>T</text></title><gender><sex><text>M</text></sex></gender><impp><uri>sip:a@b</uri></impp>",
    );
    assert_eq!(after, expected);
    let before = temp("<FN>B</FN><NOTE>n</NOTE><DESC>d</DESC><MAILER>m</MAILER><TITLE/>");
    let after = to_vcard_temp(&card("<fn><text>A</text></fn><note><text>n</text></note>"), Some(&before));
    assert_eq!(after, temp("<FN>A</FN><NOTE>n</NOTE><MAILER>m</MAILER>"));
}

#[test]
fn there_and_back_again_changes_nothing() {
    let all: String = PAIRS.iter().map(|(old, _)| *old).collect();
    let vcard = temp(&all);
    let card = to_vcard4(&vcard, None);
    assert_eq!(to_vcard_temp(&card, None), vcard);
    assert_eq!(to_vcard4(&vcard, Some(&card)), card);
}

#[test]
fn the_picture_is_that_of_the_avatar_where_there_is_one() {
    let picture = "<PHOTO><TYPE>image/png</TYPE><BINVAL>YWJj</BINVAL></PHOTO>";
    let with_photo = card("<fn><text>A</text></fn><photo><uri>data:image/gif;base64,eHl6</uri></photo>");
    let before = temp(&format!("<FN>A</FN>{picture}"));
    assert_eq!(to_vcard_temp(&with_photo, Some(&before)), before);
    let first = temp("<FN>A</FN><PHOTO><TYPE>image/gif</TYPE><BINVAL>eHl6</BINVAL></PHOTO>");
    assert_eq!(to_vcard_temp(&with_photo, Some(&temp("<FN>A</FN>"))), first);
    assert_eq!(to_vcard4(&before, Some(&with_photo)), card("<fn><text>A</text></fn>"));
    assert_eq!(to_vcard4(&temp("<FN>A</FN>"), Some(&with_photo)), with_photo);
}

#[test]
fn a_card_has_a_name_whatever_there_was() {
    assert_eq!(to_vcard4(&temp("<NICKNAME>n</NICKNAME>"), None).child("fn", NS_VCARD).and_then(value).unwrap(), "n");
    assert_eq!(to_vcard4(&temp("<FN/>"), None), card("<fn><text/></fn>"));
}
