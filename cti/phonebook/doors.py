"""Where phones come in: the listeners of the phonebook, as they are configured, opened and closed.

What is behind each is left to ``ldap_server`` and ``http``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort

from cti.numbers import NumberPlan
from cti.phonebook.book import Index, PhoneBook
from cti.phonebook.http import Gate, phonebook_site
from cti.phonebook.ldap_server import Door, LdapPhonebook
from cti.settings import PhonebookSettings


class Doors:
    """The listeners of one server."""

    def __init__(self, settings: PhonebookSettings, index: Index, plan: NumberPlan, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._book = PhoneBook(index, plan, reactor, settings.prefix, settings.adapters)
        self._ldap: LdapPhonebook | None = None

    def open(self, tls: Any) -> list[IListeningPort]:
        """Listen; ``tls`` makes TLS of an LDAP connection, if that is configured. Raises ``CannotListenError``."""
        ports: list[IListeningPort] = []
        ldap, xml = self._settings.ldap, self._settings.xml
        if ldap is not None:
            door = Door(ldap.base, ldap.allow, ldap.bind_dn, ldap.password, ldap.anonymous, ldap.limit)
            self._ldap = LdapPhonebook(self._book, door, self._reactor)
            where = {"port": ldap.listen.port, "factory": self._ldap, "interface": ldap.listen.host}
            if ldap.tls is None:
                ports.append(self._reactor.listenTCP(**where))
            else:
                ports.append(self._reactor.listenSSL(**where, contextFactory=tls))
        if xml is not None:
            site = phonebook_site(self._book, Gate(self._settings.title, xml.allow, xml.token), self._reactor)
            ports.append(self._reactor.listenTCP(xml.listen.port, site, interface=xml.listen.host))
        return ports

    def close(self) -> None:
        """Hang up on the phones that keep their connection; the ports are closed by who opened them."""
        if self._ldap is not None:
            self._ldap.close()
