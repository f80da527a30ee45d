"""The configuration file: the samples work, and whatever is wrong is named with its place, all at once."""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from adapters.base import PartyType
from adapters.directory import DirectoryOptions
from adapters.tryton import TrytonOptions
from cti import yaml_file
from cti.dialling import DEFAULT_CLASSES
from cti.event_types import EVENT_TYPES
from cti.identify.lists import NumberList
from cti.identify.options import Asking, CacheSettings, Live, Options, Order
from cti.journal_text import JournalText
from cti.links import LinkTemplate
from cti.secret import Secret
from cti.service import seeds
from cti.settings import (
    MASKABLE,
    PARTY_TYPES,
    Address,
    CallbackSettings,
    Desk,
    JournalSettings,
    PauseReason,
    Recordings,
    Retention,
    Settings,
    SettingsError,
    Tls,
    load_settings,
)
from cti.web.masking import NUMBER, PARTY_FIELDS
from routing.rules import (
    Announce,
    DialGroup,
    DialOwner,
    GoTo,
    Mode,
    Newcomers,
    QuickCreate,
    Reject,
    Rejection,
    ToVoicemail,
)
from tests.certificates import Authority

CONFIG = Path(__file__).parents[2] / "config"

MINIMAL = """\
region: DE
store: {sqlite: cti.db}
asterisks:
  main: {ami: "127.0.0.1:5038", username: cti, secret: s3cret}
adapters:
  directory: {kind: directory}
agents:
  anna: {phones: [PJSIP/anna], groups: [sales], crm: {directory: u1}}
services:
  sales:
    numbers: ["+494066969100"]
    mode: route
    fallback: old-context,s,1
    rules:
      - {name: rest, dial: {group: sales}}
"""


@frozen
class Limits:
    seconds: float
    retries: int = 3


@frozen
class OtherOptions:
    url: str
    limits: Limits | None = None
    folder: Path = Path("here")
    names: tuple[str, ...] = ()
    fast: bool = False


@frozen
class Key:
    token: Secret


@frozen
class LoginOptions:
    """What a CRM with passwords would have."""

    password: Secret
    second: Secret | None = None
    more: tuple[Key, ...] = ()


KINDS: Mapping[str, type[Any]] = {
    "directory": DirectoryOptions,
    "other": OtherOptions,
    "login": LoginOptions,
}


def load(
    tmp_path: Path, text: str | bytes, environ: Mapping[str, str] | None = None, **known: Any
) -> Settings:
    file = tmp_path / "cti.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(file, adapter_kinds=KINDS, environ=environ or {}, **known)


