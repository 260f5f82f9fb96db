"""Which tables a text of SQL writes to."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_signal_audit.capture import statement, tokens
from django_signal_audit.capture.statement import Write, read, table_name

VENDORS = ["sqlite", "postgresql", "mysql", "oracle"]


def found(text, vendor="postgresql"):
    return [(write.operation, write.table) for write in read(text, vendor).writes]


WRITES = {
    "INSERT INTO book VALUES (1)": "insert book",
    "insert into Book (a, b) select 1, 2 from other": "insert book",
    "INSERT OR REPLACE INTO book VALUES (1)": "replace book",
    "INSERT OR IGNORE INTO book VALUES (1)": "insert book",
    "INSERT IGNORE INTO book VALUES (1)": "insert book",
    "INSERT HIGH_PRIORITY IGNORE book SET a = 1": "insert book",
    "INSERT INTO book VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2": "insert book",
    "REPLACE INTO book VALUES (1)": "replace book",
    "REPLACE LOW_PRIORITY book VALUES (1)": "replace book",
    "UPDATE book SET a = 1": "update book",
    "UPDATE ONLY book SET a = 1": "update book",
    "UPDATE ONLY (book) SET a = 1": "update book",
    "UPDATE book * SET a = 1": "update book",
    "UPDATE book AS b SET a = 1": "update book",
    "UPDATE book b SET a = 1": "update book",
    "UPDATE OR ROLLBACK book SET a = 1": "update book",
    "UPDATE LOW_PRIORITY IGNORE book SET a = 1": "update book",
    "UPDATE book INDEXED BY i SET a = 1": "update book",
    "UPDATE book SET a = x.a FROM other x WHERE x.id = book.id": "update book",
    "UPDATE book SET (a, b) = (SELECT 1, 2)": "update book",
    "UPDATE shop.book SET a = 1": "update book",
    'UPDATE "shop"."Book" SET a = 1': "update book",
    "UPDATE db . shop . book SET a = 1": "update book",
    "DELETE FROM book": "delete book",
    "DELETE FROM ONLY book WHERE a": "delete book",
    "DELETE FROM ONLY (book) WHERE a": "delete book",
    "DELETE FROM book b WHERE a": "delete book",
    "DELETE FROM book AS b USING other AS o WHERE a": "delete book",
    "DELETE LOW_PRIORITY QUICK IGNORE FROM book WHERE a": "delete book",
    "MERGE INTO book b USING other o ON b.id = o.id WHEN MATCHED THEN DELETE": "merge book",
    "MERGE INTO ONLY book USING other ON true WHEN MATCHED THEN DO NOTHING": "merge book",
    "MERGE book USING other ON 1 = 1 WHEN MATCHED THEN DELETE": "merge book",
    "TRUNCATE book": "truncate book",
    "TRUNCATE TABLE ONLY book RESTART IDENTITY CASCADE": "truncate book",
    "TRUNCATE book, ONLY loan *, public.tag": "truncate book, truncate loan, truncate tag",
    "COPY book FROM STDIN": "copy book",
    "COPY BINARY shop.book (a, b) FROM '/tmp/x'": "copy book",
    "LOAD DATA LOCAL INFILE 'into table x' REPLACE INTO TABLE book": "load book",
    "LOAD XML INFILE 'x' INTO TABLE shop.book": "load book",
    "WITH x AS (SELECT 1) UPDATE book SET a = 1": "update book",
    "WITH RECURSIVE x (a, b) AS (SELECT 1), y AS (SELECT 2) DELETE FROM book": "delete book",
    "WITH x AS (SELECT 1) INSERT INTO book SELECT * FROM x": "insert book",
    "WITH update AS (SELECT 1) INSERT INTO book SELECT * FROM x": "insert book",
    "WITH x AS (DELETE FROM loan RETURNING *) SELECT * FROM x FOR UPDATE": "delete loan",
    (
        "WITH x AS MATERIALIZED (UPDATE a SET b = (1) RETURNING *), "
        "y AS NOT MATERIALIZED (DELETE FROM b) INSERT INTO c SELECT 1"
    ): "update a, delete b, insert c",
    "WITH x AS (SELECT 1) SEARCH DEPTH FIRST BY a, b SET o MERGE INTO book": "merge book",
    "EXPLAIN ANALYZE DELETE FROM book": "delete book",
    "EXPLAIN ANALYSE VERBOSE DELETE FROM book": "delete book",
    "EXPLAIN (COSTS OFF, ANALYZE) UPDATE book SET a = 1": "update book",
    "EXPLAIN (ANALYZE true) UPDATE book SET a = 1": "update book",
    "SELECT 1; UPDATE book SET a = 1": "update book",
    ";; UPDATE book SET a = ';' ; DELETE FROM loan;": "update book, delete loan",
    "BEGIN; UPDATE book SET a = 1; COMMIT": "update book",
    "UPDATE book SET a = 1; UPDATE book SET a = 2": "update book",
    "(((DELETE FROM book)))": "delete book",
    "CREATE TABLE book (event int); DELETE FROM book": "delete book",
    "UPDATE book SET a = %s, b = %(b)s WHERE c = %s": "update book",
    "SET STATEMENT max_statement_time=1, sql_mode='for' FOR UPDATE book SET a = 1": "update book",
    "BEGIN NOT ATOMIC UPDATE book SET a = 1; DELETE FROM loan; END": "update book, delete loan",
}


@pytest.mark.parametrize("text", WRITES)
def test_a_write_is_found(text):
    assert ", ".join(f"{operation} {table}" for operation, table in found(text)) == WRITES[text]


NO_WRITES = [
    "",
    ";",
    "SELECT * FROM book FOR UPDATE",
    "SELECT * FROM book FOR NO KEY UPDATE OF book",
    "SELECT replace(a, 'x', 'y'), truncate(b, 1) FROM book",
    "SELECT 'a; DELETE FROM book'",
    "SELECT 1 -- ; DELETE FROM book",
    "SELECT 1 /* ; DELETE FROM book */",
    "SELECT a AS update FROM book",
    "VALUES ('UPDATE book')",
    "WITH x AS (SELECT 1) SELECT replace(a, b, c) FROM x FOR UPDATE",
    "WITH x AS (SELECT 1) TABLE x",
    "WITH x AS (SELECT a FROM book FOR UPDATE) VALUES (1)",
    "EXPLAIN DELETE FROM book",
    "EXPLAIN (ANALYZE false) DELETE FROM book",
    "EXPLAIN (ANALYZE off, BUFFERS) DELETE FROM book",
    "EXPLAIN QUERY PLAN UPDATE book SET a = 1",
    "EXPLAIN ANALYZE SELECT * FROM book FOR UPDATE",
    "DESCRIBE book",
    "DESC UPDATE book SET a = 1",
    "ANALYZE book",
    "ANALYZE TABLE book",
    "COPY book TO STDOUT",
    "COPY (SELECT * FROM book) TO STDOUT",
    "LOAD INDEX INTO CACHE book",
    "ALTER TABLE book ADD a int",
    "DROP TABLE book",
    "CREATE INDEX i ON book (a)",
    "CREATE TRIGGER t AFTER INSERT ON x BEGIN UPDATE book SET a = 1; UPDATE book SET b = 1; END",
    "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM a; DELETE FROM b; END",
    "SET search_path = book",
    "BEGIN IMMEDIATE",
    "DECLARE c CURSOR FOR SELECT * FROM book",
    "INSERT",
    "UPDATE",
    "UPDATE = SET a = 1",
    "DELETE",
    "MERGE INTO",
    "TRUNCATE TABLE",
    "WITH",
    "WITH x",
    "WITH x AS (",
    "EXPLAIN ANALYZE",
    "SET STATEMENT",
    "CREATE",
    "(",
]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("text", NO_WRITES)
def test_what_writes_nothing_is_no_write(text, vendor):
    assert found(text, vendor) == []


SEVERAL_TABLES = {
    "UPDATE a JOIN b ON a.id = b.id SET a.x = 1": "a",
    "UPDATE a JOIN b ON a.id = b.id SET b.x = a.x, b.y = f(a.x, 1)": "b",
    "UPDATE a x JOIN b AS y ON x.id = y.id SET y.z = 1 WHERE x.z = 1": "b",
    "UPDATE a, b SET a.x = 1, b.x = 2": "a b",
    "UPDATE a, b SET x = 1": "a b",
    "UPDATE a LEFT JOIN (SELECT id, 'set' FROM c) d ON a.id = d.id SET a.x = d.id": "a",
    "UPDATE (a JOIN b USING (id, k)), c SET c.x = 1": "c",
    "UPDATE (a, (b JOIN c)) SET b.x = 1": "b",
    "UPDATE shop.a STRAIGHT_JOIN b SET shop.a.x = ','": "a",
    "UPDATE a USE INDEX (i, j) JOIN b ON a.x = ',' AND a.y = 'join' SET b.y = 1": "b",
    "UPDATE a PARTITION (p, q) JOIN LATERAL (VALUES (1)) v SET a.x = 1": "a",
    "DELETE a FROM a JOIN b ON a.id = b.id": "a",
    "DELETE a.*, b.* FROM a JOIN b JOIN c": "a b",
    "DELETE x FROM a AS x LEFT JOIN b y ON x.id = y.id WHERE y.id IS NULL": "a",
    "DELETE FROM a, b USING a JOIN b JOIN c": "a b",
    "DELETE FROM x.* USING a AS x, b": "a",
    "DELETE QUICK x FROM a x": "a",
}


@pytest.mark.parametrize("text", SEVERAL_TABLES)
def test_of_several_tables_those_are_found_that_are_written(text):
    assert sorted(table for _, table in found(text, "mysql")) == SEVERAL_TABLES[text].split()


QUOTED = {
    'UPDATE "book" SET a = 1': ["sqlite", "postgresql", "mysql", "oracle"],
    "UPDATE `book` SET a = 1": ["sqlite", "mysql"],
    "UPDATE [book] SET a = 1": ["sqlite", "microsoft"],
    "UPDATE [shop].[book] SET a = 1": ["sqlite", "microsoft"],
    "UPDATE 'book' SET a = 1": ["sqlite"],
    'UPDATE"book"SET a = 1': VENDORS,
    "DELETE/**/FROM/**/book": VENDORS,
    "UPDATE--\nbook SET a = 1": VENDORS,
    "UPDATE#\nbook SET a = 1": ["mysql"],
    "/*!UPDATE*/ book SET a = 1": ["mysql"],
    "/*M!100000 UPDATE book SET a = 2 */": ["mysql"],
    "SELECT 2*/*x*/3; DELETE FROM book": ["mysql"],
    "SELECT /* a /* b */ ; */ 1; DELETE FROM book": ["postgresql"],
    "SELECT $$ ; $$, $a$ $$ $a$; DELETE FROM book": ["postgresql"],
    "SELECT a$b$, $1; DELETE FROM book": ["postgresql"],
    r"SELECT E'\';', '\'; DELETE FROM book": ["postgresql"],
    r"SELECT '\';', "
    r'"\";"; DELETE FROM book': ["mysql"],
    "SELECT 'it''s;'; DELETE FROM book": VENDORS,
    "SELECT a--1\n; DELETE FROM book": ["mysql"],
    "SELECT a[1]; DELETE FROM book": ["postgresql"],
}


@pytest.mark.parametrize(
    ("text", "vendor"), [(text, vendor) for text, vendors in QUOTED.items() for vendor in vendors]
)
def test_each_database_has_its_own_quotes_and_comments(text, vendor):
    assert [table for _, table in found(text, vendor)] == ["book"]


HIDDEN = {
    "SELECT 1 # ; DELETE FROM book": "mysql",
    "SELECT 1 -- ; DELETE FROM book": "sqlite",
    "SELECT $$ ; DELETE FROM book": "postgresql",
    "SELECT $x$ ; DELETE FROM book $y$": "postgresql",
    "SELECT /* /* */ ; DELETE FROM book": "postgresql",
    "SELECT /* ; DELETE FROM book": "sqlite",
    "SELECT 'x ; DELETE FROM book": "mysql",
    'SELECT "x"" ; DELETE FROM book': "sqlite",
    "SELECT [x]] ; DELETE FROM book": "sqlite",
    r"SELECT E'\' ; DELETE FROM book": "postgresql",
}


@pytest.mark.parametrize("text", HIDDEN)
def test_what_stands_in_a_string_or_comment_is_no_statement(text):
    assert found(text, HIDDEN[text]) == []


def test_mariadb_runs_what_it_analyzes_and_others_do_not():
    text = "ANALYZE FORMAT=JSON UPDATE book SET a = 1"
    assert found(text, "mysql") == [("update", "book")]
    assert found(text, "postgresql") == []


def test_a_name_may_hold_its_quotes():
    assert found('UPDATE "bo""ok" SET a = 1') == [("update", 'bo"ok')]
    assert found("UPDATE [bo]]ok] SET a = 1", "sqlite") == [("update", "bo]ok")]


def test_a_truncate_says_whether_it_takes_in_what_refers_to_its_tables():
    for text, cascades in {
        "TRUNCATE a, b CASCADE": True,
        "TRUNCATE TABLE a, ONLY b RESTART IDENTITY CASCADE": True,
        "TRUNCATE a, b CONTINUE IDENTITY RESTRICT": False,
        "TRUNCATE a, b": False,
    }.items():
        assert [write.cascades for write in read(text, "postgresql").writes] == [cascades] * 2


COUNTED = {
    "UPDATE book SET a = 1": [True],
    "UPDATE book SET a = 1;": [True],
    "INSERT INTO book VALUES (1)": [True],
    "MERGE INTO book USING x ON true WHEN MATCHED THEN DELETE": [True],
    "COPY book FROM '/x'": [True],
    "WITH x AS (DELETE FROM loan RETURNING *) INSERT INTO book SELECT * FROM x": [False, True],
    "WITH x AS (DELETE FROM loan RETURNING *) SELECT * FROM x": [False],
    "TRUNCATE book": [False],
    "EXPLAIN ANALYZE UPDATE book SET a = 1": [False],
    "UPDATE book SET a = 1; SELECT 1": [False],
    "DELETE a, b FROM a JOIN b": [False, False],
    "SET STATEMENT x=1 FOR UPDATE book SET a = 1": [True],
}


@pytest.mark.parametrize("text", COUNTED)
def test_the_row_count_is_that_of_one_table_of_one_statement(text):
    assert [write.counted for write in read(text, "mysql").writes] == COUNTED[text]


def test_the_name_of_a_models_table_may_hold_a_schema():
    assert table_name("shop_Book") == "shop_book"
    assert table_name('"shop"."Book"') == "book"
    assert table_name('shop"."book') == "book"
    assert table_name("`shop`.`book`") == "book"
    assert table_name("odd.name") == "odd.name"


def test_a_long_text_is_not_kept():
    before = statement._known.cache_info().currsize
    text = f"UPDATE book SET a = '{'x' * 5000}'"
    assert found(text) == [("update", "book")]
    assert statement._known.cache_info().currsize == before


def test_a_text_of_many_statements_is_read_to_its_end():
    text = "SELECT 1;" * 5000 + "DELETE FROM book"
    assert found(text) == [("delete", "book")]
    assert read(text, "sqlite").statements == 5001


LARGE = {
    "values": "INSERT INTO book VALUES " + "(1, 'a;'), " * 200_000,
    "a string": "INSERT INTO book VALUES ('" + "a;" * 1_000_000 + "')",
    "a group": "WITH x AS (SELECT " + "1, " * 600_000 + "1) INSERT INTO book VALUES (1)",
}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("name", LARGE)
def test_a_large_text_is_not_read_token_by_token(name, vendor, monkeypatch):
    scans = []
    scan = tokens.Reader._scan
    monkeypatch.setattr(tokens.Reader, "_scan", lambda self: scans.append(1) or scan(self))
    reading = read(f"{LARGE[name]}; DELETE FROM loan;", vendor)
    assert [(w.operation, w.table) for w in reading.writes] == [
        ("insert", "book"),
        ("delete", "loan"),
    ]
    assert len(scans) < 50


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("SELECT E'\\';' ; DELETE FROM book", "postgresql"),
        ("SELECT a$b$, 1; DELETE FROM book; SELECT 1 AS c$b$", "postgresql"),
        ("SELECT $b$ ; $b$, $$;$$; DELETE FROM book", "postgresql"),
        ("SELECT 1 /* /* ; */ ; */; DELETE FROM book", "postgresql"),
        ("SELECT 1 /*! , '*/;' */; DELETE FROM book", "mysql"),
        ("SELECT '\\';' # ; DELETE FROM loan\n; DELETE FROM book", "mysql"),
        ("SELECT [a;'] ; DELETE FROM book", "sqlite"),
    ],
)
def test_what_is_passed_in_one_go_is_read_like_the_rest(text, vendor):
    reading = read(text, vendor)
    assert [(w.operation, w.table) for w in reading.writes] == [("delete", "book")]


def test_what_is_empty_is_no_statement():
    assert read(" ; -- x\n; SELECT 1 ;; ", "sqlite").statements == 1


PIECES = sorted(
    {"UPDATE", "SET", "INSERT", "INTO", "DELETE", "FROM", "WITH", "AS", "USING", "JOIN", "EXPLAIN"}
    | {"ANALYZE", "BEGIN", "NOT", "ATOMIC", "STATEMENT", "FOR", "COPY", "LOAD", "TABLE", "ONLY"}
    | {"CREATE", "TRIGGER", "MERGE", "TRUNCATE", "SELECT", "a", "b", "x1", "%s", "1"}
    | {"(", ")", ",", ";", ".", "*", "=", "'", '"', "`", "[", "]", "$$", "$a$", "\\", "--", "#"}
    | {"/*", "*/", "/*!", "/*!50000", "\n", " ", "E'", "''", '""', "\0", "é", "\ud800"}
)
ANY_TEXT = st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join)


@given(ANY_TEXT, st.sampled_from(VENDORS))
@example("(" * 100_000, "mysql")
@example("EXPLAIN ANALYZE " * 5000 + "DELETE FROM a", "postgresql")
@example("BEGIN NOT ATOMIC " * 5000, "mysql")
@example("SET STATEMENT a FOR " * 5000, "mysql")
@example("WITH a AS (" * 5000, "postgresql")
@example("UPDATE (" * 5000, "postgresql")
@example("'" * 100_001, "sqlite")
def test_any_text_can_be_read(text, vendor):
    assert all(isinstance(write, Write) for write in read(text, vendor).writes)


SPACES = {
    "sqlite": [" ", "\n", "\t", "/* UPDATE */", "-- DELETE FROM x;\n", "/*;*/"],
    "postgresql": [" ", "\r\n", "/* a /* ; */ ' */", "-- ' ;\n", "/**/"],
    "mysql": [" ", "\n", "/* ' */", "-- ;\n", '# " ;\n', "/*! */", "/*!50000*/"],
}
QUOTES = {"sqlite": ['"{}"', "`{}`", "[{}]"], "postgresql": ['"{}"'], "mysql": ["`{}`"]}
BEFORE = ["", "SELECT ';'{};", ";", "WITH{}c AS{}(SELECT{}1){}"]
SHAPES = [
    "insert{}into{}@{}(a){}VALUES{}(1)",
    "Update{}@{}SET{}a{}={}1",
    "DELETE{}from{}@{}WHERE{}a{}={}';'",
]


@given(st.data())
def test_a_write_is_found_however_it_is_spaced_and_commented(data):
    vendor = data.draw(st.sampled_from(sorted(SPACES)))
    space = st.lists(st.sampled_from(SPACES[vendor]), min_size=1, max_size=3).map("".join)
    name = data.draw(st.sampled_from(["{}", *QUOTES[vendor]])).format("library_Book")
    schema = data.draw(st.sampled_from(["", "public.", "main . "]))
    parts = (data.draw(st.sampled_from(BEFORE)) + data.draw(st.sampled_from(SHAPES))).split("{}")
    text = parts[0] + "".join(data.draw(space) + part for part in parts[1:])
    text = text.replace("@", schema + name)
    assert [write.table for write in read(text, vendor).writes] == ["library_book"]
