"""The command line: which commands there are and what they take. What they do is in `cti.commands`.

A command's module is imported when the command runs, so that `cti --help` costs no more than Python itself.
"""

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any, Final

from cti import __version__
from cti.commands import CommandFailed, WrongConfiguration

Run = Callable[[Namespace], int]

_ABOUT: Final = """\
Cordboard puts the right agent and the customer's card behind each call of an Asterisk.

Most commands need to know the configuration: -c FILE, before or after the command, or CTI_CONFIG=FILE in the
environment. Run them as the user that the server runs as, so that it can use the files they make.

  cti check -c /etc/cordboard/cti.yaml          is the configuration right?
  cti serve -c /etc/cordboard/cti.yaml          run the server
  cti explain --from "0152 28817386" --to "040 66969100" -c FILE
                                                who would get this call, and why?

Every command tells more with --help. Exit codes: 0 done, 1 what was asked for failed, 2 the command line or
the configuration is wrong.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. A wrong command line raises `SystemExit(2)`, as argparse does."""
    for stream in (sys.stdout, sys.stderr):
        # A name in letters that the terminal has not must not end a command half way.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    run: Run = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
    except WrongConfiguration as error:
        print(error, file=sys.stderr)
        return error.code
    except CommandFailed as error:
        print(f"cti: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who reads has seen enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"cti: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    return code


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="cti",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"Cordboard {__version__}")
    _config(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_check(commands)
    _add_migrate(commands)
    _add_asterisk_conf(commands)
    _add_adapter(commands)
    _add_identify(commands)
    _add_numbers(commands)
    _add_index(commands)
    _add_explain(commands)
    _add_calls(commands)
    _add_report(commands)
    _add_dial(commands)
    _add_contacts(commands)
    _add_agents(commands)
    _add_users(commands)
    _add_tokens(commands)
    _add_privacy(commands)
    _add_outbox(commands)
    return parser


def _add_serve(commands: Any) -> None:
    parser = _command(
        commands,
        "serve",
        _serve,
        "run the server in the foreground",
        """\
Answers Asterisk's questions (FastAGI), follows its calls (AMI) and serves the API, until a signal comes. The
log goes to stderr, one JSON object a line.

  SIGTERM, SIGINT   finish what has been asked, then stop (10 s at most); no call is ended by this
  SIGHUP            read the configuration again: services, rules and adapters count for the next call;
                    a file with problems changes nothing, and the log names them
""",
    )
    parser.add_argument(
        "--log-format",
        choices=("json", "console", "auto"),
        default="auto",
        help="json; console, for people; auto (the default): console on a terminal, else json",
    )


def _add_check(commands: Any) -> None:
    parser = _command(
        commands,
        "check",
        _check,
        "check the configuration",
        """\
Reads the configuration and names every problem in it as FILE:LINE:COLUMN, or says what was understood. Rules
may name agents and groups of the file and of the store. Changes nothing; safe beside a running server.

  cti check -c cti.yaml && systemctl reload cordboard
  cti check --live -c cti.yaml

With --live it also logs in to each Asterisk, with the rights that the server has, and names what that lacks:
modules, rights, lines of manager.conf, the dialplan, fallbacks, phones (exit code 1). What those rights do not
show is named as such, and is no failure.
""",
    )
    parser.add_argument("--live", action="store_true", help="look at the running Asterisks, too")
    parser.add_argument("--pbx", metavar="NAME", help="with --live: only at this one")
    _format(parser, "text", "json")


def _add_migrate(commands: Any) -> None:
    _command(
        commands,
        "migrate",
        _migrate,
        "make the store's tables, or bring them up to date",
        """\
Brings the schema of the store to that of this program, all of it or none, and says which it was. `cti serve` does the
same when it starts: this is for doing it before, as of a log of years it may take minutes. There is no way back:
make a backup first. A store that a newer program has written is refused.

  cti migrate -c cti.yaml
""",
    )


def _migrate(arguments: Namespace) -> int:
    from cti.commands.migrate import migrate

    return migrate(arguments)


def _add_asterisk_conf(commands: Any) -> None:
    parser = _command(
        commands,
        "asterisk-conf",
        _asterisk_conf,
        "what to put into an Asterisk's configuration",
        """\
Prints what belongs into manager.conf, extensions.conf, pjsip.conf and modules.conf, filled in from the
configuration, with comments that say why. Changes nothing, neither here nor at Asterisk.

  cti asterisk-conf -c cti.yaml
  cti asterisk-conf --pbx branch --part manager --with-secret -c cti.yaml > cordboard-manager.conf
""",
    )
    parser.add_argument("--pbx", metavar="NAME", help="for which Asterisk; needed where there are several")
    parser.add_argument(
        "--part",
        choices=("manager", "extensions", "pjsip", "modules", "all"),
        default="all",
        help="of which file; all is the default",
    )
    parser.add_argument("--with-secret", action="store_true", help="write the manager user's secret, too")


def _add_identify(commands: Any) -> None:
    parser = _command(
        commands,
        "identify",
        _identify,
        "who has a telephone number, or another key",
        """\
Asks the adapters as for a call. A number may be written as people write it. With --key it is another key, of the
kinds that the adapters know; one that is sensitive is typed when asked for, or comes by standard input.

  cti identify 0152 28817386 -c cti.yaml
  cti identify +4915228817386 --format json -c cti.yaml
  cti identify --key customer 4711 -c cti.yaml
  cti identify --key card -c cti.yaml

Nobody found is an answer (exit code 0), unless an adapter failed (1).
""",
    )
    parser.add_argument("--key", metavar="KIND", help="the kind of key that is given, such as customer")
    parser.add_argument(
        "number", metavar="NUMBER", nargs="*", help="in any written form, with spaces too; or the key"
    )
    _format(parser, "text", "json")


def _add_numbers(commands: Any) -> None:
    group = _group(commands, "numbers", "what people write as telephone numbers")
    parser = _command(
        group,
        "normalise",
        _normalise_numbers,
        "the key and the written form of each number in a file",
        """\
A number a line, or with --column the numbers in that column of a CSV file, whose other columns stay. Written to
standard output with the columns e164 (the key, +4915228817386), display (as people of the country write it) and
error (why it is no public number). Nothing is changed.

  cti numbers normalise numbers.txt -c cti.yaml
  cti numbers normalise customers.csv --column phone --region AT --format csv > cleaned.csv

The file is UTF-8. The exit code is 1 if one of them is no public number. With --region no configuration is needed
(-c FILE).
""",
    )
    parser.add_argument("file", metavar="FILE", help="- for standard input")
    parser.add_argument(
        "--column", metavar="NAME", help="the file is CSV with a header, and the numbers are there"
    )
    parser.add_argument(
        "--region", metavar="XX", help="whose national numbers these are; else the configured"
    )
    _format(parser, "table", "json", "csv")
    _add_write_back(group)


def _add_write_back(group: Any) -> None:
    parser = _command(
        group,
        "write-back",
        _write_back,
        "put the numbers that a CRM holds into one form",
        """\
Reads all numbers of an adapter, and shows what each would become. Nothing is written without --apply. A number
is left alone where something would be lost or is in doubt: a switchboard's -0, an extension, a number without its
country in a CRM that does not know it (--national takes those for ours).

  cti numbers write-back odoo -c cti.yaml
  cti numbers write-back odoo --form international --apply --per-second 2 -c cti.yaml

A number that somebody has changed meanwhile is left alone, too, and makes the exit code 1.
""",
    )
    parser.add_argument("adapter", metavar="ADAPTER", help="its name in the configuration")
    parser.add_argument("--apply", action="store_true", help="write them")
    parser.add_argument(
        "--form",
        choices=("e164", "international", "national"),
        default="e164",
        help="+494066969100 (the default), +49 40 66969100, or 040 66969100 where it is one of ours",
    )
    parser.add_argument(
        "--national", action="store_true", help="numbers without a country are those of the configured region"
    )
    parser.add_argument(
        "--per-second", type=_rate, default=5.0, metavar="N", help="so many are written, at most (5)"
    )
    _format(parser, "table", "json")


def _rate(text: str) -> float:
    rate = float(text)
    if not 0.1 <= rate <= 1000:
        raise ValueError(text)
    return rate


def _add_index(commands: Any) -> None:
    group = _group(commands, "index", "the phone index: whose numbers are known without asking a CRM")
    parser = _command(
        group,
        "status",
        _show_index,
        "what is known of each CRM, and since when",
        """\
A line for each adapter whose list has been read: parties, numbers, size of the file, and how long ago it was in step
with the CRM. Safe beside a running server.

  cti index status -c cti.yaml
""",
    )
    _format(parser, "table", "json")
    parser = _command(
        group,
        "rebuild",
        _rebuild_index,
        "read a CRM's whole list anew",
        """\
Lists all parties of an adapter and puts them in the place of what was known, also where the server refuses to because
they have become far fewer. Beside a running server, which takes them over when it next looks for changes.

  cti index rebuild odoo -c cti.yaml

The exit code is 1 if the CRM does not list them; then nothing changes.
""",
    )
    parser.add_argument("adapter", metavar="ADAPTER", help="its name in the configuration")


def _add_adapter(commands: Any) -> None:
    group = _group(commands, "adapter", "look at the connection to a CRM")
    parser = _command(
        group,
        "try",
        _try_adapter,
        "ask a CRM one question, and see each request and answer",
        """\
Shows what goes to the CRM and what comes back, with passwords, keys and tokens hidden, and why each record was taken
or dropped. Only reads.

  cti adapter try crm --number "0152 28817386" -c cti.yaml
  cti adapter try crm --search "Adler" -c cti.yaml
  cti adapter try crm --key customer=4711 -c cti.yaml
  cti adapter try crm --card contact:17 -c cti.yaml

Shown is personal data out of the CRM. The exit code is 1 if the CRM could not be asked.
""",
    )
    parser.add_argument("name", metavar="NAME", help="the adapter, as the configuration calls it")
    parser.add_argument("--number", metavar="NUMBER", help="who has this number?")
    parser.add_argument("--key", metavar="KIND=VALUE", help="who has this key?")
    parser.add_argument("--search", metavar="WORDS", help="whose name, company and the like has these words?")
    parser.add_argument("--card", metavar="TYPE:ID", help="what is known of this party?")
    _format(parser, "text", "json")


def _add_explain(commands: Any) -> None:
    parser = _command(
        commands,
        "explain",
        _explain,
        "what would become of a call, and why; or why one went where it did",
        """\
Decides as for a call, without one: nobody is reserved, nothing is written. Shows each rule that was tried.
With --call, shows that of a call in the log, for each decision about it, as it was written down then.

  cti explain --from "0152 28817386" --to "040 66969100" -c cti.yaml
  cti explain --from anonymous --to 040669691-00 --at 2026-03-01T22:30 -c cti.yaml
  cti explain --call 0193e6f0-0000-7000-8000-000000000001 -c cti.yaml
""",
    )
    parser.add_argument("--from", dest="from_number", metavar="NUMBER", help="the caller; also anonymous")
    parser.add_argument("--to", dest="to_number", metavar="NUMBER", help="the dialled number")
    parser.add_argument("--call", metavar="ID", help="a call of the log instead, by its id")
    parser.add_argument("--at", metavar="TIME", help="as if it were then; local time unless it names a zone")
    _format(parser, "text", "json")


def _add_calls(commands: Any) -> None:
    parser = _command(
        commands,
        "calls",
        _calls,
        "the call log",
        """\
The newest calls first. Times are local in the table, UTC in JSON and CSV.

  cti calls --since 2026-03-01 --outcome missed -c cti.yaml
  cti calls --number "0152 28817386" -c cti.yaml
  cti calls --since 2026-02-01 --until 2026-03-01 --all --format csv -c cti.yaml > february.csv

CSV and jsonl, a line of JSON for each call, are written as they are read: the whole log needs no more memory than
a page of it.
In CSV, a text that a spreadsheet would take for a formula has a ' in front.
""",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="started then or later: 2026-03-01, 2026-03-01T14:30 (local), …T13:30Z",
    )
    parser.add_argument("--until", metavar="TIME", help="started before then")
    parser.add_argument("--number", metavar="NUMBER", help="on either side, in any written form")
    parser.add_argument("--agent", metavar="ID", help="who talked, or was offered the call")
    parser.add_argument("--party", metavar="ID", help="who was called for: ID, or ADAPTER:ID")
    parser.add_argument("--direction", metavar="WORD", help="inbound, outbound or internal")
    parser.add_argument(
        "--outcome",
        metavar="WORD",
        help="answered, missed, abandoned, voicemail, self_service, rejected, busy, failed or fallback",
    )
    parser.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most so many (50)")
    parser.add_argument("--all", action="store_true", help="all of them, whatever --limit says")
    _format(parser, "table", "json", "csv", "jsonl")


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        _report,
        "figures of calls and of agents' time",
        """\
What became of calls (calls), what the agents' time went into, together (team) or one by one (agents), and what the
figures mean (measures). Without --since, the last seven days.

  cti report calls --since 2026-03-01 --until 2026-04-01 --by day -c cti.yaml
  cti report calls --by hour_of_day --together --plot busy-hours.svg -c cti.yaml
  cti report team --by week --format csv -c cti.yaml

Single agents are off, unless `reports: {agents: true}` says otherwise: in many countries that needs an agreement with
those whose work is measured.
""",
    )
    parser.add_argument(
        "kind", nargs="?", default="calls", metavar="KIND", help="calls, team, agents or measures"
    )
    parser.add_argument(
        "--since", metavar="TIME", help="from then on: 2026-03-01, 2026-03-01T14:30, …T13:30Z"
    )
    parser.add_argument("--until", metavar="TIME", help="before then; now if not said")
    parser.add_argument(
        "--by",
        default="day",
        metavar="WORD",
        help="total, hour, day, week, month, hour_of_day or weekday; day if not said",
    )
    parser.add_argument(
        "--time-zone", metavar="ZONE", help="whose days, such as Europe/Berlin; reports.time_zone"
    )
    parser.add_argument("--service", metavar="NAME", help="only this service")
    parser.add_argument("--together", action="store_true", help="no row for each service")
    parser.add_argument("--agent", metavar="ID", help="only this agent")
    parser.add_argument(
        "--direction", default="inbound", metavar="WORD", help="inbound, outbound or internal"
    )
    parser.add_argument(
        "--plot",
        nargs="?",
        const="-",
        metavar="FILE",
        help="draw it: into an SVG file, or bars in the terminal",
    )
    _format(parser, "table", "csv", "json")


