"""Names that are sensitive, and secrets that leave query strings and texts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.event import REDACTED
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.redaction import Redactor

redactor = Redactor()

HARMLESS = """
name email address secretary secretaries secretariat secretion tokenize tokenizer
tokenization passport passport_number pinned pinning shipping spinner opinion
obsession possession compass passenger boarding_pass pass_count author authenticated
auth_method key keys primary_key foreign_key public_key cache_key sort_key keyboard
monkey api version card postcard number access private encryption passwordless
description is_active wage_bonus _ - .
"""

SENSITIVE = """
password Password PASSWORD password1 passwords new_password newPassword newpassword
passwordhash password_hash pass_word user.password user[password] old-password passwd
passphrase pwd db_pwd secret secrets client_secret clientSecret SECRET_KEY token tokens
api_token apiToken APIToken accesstoken access-token refreshToken tokenid csrfToken
csrftoken csrfmiddlewaretoken X-CSRFToken apikey api_key apiKey API_KEY APIKey X-Api-Key
apikeys api_keys private_key privateKey privatekey access_key AWS_ACCESS_KEY_ID
signing_key encryption_key encryptionKeys session_key sessionKey session sessions
sessionid sessiondata session_data JSESSIONID PHPSESSID credential credentials
aws_credentials authorization Authorization HTTP_AUTHORIZATION Proxy-Authorization
cookie cookies Set-Cookie cookies_eaten otp otp_code totp totp_secret cvv cvv2 cvc
pin pins pin_code userPIN credit_card creditCard creditcard card_number cardnumber
card-numbers user_pass db_pass pass auth jwt id_jwt recovery_codes backup_code mfa_code
"""


@pytest.mark.parametrize("name", SENSITIVE.split())
def test_name_of_a_secret_is_sensitive(name):
    assert redactor.is_sensitive(name)


@pytest.mark.parametrize("name", HARMLESS.split())
def test_name_of_something_else_is_not_sensitive(name):
    assert not redactor.is_sensitive(name)


def test_phrase_with_a_space_is_sensitive():
    assert redactor.is_sensitive("Api Key")
    assert redactor.is_sensitive("credit  card")


def test_empty_name_is_not_sensitive():
    assert not redactor.is_sensitive("")


def test_plain_names_win_exactly_and_in_any_case():
    mine = Redactor(plain_names=["Token_Count"])
    assert not mine.is_sensitive("token_count")
    assert not mine.is_sensitive("TOKEN_COUNT")
    assert mine.is_sensitive("token")
    assert mine.is_sensitive("my_token_count")


@pytest.mark.parametrize("name", ["iban", "IBAN", "userIban", "ibans", "customer_iban"])
def test_extra_word_is_sensitive_wherever_it_stands(name):
    assert not redactor.is_sensitive(name)
    assert Redactor(extra_names=["iban"]).is_sensitive(name)


@pytest.mark.parametrize(
    "name", ["home_address", "userHomeAddress", "home_addresses", "homeaddress"]
)
def test_extra_phrase_is_sensitive_in_every_spelling(name):
    assert not redactor.is_sensitive(name)
    assert Redactor(extra_names=["home address"]).is_sensitive(name)


@pytest.mark.parametrize("name", ["address", "home", "home_of_address"])
def test_extra_phrase_needs_its_words_side_by_side(name):
    assert not Redactor(extra_names=["home address"]).is_sensitive(name)


@pytest.mark.parametrize("option", ["extra_names", "plain_names"])
def test_one_string_instead_of_a_list_is_refused_by_name(option):
    with pytest.raises(AuditConfigurationError, match=rf"{option} must be a list.*'iban'"):
        Redactor(**{option: "iban"})


def test_endless_names_are_decided_but_not_kept():
    mine = Redactor()
    assert mine.is_sensitive("x" * 100_000 + "_password")
    assert mine._cached.cache_info().currsize == 0


def test_one_redactor_serves_many_threads():
    names = ["password", "name", "api_key", "email"] * 500
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(redactor.is_sensitive, names)) == [True, False, True, False] * 500


# Query strings


@pytest.mark.parametrize(
    ("query", "redacted"),
    [
        ("", ""),
        ("page=2&q=a+b%20c", "page=2&q=a+b%20c"),
        ("token=abc", "token=[redacted]"),
        ("?token=abc&x=1", "?token=[redacted]&x=1"),
        ("a=1&PASSWORD=x%26y&b=", "a=1&PASSWORD=[redacted]&b="),
        ("api%5Fkey=1&x", "api%5Fkey=[redacted]&x"),
        ("token=a&token=b", "token=[redacted]&token=[redacted]"),
        ("token=a=b==", "token=[redacted]"),
        ("token=", "token=[redacted]"),
        ("token", "token"),
        ("user[password]=x", "user[password]=[redacted]"),
        ("a=1;token=abc", "a=[redacted]"),
        ("next=/reset%3Ftoken%3Dabc&x=1", "next=[redacted]&x=1"),
        ("next=/list%3Fpage%3D2", "next=/list%3Fpage%3D2"),
        ("%zz=%f&&&=x&\x00=\udc80", "%zz=%f&&&=x&\x00=\udc80"),
    ],
)
def test_query_string(query, redacted):
    assert redactor.redact_query_string(query) == redacted


@given(st.text(st.characters(exclude_characters="=")))
def test_query_string_without_values_is_unchanged(query):
    assert redactor.redact_query_string(query) == query


@given(st.text())
def test_any_query_string_is_accepted(query):
    redactor.redact_query_string(query)


# Known secrets in texts


def test_known_secret_is_replaced_wherever_it_stands():
    text = redactor.scrub_text("value xhunter22x and hunter22.", {"hunter22"})
    assert text == "value x[redacted]x and [redacted]."


def test_short_secret_is_replaced_only_as_a_whole_word():
    assert (
        redactor.scrub_text("abc abcd 'abc' xabc", ["abc"]) == "[redacted] abcd '[redacted]' xabc"
    )


def test_empty_and_blank_secrets_are_ignored():
    assert redactor.scrub_text("a b", ["", " ", "      "]) == "a b"


def test_longest_secret_goes_first():
    assert redactor.scrub_text("abcdef-ghijkl", ["abcdef", "abcdef-ghijkl"]) == REDACTED


def test_placeholder_survives_a_secret_that_looks_like_it():
    assert redactor.scrub_text("password=hunter2 redacted", ["redacted"]) == (
        "password=[redacted] [redacted]"
    )


def test_text_without_secrets_is_unchanged():
    text = "Employees object created: user1 last_user at 12:30 (72) https://example.org:80/a?b=c@d"
    assert redactor.scrub_text(text, ["nowhere"]) == text


@pytest.mark.parametrize("secret", ['it\'s "quoted"', "back\\slash\n", "a&b<c>/?d e", "ü'né\x00x"])
@pytest.mark.parametrize(
    "form",
    [
        repr,
        json.dumps,
        lambda s: json.dumps(s, ensure_ascii=False),
        quote,
        lambda s: quote(s, safe=""),
        quote_plus,
        lambda s: s.replace("'", "''"),
    ],
)
def test_known_secret_is_found_in_its_escaped_forms(secret, form):
    assert form(secret).strip("'\"") not in redactor.scrub_text(
        f"failed at {form(secret)}", [secret]
    )


def test_lone_surrogate_in_a_secret_is_accepted():
    assert redactor.scrub_text("x hun\udc80ter y", ["hun\udc80ter"]) == "x [redacted] y"
    assert redactor.scrub_text(r"x hun\udc80ter y", ["hun\udc80ter"]) == "x [redacted] y"


def test_beginning_of_a_secret_at_the_cut_is_replaced():
    assert redactor.scrub_text("bad value hunter2-ve...[+120]", ["hunter2-very-long"]) == (
        "bad value [redacted]...[+120]"
    )


@given(st.text(min_size=6), st.text(), st.text())
def test_long_secret_never_survives(secret, before, after):
    if secret.strip() and secret not in REDACTED:
        text = redactor.scrub_text(f"{before}{secret}{after}", [secret])
        assert all(secret not in part for part in text.split(REDACTED))


@given(st.text(), st.lists(st.text()))
def test_a_prepared_scrubber_gives_the_same(text, secrets):
    assert redactor.scrubber(secrets)(text) == redactor.scrub_text(text, secrets)


@given(st.text(), st.lists(st.text()))
def test_any_text_is_accepted(text, secrets):
    redactor.scrub_text(text, secrets)


# What databases say


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (
            "DETAIL:  Key (email, api_token)=(a@b.c, abc) already exists.\n",
            "DETAIL:  Key (email, api_token)=([redacted]) already exists.\n",
        ),
        ("Key (email)=(a@b.c) already exists.", "Key (email)=(a@b.c) already exists."),
        (
            'Key ("apiToken")=(a) b, (c)\nd) is not present in table "x".',
            'Key ("apiToken")=([redacted]) is not present in table "x".',
        ),
        (
            "Key (lower((api_token)::text))=(abc) already exists.",
            "Key (lower((api_token)::text))=([redacted]) already exists.",
        ),
        (
            "Key (no, pin)=(1, 2) conflicts with existing key (no, pin)=(1, 3).",
            "Key (no, pin)=([redacted]) conflicts with existing key (no, pin)=([redacted]).",
        ),
        ("Schlüssel »(token)=(abc)« existiert bereits.", "Schlüssel »(token)=([redacted])"),
        ("Key (token)=(abc...[+20]", "Key (token)=([redacted])"),
        (
            "Key (email)=(a) already exists. Key (token)=(b) already exists.",
            "Key (email)=(a) already exists. Key (token)=([redacted]) already exists.",
        ),
        (
            "DETAIL:  Failing row contains (1, null, ab)c, (x).",
            "DETAIL:  Failing row contains ([redacted]).",
        ),
        ("Failing row contains (1, a(b), c...[+9]", "Failing row contains ([redacted])"),
        (
            "(1062, \"Duplicate entry 'x'y' for key 'app_user.api_token'\")",
            "(1062, \"Duplicate entry '[redacted]' for key 'app_user.api_token'\")",
        ),
        (
            "Duplicate entry 'x' for key 'app_user.email'",
            "Duplicate entry 'x' for key 'app_user.email'",
        ),
        ("UNIQUE constraint failed: app.token", "UNIQUE constraint failed: app.token"),
    ],
)
def test_database_errors(text, scrubbed):
    assert redactor.scrub_text(text, []) == scrubbed


def test_plain_column_keeps_its_value_in_a_database_error():
    text = "Key (token_count)=(5) already exists."
    assert Redactor(plain_names=["token_count"]).scrub_text(text) == text


# What Django and MySQL say about a value they refuse


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (
            "Field 'pin_code' expected a number but got 'C'.",
            "Field 'pin_code' expected a number but got [redacted].",
        ),
        (
            "Field 'pin_code' expected a number but got 'it\\'s C'.",
            "Field 'pin_code' expected a number but got [redacted].",
        ),
        (
            "Field 'pin_code' expected a number but got ['C]', 'C'].",
            "Field 'pin_code' expected a number but got [redacted].",
        ),
        (
            "Field 'pin_code' expected a number but got <Pin: C. D>.",
            "Field 'pin_code' expected a number but got [redacted].",
        ),
        (
            "ValueError(\"Field 'pin_code' expected a number but got 'C'.\")",
            "ValueError(\"Field 'pin_code' expected a number but got [redacted].\")",
        ),
        (
            'Cannot assign "\'C\'": "X.token" must be a "Y" instance.',
            'Cannot assign "[redacted]": "X.token" must be a "Y" instance.',
        ),
        (
            'Cannot query "C": Must be "Session" instance.',
            'Cannot query "[redacted]": Must be "Session" instance.',
        ),
        (
            "user instance with token 'C' does not exist.",
            "user instance with token [redacted] does not exist.",
        ),
        (
            "user instance with token 'C' is not a valid choice.",
            "user instance with token [redacted] is not a valid choice.",
        ),
        (
            "Incorrect integer value: 'C' for column `db`.`t`.`pin_code` at row 1",
            "Incorrect integer value: '[redacted]' for column `db`.`t`.`pin_code` at row 1",
        ),
        ("{'pin_code': ['“C” value must be an integer.']}", "{'pin_code': [redacted]}"),
        (
            "{'pin': ['“C]C” value must be an integer.', \"it's C\"], 'n': ['“5”']}",
            "{'pin': [redacted], 'n': ['“5”']}",
        ),
    ],
)
def test_refused_value_of_a_sensitive_field_is_replaced(text, scrubbed):
    assert redactor.scrub_text(text) == scrubbed
    assert redactor.scrub_text(scrubbed) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "Field 'age' expected a number but got 'age'.",
        'Cannot assign "\'C\'": "Token.owner" must be a "Y" instance.',
        'Cannot query "C": Must be "Book" instance.',
        "user instance with id 5 does not exist.",
        "Incorrect integer value: 'C' for column 'age' at row 1",
        "{'age': ['“C” value must be an integer.']}",
    ],
)
def test_refused_value_of_another_field_stays(text):
    assert redactor.scrub_text(text) == text


# Pairs and addresses


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("password=hunter2", "password=[redacted]"),
        ("login(user=bob, password=hunter2)", "login(user=bob, password=[redacted])"),
        ("login(password='hun ter2', user='bob')", "login(password=[redacted], user='bob')"),
        ("token: abc, then", "token: [redacted], then"),
        ("API key: abc", "API key: [redacted]"),
        ('{"api_key": "a\\"b c", "n": 1}', '{"api_key": [redacted], "n": 1}'),
        ("{'password': b'x y', 'n': 1}", "{'password': [redacted], 'n': 1}"),
        ("{'tokens': ['a', ('b c', 2)], 'n': 1}", "{'tokens': [redacted], 'n': 1}"),
        (r"{\"password\": \"a b\", \"n\": 1}", r"{\"password\": [redacted], \"n\": 1}"),
        ("data['password'] = 'x y' # n", "data['password'] = [redacted] # n"),
        ("password => x", "password => [redacted]"),
        ("Authorization: Bearer abc.def-1\nHost: x", "Authorization: [redacted]\nHost: x"),
        ("Authorization: Digest a=1, b=2\r\nHost: x", "Authorization: [redacted]\r\nHost: x"),
        ("Cookie: a=1; sessionid=x; b=2\nHost: x", "Cookie: [redacted]\nHost: x"),
        ("sent Bearer abc123def", "sent Bearer [redacted]"),
        ("Bearer authentication required", "Bearer authentication required"),
        ("GET /a?x=1&token=abc&y=2 failed", "GET /a?x=1&token=[redacted]&y=2 failed"),
        ("GET https://h/a?token=abc&y=2", "GET https://h/a?token=[redacted]&y=2"),
        ('password="cut he', "password=[redacted]"),
        ("tokens=['a', 'b...[+9]", "tokens=[redacted]"),
        (r"tokens=(\d, \x) were refused", "tokens=[redacted] were refused"),
        ("password=None", "password=None"),
        ("the password is wrong", "the password is wrong"),
        ("api_token::text", "api_token::text"),
        ("secretary: Bob", "secretary: Bob"),
        ("postgres://app:s3cret@db:5432/x", "postgres://[redacted]@db:5432/x"),
        ("postgres://app:a/b@db/x", "postgres://[redacted]@db/x"),
        ("https://ghp_abc@github.com/x", "https://[redacted]@github.com/x"),
        ("redis://:p@ss@h:1/0", "redis://[redacted]@h:1/0"),
        ("https://h:80/x?m=a@b.c", "https://h:80/x?m=a@b.c"),
    ],
)
def test_pairs_and_addresses(text, scrubbed):
    assert redactor.scrub_text(text, []) == scrubbed
    assert redactor.scrub_text(scrubbed, []) == scrubbed


def test_plain_name_keeps_its_value_in_a_text():
    mine = Redactor(plain_names=["token_count"])
    assert mine.scrub_text("the token_count: 5") == "the token_count: 5"


@pytest.mark.parametrize(
    "piece",
    [
        *["a", "(", "()", "=", ":", "a:", "://", "://a:", "'", "\\", ")=(", "token=", "@", " "],
        *["Field 'pin' expected a but got ", 'Cannot assign "', " instance with a ", "pin: (' "],
    ],
)
def test_hostile_text_is_scrubbed_in_reasonable_time(piece):
    started = time.perf_counter()
    redactor.scrub_text(piece * (20_000 // len(piece)), ["hunter22"])
    assert time.perf_counter() - started < 3


def test_module_is_importable_before_settings():
    code = "import django_signal_audit.redaction, django_signal_audit.values"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={"PATH": ""})
