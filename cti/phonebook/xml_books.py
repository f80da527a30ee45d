"""Pages of the book as the XML of each maker of phones; pure.

The elements are those of the makers' documentation, Yealink's and Snom's menus as seen in use: Cisco, "Cisco Unified
IP Phone Services Application Development Notes" (CiscoIPPhoneDirectory has 32 entries at most; CiscoIPPhoneMenu,
CiscoIPPhoneInput); Yealink, "XML Browser Developer's Guide" and the templates of its remote phone book; Snom, "XML
Minibrowser" and "Remote XML Directory" (tbook, version 2.0); Grandstream, "GXP Series: XML Phonebook Guide"
(AddressBook).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from cti.phonebook.book import Contact

#: Entries of a page, by maker: what the maker allows, or what a phone shows in a reasonable time.
CISCO_ENTRIES: Final = 32
SNOM_ENTRIES: Final = 50
YEALINK_ENTRIES: Final = 500
#: Contacts that a phone keeps itself, of those that fetch the whole book.
GRANDSTREAM_CONTACTS: Final = 2000
SNOM_CONTACTS: Final = 1000

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Cisco's names are cut by the phone at 64 characters; others' displays are shorter still.
_NAME: Final = 64


def cisco_question(title: str, url: str) -> str:
    """What to look for."""
    return _question("CiscoIPPhoneInput", title, url, "A")


def cisco_directory(title: str, contacts: Sequence[Contact]) -> str:
    return _directory("CiscoIPPhoneDirectory", title, contacts)


def snom_question(title: str, url: str) -> str:
    return _question("SnomIPPhoneInput", title, url, "a")


def snom_directory(title: str, contacts: Sequence[Contact], following: str | None) -> str:
    more = ""
    if following is not None:
        more = (
            f"<SoftKeyItem><Name>F4</Name><Label>&gt;&gt;</Label><URL>{_text(following)}</URL></SoftKeyItem>"
        )
    return _directory("SnomIPPhoneDirectory", title, contacts, more)


def snom_tbook(contacts: Sequence[Contact]) -> str:
    """The book as a phone of Snom's keeps it, in the place of what it had."""
    return _document(
        'tbook e="2" version="2.0" complete="true"',
        "".join(
            '<contact fav="false" vip="false" blocked="false">'
            f"<first_name>{_text(given)}</first_name><last_name>{_text(family)}</last_name>"
            f"<organization>{_text(contact.company)}</organization><numbers>"
            + "".join(
                f'<number no="{_text(number.dial)}" type="{"mobile" if number.mobile else "business"}"'
                ' outgoing_id="0"/>'
                for number in contact.numbers
            )
            + "</numbers></contact>"
            for contact in contacts
            for given, family in (_names(contact),)
        ),
    )


def yealink_directory(title: str, contacts: Sequence[Contact]) -> str:
    return _document(
        "YealinkIPPhoneDirectory",
        f"<Title>{_text(title)}</Title>"
        + "".join(
            f"<DirectoryEntry><Name>{_name(contact)}</Name>"
            + "".join(f"<Telephone>{_text(number.dial)}</Telephone>" for number in contact.numbers)
            + "</DirectoryEntry>"
            for contact in contacts
        ),
    )


def yealink_menu(title: str, url: str) -> str:
    """A letter each, where the book is longer than a phone loads. ``url`` gets the letter at its end."""
    items = "".join(
        f"<MenuItem><Name>{letter}</Name><URL>{_text(url + letter)}</URL></MenuItem>" for letter in _LETTERS
    )
    return _document("YealinkIPPhoneMenu", f"<Title>{_text(title)}</Title>{items}")


def grandstream_address_book(contacts: Sequence[Contact]) -> str:
    return _document(
        "AddressBook",
        "<version>1</version>"
        + "".join(
            f"<Contact><id>{place}</id><FirstName>{_text(given)}</FirstName><LastName>{_text(family)}</LastName>"
            f"<Company>{_text(contact.company)}</Company>"
            + "".join(
                f'<Phone type="{"Cell" if number.mobile else "Work"}">'
                f"<phonenumber>{_text(number.dial)}</phonenumber><accountindex>1</accountindex></Phone>"
                for number in contact.numbers
            )
            + "</Contact>"
            for place, contact in enumerate(contacts, 1)
            for given, family in (_names(contact),)
        ),
    )


def _question(name: str, title: str, url: str, flags: str) -> str:
    return _document(
        name,
        f"<Title>{_text(title)}</Title><Prompt>{_text(title)}</Prompt><URL>{_text(url)}</URL>"
        "<InputItem><DisplayName>Name</DisplayName><QueryStringParam>q</QueryStringParam>"
        f"<DefaultValue></DefaultValue><InputFlags>{flags}</InputFlags></InputItem>",
    )


def _directory(name: str, title: str, contacts: Sequence[Contact], more: str = "") -> str:
    """One number an entry, as these makers have it."""
    entries = "".join(
        f"<DirectoryEntry><Name>{_name(contact)}</Name><Telephone>{_text(number.dial)}</Telephone></DirectoryEntry>"
        for contact in contacts
        for number in contact.numbers
    )
    return _document(name, f"<Title>{_text(title)}</Title><Prompt>{_text(title)}</Prompt>{entries}{more}")


def _names(contact: Contact) -> tuple[str, str]:
    """First and last name, as phones sort by them; a company has the one name."""
    given, _, family = contact.name.rpartition(" ")
    return (given, family) if contact.name != contact.company else ("", contact.name)


def _name(contact: Contact) -> str:
    return _text(contact.title[:_NAME])


def _text(text: str) -> str:
    return escape(_NO_XML.sub("", text), {'"': "&quot;"})


def _document(element: str, content: str) -> str:
    return f"{_DECLARATION}<{element}>{content}</{element.partition(' ')[0]}>\n"
