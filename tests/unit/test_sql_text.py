"""SQL of the configuration taken apart: what is a parameter, what only looks like one, and what is refused."""

import pytest
from attrs import evolve

from adapters.sql_options import SqlJournal, SqlOptions, SqlQueries
from adapters.sql_server import _for_mysql, _for_psycopg
from adapters.sql_text import StatementError, like, parse

IDENTIFY = "SELECT id, phone FROM people WHERE phone LIKE :like LIMIT :limit"
OPTIONS = SqlOptions("postgresql", "crm", "cordboard", SqlQueries(IDENTIFY))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ':name'",
        'SELECT ":name" FROM t',
        "SELECT `:name` FROM t",
        "SELECT 1 -- :name",
        "SELECT /* :name ' */ 1",
        "SELECT a::name FROM t",
        "SELECT $$ :name $$",
        "SELECT $x$ :name $$ ; $x$",
        "SELECT 'it''s :name'",
        "SELECT @a := 1",
        "SELECT '12:name'",
    ],
)
def test_a_colon_in_quotes_comments_and_casts_is_no_parameter(text: str) -> None:
    (statement,) = parse(text)
    assert statement.pieces == (text,)


def test_parameters_are_found_between_everything_else() -> None:
    (statement,) = parse("SELECT a::text FROM t WHERE b=:one AND c = ':no' OR d::int=:two::int")
    assert statement.names == {"one", "two"}
    assert (
        _for_psycopg(statement)
        == b"SELECT a::text FROM t WHERE b=%(one)s AND c = ':no' OR d::int=%(two)s::int"
    )


def test_a_per_cent_sign_is_one_to_the_driver() -> None:
    (statement,) = parse("SELECT '50 %' WHERE a % 2 = :n")
    assert _for_psycopg(statement) == b"SELECT '50 %%' WHERE a %% 2 = %(n)s"


def test_semicolons_divide_statements_but_not_in_quotes() -> None:
    assert [each.pieces[0].strip() for each in parse("SELECT ';'; SELECT 2;\n")] == ["SELECT ';'", "SELECT 2"]


@pytest.mark.parametrize("text", ["SELECT 'a", 'SELECT "a', "SELECT /* a", "SELECT '\\'", "x" * 30_000])
def test_what_has_no_certain_end_is_refused(text: str) -> None:
    with pytest.raises(StatementError):
        parse(text)


@pytest.mark.parametrize("value", ["' OR ''='", "\\", "\\'", "');DROP TABLE t;--", "😀\u2019", "\n\x1a"])
def test_nothing_in_a_value_can_end_it(value: str) -> None:
    (statement,) = parse("SELECT :value")
    assert _for_mysql(statement, {"value": value}) == f"SELECT _utf8mb4 X'{value.encode().hex()}'"


def test_what_means_something_in_a_pattern_means_itself() -> None:
    assert like("50%_\\x") == "50\\%\\_\\\\x"


def test_a_parameter_that_there_is_not_is_named_with_what_may_have_been_meant() -> None:
    with pytest.raises(ValueError, match=r"identify: .*e163.*e164"):
        SqlQueries("SELECT 1 WHERE :e163 = ''")


def test_what_is_written_may_use_what_came_before_it() -> None:
    SqlQueries(IDENTIFY, note="SELECT 1 AS n; INSERT INTO notes VALUES (:n, :text)")
    with pytest.raises(ValueError, match="note"):
        SqlQueries(IDENTIFY, note="INSERT INTO notes VALUES (:n, :text)")


@pytest.mark.parametrize(
    ("queries", "about"),
    [
        ({"identify": ""}, "identify"),
        ({"identify": IDENTIFY, "card": "SELECT 1; SELECT 2"}, "card"),
        ({"identify": IDENTIFY, "cases": "SELECT 1"}, "card"),
        ({"identify": IDENTIFY, "list": "SELECT 1", "changes": "SELECT 1"}, "mark"),
        (
            {"identify": IDENTIFY, "numbers": {"phone": "UPDATE t SET phone = :new WHERE phone = :old"}},
            "list",
        ),
    ],
)
def test_queries_that_do_not_go_together_are_refused(queries: dict[str, str], about: str) -> None:
    with pytest.raises(ValueError, match=about):
        SqlQueries(**queries)  # type: ignore[arg-type]


def test_a_journal_needs_a_way_to_write() -> None:
    with pytest.raises(ValueError, match="insert"):
        SqlJournal("SELECT id FROM calls WHERE k = :key", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"server": "oracle"},
        {"connections": 0},
        {"seconds": 0.0},
        {"type": "customer"},
        {"types": {"X": "customer"}},
        {"columns": {"nmae": "name"}},
        {"time_zone": "Berlin"},
        {"region": "XX"},
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))[:4]):
        evolve(OPTIONS, **changes)  # type: ignore[arg-type]


def test_tls_is_left_out_only_on_this_machine() -> None:
    assert not OPTIONS.with_tls
    assert evolve(OPTIONS, host="db.company.example").with_tls
    assert not evolve(OPTIONS, host="/run/postgresql").with_tls
    assert not evolve(OPTIONS, host="db.company.example", tls=False).with_tls


def test_parts_stand_in_queries_and_other_braces_stay() -> None:
    parts = {"party": "SELECT 1 AS id"}
    options = evolve(OPTIONS, parts=parts, queries=SqlQueries("SELECT '{x}', * FROM ({party}) AS q"))
    assert options.whole_queries().identify == "SELECT '{x}', * FROM (SELECT 1 AS id) AS q"