def _add_dial(commands: Any) -> None:
    parser = _command(
        commands,
        "dial",
        _dial,
        "have the server call somebody",
        """\
Asks the running server for a call: the agent's phone rings, and once it is picked up, the number. Takes numbers
as people write them, the names of agents, groups and services, and the links tel:, callto: and sip:, so that it
can be what a desktop opens such links with (docs/desktop.md).

  export CORDBOARD_TOKEN=$(cti token add anna-links --role agent --agent anna -c cti.yaml)
  cti dial tel:+4915228817386 -c cti.yaml
  cti dial 0152 28817386 --url https://cti.example --token-file ~/.config/cordboard.token

With --url no configuration is needed. The exit code is 1 if the server refuses; it says why.
""",
    )
    parser.add_argument("number", metavar="NUMBER", nargs="+", help="or a link")
    parser.add_argument("--url", metavar="URL", help="the server; by default that of the configuration")
    parser.add_argument(
        "--token-file", metavar="FILE", help="has the token, which else is read from CORDBOARD_TOKEN"
    )
    parser.add_argument("--agent", metavar="ID", help="who calls, for a token that belongs to nobody")
    _format(parser, "text", "json")


def _add_contacts(commands: Any) -> None:
    group = _group(commands, "contacts", "fill the embedded directory, and write it out")
    incoming = _command(
        group,
        "import",
        _import_contacts,
        "take contacts from a file, CSV or vCard",
        """\
A CSV file is in UTF-8 with a header, of these columns in any order; only id has to be there:

  id,type,name,company,numbers,owner,tier,language,tags,notes,url

A contact with a known id is updated, and keeps what a missing column would say. Lists (numbers, tags) are
separated by ";". type: contact, organisation, lead, partner or supplier. owner: the user's id in the directory,
which an agent's crm maps to the agent. Columns organisation, balance, dunning and those named as the adapter's
keys are taken, too.

A file of vCards (.vcf; 2.1, 3.0 or 4.0) is known again by UID; a card without one, by name, company and numbers.

  cti contacts import customers.csv -c cti.yaml
  cti contacts import phone.vcf -c cti.yaml

Lines that cannot be taken are named on stderr, and the exit code is 1; the others go in.
""",
    )
    incoming.add_argument("file", metavar="FILE", help="- for standard input")
    _contact_form(incoming)
    incoming.add_argument("--adapter", metavar="NAME", help="where there are several")
    _format(incoming, "text", "json")
    outgoing = _command(
        group,
        "export",
        _export_contacts,
        "write all contacts to a file, CSV or vCard",
        """\
The file can be imported again. A name that ends in .csv makes it CSV, .vcf vCards of version 3.0.

  cti contacts export customers.csv -c cti.yaml
  cti contacts export --as vcard4 customers.vcf -c cti.yaml
""",
    )
    outgoing.add_argument("file", metavar="FILE", help="- for standard output")
    _contact_form(outgoing)
    outgoing.add_argument("--adapter", metavar="NAME", help="where there are several")


