"""The configuration files of one private Asterisk, as texts made of a few parameters.

Writing them to the right place, and running Asterisk on them, is the business of `lab.asterisk`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from lab.ports import LOOPBACK

TRUNK_HEADER = ("X-Lab-Trunk", "yes")
TRUNK_ENDPOINT = "trunk"
TRUNK_CONTEXT = "from-trunk"
PHONE_CONTEXT = "from-phones"
PEER_CONTEXT = "from-peers"

DEFAULT_MANAGER = """\
[general]
timestampevents = yes
channelvars = CTI_CALL_ID

[cti]
read = all
write = all
"""

# Only what the lab, the dialplan and the coming call control use: it starts in a second, and nothing warns of
# a missing configuration. What a version of Asterisk does not have is left out.
_MODULES = """
    res_sorcery_config res_sorcery_memory res_sorcery_astdb res_timing_timerfd res_stasis res_speech
    res_agi res_convert res_curl res_musiconhold res_parking res_manager_devicestate res_rtp_asterisk
    res_mutestream res_pjproject res_pjsip res_pjsip_acl res_pjsip_authenticator_digest
    res_pjsip_caller_id res_pjsip_diversion res_pjsip_dlg_options res_pjsip_dtmf_info
    res_pjsip_endpoint_identifier_ip res_pjsip_endpoint_identifier_user res_pjsip_header_funcs
    res_pjsip_logger res_pjsip_nat res_pjsip_notify res_pjsip_path res_pjsip_pubsub res_pjsip_refer
    res_pjsip_registrar res_pjsip_rfc3326 res_pjsip_sdp_rtp res_pjsip_session chan_pjsip
    app_blind_transfer app_attended_transfer app_bridgeaddchan app_bridgewait app_cdr
    app_channelredirect app_chanspy app_confbridge app_controlplayback app_db app_dial
    app_directed_pickup app_echo app_exec app_mixmonitor app_originate app_playback app_playtones
    app_read app_record app_senddtmf app_softhangup app_stack app_transfer app_userevent app_verbose
    app_voicemail app_while func_callerid func_cdr func_channel func_curl func_cut func_db func_devstate func_dialplan
    func_evalexten func_global func_groupcount func_hangupcause func_logic func_math func_periodic_hook
    func_pjsip_aor
    func_pjsip_contact func_pjsip_endpoint func_rand func_sprintf func_strings func_timeout func_uri
    bridge_builtin_features bridge_builtin_interval_features bridge_holding bridge_native_rtp
    bridge_simple bridge_softmix codec_a_mu codec_alaw codec_gsm codec_resample codec_ulaw format_gsm
    format_pcm format_sln format_wav cdr_csv pbx_config
"""

# Files that modules look for and complain about, although nothing needs to be in them.
_EMPTY = """
    acl ccss cel cli cli_aliases cli_permissions codecs dnsmgr enum features http pjproject pjsip_notify
    res_parking sorcery stasis udptl
"""


@frozen
class StaticPhone:
    """A phone at a fixed address of the loopback, where something already listens on UDP `port`."""

    name: str
    port: int


@frozen
class RegisteringPhone:
    """A phone that registers itself as `name` with `password`, such as a person's softphone."""

    name: str
    password: str = field(repr=False)


@frozen
class Ports:
    """Where one Asterisk listens; `rtp` is the first and the last port of its media."""

    sip: int
    ami: int
    rtp: tuple[int, int]


