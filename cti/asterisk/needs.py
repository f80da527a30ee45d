"""What an Asterisk must have for us: modules, actions that the manager's user may do, lines of manager.conf.

The dialplan and the manager.conf that we ship say themselves what they need; here is only how to read it out of
them. Whether a running Asterisk has it is asked elsewhere.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

#: Action → the module that brings it, None for Asterisk's core. All that this server must be able to ask for.
ACTIONS: Final[Mapping[str, str | None]] = {
    "BridgeList": None,
    "CoreSettings": None,
    "CoreShowChannels": None,
    "DBDel": None,
    "DBGetTree": None,
    "DBPut": None,
    "DeviceStateList": "res_manager_devicestate",
    "Getvar": None,
}

#: The same of what only call control asks for.
CALL_CONTROL: Final[Mapping[str, str | None]] = {
    "Hangup": None,
    "MixMonitor": "app_mixmonitor",
    "MixMonitorMute": "app_mixmonitor",
    "Originate": None,
    "PJSIPNotify": "res_pjsip_notify",
    "Park": "res_parking",
    "PlayDTMF": "app_senddtmf",
    "Redirect": None,
    "Setvar": None,
    "StopMixMonitor": "app_mixmonitor",
}

#: What of `read` only call control needs.
CALL_CONTROL_READS: Final = frozenset({"user"})

#: What there is only with a module that many an Asterisk does without.
OPTIONAL: Final[Mapping[str, str]] = {
    "app_bridgewait": "taking a call back from hold",
    "app_chanspy": "listening, whispering and barging in",
    "app_confbridge": "conferences",
    "app_directed_pickup": "picking up what rings elsewhere",
    "app_mixmonitor": "recording",
    "app_senddtmf": "sending digits",
    "res_parking": "parking",
    "res_pjsip_notify": "answering and holding at the phone itself",
}

# Module → the applications and functions that it brings; those of Asterisk's core are in no module.
_BRINGS: Final[Mapping[str, str]] = {
    "app_bridgeaddchan": "BridgeAdd",
    "app_bridgewait": "BridgeWait",
    "app_cdr": "ResetCDR",
    "app_chanspy": "ChanSpy ExtenSpy DAHDIScan",
    "app_confbridge": "ConfBridge CONFBRIDGE CONFBRIDGE_INFO CONFBRIDGE_CHANNELS",
    "app_controlplayback": "ControlPlayback",
    "app_db": "DBdel DBdeltree",
    "app_dial": "Dial RetryDial",
    "app_directed_pickup": "Pickup PickupChan",
    "app_echo": "Echo",
    "app_exec": "Exec TryExec ExecIf",
    "app_mixmonitor": "MixMonitor StopMixMonitor MIXMONITOR",
    "app_originate": "Originate",
    "app_playback": "Playback",
    "app_playtones": "PlayTones Playtones StopPlayTones StopPlaytones",
    "app_read": "Read",
    "app_record": "Record",
    "app_senddtmf": "SendDTMF ReceiveDTMF",
    "app_softhangup": "SoftHangup",
    "app_stack": "Gosub GosubIf Return StackPop LOCAL LOCAL_PEEK STACK_PEEK",
    "app_transfer": "Transfer",
    "app_userevent": "UserEvent",
    "app_verbose": "Log Verbose",
    "app_voicemail": "VoiceMail VoiceMailMain VMAuthenticate VM_INFO",
    "app_while": "While EndWhile ExitWhile ContinueWhile",
    "chan_pjsip": "PJSIP_DIAL_CONTACTS PJSIP_MEDIA_OFFER PJSIP_PARSE_URI",
    "func_callerid": "CALLERID CONNECTEDLINE REDIRECTING",
    "func_cdr": "CDR CDR_PROP",
    "func_channel": "CHANNEL CHANNELS CHANNEL_EXISTS MASTER_CHANNEL",
    "func_cut": "CUT SORT",
    "func_db": "DB DB_DELETE DB_EXISTS DB_KEYCOUNT DB_KEYS",
    "func_devstate": "DEVICE_STATE HINT",
    "func_dialplan": "DIALPLAN_EXISTS VALID_EXTEN",
    "func_global": "GLOBAL SHARED",
    "func_groupcount": "GROUP GROUP_COUNT GROUP_LIST GROUP_MATCH_COUNT",
    "func_hangupcause": "HANGUPCAUSE HANGUPCAUSE_KEYS",
    "func_logic": "EXISTS IF IFTIME IMPORT ISNULL SET",
    "func_math": "DEC INC MATH",
    "func_pjsip_aor": "PJSIP_AOR",
    "func_pjsip_contact": "PJSIP_CONTACT",
    "func_pjsip_endpoint": "PJSIP_ENDPOINT",
    "func_rand": "RAND",
    "func_sprintf": "SPRINTF",
    "func_strings": "ARRAY CSV_QUOTE EVAL FIELDNUM FIELDQTY FILTER HASH HASHKEYS LEN LISTFILTER PASSTHRU POP PUSH"
    " QUOTE REGEX REPLACE SHIFT STRFTIME STRPTIME STRREPLACE TOLOWER TOUPPER TRIM UNSHIFT",
    "func_timeout": "TIMEOUT",
    "func_uri": "URIDECODE URIENCODE",
    "res_agi": "AGI",
    "res_musiconhold": "MusicOnHold StartMusicOnHold StopMusicOnHold",
    "res_parking": "Park ParkAndAnnounce ParkedCall",
    "res_pjsip_header_funcs": "PJSIP_HEADER PJSIP_HEADERS PJSIP_HEADER_PARAM PJSIP_RESPONSE_HEADER",
}
_CORE: Final = (
    "Answer BackGround Background Bridge Busy Congestion EXCEPTION ExecIfTime Goto GotoIf GotoIfTime Hangup"
    " Incomplete MSet NoOp Proceeding Progress RaiseException Ringing SayAlpha SayDigits SayNumber Set Wait"
    " WaitDigit WaitExten"
)
_MODULE_OF: Final[Mapping[str, str]] = {
    name: module for module, names in _BRINGS.items() for name in names.split()
}

_OF_MAILBOXES: Final = "app_voicemail"

#: The context of our dialplan whose only extension is the number of its state.
VERSION_CONTEXT: Final = "cti-version"

_COMMENT: Final = re.compile(r"(?<!\\);.*")
_CONTEXT: Final = re.compile(r"\[([A-Za-z0-9_-]+)\]")
_APPLICATION: Final = re.compile(r"(?:exten\s*=>?\s*[^,]+,|same\s*=>?\s*)[^,]+,\s*([A-Za-z_]+)")
_FUNCTION: Final = re.compile(r"\b([A-Z][A-Z0-9_]+)\(")
_CLASSES: Final = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "space": r"\s",
}
_SETTING: Final = re.compile(r"([^=]+?)\s*=>?\s*(.*)")


class UnknownToUs(ValueError):
    """The dialplan uses what no module of the table brings; the text names it."""


@frozen
class Dialplan:
    """A file of ours: its contexts, and module → the applications and functions that it uses of it.

    `version`: the extension of its context `cti-version`.
    """

    version: str
    contexts: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]]

    def modules_for(self, *, voicemail: bool) -> Mapping[str, tuple[str, ...]]:
        """Those that the company needs: one for mailboxes only if a rule sends calls to one."""
        return {name: used for name, used in self.modules.items() if voicemail or name != _OF_MAILBOXES}


def read_dialplan(text: str) -> Dialplan:
    """Raises UnknownToUs."""
    contexts: list[str] = []
    used: set[str] = set()
    version = ""
    for line in _lines(text):
        if (context := _CONTEXT.match(line)) is not None:
            contexts.append(context[1])
        elif (application := _APPLICATION.match(line)) is not None:
            if contexts[-1:] == [VERSION_CONTEXT]:
                version = line.partition(",")[0].rpartition(">")[2].strip()
            used.add(application[1])
            used.update(_FUNCTION.findall(line))
    modules: dict[str, tuple[str, ...]] = {}
    for name in sorted(used.difference(_CORE.split())):
        if (module := _MODULE_OF.get(name)) is None:
            raise UnknownToUs(f"which module brings {name}?")
        modules[module] = (*modules.get(module, ()), name)
    return Dialplan(version, tuple(contexts), dict(sorted(modules.items())))


@frozen
class Category:
    """A heading of a configuration of Asterisk's, and its settings in order; names may repeat."""

    name: str
    settings: tuple[tuple[str, str], ...]

    def last(self, name: str) -> str | None:
        """What counts where a later line replaces an earlier one."""
        return next((value for each, value in reversed(self.settings) if each.lower() == name), None)