def _contact_form(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--as", dest="form", choices=("csv", "vcard3", "vcard4"), help="what is in it; else its name says so"
    )


def _add_agents(commands: Any) -> None:
    group = _group(commands, "agents", "who answers: their phones, groups, skills, CRM users and states")
    listing = _command(
        group,
        "list",
        _list_agents,
        "show all agents",
        "Until the store has agents, these are those of the configuration, which will fill it.\n",
    )
    _format(listing, "table", "json")
    add = _command(
        group,
        "add",
        _add_agent,
        "add an agent",
        """\
  cti agents add anna --name "Anna Kovač" --phone PJSIP/anna --group sales --skill german=5 \\
    --crm directory=u1 -c cti.yaml
""",
    )
    add.add_argument("id", metavar="ID")
    _describes_agent(add)
    change = _command(
        group,
        "set",
        _set_agent,
        "change an agent, such as their state",
        """\
A running server takes it over within a second. Nobody's call is ended: who is paused in a call is paused
afterwards. --phone, --group, --skill and --crm replace all that the agent had of these.

  cti agents set anna --state paused --reason lunch -c cti.yaml
  cti agents set anna --phone PJSIP/anna --phone PJSIP/anna-home -c cti.yaml
""",
    )
    change.add_argument("id", metavar="ID")
    _describes_agent(change)
    change.add_argument("--reason", metavar="TEXT", help="of the state, such as lunch")
    remove = _command(
        group,
        "remove",
        _remove_agent,
        "remove an agent",
        "Refused while a rule names the agent, or a group that nobody else is in.\n",
    )
    remove.add_argument("id", metavar="ID")
    incoming = _command(
        group,
        "import",
        _import_agents,
        "take agents from a YAML file",
        """\
The file looks as `agents` does in the configuration:

  agents:
    anna: {name: Anna, phones: [PJSIP/anna], groups: [sales], crm: {directory: u1}, state: ready}

Who is there already is updated, and keeps their state and what the file leaves out. Nobody is removed. If
anything in the file is wrong, nothing is taken.
""",
    )
    incoming.add_argument("file", metavar="FILE", help="- for standard input")
    _format(incoming, "text", "json")
    outgoing = _command(
        group, "export", _export_agents, "write all agents as YAML", "The file can be imported again.\n"
    )
    outgoing.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="- (the default): standard output"
    )
    matching = _command(
        group,
        "match",
        _match_agents,
        "find out which user of a CRM is which agent",
        """\
Asks the CRM for its users, and says which agent each of them is: by log-in, else by extension, else by name. Only
what is certain is proposed: whom two fit, and who has a user of this CRM already, is left as it is.

  cti agents match odoo -c cti.yaml
  cti agents match odoo --apply -c cti.yaml
""",
    )
    matching.add_argument("adapter", metavar="ADAPTER", help="as the configuration names it")
    matching.add_argument(
        "--apply", action="store_true", help="write it to the agents; else it is only shown"
    )
    _format(matching, "table", "json")


