"""`cti asterisk-conf`: what belongs into an Asterisk's files for Cordboard, filled in from the configuration.

The manager's user comes from the shipped manager.conf, what the dialplan needs out of the shipped dialplan, so that
each is written down once.
"""

import ipaddress
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from cti import __version__
from cti.asterisk.needs import ACTIONS, CALL_CONTROL, read_dialplan
from cti.calls.services import Services
from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading
from cti.commands.people import phones_of
from cti.commands.shipped import DIALPLAN, MANAGER, shipped, text_of
from cti.settings import Asterisk, Settings, Tls, is_here

_NOT_A_HEADING: Final = re.compile(r"[\[\]();,]")
_KEYS: Final = "/etc/asterisk/keys/asterisk.pem"


def print_asterisk_conf(arguments: Namespace) -> int:
    settings = configuration(arguments)
    asterisk = _the_asterisk(settings, arguments.pbx)
    with reading(settings) as reader:
        phones = phones_of(reader, settings)
    parts: Mapping[str, Callable[[], Iterator[str]]] = {
        "manager": lambda: _manager(asterisk, settings, arguments.with_secret),
        "extensions": lambda: _extensions(asterisk, settings),
        "pjsip": lambda: _pjsip(phones),
        "modules": lambda: _modules(settings),
    }
    wanted = list(parts) if arguments.part == "all" else [arguments.part]
    print(f"; Cordboard {__version__}, for the Asterisk {asterisk.name} of {settings.path}")
    for part in wanted:
        print(f"\n; ======== {part}.conf ========")
        print("\n".join(parts[part]()))
    return 0


def _the_asterisk(settings: Settings, name: str | None) -> Asterisk:
    known = ", ".join(settings.asterisks)
    if name is None and len(settings.asterisks) > 1:
        raise WrongUse(f"for which Asterisk? Say --pbx NAME; known are {known}")
    if name is not None and name not in settings.asterisks:
        raise WrongUse(f"no Asterisk is called {name!r}; known are {known}")
    return settings.asterisks[name] if name is not None else next(iter(settings.asterisks.values()))


def _manager(asterisk: Asterisk, settings: Settings, with_secret: bool) -> Iterator[str]:
    """The shipped file, with what the configuration says in place of its examples."""
    if _NOT_A_HEADING.search(asterisk.username):
        raise CommandFailed(f"asterisks.{asterisk.name}.username cannot be a heading of manager.conf")
    tls = asterisk.tls
    fill: Mapping[str, Callable[[], Iterator[str]]] = {
        "[cti]": lambda: iter([f"[{asterisk.username}]"]),
        "bindaddr": lambda: (
            _bound_to(asterisk, "bindaddr") if tls is None else iter(["bindaddr = 127.0.0.1"])
        ),
        "port": lambda: iter([f"port = {asterisk.ami.port}"]) if tls is None else _tls_port(asterisk, tls),
        "secret": lambda: _secret(asterisk, with_secret),
        "permit": lambda: _permit(asterisk, settings),
    }
    for line in text_of(MANAGER).splitlines():
        filled = fill.get(line.partition("=")[0].strip())
        yield from [line] if filled is None else filled()


def _bound_to(asterisk: Asterisk, key: str, suffix: str = "") -> Iterator[str]:
    host = asterisk.ami.host
    try:
        address = ipaddress.ip_address(host)
        yield f"{key} = {f'[{address}]' if address.version == 6 and suffix else address}{suffix}"
    except ValueError:
        local = is_here(host)
        if not local:
            yield f"; Better the one address of {host} on which Cordboard comes in."
        yield f"{key} = {'127.0.0.1' if local else '0.0.0.0'}{suffix}"


def _tls_port(asterisk: Asterisk, tls: Tls) -> Iterator[str]:
    yield "port = 5038"
    yield "; Encrypted, as the configuration says. Cordboard accepts a certificate only if it is signed by whom it"
    yield f"; trusts, and has {tls.name} as a subjectAltName."
    yield "tlsenable = yes"
    yield from _bound_to(asterisk, "tlsbindaddr", f":{asterisk.ami.port}")
    yield f"tlscertfile = {_KEYS}"
    yield f"tlsprivatekey = {_KEYS}"


def _secret(asterisk: Asterisk, with_secret: bool) -> Iterator[str]:
    if not with_secret:
        yield f"; The same as asterisks.{asterisk.name}.secret, which --with-secret writes here."
        yield ";secret ="
        return
    secret = asterisk.secret.reveal()
    if secret != secret.strip():
        raise CommandFailed(
            f"asterisks.{asterisk.name}.secret begins or ends with a blank, which Asterisk would cut off"
        )
    # Asterisk takes what follows a semicolon for a comment.
    yield "secret = " + secret.replace(";", "\\;")