def read_categories(text: str) -> dict[str, Category]:
    """A file such as manager.conf. What is included or inherited is left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    latest: list[tuple[str, str]] = []
    for line in _lines(text):
        if line.startswith("["):
            latest = found.setdefault(line[1:].partition("]")[0], [])
        elif (setting := _SETTING.match(line)) is not None:
            latest.append((setting[1], setting[2]))
    return {name: Category(name, tuple(settings)) for name, settings in found.items()}


def words(value: str | None) -> frozenset[str]:
    """A list as Asterisk has them: separated by commas."""
    return frozenset(word.strip().lower() for word in (value or "").split(",") if word.strip())


def passes_filters(event: str, filters: list[str]) -> bool | None:
    """Whether an event of this name passes a user's `eventfilter`s; None where that cannot be told.

    As Asterisk does: one of those that include must match, if there are any; none of those that exclude (with !).
    """
    text = f"Event: {event}\r\nPrivilege: call,all\r\n"
    including = [each for each in filters if not each.startswith("!")]
    excluding = [each[1:] for each in filters if each.startswith("!")]
    try:
        included = not including or any(_posix(each).search(text) for each in including)
        return included and not any(_posix(each).search(text) for each in excluding)
    except re.error:
        return None


def _posix(expression: str) -> re.Pattern[str]:
    """POSIX's regular expressions are those of Python, but for the classes of characters and other rarities."""
    for name, characters in _CLASSES.items():
        expression = expression.replace(f"[:{name}:]", characters)
    return re.compile(expression)


def _lines(text: str) -> Iterator[str]:
    """The lines without comments and blanks."""
    for line in text.splitlines():
        if stripped := _COMMENT.sub("", line).strip():
            yield stripped