def _describes_agent(parser: ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", help="what people call them")
    parser.add_argument(
        "--phone",
        action="append",
        metavar="DEVICE",
        help="Asterisk's name of a phone; repeatable, best first",
    )
    parser.add_argument("--group", action="append", metavar="NAME", help="repeatable")
    parser.add_argument(
        "--skill",
        action="append",
        metavar="SKILL=LEVEL",
        help="what they are good at, 1 to 9, the best; repeatable",
    )
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="how many calls they may have at once; 1 where not said"
    )
    parser.add_argument(
        "--crm", action="append", metavar="ADAPTER=USER", help="their user id in a CRM; repeatable"
    )
    parser.add_argument("--state", choices=("logged_out", "ready", "paused"))


def _add_users(commands: Any) -> None:
    group = _group(commands, "user", "who may log in, in a browser")
    add = _command(
        group,
        "add",
        _user_add,
        "add somebody who may log in",
        """\
Asks for the password, twice. Nobody may log in until the first one is added here; an admin adds others in the API.

  cti user add chief --role admin -c cti.yaml
  cti user add anna --role agent --agent anna -c cti.yaml
  pass show cordboard/ben | cti user add ben --role agent --agent ben --password-stdin -c cti.yaml

A password has 12 to 128 characters, and is not the name nor one of those that are tried first.
""",
    )
    add.add_argument("name", metavar="NAME", help="what they type to log in; capitals make no difference")
    add.add_argument("--role", required=True, metavar="ROLE", help="agent, supervisor or admin")
    add.add_argument("--agent", metavar="ID", help="whose calls are theirs; needed for the role agent")
    add.add_argument("--password-stdin", action="store_true", help="read it from one line of standard input")
    change = _command(
        group,
        "set",
        _user_set,
        "change somebody who may log in",
        """\
Where they are logged in, they are logged out within a second.

  cti user set anna --password -c cti.yaml
  cti user set ben --disabled yes -c cti.yaml
""",
    )
    change.add_argument("name", metavar="NAME")
    change.add_argument("--password", action="store_true", help="ask for a new one, twice")
    change.add_argument(
        "--password-stdin", action="store_true", help="read it from one line of standard input"
    )
    change.add_argument("--role", metavar="ROLE", help="agent, supervisor or admin")
    change.add_argument("--agent", metavar="ID", help='whose calls are theirs; "" for nobody\'s')
    change.add_argument("--disabled", choices=("yes", "no"), help="yes: may not log in")
    listing = _command(group, "list", _user_list, "show who may log in", "")
    _format(listing, "table", "json")
    remove = _command(
        group, "remove", _user_remove, "let somebody log in no more", "They are logged out within a second.\n"
    )
    remove.add_argument("name", metavar="NAME")


