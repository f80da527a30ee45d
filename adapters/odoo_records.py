"""What Odoo's records mean: text out of its HTML, its times, and parties, cases and tasks made of what it answers.

Pure: nothing is asked here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, Final

from attrs import frozen

from adapters.base import (
    AdapterAnswerError,
    Appointment,
    Case,
    LastContact,
    ListedNumber,
    ListedParty,
    Party,
    PartyRef,
    PartyType,
    Task,
)
from cti.numbers import NumberPlan

Record = Mapping[str, Any]

PARTNER: Final = "res.partner"
LEAD: Final = "crm.lead"
ACTIVITY: Final = "mail.activity"
MESSAGE: Final = "mail.message"

#: In which fields numbers stand; `mobile` is gone since 19.
NUMBER_FIELDS: Final = ("phone", "mobile")
PARTNER_FIELDS: Final = (
    *("name", "display_name", "is_company", "commercial_partner_id", "commercial_company_name", "user_id"),
    *("category_id", "lang", "country_id", "phone_sanitized"),
)
LEAD_FIELDS: Final = (
    *("name", "contact_name", "partner_name", "partner_id", "user_id", "stage_id", "create_date", "tag_ids"),
    *("country_id", "phone_sanitized"),
)
#: Where each type of party stands.
MODELS: Final[Mapping[PartyType, str]] = {
    PartyType.CONTACT: PARTNER,
    PartyType.ORGANISATION: PARTNER,
    PartyType.LEAD: LEAD,
}

#: PostgreSQL's largest integer, of which Odoo's ids are.
_LARGEST_ID: Final = 2**31 - 1
_BLOCKS: Final = frozenset({"br", "div", "h1", "h2", "h3", "h4", "li", "p", "table", "tr", "ul", "ol"})
_SPACES: Final = re.compile(r"[ \t\r\f\v\xa0]+")
_BLANK_LINES: Final = re.compile(r"\s*\n\s*")


def text_of(markup: object) -> str:
    """What a person reads of a piece of HTML, a block a line."""
    if not isinstance(markup, str) or not markup:
        return ""
    reader = _Text()
    reader.feed(markup)
    reader.close()
    return _BLANK_LINES.sub("\n", _SPACES.sub(" ", "".join(reader.parts))).strip()


def html_of(text: str) -> str:
    """Text as HTML that shows it as it is."""
    return html.escape(text, quote=False).replace("\n", "<br>")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._silent += tag in ("script", "style")
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style") and self._silent > 0
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            # A line break of the source is a space to who reads it.
            self.parts.append(data.replace("\n", " "))


def moment(value: object) -> datetime | None:
    """A time or a day of Odoo's, which are in UTC and say no zone; ``None`` for ``False``."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError:
        raise AdapterAnswerError("Odoo answered a time that is none") from None


