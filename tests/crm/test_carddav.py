"""The adapter of kind `carddav` with a real Radicale, and with a server that misbehaves."""

from __future__ import annotations

import itertools
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from attrs import define, field

from adapters.base import (
    AdapterAnswerError,
    AdapterDenied,
    Capability,
    ListedNumber,
    ListedParty,
    MarkLost,
    NumberChanged,
    PartyRef,
    PartyType,
)
from adapters.carddav import CardDavAdapter, CardDavOptions
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.trial import in_reactor
from adapters.vcard import Property, VCard, new_vcard, read_vcard
from cti.numbers import NumberPlan
from cti.secret import Secret
from lab.crm.radicale import Radicale
from lab.ports import LOOPBACK, PortBlock

_ids = itertools.count(1)


@pytest.fixture(scope="module")
def ports() -> Iterator[PortBlock]:
    block = PortBlock.claim()
    yield block
    block.release()


@pytest.fixture(scope="module")
def radicale(tmp_path_factory: pytest.TempPathFactory, ports: PortBlock) -> Iterator[Radicale]:
    with Radicale(tmp_path_factory.mktemp("radicale"), ports.take()) as server:
        yield server


def a_card(listed: ListedParty, uid: str) -> VCard:
    party = listed.party
    more = {"X-OWNER": party.owner, "X-TIER": party.tier, "LANG": party.language, "URL": party.url}
    return VCard(
        (
            *new_vcard(
                uid=uid,
                name=party.name,
                company=party.company,
                numbers=[number.raw for number in listed.numbers],
                notes=party.notes,
                is_company=party.type is PartyType.ORGANISATION,
            ).properties,
            *(Property(name, "").with_text(value) for name, value in more.items() if value),
            *(Property("CATEGORIES", "").with_text(tag) for tag in party.tags),
        )
    )


class RadicaleBench(Bench):
    numbers_as_typed = (
        "+49 152 28817386",
        "0152 28817386",
        "(0152) 288 17 386",
        "+49 (0) 152/28817386",
        "tel:+49-152-28817386",
        "0152.28817386 ext. 4",
    )
    types = (PartyType.CONTACT, PartyType.ORGANISATION)
    keeps = frozenset({"name", "company", "owner", "tier", "language", "tags", "notes", "url"})
    user = "u7"
    breakable = True
    page = 2

    def __init__(self, radicale: Radicale, directory: Path) -> None:
        self._radicale = radicale
        self._directory = directory
        self.book = f"book{next(_ids)}"
        self.url = radicale.make_book(self.book)

    def make(self) -> CardDavAdapter:
        options = CardDavOptions(
            self.url,
            username=self._radicale.user,
            password=Secret(self._radicale.password),
            fields={"owner": "X-OWNER", "tier": "X-TIER"},
            page=self.page,
            seconds=20.0,
        )
        return CardDavAdapter("book", options, a_context(self._directory))

    def plant(self, party: ListedParty) -> PartyRef:
        uid = f"card {next(_ids)}"
        self._radicale.put(self._path(f"{uid}.vcf"), a_card(party, uid).as_text())
        return PartyRef(party.party.type, f"{uid}.vcf")

    def remove(self, ref: PartyRef) -> None:
        if self.card(ref) is not None:
            self._radicale.delete(self._path(ref.id))

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self._radicale.put(self._path(ref.id), a_card(party, ref.id.removesuffix(".vcf")).as_text())

    def notes(self, ref: PartyRef) -> Sequence[str]:
        card = self.card(ref)
        return [] if card is None else [card.text("NOTE")]

    def card(self, ref: PartyRef) -> VCard | None:
        text = self._radicale.get(self._path(ref.id))
        return None if text is None else read_vcard(text)

    def break_it(self) -> None:
        self._radicale.stop()

    def mend(self) -> None:
        self._radicale.start()

    def _path(self, id: str) -> str:
        return f"/{self._radicale.user}/{self.book}/{id.replace(' ', '%20')}"


class TestCardDavConformance(AdapterConformance):
    capabilities = frozenset(
        {
            Capability.IDENTIFY,
            Capability.CARD,
            Capability.SEARCH,
            Capability.LIST,
            Capability.CHANGES,
            Capability.CREATE,
            Capability.NOTE,
            Capability.NUMBERS,
        }
    )

    @pytest.fixture(autouse=True)
    def _a_bench(self, radicale: Radicale, tmp_path: Path) -> None:
        self._bench = RadicaleBench(radicale, tmp_path)

    def crm(self) -> RadicaleBench:
        return self._bench