def _permit(asterisk: Asterisk, settings: Settings) -> Iterator[str]:
    ours = ipaddress.ip_address(settings.fastagi.listen.host)
    if is_here(asterisk.ami.host):
        yield "permit = 127.0.0.1/255.255.255.255"
    elif ours.is_loopback or ours.is_unspecified:
        yield "; The address from which Cordboard comes; until it is here, nobody is let in."
        yield ";permit = ADDRESS/255.255.255.255"
    else:
        yield f"permit = {ours}/{ours.max_prefixlen}"


def _extensions(asterisk: Asterisk, settings: Settings) -> Iterator[str]:
    services = settings.services.values()
    yield "; Into your own [globals], if you have one: Asterisk reads only the first."
    yield "[globals]"
    yield from _server(asterisk, settings)
    yield "; What Cordboard calls this Asterisk; a call in another name only ever gets its fallback."
    yield f"CTI_PBX = {asterisk.name}"
    yield "; Who takes a call when nothing better is known, such as before Cordboard has ever run; must exist."
    yield f"CTI_FALLBACK = {Counter(service.fallback for service in services).most_common(1)[0][0]}"
    yield from _way_out(settings)
    yield ""
    yield f"; A copy of {shipped(DIALPLAN)}, beside this file. Changes belong into your own contexts, not into it."
    yield '#include "cti.conf"'
    yield ""
    yield "; The context of your trunk, by its own name. A number is there in every form in which trunks send it;"
    yield "; where a line's calls arrive at `s`, set CTI_DID to the number and go on to cti-inbound,s,1."
    yield "[from-trunk]"
    for service in services:
        yield f"; {service.name}, in mode {service.mode}; falls back to {service.fallback}"
        for form in Services([service], settings.plan).fallbacks:
            yield f"exten => {form},1,Goto(cti-inbound,${{EXTEN}},1)"
    yield ""
    yield "; The context of your phones, by its own name, behind your emergency numbers, once CTI_OUTBOUND is set."
    yield "[from-phones]"
    yield ";exten => _[0-9+]!,1,Goto(cti-outbound,${FILTER(0-9+,${EXTEN})},1)"


def _way_out(settings: Settings) -> Iterator[str]:
    yield "; Your context that dials out, and to colleagues. Until it is set, calls that are made at phones do not"
    yield "; pass Cordboard, and call control can call no number. Numbers come to it as they were dialled, and from"
    yield "; call control as +49…, so it needs a pattern such as _+X. for these."
    yield ";CTI_OUTBOUND = YOUR-WAY-OUT"
    if (office := settings.call_control.office_number) is not None:
        yield "; What an agent's mobile shows as the caller's number (call_control.office_number)."
        yield f"CTI_OFFICE_NUMBER = {office}"


def _server(asterisk: Asterisk, settings: Settings) -> Iterator[str]:
    listen = settings.fastagi.listen
    address = ipaddress.ip_address(listen.host)
    host = f"[{address}]" if address.version == 6 else str(address)
    yield "; Where Asterisk asks Cordboard (fastagi.listen)."
    if address.is_unspecified:
        yield f";CTI_SERVER = ADDRESS-OF-CORDBOARD:{listen.port}"
        return
    if address.is_loopback and not is_here(asterisk.ami.host):
        yield "; Attention: Cordboard listens on its own machine only; fastagi.listen on an address that this"
        yield "; Asterisk reaches, and fastagi.allow with this Asterisk's, would be right."
    yield f"CTI_SERVER = {host}:{listen.port}"


def _pjsip(phones: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield "; Nothing here is Cordboard's own; these are what it relies on, as comments."
    yield ";"
    yield "; Your trunk: the caller's number, and whether it may be shown, out of the provider's P-Asserted-Identity."
    yield ";[YOUR-TRUNK]"
    yield ";type = endpoint"
    yield ";context = from-trunk"
    yield ";trust_id_inbound = yes"
    yield ";"
    yield "; Each agent's phone, an endpoint of this name. Without `qualify_frequency` in its aor, a phone with a"
    yield "; static contact counts as reachable even when it is not."
    for agent, theirs in phones.items():
        for phone in theirs:
            technology, _, name = phone.partition("/")
            if technology == "PJSIP" and "@" not in name:
                yield f";[{name}] of {agent}: type = endpoint"


def _modules(settings: Settings) -> Iterator[str]:
    voicemail = any(service.has_mailbox for service in settings.services.values())
    yield "; With `autoload = yes` these come by themselves; take care that none is in a `noload`."
    yield "[modules]"
    for module, names in read_dialplan(text_of(DIALPLAN)).modules_for(voicemail=voicemail).items():
        yield f"; dialplan: {', '.join(names)}"
        yield f"load = {module}.so"
    actions: dict[str, list[str]] = {}
    for action, bringing in {**ACTIONS, **CALL_CONTROL}.items():
        if bringing is not None:
            actions.setdefault(bringing, []).append(action)
    for module, asked_for in actions.items():
        yield f"; manager: {', '.join(asked_for)}"
        yield f"load = {module}.so"
