"""What a text may be made of, looked at word by word before anything is parsed: size, depth, functions, signs."""

from collections.abc import Iterable
from difflib import get_close_matches

from sqlglot import TokenError
from sqlglot.dialects.postgres import Postgres
from sqlglot.tokenizer_core import Token, TokenType

from tasks.tables.conditions.functions import AGGREGATES, FUNCTIONS
from tasks.tables.conditions.tree import Place, Refused

LONGEST_TEXT = 50_000
MOST_WORDS = 5_000
"""Words and signs of a text."""
DEEPEST = 20
"""Parentheses and CASEs in one another. The parser needs some 20 calls for each."""

SPELLINGS = {
    "SUBSTR": "SUBSTRING",
    "CHAR_LENGTH": "LENGTH",
    "CHARACTER_LENGTH": "LENGTH",
    "BTRIM": "TRIM",
    "CEILING": "CEIL",
    "CAST": "CAST",
}
"""Other names of functions, and what is written like one."""
INSTEAD = {
    "AGE": "compare dates: birth_date <= DATE '2026-11-25' - INTERVAL '18 years'",
    "NOW": "the moment of the run is written into the text, as DATE '{business_date}'",
    "CURRENT_DATE": "the day of the run is written into the text, as DATE '{business_date}'",
    "CURRENT_TIMESTAMP": "the moment of the run is written into the text, as DATE '{business_date}'",
    "DATE_PART": "write EXTRACT(YEAR FROM a)",
    "DATE_TRUNC": "write EXTRACT(YEAR FROM a), or a BETWEEN",
    "IFNULL": "write COALESCE",
    "NVL": "write COALESCE",
    "IF": "write CASE WHEN a THEN b ELSE c END",
    "IIF": "write CASE WHEN a THEN b ELSE c END",
    "REGEXP_LIKE": "write LIKE",
    "REGEXP_MATCHES": "write LIKE",
    "CONTAINS": "write LIKE '%x%'",
    "POSITION": "write LIKE '%x%'",
    "STRPOS": "write LIKE '%x%'",
    "TO_DATE": "say the column's type and format in the source's types and formats",
    "TO_CHAR": "write EXTRACT(YEAR FROM a), or CAST(a AS TEXT)",
    "DATE": "write CAST(a AS DATE), or DATE '2026-11-25'",
    "INITCAP": "write UPPER or LOWER",
}
"""What is said in another way here."""
BEFORE_PARENTHESIS = frozenset(
    {
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "LIKE",
        "ILIKE",
        "ESCAPE",
        "IS",
        "FROM",
        "FOR",
        "DISTINCT",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "NUMERIC",
        "DECIMAL",
        "VARCHAR",
    }
)
"""Words that a parenthesis follows and that are no functions."""
SIGNS = frozenset(
    {
        TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA, TokenType.PLUS, TokenType.DASH, TokenType.STAR,
        TokenType.SLASH, TokenType.MOD, TokenType.EQ, TokenType.NEQ, TokenType.LT, TokenType.LTE, TokenType.GT,
        TokenType.GTE, TokenType.DPIPE, TokenType.DCOLON, TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER,
    }
)  # fmt: skip
"""What may stand in a text beside words."""
AFTER_COLUMN = SIGNS - {
    TokenType.L_PAREN,
    TokenType.STAR,
    TokenType.STRING,
    TokenType.NUMBER,
    TokenType.IDENTIFIER,
}
"""Signs after a column, be it named as a word of queries is."""
QUERIES = frozenset(
    {
        "SELECT",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "EXISTS",
        "WITH",
        "VALUES",
        "TABLE",
        "INSERT",
        "UPDATE",
        "DELETE",
        "DROP",
        "CREATE",
        "ALTER",
        "COPY",
        "SET",
        "CALL",
        "EXECUTE",
        "ATTACH",
        "PRAGMA",
    }
)
CLAUSES = frozenset(
    {
        "OVER",
        "FILTER",
        "WHERE",
        "GROUP",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "JOIN",
        "ANY",
        "ALL",
        "SOME",
        "SYMMETRIC",
        "SIMILAR",
        "RLIKE",
        "REGEXP",
    }
)