def _add_tokens(commands: Any) -> None:
    group = _group(commands, "token", "who may use the API")
    add = _command(
        group,
        "add",
        _token_add,
        "make a token and print it, this once",
        """\
Prints the token and nothing else. The store keeps only its digest: it cannot be shown again.

  cti token add wallboard --role supervisor -c cti.yaml
  TOKEN=$(cti token add anna-desk --role agent --agent anna --days 365 -c cti.yaml)
""",
    )
    add.add_argument("name", metavar="NAME", help="who or what uses it")
    add.add_argument("--role", required=True, metavar="ROLE", help="agent, supervisor, admin or crm")
    add.add_argument("--agent", metavar="ID", help="whose it is; needed for the role agent")
    add.add_argument(
        "--scope",
        action="append",
        metavar="NAME",
        help="good for this only, of what its role may: read, events, recordings, calls, agents, …; repeatable",
    )
    add.add_argument(
        "--extension", metavar="EXTENSION", help="whose calls a softphone tells of; with --scope softphone"
    )
    add.add_argument(
        "--days", type=_positive, metavar="N", help="how long it works; without it, until revoked"
    )
    listing = _command(group, "list", _token_list, "show all tokens, but not their text", "")
    _format(listing, "table", "json")
    revoke = _command(
        group,
        "revoke",
        _token_revoke,
        "make a token useless",
        "A running server refuses it within a second.\n",
    )
    revoke.add_argument("token", metavar="ID", help="or the name of a token that works")


