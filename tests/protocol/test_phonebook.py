"""The phonebook as phones ask for it: by LDAP with Debian's own client, and as XML over HTTP."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import pytest
from attrs import define, field
from twisted.internet.threads import deferToThread

from adapters.base import ListedNumber, ListedParty, Party, PartyType
from adapters.trial import in_reactor
from cti.index.file import IndexBuilder, Row
from cti.index.phone_index import PhoneIndex
from cti.numbers import NumberPlan
from cti.phonebook.book import PhoneBook
from cti.phonebook.http import Gate, phonebook_site
from cti.phonebook.ldap_server import Door, LdapPhonebook
from cti.secret import Secret
from lab.crm.slapd import ldap_program
from lab.ports import LOOPBACK

T = TypeVar("T")
PLAN = NumberPlan("DE")
BASE = "ou=phonebook"
DN = "cn=phones,ou=phonebook"
PASSWORD = "seven (7) *stars*"
LOCAL = (ip_network("127.0.0.0/8"),)


def a_party(id: str, name: str, *numbers: str, company: str = "", adapter: str = "crm") -> ListedParty:
    type = PartyType.ORGANISATION if name == company else PartyType.CONTACT
    return ListedParty(
        Party(adapter, type, id, name, company), tuple(ListedNumber(number) for number in numbers)
    )


COMPANY = (
    a_party("1", "Greta Wolff", "+49 (40) 66969-27", "0152 28817386", company="Wolff & Söhne"),
    a_party("2", "Jörg Östermann", "0044 20 7946 0123"),
    a_party("3", "Wolff & Söhne", "040 66969-0", company="Wolff & Söhne"),
    a_party("4", "Wolfgang (Amsel) <b>&", "(030) 23125-111"),
    a_party("5", "Without Number"),
    a_party("6", "Greta Zweite", "0152 28817386"),
)


def an_index(directory: Path, parties: Sequence[ListedParty] = COMPANY) -> PhoneIndex:
    index = PhoneIndex(directory, PLAN, frozenset(), time.time)
    for adapter in {each.party.adapter for each in parties}:
        builder = IndexBuilder(index.path(adapter, time.time()))
        builder.add([Row.of(each, PLAN) for each in parties if each.party.adapter == adapter])
        now = str(time.time())
        builder.finish({"reading": index.reading, "mark": "", "listed": now, "changed": now})
        index.open(adapter)
    return index


def beside(work: Callable[[], T]) -> T:
    """What a phone, which waits, is told by the server in the reactor."""

    async def waiting() -> T:
        return await deferToThread(work)

    return in_reactor(waiting)


def ldap(*arguments: str) -> str:
    return beside(lambda: ldap_program(*arguments))


def says(port: int, *sent: bytes) -> list[bytes]:
    """What a phone hears that sends this, each when it has been answered, until it is hung up on."""

    def talk() -> list[bytes]:
        heard = []
        with socket.create_connection((LOOPBACK, port), timeout=20) as phone, suppress(ConnectionError):
            for each in sent:
                phone.sendall(each)
                if not (answer := phone.recv(65536)):
                    break
                heard.append(answer)
        return heard

    return beside(talk)


@define
class Desk:
    """The phonebook on both of its ports, in the reactor that runs beside the test."""

    book: PhoneBook
    door: Door
    gate: Gate
    ports: list[Any] = field(factory=list)
    ldap: int = 0
    http: int = 0
    server: Any = None

    async def open(self) -> None:
        from twisted.internet import reactor

        self.server = LdapPhonebook(self.book, self.door, reactor)
        listen: Any = reactor
        for factory in (self.server, phonebook_site(self.book, self.gate, reactor)):
            self.ports.append(listen.listenTCP(0, factory, interface=LOOPBACK))
        self.ldap, self.http = (port.getHost().port for port in self.ports)

    async def close(self) -> None:
        self.server.close()
        for port in self.ports:
            await port.stopListening()

    def find(self, filter: str, *attributes: str, options: Sequence[str] = ()) -> list[dict[str, list[str]]]:
        """What ldapsearch finds; a size limit that was met is fine."""
        try:
            text = ldap(
                "ldapsearch",
                f"ldap://{LOOPBACK}:{self.ldap}",
                DN,
                PASSWORD,
                *("-LLL", "-o", "ldif-wrap=no", "-b", BASE, *options, filter, *attributes),
            )
        except subprocess.CalledProcessError as error:
            if error.returncode != 4:
                raise
            text = error.stdout
        return [entry for block in text.split("\n\n") if (entry := ldif_entry(block))]

    def names(self, filter: str) -> list[str]:
        return [entry["cn"][0] for entry in self.find(filter, "cn")]

    def get(self, path: str, method: str = "GET") -> ElementTree.Element:
        return ElementTree.fromstring(self.fetch(path, method)[0])

    def fetch(self, path: str, method: str = "GET") -> tuple[bytes, dict[str, str]]:
        url = path if path.startswith("http:") else f"http://{LOOPBACK}:{self.http}/phonebook/{path}"

        def asked() -> tuple[bytes, dict[str, str]]:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
                return answer.read(), {name.lower(): value for name, value in answer.headers.items()}

        body, headers = beside(asked)
        assert headers["content-type"] == "text/xml; charset=utf-8"
        return body, headers


def ldif_entry(block: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, coded, value in re.findall(r"^([A-Za-z]+):(:?) (.*)$", block, re.MULTILINE):
        found.setdefault(name, []).append(b64decode(value).decode() if coded else value)
    return found


def entries(root: ElementTree.Element) -> list[tuple[str, list[str]]]:
    return [
        (each.findtext("Name") or "", [number.text or "" for number in each.iter("Telephone")])
        for each in root.iter("DirectoryEntry")
    ]


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Any]:
    opened: list[Desk] = []

    def open_desk(
        parties: Sequence[ListedParty] = COMPANY,
        prefix: str = "",
        adapters: Sequence[str] | None = None,
        token: str | None = None,
        **door: Any,
    ) -> Desk:
        from twisted.internet import reactor

        index = an_index(tmp_path / f"index{len(opened)}", parties)
        options: dict[str, Any] = {"allow": LOCAL, "bind_dn": DN, "password": Secret(PASSWORD), **door}
        desk = Desk(
            PhoneBook(index, PLAN, reactor, prefix, adapters),
            Door(BASE, **options),
            Gate("Company", options["allow"], None if token is None else Secret(token)),
        )
        opened.append(desk)
        in_reactor(desk.open)
        return desk

    yield open_desk
    for desk in opened:
        in_reactor(desk.close)


# LDAP.


def test_a_name_is_found_by_the_beginning_of_any_of_its_words(desks: Any) -> None:
    desk = desks()
    assert desk.names("(|(cn=gre*)(sn=gre*))") == ["Greta Wolff", "Greta Zweite"]
    assert sorted(desk.names("(|(cn=wolff*)(sn=wolff*))")) == ["Greta Wolff", "Wolff & Söhne"]
    assert desk.names("(sn=wolff)") == ["Greta Wolff"]
    assert desk.names("(&(telephoneNumber=*)(cn=*stermann*))") == ["Jörg Östermann"]
    assert desk.names("(cn=oster*)") == ["Jörg Östermann"]
    assert desk.names("(&(cn=gre*)(!(sn=wolff*)))") == ["Greta Zweite"]
    assert sorted(desk.names("(o=wolff*)")) == ["Greta Wolff", "Wolff & Söhne"]


@pytest.mark.parametrize("number", ["04066969027", "+494066969027", "00494066969027", "040 66969 027"])
def test_a_caller_is_found_in_every_form_that_a_phone_has_the_number_in(desks: Any, number: str) -> None:
    index = (a_party("1", "Greta Wolff", "+49 (40) 66969-027"), *COMPANY[1:])
    assert desks(index).names(f"(|(telephoneNumber={number})(mobile={number}))") == ["Greta Wolff"]


def test_everybody_who_has_a_number_is_found_by_it(desks: Any) -> None:
    assert sorted(desks().names("(|(telephoneNumber=015228817386)(mobile=015228817386))")) == [
        "Greta Wolff",
        "Greta Zweite",
    ]


def test_numbers_are_found_by_their_beginning(desks: Any) -> None:
    assert sorted(desks().names("(|(telephoneNumber=0406*)(mobile=0406*))")) == [
        "Greta Wolff",
        "Wolff & Söhne",
    ]


def test_an_entry_has_numbers_as_the_phone_dials_them(desks: Any) -> None:
    (greta,) = desks(prefix="0").find("(sn=wolff)")
    assert greta["telephoneNumber"] == ["00406696927"]
    assert greta["mobile"] == ["0015228817386"]
    assert greta["displayName"] == ["Greta Wolff (Wolff & Söhne)"]
    assert (greta["sn"], greta["givenName"], greta["o"]) == (["Wolff"], ["Greta"], ["Wolff & Söhne"])
    (joerg,) = desks().find("(sn=oster*)", "telephoneNumber")
    assert joerg["telephoneNumber"] == ["00442079460123"]
    assert set(joerg) == {"dn", "telephoneNumber"}


def test_a_number_with_the_prefix_that_was_dialled_is_found(desks: Any) -> None:
    assert desks(prefix="0").names("(telephoneNumber=0004420 7946 0123)") == ["Jörg Östermann"]
    desk = desks(prefix="7")
    assert desk.names("(telephoneNumber=704066969-27)") == ["Greta Wolff"]

    async def by_number() -> list[str]:
        # Without looking at everybody.
        return [each.name for each in desk.book.by_number("704066969-27")]

    assert in_reactor(by_number) == ["Greta Wolff"]


def test_who_has_no_number_and_whose_adapter_is_left_out_is_not_in_the_book(desks: Any) -> None:
    parties = (*COMPANY, a_party("9", "Private Greta", "030 23125-112", adapter="private"))
    assert "Without Number" not in desks(parties).names("(cn=*)")
    assert "Private Greta" in desks(parties).names("(cn=*)")
    left = desks(parties, adapters=["crm"])
    assert "Private Greta" not in left.names("(cn=*)")
    assert left.names("(telephoneNumber=03023125112)") == []


def test_an_answer_has_no_more_than_the_limit_and_says_so(desks: Any) -> None:
    many = [a_party(str(n), f"Name {n:03}", f"030 23125-{n:03}") for n in range(250)]
    desk = desks(many, limit=100)
    with pytest.raises(subprocess.CalledProcessError) as told:
        ldap(
            "ldapsearch",
            f"ldap://{LOOPBACK}:{desk.ldap}",
            DN,
            PASSWORD,
            "-LLL",
            "-b",
            BASE,
            "(cn=name*)",
            "cn",
        )
    assert told.value.returncode == 4
    assert told.value.stdout.count("cn: ") == 100
    assert len(desk.find("(cn=name*)", "cn", options=("-z", "7"))) == 7
    pages = desk.find("(cn=name*)", "cn", options=("-E", "pr=60/noprompt"))
    assert [entry["cn"][0] for entry in pages] == [f"Name {n:03}" for n in range(250)]


def test_nobody_reads_without_the_password(desks: Any) -> None:
    desk = desks()
    for dn, password, code in (
        ("", "", 50),
        (DN, "wrong", 49),
        ("cn=other,ou=phonebook", PASSWORD, 49),
        (DN, "", 49),
    ):
        with pytest.raises(subprocess.CalledProcessError) as told:
            ldap("ldapsearch", f"ldap://{LOOPBACK}:{desk.ldap}", dn, password, "-b", BASE, "(cn=*)")
        assert told.value.returncode == code
        assert "Greta" not in told.value.stdout


def test_anybody_reads_where_that_is_configured(desks: Any) -> None:
    desk = desks(anonymous=True)
    found = ldap("ldapsearch", f"ldap://{LOOPBACK}:{desk.ldap}", "", "", "-LLL", "-b", BASE, "(sn=wolff)")
    assert "cn: Greta Wolff" in found


def test_an_address_that_is_not_allowed_gets_nothing(desks: Any) -> None:
    desk = desks(allow=(ip_network("192.0.2.0/24"),), anonymous=True)
    with pytest.raises(subprocess.CalledProcessError) as told:
        ldap("ldapsearch", f"ldap://{LOOPBACK}:{desk.ldap}", "", "", "-b", BASE, "(cn=*)")
    assert "contact" in told.value.stderr.lower()
    with pytest.raises(urllib.error.HTTPError) as refused:
        desk.fetch("open/yealink.xml")
    assert refused.value.code == 403


def test_nothing_is_written(desks: Any) -> None:
    desk = desks()
    with pytest.raises(subprocess.CalledProcessError) as told:
        ldap("ldapdelete", f"ldap://{LOOPBACK}:{desk.ldap}", DN, PASSWORD, f"uid=crm-contact-1,{BASE}")
    assert told.value.returncode == 53
    assert desk.names("(sn=wolff)") == ["Greta Wolff"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x30\x84\x7f\xff\xff\xff",
        b"\x30\x80",
        b"\x30\x05\x02\x01\x01\xff\x00",
        # A not in a not in a not …
        b"\x30\x82\x0f\xa0" + b"\xa2\x82\x0f\x00" * 1000,
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
    ],
    ids=["http", "huge", "endless", "unknown", "deep", "answer"],
)
def test_what_is_no_request_ends_the_connection_and_nothing_else(desks: Any, sent: bytes) -> None:
    desk = desks()
    assert says(desk.ldap, sent) == []
    assert desk.names("(sn=wolff)") == ["Greta Wolff"]


def test_wrong_passwords_are_answered_slowly_and_only_a_few(desks: Any) -> None:
    desk = desks()
    bind = b"\x30\x1e\x02\x01\x01\x60\x19\x02\x01\x03\x04\x0c" + b"cn=x,ou=book" + b"\x80\x06" + b"wrong!"
    began = time.monotonic()
    assert len(says(desk.ldap, *[bind] * 9)) == 3
    assert time.monotonic() - began > 2.5


# XML.


def test_yealink_gets_a_directory_with_all_numbers_of_a_contact(desks: Any) -> None:
    root = desks().get("open/yealink.xml")
    assert root.tag == "YealinkIPPhoneDirectory"
    assert root.findtext("Title") == "Company"
    assert entries(root)[0] == ("Greta Wolff (Wolff & Söhne)", ["0406696927", "015228817386"])
    assert ("Wolfgang (Amsel) <b>&", ["03023125111"]) in entries(root)
    assert [name for name, _ in entries(desks().get("open/yealink.xml?q=amsel"))] == ["Wolfgang (Amsel) <b>&"]


def test_yealink_gets_letters_of_a_book_that_is_too_long_for_a_phone(desks: Any) -> None:
    many = [a_party(str(n), f"{'AB'[n % 2]} {n}", f"030 23125-{n:03}") for n in range(600)]
    root = desks(many).get("open/yealink.xml")
    assert root.tag == "YealinkIPPhoneMenu"
    (url,) = [each.findtext("URL") for each in root.iter("MenuItem") if each.findtext("Name") == "A"]
    assert url is not None
    listed = desks(many[:20]).get("open/yealink.xml?q=A")
    assert len(entries(listed)) == 10
    assert url.endswith("/phonebook/open/yealink.xml?q=A")


def test_cisco_is_asked_for_a_name_and_reads_pages_of_32_entries(desks: Any) -> None:
    many = [
        a_party(str(n), f"Name {n:03}", f"030 23125-{n:03}", f"030 23125-{n + 100:03}") for n in range(40)
    ]
    desk = desks(many)
    asked = desk.get("open/cisco.xml")
    assert asked.tag == "CiscoIPPhoneInput"
    assert asked.findtext("InputItem/QueryStringParam") == "q"
    url, seen = f"{asked.findtext('URL')}?q=", []
    pages = 0
    while url:
        body, headers = desk.fetch(url)
        root = ElementTree.fromstring(body)
        assert root.tag == "CiscoIPPhoneDirectory"
        assert 0 < len(entries(root)) <= 32
        seen += entries(root)
        pages += 1
        url = headers.get("refresh", "").partition("url=")[2]
        assert "&" not in url
    assert len(seen) == 80
    assert len(set(map(str, seen))) == 80
    assert pages == 3
    assert entries(desk.get("open/cisco.xml?q=name%20007")) == [
        ("Name 007", ["03023125007"]),
        ("Name 007", ["03023125107"]),
    ]


def test_snom_reads_pages_by_a_soft_key_and_keeps_a_whole_book(desks: Any) -> None:
    many = [a_party(str(n), f"Name {n:03}", f"030 23125-{n:03}") for n in range(60)]
    desk = desks(many)
    assert desk.get("open/snom.xml").tag == "SnomIPPhoneInput"
    first = desk.get("open/snom.xml?q=")
    assert first.tag == "SnomIPPhoneDirectory"
    url = first.findtext("SoftKeyItem/URL")
    assert url is not None
    assert len(entries(first)) + len(entries(desk.get(url))) == 60
    book = desks().get("open/tbook.xml", method="POST")
    assert (book.tag, book.get("complete"), book.get("version")) == ("tbook", "true", "2.0")
    (greta,) = [each for each in book.iter("contact") if each.findtext("last_name") == "Wolff"]
    assert greta.findtext("first_name") == "Greta"
    assert [(each.get("no"), each.get("type")) for each in greta.iter("number")] == [
        ("0406696927", "business"),
        ("015228817386", "mobile"),
    ]


def test_grandstream_gets_an_address_book(desks: Any) -> None:
    root = desks(prefix="9").get("open/phonebook.xml")
    assert root.tag == "AddressBook"
    (greta,) = [each for each in root.iter("Contact") if each.findtext("LastName") == "Wolff"]
    assert greta.findtext("FirstName") == "Greta"
    assert [(each.get("type"), each.findtext("phonenumber")) for each in greta.iter("Phone")] == [
        ("Work", "90406696927"),
        ("Cell", "9015228817386"),
    ]


def test_a_number_is_found_by_xml_too(desks: Any) -> None:
    assert [name for name, _ in entries(desks().get("open/yealink.xml?q=0406696927"))] == [
        "Greta Wolff (Wolff & Söhne)"
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("open/yealink.xml", 404),
        ("wrong/yealink.xml", 404),
        ("secret/other.xml", 404),
        ("secret/snom.xml?p=AAAA", 400),
        ("secret/snom.xml?p=WyIiLHsieCI6WyIiLCJhIl19XQ", 400),
    ],
)
def test_who_does_not_know_the_word_in_the_path_gets_nothing(desks: Any, path: str, status: int) -> None:
    desk = desks(token="secret")
    assert entries(desk.get("secret/yealink.xml"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        desk.fetch(path)
    assert refused.value.code == status
    assert b"Greta" not in refused.value.read()


def test_an_address_in_a_page_is_never_made_of_a_strange_host_name(desks: Any) -> None:
    desk = desks()
    (answer,) = says(desk.http, b'GET /phonebook/open/cisco.xml HTTP/1.0\r\nHost: evil"><x>\r\n\r\n', b"\r\n")
    assert b"evil" not in answer
    assert f"http://{LOOPBACK}:{desk.http}/phonebook/open/cisco.xml".encode() in answer


def test_a_request_with_a_long_body_is_hung_up_on(desks: Any) -> None:
    desk = desks()
    for length in (b"content-length: 1000000000", b"transfer-encoding: chunked"):
        request = b"POST /phonebook/open/tbook.xml HTTP/1.1\r\nhost: x\r\n" + length + b"\r\n\r\n"
        assert says(desk.http, request) == []


def test_a_name_in_a_large_book_is_found_wherever_it_stands(desks: Any) -> None:
    many = [a_party(str(n), f"Name {n:05} Common{n}", f"030 23125-{n % 1000:03}") for n in range(3000)]
    desk = desks(many)
    for filter in (
        "(sn=common2999*)",
        "(&(cn=*mmon29*)(cn=*2999*))",
        "(|(cn=*common2999)(o=nobody))",
        "(&(objectClass=*)(!(!(sn=common2999))))",
    ):
        assert desk.names(filter) == ["Name 02999 Common2999"], filter
    two = desk.names("(|(cn=*mmon2999)(cn=*mmon2998))")
    assert two == ["Name 02998 Common2998", "Name 02999 Common2999"]
    assert len(desk.find("(|(cn=*02999*)(telephoneNumber=03023125998))", "cn")) == 3