def problems(tmp_path: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    """The lines of the error, without the directory of the file."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, environ)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def changed(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new, 1)


def place_of(text: str, mark: str) -> tuple[str, str]:
    """The text without `mark`, and the LINE:COLUMN where it stood."""
    before = text.partition(mark)[0]
    line = before.count("\n") + 1
    column = len(before) - before.rfind("\n")
    return text.replace(mark, "", 1), f"{line}:{column}"


def test_the_small_sample_is_complete_and_right() -> None:
    settings = load_settings(CONFIG / "small.yaml", adapter_kinds=KINDS, environ={})
    assert settings.store.sqlite == CONFIG.absolute() / "cti.db"
    assert settings.fastagi.listen == Address("127.0.0.1", 4573)
    assert settings.http.listen == Address("127.0.0.1", 8470)
    assert settings.asterisks["main"].ami == Address("127.0.0.1", 5038)
    assert settings.agents["anna"].crm == {"directory": "u1"}
    service = settings.numbers["+494066969100"]
    assert service is settings.services["sales"]
    assert (service.mode, service.fallback) == (Mode.ROUTE, "old-context,s,1")
    assert [rule.target for rule in service.rules] == [DialOwner(), DialGroup("sales")]
    assert settings.webhooks["crm"].events == ("call.routed", "call.ended")


def test_the_sample_of_notifications_has_each_kind_of_them() -> None:
    environ = dict.fromkeys(("HOOK", "HOOK_OLD", "VTIGER", "CRM_PLUS"), "s3cret")
    settings = load_settings(CONFIG / "notify.yaml", adapter_kinds=KINDS, environ=environ)
    hook = settings.webhooks["warehouse"]
    assert len(hook.secrets) == 2
    assert (hook.wanted.services, hook.wanted.directions) == ({"sales"}, {"inbound"})
    assert hook.reach.refuses(ip_address("10.20.0.9")) is None
    assert hook.reach.refuses(ip_address("10.21.0.9")) == "private"
    vtiger = settings.notify["vtiger"]
    assert (vtiger.method, set(vtiger.headers), set(vtiger.addresses)) == (
        "POST",
        {"X-VTIGER-SECRET"},
        {"ringing", "connected", "ended", "missed"},
    )
    assert settings.notify["crm-plus"].prefix == "0"
    assert settings.agents["anna"].crm == {"vtiger": "201"}
    assert settings.outbox.give_up_hours == 72


def test_an_address_in_a_url_is_in_reach_of_it_and_what_a_name_leads_to_is_not(tmp_path: Path) -> None:
    hook = "webhooks: {{crm: {{url: 'http://{}:9000/', secret: s, events: [call.ended]}}}}\n"
    for host, reached in (("127.0.0.1", True), ("[::1]", True), ("localhost", False)):
        settings = load(tmp_path, MINIMAL + hook.format(host))
        address = ip_address("::1" if host == "[::1]" else "127.0.0.1")
        assert (settings.webhooks["crm"].reach.refuses(address) is None) is reached


def test_the_sample_for_the_trial_weeks_steers_nothing() -> None:
    settings = load_settings(CONFIG / "observe.yaml", adapter_kinds=KINDS, environ={})
    assert {service.mode for service in settings.services.values()} == {Mode.OBSERVE}
    assert set(settings.numbers) == {"+494066969100", "+494066969101", "+494066969110", "500"}


def test_the_sample_beyond_ringing_has_every_way_that_a_rule_may_go() -> None:
    settings = load_settings(CONFIG / "beyond.yaml", adapter_kinds=KINDS, environ={})
    targets = [rule.target for service in settings.services.values() for rule in service.rules]
    assert {type(target) for target in targets} == {Announce, DialGroup, DialOwner, GoTo, Reject, ToVoicemail}
    assert [name for name, service in settings.services.items() if service.has_mailbox] == ["sales"]
    assert settings.agents["boris"].phones == ("PJSIP/boris", "PJSIP/+4915228895456@trunk")


def test_the_sample_of_a_journal_says_what_people_read_in_the_company_s_language() -> None:
    kinds = {**KINDS, "tryton": TrytonOptions}
    secrets = {"AMI_SECRET": "s", "TRYTON_PASSWORD": "t"}
    settings = load_settings(CONFIG / "journal.yaml", adapter_kinds=kinds, environ=secrets)
    journal = settings.adapters["tryton"].journal
    assert journal is not None
    assert (settings.language, journal.services, journal.lost_seconds) == ("de", {"sales"}, 10)
    assert "+4940669690" + "17" in journal.without
    assert "internal" not in journal.directions


def test_each_sample_is_tested() -> None:
    assert {file.name for file in CONFIG.glob("*.yaml")} == {
        *("small.yaml", "observe.yaml", "beyond.yaml", "journal.yaml"),
        "odoo.yaml",  # tests/crm/test_odoo.py
        "notify.yaml",
        "presets.yaml",
        # tests/crm/test_sql_*.py
        "sql-wice.yaml",
        "sql-vtiger.yaml",
        "sql-suitecrm.yaml",
    }


def test_the_company_s_language_is_one_that_there_are_words_of(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).language == "en"
    assert load(tmp_path, f"{MINIMAL}\nlanguage: de\n").language == "de"
    (problem,) = problems(tmp_path, f"{MINIMAL}\nlanguage: fr\n")
    assert "language: " in problem
    assert "de, en" in problem


CHOSEN = JournalSettings(services=frozenset({"sales"}), unknown=True, blocked=True)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", JournalSettings()),
        (", journal: true", JournalSettings()),
        (", journal: false", None),
        (
            ", journal: {directions: [inbound, internal]}",
            JournalSettings(directions=frozenset({"inbound", "internal"})),
        ),
        (", journal: {services: [sales], unknown: true, blocked: true}", CHOSEN),
        (
            ', journal: {without: ["+49900*"], lost_seconds: 60}',
            JournalSettings(without=NumberList(["+49900*"]), lost_seconds=60),
        ),
        (
            ', journal: {subject: "{call} ({agent})", text: "{about}\\n{notes}", language: de}',
            JournalSettings(
                subject=JournalText("{call} ({agent})"),
                text=JournalText("{about}\n{notes}"),
                language="de",
            ),
        ),
    ],
)
def test_a_crm_is_told_of_calls_unless_it_is_said_otherwise(
    tmp_path: Path, written: str, read: JournalSettings | None
) -> None:
    text = changed("{kind: directory}", f"{{kind: directory{written}}}")
    assert load(tmp_path, text).adapters["directory"].journal == read


@pytest.mark.parametrize(
    ("written", "where", "right"),
    [
        ('subject: ^"{caller}"', "journal.subject", "did you mean"),
        ('text: ^"{call"', "journal.text", "{call} would be right"),
        ('subject: ^"two\\nlines"', "journal.subject", "control characters"),
        ("services: [sales, ^nobody]", "journal.services[1]", "unknown service"),
        ("directions: [^inward]", "journal.directions[0]", "inbound"),
        ('without: [^"+49*"]', "journal.without[0]", "a whole country"),
        ("language: ^xx", "journal.language", "de, en"),
    ],
)
def test_what_is_wrong_with_a_journal_is_said_where_it_stands(
    tmp_path: Path, written: str, where: str, right: str
) -> None:
    text, place = place_of(changed("{kind: directory}", f"{{kind: directory, journal: {{{written}}}}}"), "^")
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"cti.yaml:{place}: adapters.directory.{where}: ")
    assert right in problem


def test_a_journal_is_told_how_or_whether(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, changed("{kind: directory}", "{kind: directory, journal: 5}"))
    assert "`true`, `false` or {subject: TEXT} would be right" in problem


def test_what_is_left_out_has_the_contract_s_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.fastagi.listen == Address("127.0.0.1", 4573)
    assert settings.fastagi.max_in_flight == 256
    assert settings.fastagi.allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.http.listen == Address("127.0.0.1", 8470)
    assert (settings.identify.budget_ms, settings.answer_ms) == (800, 1500)
    assert (settings.agents["anna"].name, settings.agents["anna"].state) == ("anna", "logged_out")
    assert settings.services["sales"].ring_timeout == 20
    assert settings.log.level == "info"
    assert settings.base == tmp_path


def test_what_costs_or_listens_is_off_or_narrow_until_it_is_configured(tmp_path: Path) -> None:
    control = load(tmp_path, MINIMAL).call_control
    assert (control.dialling.countries, control.dialling.classes) == (("DE",), DEFAULT_CLASSES)
    assert (control.supervise, control.record, control.own_recordings) == (frozenset(), False, False)
    assert (control.auto_answer, control.ring_seconds, control.calls_per_minute) == (False, 30, 10)


def test_our_own_numbers_are_those_of_the_services_and_of_the_office(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL + 'call_control: {office_number: "0221 4710 100"}\n')
    public = {number for number in settings.numbers if number.startswith("+")}
    assert settings.own_numbers == public | {"+492214710100"}
    assert public


def test_call_control_is_configured_value_by_value(tmp_path: Path) -> None:
    more = """
call_control:
  countries: [DE, AT]
  classes: [fixed_line]
  office_number: "040 66969 100"
  auto_answer: true
  supervise: [listen, barge]
  supervise_announcement: custom/quality
  record: true
"""
    file = changed(
        "s3cret}", 's3cret, recordings: {url: "https://pbx.example/r/"}, capable_phones: [PJSIP/anna]}'
    )
    settings = load(tmp_path, file + more)
    control = settings.call_control
    assert (control.dialling.countries, control.dialling.classes) == (("DE", "AT"), ("fixed_line",))
    assert (control.office_number, control.auto_answer) == ("+494066969100", True)
    assert (control.supervise, control.supervise_announcement) == ({"listen", "barge"}, "custom/quality")
    main = settings.asterisks["main"]
    assert main.capable_phones == {"PJSIP/anna"}
    assert main.recordings == Recordings(url="https://pbx.example/r")
    there = load(tmp_path, changed("s3cret}", "s3cret, recordings: {directory: spool}}"))
    assert there.asterisks["main"].recordings == Recordings(directory=tmp_path / "spool")


def test_numbers_are_normalised_to_the_region(tmp_path: Path) -> None:
    settings = load(tmp_path, changed('["+494066969100"]', '["040 / 66 969 100", "0049 40 66969101", "500"]'))
    assert settings.services["sales"].numbers == ("+494066969100", "+494066969101", "500")


@pytest.mark.parametrize(
    ("when", "holidays", "advised"),
    [
        ("{hours: closed}", True, True),
        ("{hours: closed}", False, False),
        ("{hours: {in: [closed, holiday]}}", True, False),
        ("{hours: {not: open}}", True, False),
        ("{hours: open}", True, False),
        ("{party: present}", True, False),
    ],
)
def test_who_is_closed_on_other_days_is_asked_about_holidays(
    tmp_path: Path, when: str, holidays: bool, advised: bool
) -> None:
    days = ", holidays: {country: DE, region: HE}" if holidays else ""
    hours = f'hours: {{office: {{time_zone: Europe/Berlin, week: {{mon-fri: "08:00-18:00"}}{days}}}}}\n'
    rules = f"rules:\n      - {{name: night, when: {when}, voicemail: '17'}}"
    text = changed("rules:", f"hours: office\n    {rules}").replace("^", "")
    told = [str(each) for each in load(tmp_path, hours + text).advice]
    assert ["advice: takes no calls on holidays" in each for each in told] == [True] * advised
    both = text.replace(
        "rules:\n", "rules:\n      - {name: feast, when: {holiday: present}, voicemail: '18'}\n", 1
    )
    assert load(tmp_path, hours + both).advice == ()


def test_the_phones_of_desks_are_named_one_by_one_or_by_how_they_begin(tmp_path: Path) -> None:
    assert "PJSIP/desk-7" not in load(tmp_path, MINIMAL).desks
    desks = load(tmp_path, MINIMAL + "desks: [PJSIP/desk-7, PJSIP/b-*]\n").desks
    assert [f"PJSIP/{phone}" in desks for phone in ("desk-7", "b-1", "desk-71", "b")] == [
        True,
        True,
        False,
        False,
    ]


def test_agents_are_set_aside_after_one_offer_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).set_aside_after.of("sales") == 1
    settings = load(tmp_path, MINIMAL.replace("    mode: route", "    mode: route\n    set_aside_after: 3"))
    assert (settings.set_aside_after.of("sales"), settings.set_aside_after.of("other")) == (3, 1)
    settings = load(tmp_path, MINIMAL + "set_aside_after: 0\n")
    assert (settings.set_aside_after.of("sales"), settings.set_aside_after.of(None)) == (0, 0)


def test_reasons_to_pause_have_titles_and_a_time_and_are_what_the_desktop_offers(tmp_path: Path) -> None:
    more = "pauses: {lunch: {title: {de: Mittag, en: Lunch}, minutes: 45}, tea: {title: Tea}, training: {}}\n"
    desk = load(tmp_path, MINIMAL + more).desk
    assert desk.pauses == {
        "lunch": PauseReason({"de": "Mittag", "en": "Lunch"}, 45),
        "tea": PauseReason({"": "Tea"}),
        "training": PauseReason(),
    }
    assert desk.pause_reasons == ("lunch", "tea", "training")


def test_an_agent_has_skills_with_levels(tmp_path: Path) -> None:
    settings = load(tmp_path, changed("crm: {directory: u1}", "skills: {german: 5, billing: 3}"))
    assert settings.agents["anna"].skills == {"german": 5, "billing": 3}
    assert [record.skills for record in seeds(settings, 0.0)] == [{"german": 5, "billing": 3}]


def test_rules_may_name_whom_only_the_store_knows(tmp_path: Path) -> None:
    text = changed("{group: sales}", "{group: night}").replace("rest,", "rest, when: {party.owner: zoe},")
    settings = load(tmp_path, text, known_agents={"zoe"}, known_groups={"night"})
    assert settings.services["sales"].rules[0].target == DialGroup("night")


def test_listening_beyond_loopback_is_possible_when_it_is_said_how_it_is_guarded(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        MINIMAL
        + 'fastagi: {listen: "[::]:4573", allow: ["192.0.2.0/24", "2001:db8::1"]}\n'
        + 'http: {listen: "0.0.0.0:80", behind_proxy: true, metrics_allow: ["192.0.2.7"]}\n',
    )
    assert settings.fastagi.listen == Address("::", 4573)
    assert settings.fastagi.allow == (ip_network("192.0.2.0/24"), ip_network("2001:db8::1/128"))
    assert settings.http.behind_proxy
    assert settings.http.metrics_allow == (ip_network("192.0.2.7/32"),)


def test_options_of_an_adapter_become_what_its_kind_declares(tmp_path: Path) -> None:
    options = '{kind: other, url: "http://crm", limits: {seconds: 2}, folder: data, names: [a, b], fast: yes}'
    settings = load(tmp_path, changed("{kind: directory}", options))
    assert settings.adapters["directory"].options == OtherOptions(
        "http://crm", Limits(2.0), tmp_path / "data", ("a", "b"), True
    )


@pytest.mark.parametrize("source", ["{env: AMI_SECRET}", "{file: ami.secret}", '"pass word"'])
def test_a_secret_comes_from_the_environment_a_file_or_the_text_and_is_never_shown(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "ami.secret").write_text("pass word\n")
    settings = load(tmp_path, changed("s3cret", source), {"AMI_SECRET": "pass word"})
    assert settings.asterisks["main"].secret.reveal() == "pass word"
    assert settings.asterisks["main"].secret == Secret("pass word")
    assert "pass word" not in f"{settings!r} {settings!s} {settings.asterisks['main'].secret}"


def test_options_of_an_adapter_may_be_secrets_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "crm.token").write_text("from a file\n")
    options = "{kind: login, password: {env: CRM}, second: literal, more: [{token: {file: crm.token}}]}"
    settings = load(tmp_path, changed("{kind: directory}", options), {"CRM": "from outside"})
    read = settings.adapters["directory"].options
    assert read == LoginOptions(Secret("from outside"), Secret("literal"), (Key(Secret("from a file")),))
    assert "from" not in repr(read)


@pytest.mark.parametrize("source", ["0777777", "777777", "7_777.7", "[777777]", "2026-07-07 07:07:07"])
def test_a_password_that_yaml_takes_for_something_else_is_refused_without_saying_it(
    tmp_path: Path, source: str
) -> None:
    login = changed("{kind: directory}", f"{{kind: login, password: {source}}}")
    for text in (login, changed("s3cret", source)):
        (line,) = problems(tmp_path, text)
        assert source.strip("[]") not in line
        assert "quotes" in line


def test_options_of_an_adapter_are_not_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, changed("{kind: directory}", '{kind: other, url: "http://hidden"}'))
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://cti.example", "https://cti.example"),
        ("https://cti.example/", "https://cti.example"),
        ("http://[::1]:8470/desk/", "http://[::1]:8470/desk"),
    ],
)
def test_the_address_for_browsers_is_known_without_a_slash_at_the_end(
    tmp_path: Path, written: str, read: str
) -> None:
    assert load(tmp_path, MINIMAL + f'http: {{url: "{written}"}}\n').http.url == read
    assert load(tmp_path, MINIMAL).http.url is None


@pytest.mark.parametrize(
    ("written", "name", "trusts"),
    [
        ("true", "pbx.example", False),
        ("{ca: ca.pem}", "pbx.example", True),
        ("{name: other.example}", "other.example", False),
    ],
)
def test_tls_to_asterisk_says_whom_to_believe(tmp_path: Path, written: str, name: str, trusts: bool) -> None:
    pem = Authority().pem.encode()
    (tmp_path / "ca.pem").write_bytes(pem)
    text = changed("127.0.0.1:5038", "pbx.example:5039")
    asterisk = load(
        tmp_path, text.replace("secret: s3cret", f"secret: s3cret, login: plain, tls: {written}")
    ).asterisks["main"]
    assert asterisk.tls == Tls(name, pem if trusts else None)
    assert asterisk.login == "plain"


def test_tls_may_be_switched_off_and_plain_stays_on_this_machine(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        text = changed("127.0.0.1:5038", f"{host}:5038")
        settings = load(tmp_path, text.replace("secret: s3cret", "secret: s3cret, login: plain, tls: false"))
        assert settings.asterisks["main"].tls is None
        assert settings.advice == ()


@pytest.mark.parametrize(("more", "advised"), [("", 1), (", tls: true", 0)])
def test_what_travels_unencrypted_is_advised_against_and_not_refused(
    tmp_path: Path, more: str, advised: int
) -> None:
    text = changed("127.0.0.1:5038", "pbx.example:5038").replace("secret: s3cret", f"secret: s3cret{more}")
    settings = load(tmp_path, text)
    assert ["tls: true" in each.text for each in settings.advice] == [True] * advised


def test_without_libyaml_a_file_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MINIMAL + "webhooks:\n  a: &a {url: 'http://x', secret: s, events: [call.ended]}\n  b: *a\n"
    with_c = load(tmp_path, text)
    monkeypatch.setattr(yaml_file, "_PARSER", yaml.SafeLoader)
    # Two plans are never equal.
    assert evolve(load(tmp_path, text), plan=with_c.plan) == with_c


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "{a: ", "[a: ", "!!seq ["])
def test_endless_nesting_is_refused_at_once(tmp_path: Path, opening: str) -> None:
    began = process_time()
    (line,) = problems(tmp_path, opening * (900_000 // len(opening)))
    assert "nested deeper than 50" in line
    assert process_time() - began < 2


# The file with a mark where the error is, the path in the error, a part of its text.
WRONG: list[tuple[str, str, str]] = [
    (changed("region: DE", "region: ^XX"), "region", "is no region"),
    (changed("region: DE", "region: ^NO"), "region", 'in quotes: "NO"'),
    (changed("region: DE\n", "").replace("store", "^store"), "region", "is missing; `region: DE`"),
    (MINIMAL + "^colour: red\n", "colour", 'unknown key "colour"'),
    (MINIMAL + "^web_hooks: {}\n", "web_hooks", 'did you mean "webhooks"?'),
    (
        changed("{sqlite: cti.db}", '{postgresql: ^"cti.db"}'),
        "store.postgresql",
        "is no address of a database",
    ),
    (
        changed("{sqlite: cti.db}", "{sqlite: ^cti.db, postgresql: 'postgresql://x/y'}"),
        "store.sqlite",
        "one of two",
    ),
    (changed("{sqlite: cti.db}", "^cti.db"), "store", "is a text; a mapping with sqlite, postgresql"),
    (changed("{sqlite: cti.db}", "{sqlite: ^5}"), "store.sqlite", 'in quotes: "5"'),
    (changed("{sqlite: cti.db}", "^{}"), "store.sqlite", "is missing"),
    (MINIMAL + "fastagi: {max_in_flight: ^50.9}\n", "fastagi.max_in_flight", "is not a whole number"),
    (MINIMAL + "fastagi: {max_in_flight: ^true}\n", "fastagi.max_in_flight", "is not a whole number"),
    (MINIMAL + "fastagi: {max_in_flight: ^1:30}\n", "fastagi.max_in_flight", "is not a whole number"),
    (MINIMAL + "fastagi: {max_in_flight: ^0}\n", "fastagi.max_in_flight", "1 to 10000 would be right"),
    (MINIMAL + "fastagi: {max_in_flight: ^}\n", "fastagi.max_in_flight", "is not a whole number"),
    (MINIMAL + 'fastagi: {listen: ^"127.0.0.1:65536"}\n', "fastagi.listen", "1 to 65535"),
    (MINIMAL + 'fastagi: {listen: ^"127.0.0.1:0"}\n', "fastagi.listen", "1 to 65535"),
    (MINIMAL + "fastagi: {listen: ^4573}\n", "fastagi.listen", 'in quotes: "4573"'),
    (MINIMAL + 'fastagi: {listen: ^"pbx.example:4573"}\n', "fastagi.listen", "the address to listen on"),
    (MINIMAL + 'fastagi: {listen: ^"0.0.0.0:4573"}\n', "fastagi.listen", "allow"),
    (MINIMAL + 'fastagi: {listen: ^"::1:4573"}\n', "fastagi.listen", "is not HOST:PORT"),
    (MINIMAL + 'fastagi: {allow: [^"10.0.0.1/8"]}\n', "fastagi.allow[0]", '"10.0.0.0/8" would be right'),
    (MINIMAL + 'fastagi: {allow: ^"10.0.0.0/8"}\n', "fastagi.allow", "a list would be right"),
    (MINIMAL + 'http: {listen: ^"0.0.0.0:8470"}\n', "http.listen", "behind_proxy: true"),
    (MINIMAL + 'http: {listen: ^"0.0.0.0:8470", behind_proxy: false}\n', "http.listen", "behind_proxy: true"),
    (MINIMAL + "http: {behind_proxy: ^1}\n", "http.behind_proxy", "`true` or `false`"),
    (MINIMAL + 'http: {listen: ^"0.0.0.0:8470"}\n', "http.listen", "`tls: {certificate: FILE, key: FILE}`"),
    (MINIMAL + "http: {tls: ^cert.pem}\n", "http.tls", "a mapping with certificate, key would be right"),
    (MINIMAL + "http: {tls: {certificate: ^gone.pem, key: k}}\n", "http.tls.certificate", "cannot be read"),
    (MINIMAL + "http: {tls: ^{certificate: cert.pem}}\n", "http.tls.key", "is missing"),
    (MINIMAL + "http: {session: {idle_hours: ^0}}\n", "http.session.idle_hours", "1 to 168"),
    (MINIMAL + "http: {session: {days: ^31}}\n", "http.session.days", "1 to 30"),
    (MINIMAL + "http: {masking: {agent: [^tire]}}\n", "http.masking.agent[0]", 'unknown field "tire"'),
    (MINIMAL + "http: {masking: {owner: ^[tier]}}\n", "http.masking.owner", 'unknown role "owner"'),
    (MINIMAL + 'links: [{title: ERP, url: ^"https://{party.id}/"}]\n', "links[0].url", "a fixed host"),
    (
        MINIMAL + 'links: [{title: ERP, url: ^"https://e.example/{shoe}"}]\n',
        "links[0].url",
        "known are number,",
    ),
    (MINIMAL + 'links: [^{url: "https://e.example/"}]\n', "links[0].title", "is missing"),
    (
        MINIMAL + 'links: [{title: ERP, url: "https://e.example/", adapter: ^gone}]\n',
        "links[0].adapter",
        'unknown adapter "gone"',
    ),
    (
        MINIMAL + 'links: [{title: ERP, url: "https://e.example/", type: ^martian}]\n',
        "links[0].type",
        'unknown type of party "martian"',
    ),
    (MINIMAL + "sensitive_keys: ^card\n", "sensitive_keys", "[card]"),
    (MINIMAL + 'http: ^{listen: "127.0.0.1:4573"}\n', "http", "another port would be right"),
    (changed('{ami: "127.0.0.1:5038"', "{ami: ^localhost"), "asterisks.main.ami", "is not HOST:PORT"),
    (changed("{ami:", "^{amy:"), "asterisks.main.ami", "is missing"),
    (
        changed("main: {", "^ma in: {").replace("^ma in: {", "ma in: ^{"),
        "asterisks.ma in",
        "cannot be a name",
    ),
    (changed("secret: s3cret", "secret: s3cret, tls: ^7"), "asterisks.main.tls", "{ca: FILE, name: HOST}"),
    (
        changed("secret: s3cret", "secret: s3cret, tls: {^cert: x}"),
        "asterisks.main.tls.cert",
        "known: ca, name",
    ),
    (
        changed("secret: s3cret", "secret: s3cret, tls: {ca: ^nowhere}"),
        "asterisks.main.tls.ca",
        "cannot be read",
    ),
    (
        changed("secret: s3cret", "secret: s3cret, tls: {ca: ^cti.yaml}"),
        "asterisks.main.tls.ca",
        "no certificate",
    ),
    (
        changed("secret: s3cret", 'secret: s3cret, tls: {name: ^"a b"}'),
        "asterisks.main.tls.name",
        "is no host",
    ),
    (changed("secret: s3cret", "secret: s3cret, login: ^clear"), "asterisks.main.login", "md5"),
    (
        changed("127.0.0.1:5038", "192.0.2.20:5038").replace(
            "secret: s3cret", "secret: s3cret, login: ^plain"
        ),
        "asterisks.main.login",
        "unencrypted; `md5`, or `tls`",
    ),
    (changed("s3cret", "{env: ^NOWHERE}"), "asterisks.main.secret.env", "no variable"),
    (changed("s3cret", "{file: ^nowhere}"), "asterisks.main.secret.file", "cannot be read"),
    (changed("s3cret", "^{}"), "asterisks.main.secret", "`{env: NAME}`"),
    (changed("s3cret", "^{env: A, file: B}"), "asterisks.main.secret", "`{env: NAME}`"),
    (changed("s3cret", "{^vault: A}"), "asterisks.main.secret.vault", "known: env, file"),
    (changed("s3cret", '^"a\\nAction: Originate"'), "asterisks.main.secret", "control characters"),
    (
        changed("{kind: directory}", "{kind: ^directry}"),
        "adapters.directory.kind",
        'did you mean "directory"?',
    ),
    (
        changed("{kind: directory}", "{kind: directory, ^pth: x}"),
        "adapters.directory.pth",
        'did you mean "path"?',
    ),
    (
        changed("{kind: directory}", "{kind: directory, path: ^7}"),
        "adapters.directory.path",
        "a text, in quotes",
    ),
    (changed("{kind: directory}", "^{kind: other}"), "adapters.directory.url", "is missing"),
    (
        changed("{kind: directory}", "{kind: login, password: {env: ^NOWHERE}}"),
        "adapters.directory.password.env",
        "no variable",
    ),
    (
        changed("{kind: directory}", "{kind: login, password: {^vault: x}}"),
        "adapters.directory.password.vault",
        "known: env, file",
    ),
    (
        changed("{kind: directory}", "{kind: login, password: a, more: [{token: b}, {token: ^[c]}]}"),
        "adapters.directory.more[1].token",
        "the secret itself in quotes",
    ),
    (
        changed("{kind: directory}", "{kind: other, url: x, limits: {seconds: 1, retries: ^50.9}}"),
        "adapters.directory.limits.retries",
        "a whole number would be right",
    ),
    (
        changed("{kind: directory}", "{kind: other, url: x, limits: {seconds: ^yes}}"),
        "adapters.directory.limits.seconds",
        "a number would be right",
    ),
    (
        changed("{kind: directory}", "{kind: other, url: x, names: [a, ^1]}"),
        "adapters.directory.names[1]",
        "a text, in quotes",
    ),
    (
        changed("{kind: directory}", "{kind: other, url: x, fast: ^1}"),
        "adapters.directory.fast",
        "`true` or `false`",
    ),
    (changed("PJSIP/anna", "^anna"), "agents.anna.phones[0]", "TECH/resource"),
    (changed("PJSIP/anna", '^"PJSIP/a&PJSIP/b"'), "agents.anna.phones[0]", "TECH/resource"),
    (changed("[sales]", '[sales, ^"a b"]'), "agents.anna.groups[1]", "is no group"),
    (
        changed("crm: {directory: u1}", "skills: {german: ^10}"),
        "agents.anna.skills.german",
        "10 is out of range; 1 to 9 would be right",
    ),
    (
        changed("crm: {directory: u1}", "skills: {german: ^fluent}"),
        "agents.anna.skills.german",
        '"fluent" is not a whole number; 1 to 9 would be right',
    ),
    (
        changed("crm: {directory: u1}", 'skills: {"a b": ^5}'),
        "agents.anna.skills.a b",
        "cannot be a name; a name of up to 64",
    ),
    (
        changed("crm: {directory: u1}", "skills: ^[german]"),
        "agents.anna.skills",
        "is a list; a mapping of names would be right",
    ),
    (MINIMAL + "pauses: ^{}\n", "pauses", "is empty; at least one would be right"),
    (
        MINIMAL + "pauses: {lunch: {minutes: ^0}}\n",
        "pauses.lunch.minutes",
        "0 is out of range; 1 to 1440 would be right",
    ),
    (
        MINIMAL + "pauses: {lunch: {title: {Deutsch: ^Mittag}}}\n",
        "pauses.lunch.title.Deutsch",
        "is no language",
    ),
    (MINIMAL + "pauses: {lunch: {title: ^{}}}\n", "pauses.lunch.title", "{de: Mittag, en: Lunch}"),
    (
        MINIMAL + "desk: {pause_reasons: ^[tea]}\npauses: {lunch: {}}\n",
        "desk.pause_reasons",
        "is said by `pauses` already",
    ),
    (
        MINIMAL + "desks: [PJSIP/desk-7, ^PJSIP/*]\n",
        "desks[1]",
        '"PJSIP/*" is no phone of a desk; PJSIP/desk-7',
    ),
    (MINIMAL + "desks: [^PJSIP/desk@trunk]\n", "desks[0]", "is no phone of a desk"),
    (
        MINIMAL + "desks: ^PJSIP/desk-*\n",
        "desks",
        "a list would be right, such as [PJSIP/desk-7, PJSIP/desk-b*]",
    ),
    (MINIMAL + "set_aside_after: ^-1\n", "set_aside_after", "-1 is out of range; 0 to 100 would be right"),
    (
        changed("mode: route", "mode: route\n    set_aside_after: ^often"),
        "services.sales.set_aside_after",
        "0 to 100 would be right",
    ),
    (changed("{directory: u1}", "{odoo: ^u1}"), "agents.anna.crm.odoo", "unknown adapter"),
    (
        changed("crm: {directory: u1}", "state: ^busy"),
        "agents.anna.state",
        "known: logged_out, paused, ready",
    ),
    (
        changed("services:", "  ben: {crm: {directory: ^u1}}\nservices:"),
        "agents.ben.crm.directory",
        "is the user of agent anna already",
    ),
    (
        changed("services:", "  ben: {phones: [PJSIP/ben, ^PJSIP/anna]}\nservices:"),
        "agents.ben.phones[1]",
        '"PJSIP/anna" is the phone of agent anna already',
    ),
    (changed("services:", "  ^anna: {}\nservices:"), "agents.anna", "is there twice; line 8"),
    (changed("mode: route", "mode: ^rout"), "services.sales.mode", 'did you mean "route"?'),
    (
        changed("mode: route", "mode: ^paralel"),
        "services.sales.mode",
        'unknown mode "paralel"; did you mean "parallel"?',
    ),
    (MINIMAL + "http: {url: ^cti.example}\n", "http.url", "is not a web address"),
    (MINIMAL + "http: {url: ^'ftp://cti.example'}\n", "http.url", "is not a web address"),
    (MINIMAL + "http: {url: ^'https://cti.example/?a=1'}\n", "http.url", "without a query"),
    (MINIMAL + "http: {url: ^'https://cti.example/#a'}\n", "http.url", "without a query"),
    (MINIMAL + "http: {url: ^'https://cti.example/${X}'}\n", "http.url", '"https://cti.example"'),
    (MINIMAL + "http: {url: ^'https://me:pw@cti.example'}\n", "http.url", "in every log"),
    (changed('["+494066969100"]', "^[]"), "services.sales.numbers", "is empty"),
    (
        changed('["+494066969100"]', "[^+494066969100]"),
        "services.sales.numbers[0]",
        'in quotes: "+494066969100"',
    ),
    (
        changed('["+494066969100"]', '["^sales"]').replace('"^sales"', '^"sales"'),
        "services.sales.numbers[0]",
        "is not a telephone number",
    ),
    (
        changed('["+494066969100"]', '["+494066969100", ^"040 66969100"]'),
        "services.sales.numbers[1]",
        "belongs to services.sales.numbers[0] (line 11) already",
    ),
    (
        MINIMAL + '  support: {numbers: [^"0049 40 66969100"], mode: route, fallback: "a,s,1"}\n',
        "services.support.numbers[0]",
        "belongs to services.sales.numbers[0] (line 11) already",
    ),
    (changed("old-context,s,1", "^old-context"), "services.sales.fallback", "is not `context,exten,prio`"),
    (changed("old-context,s,1", '^"a,s,1&x"'), "services.sales.fallback", "is not `context,exten,prio`"),
    (changed("old-context,s,1", '^"a,${X},1"'), "services.sales.fallback", "is not `context,exten,prio`"),
    (
        changed("{group: sales}", "{group: ^sale}"),
        "services.sales.rules[0].dial.group",
        'did you mean "sales"?',
    ),
    (
        changed("{group: sales}", "{agent: ^ana}"),
        "services.sales.rules[0].dial.agent",
        'did you mean "anna"?',
    ),
    (
        changed("name: rest,", "name: rest, when: {^party.colour: red},"),
        "services.sales.rules[0].when.party.colour",
        "unknown fact",
    ),
    (
        changed("name: rest,", "name: rest, when: {to: ^+494066969100},"),
        "services.sales.rules[0].when.to",
        "in quotes",
    ),
    (
        changed("name: rest,", "name: rest, when: {to: ^2026-01-01},"),
        "services.sales.rules[0].when.to",
        "is a date",
    ),
    (
        changed("name: rest,", "name: rest, timeout: ^20.5,"),
        "services.sales.rules[0].timeout",
        "whole seconds",
    ),
    (changed("name: rest,", "name: rest, timeout: ^,"), "services.sales.rules[0].timeout", "has no value"),
    (
        changed("name: rest,", "name: rest, timeout: ^010,"),
        "services.sales.rules[0].timeout",
        "unusual number",
    ),
    (changed("- {name: rest, dial", "- ^{dial"), "services.sales.rules[0]", "`name` is missing"),
    (
        MINIMAL + "webhooks: {crm: {url: ^'ftp://x', secret: s, events: [call.ended]}}\n",
        "webhooks.crm.url",
        "https://",
    ),
    (
        MINIMAL + "webhooks: {crm: {url: ^'http://me:pw@x/', secret: s, events: [call.ended]}}\n",
        "webhooks.crm.url",
        "in every log",
    ),
    (
        MINIMAL + "webhooks: {crm: {url: 'http://x', secret: s, events: [^call.end]}}\n",
        "webhooks.crm.events[0]",
        'did you mean "call.ended"?',
    ),
    (
        MINIMAL + "webhooks: {crm: {url: 'http://x', secret: s, events: ^[]}}\n",
        "webhooks.crm.events",
        "is empty",
    ),
    (
        MINIMAL + "webhooks: {crm: {url: 'http://x', secret: ^'whsec_!', events: [call.ended]}}\n",
        "webhooks.crm.secret",
        "goes on in base64",
    ),
    (
        MINIMAL + "webhooks: {crm: {url: 'http://x', secret: [a, b, c, d, e, ^f], events: [call.ended]}}\n",
        "webhooks.crm.secret[5]",
        "at most 5",
    ),
    (
        MINIMAL + "webhooks: {crm: {url: ^'http://169.254.169.254/', secret: s, events: [call.ended]}}\n",
        "webhooks.crm.url",
        "`allow: [169.254.169.254/32]` beside it would be right",
    ),
    (
        MINIMAL
        + "webhooks: {crm: {url: 'http://x', secret: s, events: [call.ended], allow: [^10.0.0.1/8]}}\n",
        "webhooks.crm.allow[0]",
        '"10.0.0.0/8"',
    ),
    (
        MINIMAL + "webhooks: {crm: {url: 'http://x', secret: s, events: [call.ended], services: [^sale]}}\n",
        "webhooks.crm.services[0]",
        'did you mean "sales"?',
    ),
    (
        MINIMAL + "webhooks: {crm: {url: 'http://x', secret: s, events: [call.ended], directions: [^in]}}\n",
        "webhooks.crm.directions[0]",
        "inbound",
    ),
    (
        MINIMAL + "webhooks: {crm: {url: ^'http://bücher.example/', secret: s, events: [call.ended]}}\n",
        "webhooks.crm.url",
        "is not a web address",
    ),
    (MINIMAL + "notify: {vtiger: ^{method: GET}}\n", "notify.vtiger", "has no address"),
    (
        MINIMAL + "notify: {directory: ^{ringing: 'https://x.example/'}}\n",
        "notify.directory",
        "an adapter already",
    ),
    (
        MINIMAL + "notify: {vtiger: {ringing: ^'https://x.example/?n={nummer}'}}\n",
        "notify.vtiger.ringing",
        "known are event, event_id, call_id",
    ),
    (
        MINIMAL + "notify: {vtiger: {ringing: ^'https://{agent}.example/'}}\n",
        "notify.vtiger.ringing",
        "fixed host",
    ),
    (
        MINIMAL + "notify: {vtiger: {ended: ['https://x.example/', ^'ftp://x.example/']}}\n",
        "notify.vtiger.ended[1]",
        "is not a web address",
    ),
    (
        MINIMAL + "notify: {vtiger: ^{ringing: 'https://x.example/?k={secret}'}}\n",
        "notify.vtiger",
        "`secret: {env: NAME}` beside it would be right",
    ),
    (
        MINIMAL + "notify: {vtiger: {ringing: 'https://x.example/', headers: {Host: ^x}}}\n",
        "notify.vtiger.headers.Host",
        "no header of yours",
    ),
    (
        MINIMAL + "notify: {vtiger: {ringing: 'https://x.example/', prefix: ^'+49'}}\n",
        "notify.vtiger.prefix",
        "dials first",
    ),
    (MINIMAL + "outbox: {give_up_hours: ^0}\n", "outbox.give_up_hours", "1 to 8760"),
    (MINIMAL + "identify: {budget_ms: ^1500}\n", "identify.budget_ms", "less would be right"),
    (MINIMAL + "answer_ms: ^3000\n", "answer_ms", "100 to 2900"),
    (MINIMAL + "call_control: {countries: [^XX]}\n", "call_control.countries[0]", "is no region"),
    (MINIMAL + "call_control: {countries: ^[]}\n", "call_control.countries", "is empty"),
    (MINIMAL + "call_control: {classes: [^premium_rate]}\n", "call_control.classes[0]", "known: company"),
    (MINIMAL + "call_control: {classes: ^mobile}\n", "call_control.classes", "a list would be right"),
    (MINIMAL + 'call_control: {office_number: ^"200"}\n', "call_control.office_number", "country code"),
    (MINIMAL + "call_control: {auto_answer: ^1}\n", "call_control.auto_answer", "`true` or `false`"),
    (MINIMAL + "call_control: {ring_seconds: ^4}\n", "call_control.ring_seconds", "5 to 120"),
    (MINIMAL + "call_control: {calls_per_minute: ^0}\n", "call_control.calls_per_minute", "1 to 1000"),
    (MINIMAL + "call_control: {supervise: [^spy]}\n", "call_control.supervise[0]", "known: barge, listen"),
    (
        MINIMAL + 'call_control: {record_announcement: ^"../x"}\n',
        "call_control.record_announcement",
        "is no sound",
    ),
    (
        MINIMAL + 'call_control: {supervise_announcement: ^"a,b"}\n',
        "call_control.supervise_announcement",
        "is no sound",
    ),
    (MINIMAL + "call_control: {^lissten: true}\n", "call_control.lissten", "unknown key"),
    (changed("s3cret}", "s3cret, recordings: ^{}}"), "asterisks.main.recordings", "either `directory:"),
    (
        changed("s3cret}", 's3cret, recordings: ^{directory: x, url: "http://x"}}'),
        "asterisks.main.recordings",
        "either `directory:",
    ),
    (
        changed("s3cret}", 's3cret, recordings: {url: ^"ftp://x"}}'),
        "asterisks.main.recordings.url",
        "is not a web address",
    ),
    (
        changed("s3cret}", "s3cret, capable_phones: [^anna]}"),
        "asterisks.main.capable_phones[0]",
        "is no phone",
    ),
    (MINIMAL + "log: {level: ^loud}\n", "log.level", "known: debug, error, info, warning"),
    (MINIMAL + "webhooks:^ \n", "webhooks", "is empty"),
    (MINIMAL + "webhooks: ^[]\n", "webhooks", "is a list; a mapping of names"),
    (MINIMAL + "log: ^!!python/name:os.system {level: info}\n", "log", "has the tag"),
    (MINIMAL + "x-a: &a {level: info}\nlog: {^<<: *a}\n", "log.<<", "merging is not done"),
    (MINIMAL + "? ^[a, b]\n: 1\n", "?", "is not a key"),
]


PHONEBOOK = """
phonebook:
  title: Customers
  prefix: "0"
  adapters: [directory]
  ldap: {listen: "127.0.0.1:3891", allow: ["192.0.2.0/24"], password: "seven stars", limit: 50}
  xml: {listen: "127.0.0.1:8472", token: "word-to-know"}
"""


def test_the_phonebook_is_off_until_it_is_configured_and_then_narrow(tmp_path: Path) -> None:
    off = load(tmp_path, MINIMAL).phonebook
    assert (off.ldap, off.xml) == (None, None)
    book = load(tmp_path, MINIMAL + PHONEBOOK).phonebook
    assert (book.title, book.prefix, book.adapters) == ("Customers", "0", {"directory"})
    assert book.ldap is not None
    assert book.xml is not None
    assert (book.ldap.listen, book.ldap.allow) == (
        Address("127.0.0.1", 3891),
        (ip_network("192.0.2.0/24"),),
    )
    assert (book.ldap.base, book.ldap.bind_dn) == ("ou=phonebook", "cn=phones,ou=phonebook")
    assert (book.ldap.anonymous, book.ldap.limit, book.ldap.tls) == (False, 50, None)
    assert book.xml.allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert "stars" not in repr(book)


def test_a_password_of_phones_that_goes_over_the_network_as_it_is_is_advised_against(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL + PHONEBOOK.replace("127.0.0.1:3891", "192.0.2.1:3891"))
    assert ["no `tls`" in str(each) for each in settings.advice] == [True]


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ('prefix: "0"', 'prefix: "+49"', "prefix", "dials first"),
        ("[directory]", "[crm]", "adapters[0]", "directory"),
        ('password: "seven stars", ', "", "ldap", "has no `password`"),
        ('password: "seven stars"', 'password: "seven stars", base: company', "ldap.base", "ou=phonebook"),
        ("limit: 50", "limit: 0", "ldap.limit", "1 to 1000"),
        ("word-to-know", "a word", "xml.token", "8 to 128"),
    ],
)
def test_what_is_wrong_in_the_phonebook_is_named(
    tmp_path: Path, old: str, new: str, path: str, text: str
) -> None:
    assert old in PHONEBOOK
    (problem,) = problems(tmp_path, MINIMAL + PHONEBOOK.replace(old, new, 1))
    assert f" phonebook.{path}: " in problem
    assert text in problem


@pytest.mark.parametrize(("marked", "path", "text"), WRONG)
def test_an_error_says_where_it_is_and_what_would_be_right(
    tmp_path: Path, marked: str, path: str, text: str
) -> None:
    content, place = place_of(marked, "^")
    lines = problems(tmp_path, content)
    assert any(line.startswith(f"cti.yaml:{place}: {path}: ") and text in line for line in lines), "\n".join(
        lines
    )


def test_all_errors_come_at_once_by_line(tmp_path: Path) -> None:
    text = (
        changed("region: DE", "region: XX")
        .replace("{kind: directory}", "{kind: nix}")
        .replace("old-context,s,1", "x")
        + "log: {level: loud}\n"
    )
    lines = problems(tmp_path, text)
    assert [line.split(":")[1] for line in lines] == ["1", "6", "13", "16"]


def test_a_secret_that_is_wrong_is_not_in_the_error(tmp_path: Path) -> None:
    for secret in ("12345678", '"12345678\\u0007"', "[12345678]", "{env: A}"):
        assert "12345678" not in "".join(problems(tmp_path, changed("s3cret", secret), {"A": "12345678\n\n"}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "cti.yaml:1:1: is empty"),
        (b"# nothing\n", "cti.yaml:1:1: is empty"),
        (b"- a\n- b\n", "cti.yaml:1:1: is a list; a mapping with region"),
        (b"a: 1\nb: [1\nc: 2\n", "cti.yaml:3:2: is not valid YAML"),
        (b"a: 1\n\tb: 2\n", "cti.yaml:2:1: is not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "cti.yaml:2:1: is not valid YAML"),
        (b"a: *b\n", "cti.yaml:1:4: is not valid YAML"),
        (b"a: 1\nb: \xff\n", "cti.yaml:2:4: is not UTF-8 here"),
        (b"a: 1\nb: \x07\n", "cti.yaml:2:4: has a character that may not stand in YAML"),
        (b"a: " + b"[" * 5000, "is not valid YAML: values are nested deeper than 50"),
        (b"a: &a [*a]\n", "cti.yaml:1:8: is not valid YAML: the alias *a stands inside of"),
        (b"a: &a 1\nb: &a 2\n", "cti.yaml:2:4: is not valid YAML: the anchor &a is there already"),
        ("é: 1\n😀: \x01".encode(), "cti.yaml:2:4: has a character that may not stand in YAML"),
        (b"#" * (1024 * 1024 + 1), "cti.yaml:1:1: is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_as_yaml_is_refused_with_its_place(
    tmp_path: Path, text: bytes, expected: str
) -> None:
    (line,) = problems(tmp_path, text)
    assert expected in line


def test_a_few_aliases_are_fine_and_a_bomb_of_them_is_not(tmp_path: Path) -> None:
    settings = load(
        tmp_path, MINIMAL + "webhooks:\n  a: &a {url: 'http://x', secret: s, events: [call.ended]}\n  b: *a\n"
    )
    assert settings.webhooks["b"].url == "http://x"
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert "stands for more than" in problems(tmp_path, bomb)[0]
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 500))
    assert "deep" in problems(tmp_path, chain)[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            load_settings(path, adapter_kinds=KINDS, environ={})


def test_a_kind_that_the_file_does_not_use_is_not_asked_for(tmp_path: Path) -> None:
    class Broken(dict[str, type[Any]]):
        def __getitem__(self, kind: str) -> type[Any]:
            assert kind == "directory"
            return DirectoryOptions

    (tmp_path / "cti.yaml").write_text(MINIMAL)
    kinds = Broken(directory=DirectoryOptions, broken=DirectoryOptions)
    assert (
        load_settings(tmp_path / "cti.yaml", adapter_kinds=kinds, environ={}).adapters["directory"].kind
        == "directory"
    )


def test_links_and_kinds_of_key_that_nobody_is_to_see_are_read(tmp_path: Path) -> None:
    more = 'links: [{title: ERP, url: "https://erp.example/{party.id}", type: contact}]\nsensitive_keys: [card]\n'
    settings = load(tmp_path, MINIMAL + more)
    assert settings.links == (LinkTemplate("ERP", "https://erp.example/{party.id}", None, "contact"),)
    assert settings.sensitive_keys == {"card"}


def test_the_types_of_party_that_links_know_are_those_that_there_are() -> None:
    assert set(PARTY_TYPES) == {str(each) for each in PartyType}


def test_the_events_are_those_of_the_contract() -> None:
    assert len({name for name in EVENT_TYPES if not name.startswith("audit.")}) == 17


def test_every_event_made_is_one_that_a_webhook_may_ask_for() -> None:
    rooms = [file.read_text("utf-8") for file in (CONFIG.parent / "cti" / "calls").glob("*.py")]
    made = set(re.findall(r'"((?:call|card|agent)\.[a-z]+)"', "".join(rooms)))
    assert made <= set(EVENT_TYPES)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.integers(0, len(MINIMAL)),
    length=st.integers(0, 12),
    put=st.text(alphabet="{}[]:,&*!|>'\"%@`-?# \n\tax1é", max_size=6),
)
def test_a_file_with_a_slip_of_the_pen_is_loaded_or_refused_with_a_place(
    tmp_path: Path, at: int, length: int, put: str
) -> None:
    try:
        load(tmp_path, MINIMAL[:at] + put + MINIMAL[at + length :])
    except SettingsError as error:
        lines = str(error).splitlines()
        places = [line.removeprefix(f"{tmp_path}/cti.yaml:").split(":")[:2] for line in lines]
    else:
        places = [["1", "1"]]
    assert places
    assert all(line.isdigit() and column.isdigit() for line, column in places)


# The desktop


def test_what_a_service_wants_of_its_agents(tmp_path: Path) -> None:
    more = """\
    title: Sales and orders
    wrap_up: 45
    dispositions: {order: {de: Auftrag, en: Order}, nothing: Nothing}
    disposition: required
    open_card: answer
    card_lead_ms: 300
    quick_create: {adapter: directory, type: lead}
"""
    loaded = load(
        tmp_path, MINIMAL + more + "desk: {ready_without_desktop: false, pause_reasons: [training]}\n"
    )
    sales = loaded.services["sales"]
    assert (sales.title, sales.wrap_up, sales.open_card, sales.card_lead_ms) == (
        "Sales and orders",
        45,
        "answer",
        300,
    )
    assert sales.dispositions == {"order": {"de": "Auftrag", "en": "Order"}, "nothing": {"": "Nothing"}}
    assert sales.disposition_required
    assert sales.quick_create == QuickCreate("directory", "lead")
    assert loaded.desk == Desk(ready_without_desktop=False, pause_reasons=("training",))


def test_without_a_word_nothing_is_wanted(tmp_path: Path) -> None:
    sales = load(tmp_path, MINIMAL).services["sales"]
    assert (sales.wrap_up, sales.dispositions, sales.disposition_required) == (0, {}, False)
    assert (sales.open_card, sales.card_lead_ms, sales.quick_create) == ("button", 0, None)


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("wrap_up: 3601", "wrap_up", "3600"),
        ("disposition: required", "disposition", "nothing to choose"),
        ("disposition: sometimes", "disposition", "optional"),
        ("dispositions: {order: {german: Auftrag}}", "dispositions.order.german", "such as `de`"),
        ("dispositions: {order: {}}", "dispositions.order", "is empty"),
        ("open_card: always", "open_card", "never"),
        ("card_lead_ms: 2001", "card_lead_ms", "2000"),
        ("quick_create: {type: friend}", "quick_create.type", "contact"),
        ("quick_create: {adapter: nobody}", "quick_create.adapter", "directory"),
    ],
)
def test_what_a_service_cannot_want_is_named(tmp_path: Path, line: str, where: str, what: str) -> None:
    (problem,) = problems(tmp_path, f"{MINIMAL}    {line}\n")
    assert f"services.sales.{where}:" in problem
    assert what in problem


def with_tls(directory: Path, certificate: str, key: str) -> str:
    (directory / "tls.crt").write_text(certificate, encoding="utf-8")
    (directory / "tls.key").write_text(key, encoding="utf-8")
    return MINIMAL + 'http: {listen: "0.0.0.0:8470", tls: {certificate: tls.crt, key: tls.key}}\n'


def test_with_tls_the_web_may_be_reached_from_elsewhere(tmp_path: Path) -> None:
    pem = Authority().issue("cti.example", to_days=90)
    settings = load(tmp_path, with_tls(tmp_path, pem, pem))
    assert settings.http.tls is not None
    assert settings.http.tls.key == tmp_path / "tls.key"
    assert settings.advice == ()


def test_a_key_that_is_another_certificate_s_is_named(tmp_path: Path) -> None:
    authority = Authority()
    text = with_tls(tmp_path, authority.issue("cti.example"), authority.issue("cti.example"))
    (line,) = problems(tmp_path, text)
    assert ': http.tls.key: "tls.key" is not the certificate\'s key' in line


@pytest.mark.parametrize("days", [-2, 3])
def test_a_certificate_that_ends_soon_or_has_is_advised_against_and_no_error(
    tmp_path: Path, days: int
) -> None:
    pem = Authority().issue("cti.example", from_days=-9, to_days=days)
    (advice,) = load(tmp_path, with_tls(tmp_path, pem, pem)).advice
    assert "the certificate ends on " in str(advice)


def test_how_long_people_stay_logged_in_and_what_roles_do_not_see(tmp_path: Path) -> None:
    http = load(
        tmp_path,
        MINIMAL
        + "http: {session: {idle_hours: 1, days: 2}, masking: {agent: [tier, number], crm: [notes]}}\n",
    ).http
    assert (http.session.idle_hours, http.session.days) == (1, 2)
    assert http.masking == {"agent": ("tier", "number"), "crm": ("notes",)}
    default = load(tmp_path, MINIMAL).http
    assert (default.session.idle_hours, default.session.days, default.masking) == (12, 7, {})


def test_every_field_that_can_be_hidden_is_one_that_the_masking_knows() -> None:
    assert {*PARTY_FIELDS, NUMBER} == set(MASKABLE)


ADAPTED = """\
region: DE
store: {sqlite: cti.db}
asterisks:
  main: {ami: "127.0.0.1:5038", username: cti, secret: s3cret}
adapters:
  directory: {kind: directory%s}
services:
  sales: {numbers: ["+494066969100"], mode: route, fallback: "old,s,1"%s}
"""


def test_every_adapter_takes_how_it_may_be_asked_beside_what_its_kind_takes(tmp_path: Path) -> None:
    common = (
        ", path: people.db, deadline_ms: 2500, concurrency: 4, per_second: 1.5, index: false, live: never,"
        " breaker: {failures: 3, seconds: 10}"
    )
    adapter = load(tmp_path, ADAPTED % (common, "")).adapters["directory"]
    assert adapter.asking == Asking(2.5, 4, 1.5, False, Live.NEVER, 3, 10.0)
    assert adapter.options.path == "people.db"
    assert load(tmp_path, ADAPTED % ("", "")).adapters["directory"].asking == Asking()


def test_another_way_to_ask_an_adapter_makes_no_other_adapter(tmp_path: Path) -> None:
    before = load(tmp_path, ADAPTED % ("", "")).adapters["directory"]
    after = load(tmp_path, ADAPTED % (", concurrency: 4", "")).adapters["directory"]
    assert before == after
    assert before != load(tmp_path, ADAPTED % (", path: other.db", "")).adapters["directory"]


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        (", deadline_ms: 10001", "deadline_ms", "10000"),
        (", concurrency: 0", "concurrency", "1"),
        (", per_second: 0", "per_second", "0.01"),
        (", per_second: true", "per_second", "0.01"),
        (", live: sometimes", "live", "unknown"),
        (", index: 1", "index", "true"),
        (", breaker: {failures: 0}", "breaker.failures", "1"),
        (", breaker: {pause: 1}", "breaker.pause", "failures"),
    ],
)
def test_what_no_adapter_can_be_told_is_named(tmp_path: Path, line: str, where: str, what: str) -> None:
    (problem,) = problems(tmp_path, ADAPTED % (line, ""))
    assert f"adapters.directory.{where}:" in problem
    assert what in problem


def test_how_it_is_found_out_who_calls_is_configured_value_by_value(tmp_path: Path) -> None:
    text = """\
identify:
  budget_ms: 500
  patience_ms: 100
  order: sequence
  cache: {seconds: 10, misses_seconds: 0, entries: 5}
  ambiguity: [last_agent, company]
  ignored: ["+493023125001"]
  blocked: ["+49900*"]
  reject: busy
  announce: custom/blocked
"""
    identify = load(tmp_path, MINIMAL + text).identify
    assert identify.options == Options(
        0.5, 0.1, Order.SEQUENCE, CacheSettings(10, 0, 5), ("last_agent", "company")
    )
    assert (identify.ignored, identify.blocked) == (("+493023125001",), ("+49900*",))
    assert (identify.reject, identify.announce) == (Rejection.BUSY, "custom/blocked")
    assert load(tmp_path, MINIMAL).identify.options == Options()


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("order: random", "order", "parallel"),
        ("ambiguity: [first]", "ambiguity[0]", "company"),
        ("ambiguity: [ask, company]", "ambiguity[0]", "`ask` at the end"),
        ("ambiguity: [company, company]", "ambiguity[0]", "once would be right"),
        ("ambiguity: []", "ambiguity", ""),
        ('blocked: ["0900"]', "blocked[0]", "+49900*"),
        ('ignored: ["+49*"]', "ignored[0]", "whole country"),
        ("reject: rudely", "reject", "busy"),
        ("reject: 128", "reject", "127"),
        ('announce: "../etc/passwd"', "announce", "is no sound"),
        ("cache: {seconds: 3601}", "cache.seconds", "3600"),
        ("patience_ms: -1", "patience_ms", "0"),
    ],
)
def test_what_finding_out_cannot_be_told_is_named(tmp_path: Path, line: str, where: str, what: str) -> None:
    found = problems(tmp_path, f"{MINIMAL}identify: {{{line}}}\n")
    assert f"identify.{where}:" in found[0]
    assert what in found[0]


def test_who_is_blocked_may_be_turned_away_by_a_cause_of_q850(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "identify: {reject: 1}\n").identify.reject == "1"


def test_a_service_says_what_becomes_of_unknown_callers(tmp_path: Path) -> None:
    line = ", unknown: {create: {adapter: directory, type: contact, when: answer}}"
    service = load(tmp_path, ADAPTED % ("", line)).services["sales"]
    assert service.unknown == Newcomers("directory", "contact", "answer")
    least = load(tmp_path, ADAPTED % ("", ", unknown: {create: {adapter: directory}}")).services["sales"]
    assert least.unknown == Newcomers("directory", "lead", "end")
    assert load(tmp_path, ADAPTED % ("", "")).services["sales"].unknown is None


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        (", unknown: {}", "unknown.create", "is missing"),
        (", unknown: {create: {}}", "unknown.create.adapter", "is missing"),
        (", unknown: {create: {adapter: nobody}}", "unknown.create.adapter", "directory"),
        (", unknown: {create: {adapter: directory, type: friend}}", "unknown.create.type", "lead"),
        (", unknown: {create: {adapter: directory, when: never}}", "unknown.create.when", "answer"),
    ],
)
def test_what_cannot_become_of_unknown_callers_is_named(
    tmp_path: Path, line: str, where: str, what: str
) -> None:
    found = problems(tmp_path, ADAPTED % ("", line))
    assert any(f"services.sales.{where}:" in each and what in each for each in found), found


# How long what is kept.


def test_everything_is_kept_for_ever_until_the_configuration_says_how_long(tmp_path: Path) -> None:
    kept = load(tmp_path, MINIMAL).retention
    assert kept == Retention()
    assert not kept.keeps_less


def test_what_holds_numbers_is_kept_no_longer_than_they_are(tmp_path: Path) -> None:
    text = MINIMAL + 'retention: {at: "4:05", calls: 730, numbers: 180, events: 30, audit: 900}\n'
    kept = load(tmp_path, text).retention
    assert (kept.at, kept.calls, kept.numbers, kept.events, kept.audit) == ((4, 5), 730, 180, 30, 900)
    assert {kept.recordings, kept.decisions, kept.cards, kept.outbox, kept.callbacks, kept.remembered} == {
        180
    }


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("{numbers: 180, events: 181}", "retention.events: is longer than numbers are"),
        ("{calls: 30, recordings: 31}", "at most 30 would be right"),
        ("{calls: 30, numbers: 31}", "retention.numbers: is longer than calls are kept"),
        ("{calls: 0}", "0 is out of range"),
        ("{calls: for ever}", "is not a whole number"),
        ('{at: "25:00"}', "is no time of the day"),
        ("{colls: 30}", "colls"),
    ],
)
def test_what_is_wrong_in_the_retention_is_named(tmp_path: Path, section: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(wrong)):
        load(tmp_path, f"{MINIMAL}retention: {section}\n")


# Planned calls.


def test_planned_calls_are_made_by_day_and_tried_again_unless_the_configuration_says_otherwise(
    tmp_path: Path,
) -> None:
    usual = load(tmp_path, MINIMAL).callbacks
    assert usual == CallbackSettings(9 * 60, 20 * 60, 3, (15, 60, 240), 2)
    text = 'callbacks: {hours: {from: "8:30", to: "18:00"}, tries: 5, pauses: [5], put_off: 1}\n'
    assert load(tmp_path, MINIMAL + text).callbacks == CallbackSettings(510, 1080, 5, (5,), 1)
    assert load(tmp_path, MINIMAL + 'callbacks: {hours: {from: "07:00"}}\n').callbacks.begin == 420


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ('{hours: {from: "20:00"}}', "callbacks.hours.from: leaves no hour from 20:00 to 20:00"),
        ('{hours: {from: "10:00", to: "9:00"}}', "callbacks.hours.to: leaves no hour"),
        ('{hours: {to: "24:00"}}', 'callbacks.hours.to: is no time of the day; such as "20:00"'),
        ("{hours: {from: 9}}", "callbacks.hours.from"),
        ("{tries: 0}", "callbacks.tries: 0 is out of range"),
        ("{tries: 21}", "callbacks.tries: 21 is out of range"),
        ("{pauses: []}", "callbacks.pauses: is empty"),
        ("{pauses: 15}", "a list would be right"),
        ("{pauses: [15, 0]}", "callbacks.pauses[1]: 0 is out of range"),
        (f"{{pauses: {[1] * 21}}}", "callbacks.pauses[20]: is one too many"),
        ("{put_off: 61}", "callbacks.put_off: 61 is out of range"),
        ("{put_of: 1}", "put_of"),
    ],
)
def test_what_is_wrong_in_how_planned_calls_are_made_is_named(
    tmp_path: Path, section: str, wrong: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(wrong)):
        load(tmp_path, f"{MINIMAL}callbacks: {section}\n")