def _add_privacy(commands: Any) -> None:
    purge = _command(
        commands,
        "purge",
        _purge,
        "remove what is older than the configuration keeps it",
        """\
What the server does by itself once a day, now: `retention` of the configuration says how many days of what are kept.
Safe beside a running server. What is still to be delivered to somebody is never removed.

  cti purge --dry-run -c cti.yaml
""",
    )
    purge.add_argument("--dry-run", action="store_true", help="only count")
    _format(purge, "text", "json")
    erase = _command(
        commands,
        "erase",
        _erase,
        "take a person out of everything that is kept",
        """\
The log keeps that there were calls, and nothing of who made them: no number, name, note, card, recording. Then every
table and file is searched, and where they still show is told (exit code 1). Safe beside a running server, which
forgets them as well; calls of theirs that go on are erased when they are over.

  cti export --number "0152 28817386" -c cti.yaml
  cti erase --number "0152 28817386" --party directory:17 --from-directory -c cti.yaml

What CRMs and other systems were told stays there; they are named.
""",
    )
    _whom(erase)
    erase.add_argument(
        "--from-directory",
        action="store_true",
        help="out of the embedded directories, too, with all kept there",
    )
    erase.add_argument(
        "--rewrite",
        action="store_true",
        help="write databases anew whatever their size, where they still show in free space; writing waits for that",
    )
    _format(erase, "text", "json")
    export = _command(
        commands,
        "export",
        _export,
        "everything that is kept of a person, as JSON",
        "Written to standard output: their calls with all that belongs to them, and everything else that is about"
        " them.\n",
    )
    _whom(export)


