import pytest
from pydantic import SecretStr

from tasks.http.partner_words import LONGEST, partner_words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"type": "about:blank", "title": "Bad", "detail": "zip 1 is no zip"}', "zip 1 is no zip"),
        (b'{"error": {"message": "no such list", "code": 404}}', "404: no such list"),
        (b'{"error": "invalid_client", "error_description": "unknown client"}', "invalid_client: unknown client"),
        (b'{"errors": [{"message": "a"}, {"message": "b"}]}', "a; b"),
        (
            b'{"message": "Validation failed", "errors": [{"field": "x", "message": "no"}]}',
            "Validation failed (no)",
        ),
        (b'{"fault": {"faultstring": 1}}', ""),
        (b'"just a text"', "just a text"),
        (b"<html><style>p {}</style><h1>Bad &amp; gone</h1>\n<p>later</p></html>", "Bad & gone later"),
        (b"upstream\r\n\x1b[31mtimeout\x00", "upstream [31mtimeout"),
        (b"", ""),
        (b'{"message": "jane.doe@example.com has no +43 660 123 4567"}', "…@… has no …"),
        (
            b'{"message": "the key canary-12 is off, as is Bearer eyJhbGciOi.x.y"}',
            "the key … is off, as is Bearer …",
        ),
        (b'{"message": "token a1B2c3D4e5F6g7H8i9J0k1 ended"}', "token … ended"),
    ],
)
def test_a_partner_s_reason_is_one_line_without_what_is_personal_or_secret(body: bytes, words: str) -> None:
    assert partner_words(body, [SecretStr("canary-12")]) == words


def test_a_long_reason_is_cut() -> None:
    assert len(partner_words(b"x " * 100_000)) == LONGEST + 1


def test_a_deep_reason_is_none() -> None:
    assert partner_words(b'{"error": ' * 900 + b"1" + b"}" * 900) == ""