def checked_words(text: str) -> list[Token]:
    """The words and signs of the text. Errors: `Refused`, at the first that may not be there."""
    if len(text) > LONGEST_TEXT:
        raise Refused(f"it has {len(text)} characters, at most {LONGEST_TEXT} are possible")
    if "\x00" in text:
        raise Refused("it has a NUL character in it")
    try:
        found = Postgres().tokenize(text)
    except (TokenError, RecursionError):
        raise Refused("a quotation mark or comment in it is not closed") from None
    if not found:
        raise Refused("it is empty; TRUE holds for every row")
    if len(found) > MOST_WORDS:
        raise Refused(
            f"it has {len(found)} words and signs, at most {MOST_WORDS} are possible; a long list is better a table"
        )
    _check_depth(found)
    for word, following in zip(found, [*found[1:], None], strict=True):
        _check_word(word, following)
    return found


def place_of(word: Token) -> Place:
    """Where a word begins."""
    return Place(word.line, max(1, word.col - (word.end - word.start)))


def _check_depth(found: Iterable[Token]) -> None:
    depth = prefixes = 0
    for word in found:
        text = word.text.upper() if word.token_type not in {TokenType.STRING, TokenType.IDENTIFIER} else ""
        depth += (text in {"(", "CASE"}) - (text in {")", "END"})
        prefixes = prefixes + 1 if text in {"NOT", "-", "+"} else 0
        if depth > DEEPEST or prefixes > DEEPEST:
            raise Refused(f"it is nested more than {DEEPEST} deep", place_of(word))


def _check_word(word: Token, following: Token | None) -> None:
    at, name = place_of(word), word.text.upper()
    if word.token_type in {TokenType.STRING, TokenType.IDENTIFIER}:
        if following and following.token_type is TokenType.STRING:
            raise Refused("two texts stand side by side", place_of(following))
        if word.token_type is TokenType.IDENTIFIER and following and following.token_type is TokenType.L_PAREN:
            raise Refused(f'"{word.text}" is no function', at)
        return
    if word.token_type in SIGNS:
        return
    if not (name.replace("_", "").replace("DOUBLE PRECISION", "DOUBLE").isalnum() and not name[0].isdigit()):
        raise Refused(f"{word.text[:40]} is not possible in conditions{_sign_instead(word.text)}", at)
    if following is not None and following.token_type is TokenType.L_PAREN:
        _check_function(name, at)
    elif name in INSTEAD and name.startswith("CURRENT_"):
        raise Refused(f"{name} is not possible in conditions: {INSTEAD[name]}", at)
    elif name in QUERIES and (following is None or following.token_type not in AFTER_COLUMN):
        raise Refused(f"{name} is not possible: a condition has no query in it", at)
    elif following is not None and following.token_type is TokenType.STRING and name in {"E", "X", "B", "U", "N"}:
        raise Refused(f"{name}'...' is not possible: write a text as 'text', and a ' in it twice", at)


def _check_function(name: str, at: Place) -> None:
    if name in BEFORE_PARENTHESIS or name in FUNCTIONS or name in AGGREGATES or name in SPELLINGS:
        return
    if name in QUERIES:
        raise Refused(f"{name} is not possible: a condition has no query in it", at)
    if name in CLAUSES:
        raise Refused(f"{name} is not possible in conditions", at)
    raise Refused(f"the function {name[:40]} is not known. {_function_instead(name)}", at)


def _function_instead(name: str) -> str:
    if name in INSTEAD:
        return INSTEAD[name][0].upper() + INSTEAD[name][1:]
    known = [known for known in (*FUNCTIONS, *AGGREGATES, *SPELLINGS) if " " not in known and "(" not in known]
    return f"The nearest is {get_close_matches(name, known, n=1, cutoff=0.0)[0]}"


def _sign_instead(sign: str) -> str:
    return ": write LIKE" if "~" in sign else ""