def ask(adapter: CardDavAdapter, question: str, *arguments: Any) -> Any:
    """The answer of a fresh adapter that is stopped afterwards."""

    async def asked() -> Any:
        await adapter.start()
        try:
            return await getattr(adapter, question)(*arguments)
        finally:
            await adapter.stop()

    return in_reactor(asked)


def a_text(name: str, *numbers: str) -> str:
    return new_vcard(uid=name, name=name, numbers=numbers).as_text()


PLAN = NumberPlan("DE")
ADA = PLAN.parse("+4915228817386")


def test_every_address_book_of_an_account_is_read(tmp_path: Path, ports: PortBlock) -> None:
    with Radicale(tmp_path / "two", ports.take()) as server:
        for book in ("friends", "work"):
            server.make_book(book)
            server.put(f"/{server.user}/{book}/ada.vcf", a_text(f"Ada of {book}", "0152/28817386"))
        options = CardDavOptions(
            server.home, username=server.user, password=Secret(server.password), seconds=20.0
        )
        found = ask(CardDavAdapter("books", options, a_context(tmp_path)), "identify", ADA)
        assert [(each.id, each.name) for each in found] == [
            ("friends/ada.vcf", "Ada of friends"),
            ("work/ada.vcf", "Ada of work"),
        ]


def test_a_wrong_password_is_told(radicale: Radicale, tmp_path: Path) -> None:
    options = CardDavOptions(radicale.home, username=radicale.user, password=Secret("wrong"), seconds=20.0)
    with pytest.raises(AdapterDenied) as told:
        ask(CardDavAdapter("book", options, a_context(tmp_path)), "identify", ADA)
    assert "wrong" not in str(told.value)


def test_a_number_is_written_back_and_the_rest_of_the_card_stays(radicale: Radicale, tmp_path: Path) -> None:
    bench = RadicaleBench(radicale, tmp_path)
    before = (
        "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:x\r\nFN:Ada\r\nN:;;;;\r\nitem1.TEL;TYPE=CELL:0152/28817386\r\n"
        "item1.X-ABLABEL:Laube\r\nX-OWN;A=b:c\\,d\r\nNOTE:eins\\nzwei\r\nEND:VCARD\r\n"
    )
    path = f"/{radicale.user}/{bench.book}/x.vcf"
    radicale.put(path, before)
    ref, old = PartyRef(PartyType.CONTACT, "x.vcf"), ListedNumber("0152/28817386", "TEL[0]")
    ask(bench.make(), "write_number", ref, old, "+49 152 28817386")
    after = radicale.get(path) or ""
    # Radicale has an order of its own.
    assert sorted(after.splitlines()) == sorted(
        before.replace("0152/28817386", "+49 152 28817386").splitlines()
    )


# A server that misbehaves.

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + ']><multistatus xmlns="DAV:"><response><href>&j;</href></response></multistatus>'
)
ELSEWHERE = (
    '<?xml version="1.0"?><!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    '<multistatus xmlns="DAV:"><response><href>&x;</href></response></multistatus>'
)