@frozen
class PbxConfiguration:
    """What makes one private Asterisk different from another.

    @ivar extensions: text of extensions.conf, after the included files. Calls from the trunk enter
        `[from-trunk]`, calls from phones `[from-phones]`, calls from other Asterisks `[from-peers]`.
    @ivar dialplan_files: files copied beside it and included before the text, in this order.
    @ivar manager: text of manager.conf, included after `manager_files`; address, port and the secret of the
        AMI user are added by the lab and win over what the text says.
    @ivar phones: each becomes an endpoint `PJSIP/NAME`.
    @ivar trunk_port: UDP port of the other end of `PJSIP/NUMBER@trunk`, None if nobody is dialled there.
    @ivar peers: UDP ports of other Asterisks, by name: each is an endpoint, dialled `PJSIP/NUMBER@peer-NAME`.
    @ivar extra: further files or whole replacements, by name (`queues.conf`), as text.
    """

    extensions: str
    dialplan_files: Sequence[Path] = ()
    manager: str | None = None
    manager_files: Sequence[Path] = ()
    ami_username: str = "cti"
    phones: Sequence[StaticPhone | RegisteringPhone] = ()
    trunk_port: int | None = None
    peers: Mapping[str, int] = field(factory=dict)
    extra: Mapping[str, str] = field(factory=dict)


@frozen
class Directories:
    """Asterisk's directories as the Asterisk itself sees them."""

    instance: str
    modules: str
    data: str


def configuration_files(
    configuration: PbxConfiguration,
    ports: Ports,
    directories: Directories,
    ami_secret: str,
    available_modules: Collection[str],
) -> dict[str, str]:
    """All files of the configuration directory, text by file name, the included files with them.

    Raises ValueError when two included files have the same name.
    """
    files = {f"{name}.conf": "" for name in _EMPTY.split()}
    files |= {
        "asterisk.conf": _asterisk(directories),
        "logger.conf": _LOGGER,
        "modules.conf": _modules(available_modules),
        "indications.conf": _INDICATIONS,
        "cdr.conf": "[general]\nenable = yes\n\n[csv]\nusegmtime = yes\nloguniqueid = yes\n",
        "confbridge.conf": _CONFBRIDGE,
        "voicemail.conf": _VOICEMAIL,
        "musiconhold.conf": f"[default]\nmode = files\ndirectory = {directories.instance}/hold-music\n",
        "rtp.conf": f"[general]\nrtpstart = {ports.rtp[0]}\nrtpend = {ports.rtp[1]}\nicesupport = no\n",
        "pjsip.conf": _pjsip(configuration, ports),
        "manager.conf": _manager(configuration, ports, ami_secret),
        "extensions.conf": _includes(configuration.dialplan_files) + configuration.extensions,
    }
    for included in (*configuration.dialplan_files, *configuration.manager_files):
        if included.name in files:
            raise ValueError(f"two configuration files are called {included.name}; rename {included}")
        files[included.name] = included.read_text("utf-8")
    return files | dict(configuration.extra)


def _asterisk(directories: Directories) -> str:
    own = directories.instance
    return f"""\
[directories]
astetcdir => {own}/etc
astmoddir => {directories.modules}
astvarlibdir => {own}/lib
astdbdir => {own}/lib
astkeydir => {own}/lib
astcachedir => {own}/lib
astdatadir => {directories.data}
astagidir => {own}/lib
astspooldir => {own}/spool
astrundir => {own}/run
astlogdir => {own}/log

[options]
verbose = 3
nocolor = yes
hideconnect = yes
"""


# ISO 8601 with milliseconds and the zone, so that a reader need not know in which zone Asterisk lives.
_LOGGER = """\
[general]
dateformat = %FT%T.%3q%z
queue_log = no

[logfiles]
full => notice,warning,error,dtmf,verbose(3)
"""

_INDICATIONS = """\
[general]
country = de

[de]
description = Germany
ringcadence = 1000,4000
dial = 425
busy = 425/480,0/480
ring = 425/1000,0/4000
congestion = 425/240,0/240
callwaiting = !425/200,!0/200,!425/200,!0/5000,!425/200,!0/200,!425/200,!0/5000,!425/200,!0/200,!425/200,0
dialrecall = !425/100,!0/100,!425/100,!0/100,!425/100,!0/100,425
record = 1400/80,0/15000
info = 950/330,1400/330,1800/330,0/1000
"""

# Without these Asterisk makes them itself, and writes a notice for each.
_CONFBRIDGE = """\
[general]

[default_bridge]
type = bridge

[default_user]
type = user

[default_menu]
type = menu
"""