def odoo_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def odoo_day(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()


def id_of(many2one: object) -> int | None:
    """The id in ``[id, name]``, which is how Odoo answers a link to one record."""
    return many2one[0] if isinstance(many2one, list | tuple) and many2one else None


def name_of(many2one: object) -> str:
    return str(many2one[1]) if isinstance(many2one, list | tuple) and len(many2one) > 1 else ""


def record_id(text: str) -> int | None:
    """The id that a text is, ``None`` for what Odoo cannot have given out."""
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or text.startswith("0"):
        return None
    id = int(text)
    return id if id <= _LARGEST_ID else None


def user_of(record: Record, field: str = "user_id") -> str | None:
    id = id_of(record.get(field))
    return None if id is None else str(id)


@frozen
class Reader:
    """Makes parties of records.

    ``countries``: ISO code by the id of a ``res.country``; ``tags``: names by the id of a category or a lead's tag.
    """

    adapter: str
    url: str
    plan: NumberPlan
    countries: Mapping[int, str]

    def address(self, model: str, id: int) -> str:
        """Where a browser finds the record; every version knows this form."""
        return f"{self.url}/web#id={id}&model={model}&view_type=form"

    def region(self, record: Record) -> str | None:
        return self.countries.get(id_of(record.get("country_id")) or 0)

    def numbers(self, record: Record) -> tuple[ListedNumber, ...]:
        """The numbers as they are typed, with their fields."""
        return tuple(ListedNumber(str(record[name]), name) for name in NUMBER_FIELDS if record.get(name))

    def e164s(self, record: Record) -> dict[str, str]:
        """The numbers by how they are typed, as we read them; and as Odoo does, by its own form."""
        plan = self.plan
        if (region := self.region(record)) is not None:
            # A territory may have no numbers of its own.
            with suppress(ValueError):
                plan = plan.for_region(region)
        found = {number.raw: plan.parse(number.raw).e164 or "" for number in self.numbers(record)}
        sanitised = record.get("phone_sanitized")
        return {**found, str(sanitised): str(sanitised)} if sanitised else found

    def partner(self, record: Record, tags: Mapping[int, str], **more: Any) -> Party:
        is_company = bool(record.get("is_company"))
        commercial = id_of(record.get("commercial_partner_id"))
        belongs = commercial is not None and (is_company or commercial != record["id"])
        language = record.get("lang")
        return Party(
            adapter=self.adapter,
            type=PartyType.ORGANISATION if is_company else PartyType.CONTACT,
            id=record["id"],
            # Addresses of a company may have no name of their own.
            name=record.get("name") or record.get("display_name") or "",
            company="" if is_company else record.get("commercial_company_name") or "",
            url=self.address(PARTNER, record["id"]),
            language=str(language).partition("_")[0] if language else None,
            tags=[tags[id] for id in record.get("category_id") or () if id in tags],
            organisation=str(commercial) if belongs else None,
            notes=text_of(record.get("comment")),
            **{"owner": user_of(record), **more},
        )

    def lead(self, record: Record, tags: Mapping[int, str], **more: Any) -> Party:
        """A lead as a party: somebody who is no contact yet."""
        given = {"cases": (self.case(record),), **more}
        return Party(
            adapter=self.adapter,
            type=PartyType.LEAD,
            id=record["id"],
            name=record.get("contact_name") or record.get("partner_name") or record.get("name") or "",
            company=record.get("partner_name") or "",
            url=self.address(LEAD, record["id"]),
            owner=user_of(record),
            tags=[tags[id] for id in record.get("tag_ids") or () if id in tags],
            notes=text_of(record.get("description")),
            **given,
        )

    def listed(self, party: Party, record: Record) -> ListedParty:
        return ListedParty(party, self.numbers(record), self.region(record))

    def case(self, lead: Record) -> Case:
        return Case(
            id=lead["id"],
            title=lead.get("name") or "",
            status=name_of(lead.get("stage_id")),
            opened=moment(lead.get("create_date")),
            url=self.address(LEAD, lead["id"]),
        )

    def task(self, activity: Record) -> Task:
        return Task(
            id=activity["id"],
            title=activity.get("summary") or name_of(activity.get("activity_type_id")) or "",
            due=moment(activity.get("date_deadline")),
            user=user_of(activity),
            url=self.address(str(activity.get("res_model")), int(activity.get("res_id") or 0)),
        )

    def appointment(self, event: Record) -> Appointment | None:
        at = moment(event.get("start"))
        if at is None:
            return None
        return Appointment(
            id=event["id"],
            at=at,
            title=event.get("name") or "",
            user=user_of(event),
            url=self.address("calendar.event", event["id"]),
        )

    def contact(self, message: Record, users: Mapping[int, str]) -> LastContact | None:
        """``users``: the user's id by that of the partner who wrote it."""
        at = moment(message.get("date"))
        text = text_of(message.get("body")) or str(message.get("subject") or "")
        if at is None or not text:
            return None
        kind = name_of(message.get("mail_activity_type_id")) or str(message.get("message_type") or "")
        return LastContact(
            at=at,
            kind={"email": "mail", "email_outgoing": "mail", "comment": "note"}.get(kind, kind.lower()),
            user=users.get(id_of(message.get("author_id")) or 0),
            summary=text,
        )


def written_to(ref: PartyRef) -> tuple[str, int] | None:
    """Model and id of a party's record; ``None`` where Odoo has no such."""
    model, id = MODELS.get(ref.type), record_id(ref.id)
    return None if model is None or id is None else (model, id)


def any_of(conditions: Sequence[Any]) -> list[Any]:
    """The domain (in Odoo's prefix notation) of who meets one of the conditions."""
    return ["|"] * (len(conditions) - 1) + list(conditions)


def like(text: str) -> str:
    """Text for ``ilike`` that stands for itself."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def records(answer: object) -> list[Record]:
    """An answer that has to be a list of records with an id each. Raises ``AdapterAnswerError``."""
    if not isinstance(answer, list) or not all(isinstance(each, dict) and "id" in each for each in answer):
        raise AdapterAnswerError("Odoo answered something else than a list of records")
    return answer


def ids(values: Iterable[object]) -> list[int]:
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