class Fake(BaseHTTPRequestHandler):
    """As much of a CardDAV server as an adapter asks for; what it does wrong is up to the test."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    state: Any

    def do_PROPFIND(self) -> None:
        self.read()
        if (lie := self.state.lie) is not None:
            self.say(207, lie)
            return
        about = (
            "<resourcetype><collection/><C:addressbook/></resourcetype>"
            f"<S:getctag>{self.state.count}</S:getctag>"
        )
        self.say(207, multistatus(resource("/book/", about), *map(self.card, self.state.cards)))

    def do_REPORT(self) -> None:
        body = self.read()
        if "sync-collection" in body:
            self.state.syncs += 1
            if not self.state.sync:
                self.say(403, "")
                return
            left_out = ["<response><href>/book/</href><status>HTTP/1.1 507 X</status></response>"]
            shown = sorted(self.state.cards)
            if self.state.truncated and "<sync-token></sync-token>" in body:
                shown = shown[:1]
            else:
                left_out = []
            self.say(207, multistatus(*map(self.card, shown), *left_out, token=f"t{self.state.count}"))
        elif "multiget" in body:
            self.state.multigets += 1
            self.say(207, multistatus(*self.state.strange, *map(self.whole, self.state.cards)))

    def do_GET(self) -> None:
        self.say(200, self.state.cards[self.path], etag=f'"{self.state.count}"')

    def do_PUT(self) -> None:
        body = self.read()
        if self.state.meanwhile is not None:
            # Somebody else was quicker.
            self.state.cards[self.path], self.state.meanwhile = self.state.meanwhile, None
            self.state.count += 1
        if self.headers["If-Match"] != f'"{self.state.count}"':
            self.say(412, "")
            return
        self.state.cards[self.path] = body
        self.state.count += 1
        self.say(204, "")

    def card(self, path: str) -> str:
        etag = zlib.crc32(self.state.cards[path].encode())
        return resource(path, f"<getetag>{etag}</getetag>")

    def whole(self, path: str) -> str:
        text = escape(self.state.cards[path])
        return resource(path, f"<getetag>1</getetag><C:address-data>{text}</C:address-data>")

    def read(self) -> str:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()

    def say(self, status: int, body: str, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.send_header("Content-Type", "application/xml; charset=utf-8")
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody reads it."""


def resource(path: str, properties: str) -> str:
    return (
        f"<response><href>{path}</href><propstat><prop>{properties}</prop>"
        "<status>HTTP/1.1 200 OK</status></propstat></response>"
    )


def multistatus(*responses: str, token: str = "") -> str:
    sync = f"<sync-token>{token}</sync-token>" if token else ""
    names = 'xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:S="http://calendarserver.org/ns/"'
    return (
        f'<?xml version="1.0" encoding="utf-8"?><multistatus {names}>{"".join(responses)}{sync}</multistatus>'
    )


@define
class FakeServer:
    """Cards by path; `sync` whether it knows RFC 6578, `lie` what it says in the place of properties."""

    cards: dict[str, str]
    sync: bool = True
    truncated: bool = False
    lie: str | None = None
    meanwhile: str | None = None
    strange: list[str] = field(factory=list)
    count: int = 1
    syncs: int = 0
    multigets: int = 0
    port: int = 0

    def adapter(self, tmp_path: Path, **options: Any) -> CardDavAdapter:
        address = f"http://{LOOPBACK}:{self.port}/book/"
        return CardDavAdapter("fake", CardDavOptions(address, seconds=20.0, **options), a_context(tmp_path))

    def change(self, path: str, text: str | None) -> None:
        if text is None:
            del self.cards[path]
        else:
            self.cards[path] = text
        self.count += 1


@contextmanager
def a_fake(**state: Any) -> Iterator[FakeServer]:
    fake = FakeServer(**{"cards": {"/book/ada.vcf": a_text("Ada", "0152/28817386")}, **state})
    handler = type("Handler", (Fake,), {"state": fake})
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("lie", [LAUGHS, ELSEWHERE, "<html><body>Login</body></html>", "", "<multistatus"])
def test_xml_with_entities_and_what_is_no_xml_is_an_error(tmp_path: Path, lie: str) -> None:
    with a_fake(lie=lie) as server:
        began = time.monotonic()
        with pytest.raises(AdapterAnswerError, match="XML"):
            ask(server.adapter(tmp_path), "identify", ADA)
        assert time.monotonic() - began < 10


def test_cards_that_were_not_asked_for_are_nobodys(tmp_path: Path) -> None:
    text = f"<C:address-data>{escape(a_text('Mallory', '0152/28817386'))}</C:address-data>"
    strange = [
        resource(path, text) for path in ("/other/x.vcf", "/book/../x.vcf", "http://evil.example/book/x.vcf")
    ]
    with a_fake(strange=strange) as server:
        assert [each.name for each in ask(server.adapter(tmp_path), "identify", ADA)] == ["Ada"]


def test_a_broken_card_and_a_list_of_people_are_left_out_and_the_rest_is_there(tmp_path: Path) -> None:
    group = a_text("Everybody", "0152/28817386").replace("UID:", "X-ADDRESSBOOKSERVER-KIND:group\r\nUID:", 1)
    cards = {
        "/book/ada.vcf": a_text("Ada", "0152/28817386"),
        "/book/broken.vcf": "BEGIN:VCARD\r\nwhat is this\r\nEND:VCARD\r\n",
        "/book/group.vcf": group,
        "/book/half.vcf": "BEGIN:VCARD\r\nFN:Half",
    }
    with a_fake(cards=cards) as server:
        assert [each.name for each in ask(server.adapter(tmp_path), "identify", ADA)] == ["Ada"]
        page = ask(server.adapter(tmp_path), "list", None)
        assert [each.party.name for each in page.parties] == ["Ada"]