def _whom(parser: ArgumentParser) -> None:
    whom = parser.add_argument_group("whom", "at least one number or party; each may be given several times")
    whom.add_argument(
        "--number", action="append", metavar="NUMBER", help="a number of theirs, as people write it"
    )
    whom.add_argument("--party", action="append", metavar="ADAPTER:ID", help="who they are in a CRM")
    whom.add_argument("--name", action="append", metavar="NAME", help="what else they are called, in full")


def _add_outbox(commands: Any) -> None:
    group = _group(commands, "outbox", "what is on its way to CRMs and webhooks")
    listing = _command(
        group,
        "list",
        _outbox_list,
        "show deliveries, the newest first",
        """\
Each event that is told to somebody: to a webhook, by its name, to the URLs of notify:NAME, or to the journal of
crm:ADAPTER. What could not be delivered for the configured time (outbox.give_up_hours) is dead, and waits for
somebody to decide.

  cti outbox list --state dead -c cti.yaml
  cti outbox list --destination crm:odoo --state waiting --format json -c cti.yaml
""",
    )
    _deliveries(listing)
    listing.add_argument("--limit", type=_positive, default=100, metavar="N", help="so many, at most (100)")
    _format(listing, "table", "json")
    for name, run, summary, text in (
        (
            "retry",
            _outbox_retry,
            "have deliveries tried again",
            """\
At once, with the key that they had, and before what came after them in their call. By --destination and --call these
are the dead ones, unless --state says otherwise; by their ids, any.

  cti outbox retry 4711 4712 -c cti.yaml
  cti outbox retry --destination crm -c cti.yaml
  cti outbox retry --destination crm --state delivered --since 2026-03-01 -c cti.yaml
""",
        ),
        (
            "drop",
            _outbox_drop,
            "give deliveries up for good",
            """\
Those that wait or are dead; they stay in the log as dropped. By --destination and --call these are the dead ones,
unless --state says otherwise.

  cti outbox drop 4711 -c cti.yaml
  cti outbox drop --destination old-crm --state waiting -c cti.yaml
""",
        ),
    ):
        parser = _command(group, name, run, summary, text)
        parser.add_argument(
            "id", metavar="ID", type=_positive, nargs="*", help="as `cti outbox list` shows them"
        )
        _deliveries(parser)
        parser.add_argument("--all", action="store_true", help="of every destination")


def _deliveries(parser: ArgumentParser) -> None:
    """Which ones."""
    parser.add_argument("--destination", metavar="NAME", help="to this one")
    parser.add_argument("--state", metavar="STATE", help="waiting, delivered, dead or dropped")
    parser.add_argument("--call", metavar="ID", help="of this call")
    parser.add_argument("--type", metavar="EVENT", help="events of this type, such as call.ended")
    parser.add_argument("--since", metavar="TIME", help="made then or later, such as 2026-03-01")
    parser.add_argument("--until", metavar="TIME", help="made before then")


# How a command is made.


def _command(commands: Any, name: str, run: Run, summary: str, text: str) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{text}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _config(parser)
    parser.set_defaults(run=run)
    return parser


def _group(commands: Any, name: str, summary: str) -> Any:
    parser: ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    _config(parser)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _config(parser: ArgumentParser) -> None:
    # No default: a command's own would hide what stands in front of it.
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="the configuration (or CTI_CONFIG=FILE)",
    )


def _format(parser: ArgumentParser, *formats: str) -> None:
    parser.add_argument(
        "--format",
        choices=formats,
        default=formats[0],
        help=f"how it is written; {formats[0]} is the default",
    )


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return number


# Where each command is.