# One mailbox; a message may be empty, as a caller of the lab says nothing.
_VOICEMAIL = """\
[general]
format = wav
minsecs = 0
attach = no

[default]
17 => ,Sales
"""


def _modules(available: Collection[str]) -> str:
    loads = "".join(f"load = {name}.so\n" for name in _MODULES.split() if name in available)
    return f"[modules]\nautoload = no\n{loads}"


def _includes(files: Sequence[Path]) -> str:
    return "".join(f'#include "{path.name}"\n' for path in files)


def _manager(configuration: PbxConfiguration, ports: Ports, secret: str) -> str:
    own_text = configuration.manager
    if own_text is None:
        own_text = "" if configuration.manager_files else DEFAULT_MANAGER
    text = _includes(configuration.manager_files) + own_text
    written = own_text + "".join(path.read_text("utf-8") for path in configuration.manager_files)
    user = configuration.ami_username
    # Asterisk reads only the first category of a name, and adds to it by (+); the last value of a key wins.
    return f"""\
{text}
{_category("general", written)}
enabled = yes
bindaddr = {LOOPBACK}
port = {ports.ami}
displayconnects = no

{_category(user, written)}
secret = {secret}
"""


def _category(name: str, written: str) -> str:
    """The heading that opens a category, or adds to the one that the text written so far has."""
    headings = {line.partition("]")[0].strip() + "]" for line in written.splitlines() if line.startswith("[")}
    return f"[{name}](+)" if f"[{name}]" in headings else f"[{name}]"


def _pjsip(configuration: PbxConfiguration, ports: Ports) -> str:
    header, value = TRUNK_HEADER
    sections = [
        # By header first: caller and phones share one address, and a caller's number may be a phone's name. So may
        # that of a caller whom a peer sends; a peer is known by its port.
        _section("global", type="global", endpoint_identifier_order="header,ip,username"),
        _section("udp", type="transport", protocol="udp", bind=f"{LOOPBACK}:{ports.sip}"),
        _endpoint(TRUNK_ENDPOINT, TRUNK_CONTEXT, trust_id_inbound="yes", identify_by="header"),
        _section(
            f"{TRUNK_ENDPOINT}-identify",
            type="identify",
            endpoint=TRUNK_ENDPOINT,
            match_header=f"{header}: {value}",
        ),
        _aor(TRUNK_ENDPOINT, configuration.trunk_port),
    ]
    for name, port in configuration.peers.items():
        peer = f"peer-{name}"
        sections += [
            _endpoint(peer, PEER_CONTEXT, trust_id_inbound="yes", send_pai="yes", identify_by="ip"),
            _section(f"{peer}-identify", type="identify", endpoint=peer, match=f"{LOOPBACK}:{port}"),
            _aor(peer, port),
        ]
    for phone in configuration.phones:
        if isinstance(phone, StaticPhone):
            sections += [_endpoint(phone.name, PHONE_CONTEXT), _aor(phone.name, phone.port)]
        else:
            sections += [
                _endpoint(phone.name, PHONE_CONTEXT, auth=phone.name),
                _section(phone.name, type="aor", max_contacts="5", remove_existing="yes"),
                _section(
                    phone.name,
                    type="auth",
                    auth_type="userpass",
                    username=phone.name,
                    password=phone.password,
                ),
            ]
    return "\n".join(sections)


def _endpoint(name: str, context: str, **more: str) -> str:
    return _section(
        name,
        type="endpoint",
        transport="udp",
        context=context,
        disallow="all",
        allow="alaw,ulaw",
        aors=name,
        direct_media="no",
        media_address=LOOPBACK,
        bind_rtp_to_media_address="yes",
        **more,
    )


def _aor(name: str, port: int | None) -> str:
    # Not qualified: a static contact then counts as reachable, and no OPTIONS disturbs a phone's record.
    contact = {} if port is None else {"contact": f"sip:{name}@{LOOPBACK}:{port}"}
    return _section(name, type="aor", qualify_frequency="0", **contact)


def _section(name: str, **settings: str) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