def test_a_server_that_does_not_synchronise_is_compared_card_by_card(tmp_path: Path) -> None:
    with a_fake(sync=False) as server:

        async def story() -> list[Any]:
            adapter = server.adapter(tmp_path)
            await adapter.start()
            told = []
            mark = (await adapter.list(None)).mark
            for path, text in (
                ("/book/ben.vcf", a_text("Ben", "0171/3920042")),
                ("/book/ada.vcf", a_text("Ada", "0171/3920043")),
                ("/book/ben.vcf", None),
            ):
                server.change(path, text)
                changes = await adapter.changes(mark or "")
                mark = changes.mark
                told.append(
                    (
                        [each.party.name for each in changes.parties],
                        [ref.id for ref in changes.gone if ref.type is PartyType.CONTACT],
                        [each.name for each in await adapter.identify(PLAN.parse("0171/3920042"))],
                    )
                )
            nothing = await adapter.changes(mark or "")
            told.append((list(nothing.parties), list(nothing.gone), nothing.mark == mark))
            await adapter.stop()
            return told

        assert in_reactor(story) == [
            (["Ben"], [], ["Ben"]),
            (["Ada"], [], ["Ben"]),
            ([], ["ben.vcf"], []),
            ([], [], True),
        ]
        with pytest.raises(MarkLost):
            ask(server.adapter(tmp_path), "changes", '{"/book/": "ctag:other:1"}')


def test_a_list_that_the_server_cuts_off_is_read_to_its_end(tmp_path: Path) -> None:
    cards = {f"/book/{n}.vcf": a_text(f"N {n}", f"0171 39200{n:02}") for n in range(5)}
    with a_fake(cards=cards, truncated=True) as server:
        page = ask(server.adapter(tmp_path), "list", None)
        assert len(page.parties) == 5


def test_a_number_is_replaced_in_the_card_that_somebody_else_changed_meanwhile(tmp_path: Path) -> None:
    newer = a_text("Ada Newer", "0152/28817386")
    ref, old = PartyRef(PartyType.CONTACT, "ada.vcf"), ListedNumber("0152/28817386", "TEL[0]")
    with a_fake(meanwhile=newer) as server:
        ask(server.adapter(tmp_path), "write_number", ref, old, "+49 152 28817386")
        card = read_vcard(server.cards["/book/ada.vcf"])
        assert (card.name, card.numbers[0].raw) == ("Ada Newer", "+49 152 28817386")
    with a_fake(meanwhile=a_text("Ada", "0171/3920042")) as server, pytest.raises(NumberChanged):
        ask(server.adapter(tmp_path), "write_number", ref, old, "+49 152 28817386")


def test_an_address_book_is_read_again_only_where_it_changed(tmp_path: Path) -> None:
    cards = {f"/book/{n}.vcf": a_text(f"N {n}", f"0171 39200{n:02}") for n in range(5)}
    with a_fake(cards=cards, sync=False) as server:

        async def story() -> tuple[int, int]:
            adapter = server.adapter(tmp_path)
            await adapter.start()
            await adapter.identify(ADA)
            first = server.multigets
            for _ in range(5):
                await adapter.identify(ADA)
            await adapter.stop()
            return first, server.multigets

        first, then = in_reactor(story)
        assert then == first


def test_options_that_would_give_the_password_away_are_refused() -> None:
    login: dict[str, Any] = {"username": "crm", "password": Secret("x")}
    CardDavOptions("https://cloud.example/dav/", **login)
    CardDavOptions("http://localhost/dav/", **login)
    with pytest.raises(ValueError, match="as it is"):
        CardDavOptions("http://cloud.example/dav/", **login)
    with pytest.raises(ValueError, match="belong together"):
        CardDavOptions("https://cloud.example/dav/", username="crm")
    with pytest.raises(ValueError, match="no 'name' is read"):
        CardDavOptions("https://cloud.example/dav/", fields={"name": "FN"})