def _serve(arguments: Namespace) -> int:
    from cti.commands.serve import serve

    return serve(arguments)


def _check(arguments: Namespace) -> int:
    from cti.commands.check import check

    return check(arguments)


def _asterisk_conf(arguments: Namespace) -> int:
    from cti.commands.asterisk_conf import print_asterisk_conf

    return print_asterisk_conf(arguments)


def _try_adapter(arguments: Namespace) -> int:
    from cti.commands.adapter import try_adapter

    return try_adapter(arguments)


def _identify(arguments: Namespace) -> int:
    from cti.commands.lookup import identify_key, identify_number

    return identify_number(arguments) if arguments.key is None else identify_key(arguments)


def _explain(arguments: Namespace) -> int:
    from cti.commands.lookup import explain_call

    return explain_call(arguments)


def _calls(arguments: Namespace) -> int:
    from cti.commands.calls import list_calls

    return list_calls(arguments)


def _report(arguments: Namespace) -> int:
    from cti.commands.report import report

    return report(arguments)


def _dial(arguments: Namespace) -> int:
    from cti.commands.dial import dial

    return dial(arguments)


def _normalise_numbers(arguments: Namespace) -> int:
    from cti.commands.numbers import normalise_numbers

    return normalise_numbers(arguments)


def _write_back(arguments: Namespace) -> int:
    from cti.commands.write_back import write_back

    return write_back(arguments)


def _show_index(arguments: Namespace) -> int:
    from cti.commands.index import show_index

    return show_index(arguments)


def _rebuild_index(arguments: Namespace) -> int:
    from cti.commands.index import rebuild_index

    return rebuild_index(arguments)


def _match_agents(arguments: Namespace) -> int:
    from cti.commands.agents_match import match_agents

    return match_agents(arguments)


def _import_contacts(arguments: Namespace) -> int:
    from cti.commands.contacts import import_contacts

    return import_contacts(arguments)


def _export_contacts(arguments: Namespace) -> int:
    from cti.commands.contacts import export_contacts

    return export_contacts(arguments)


def _list_agents(arguments: Namespace) -> int:
    from cti.commands.agents import list_agents

    return list_agents(arguments)


def _add_agent(arguments: Namespace) -> int:
    from cti.commands.agents import add_agent

    return add_agent(arguments)


def _set_agent(arguments: Namespace) -> int:
    from cti.commands.agents import set_agent

    return set_agent(arguments)


def _remove_agent(arguments: Namespace) -> int:
    from cti.commands.agents import remove_agent

    return remove_agent(arguments)


def _import_agents(arguments: Namespace) -> int:
    from cti.commands.agents import import_agents

    return import_agents(arguments)


def _export_agents(arguments: Namespace) -> int:
    from cti.commands.agents import export_agents

    return export_agents(arguments)


def _user_add(arguments: Namespace) -> int:
    from cti.commands.users import add_user

    return add_user(arguments)


def _user_set(arguments: Namespace) -> int:
    from cti.commands.users import set_user

    return set_user(arguments)


def _user_list(arguments: Namespace) -> int:
    from cti.commands.users import list_users

    return list_users(arguments)


def _user_remove(arguments: Namespace) -> int:
    from cti.commands.users import remove_user

    return remove_user(arguments)


def _token_add(arguments: Namespace) -> int:
    from cti.commands.tokens import add_token

    return add_token(arguments)


def _token_list(arguments: Namespace) -> int:
    from cti.commands.tokens import list_tokens

    return list_tokens(arguments)


def _token_revoke(arguments: Namespace) -> int:
    from cti.commands.tokens import revoke_token

    return revoke_token(arguments)


def _purge(arguments: Namespace) -> int:
    from cti.commands.privacy import purge

    return purge(arguments)


def _erase(arguments: Namespace) -> int:
    from cti.commands.privacy import erase

    return erase(arguments)


def _export(arguments: Namespace) -> int:
    from cti.commands.privacy import export

    return export(arguments)


def _outbox_list(arguments: Namespace) -> int:
    from cti.commands.outbox import list_outbox

    return list_outbox(arguments)


def _outbox_retry(arguments: Namespace) -> int:
    from cti.commands.outbox import retry

    return retry(arguments)


def _outbox_drop(arguments: Namespace) -> int:
    from cti.commands.outbox import drop

    return drop(arguments)


if __name__ == "__main__":
    sys.exit(main())
