"""The place where an answer's rows are: "nothing" in its many spellings, and rows that are no array of objects.

`placed` gives the answer with an array at that place, whatever stood there, so that everything after it reads one
shape. Only properties lead to the place; what lies deeper is the walk's (`shape`).
"""

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from tasks.endpoint.answer.shape import Property, Steps, hint_of, kind_of, path_of, some_of, steps_of
from tasks.errors import ResponseShapeInvalid
from tasks.http.partner_words import words_of

RowsAre = Literal["array", "map", "table", "table_with_names", "one_or_many"]

KEY = "@key"
"""Key of the column that has a map's key."""
ERRORS = frozenset({"error", "errors", "fault"})
VALUE = "@value"
"""Key of the column that has a map's value where it is no object."""


def placed(document: Any, path: str, rows_are: RowsAre, *, parallel: bool) -> tuple[Any, str]:  # noqa: ANN401
    """The answer with an array where its rows are, and why there is nothing, where there is nothing.

    Errors: `ResponseShapeInvalid` where what is there is of another shape, or lies elsewhere.
    """
    steps = steps_of(path)
    if steps is None:
        return document, ""
    names = _leading_names(steps)
    value, absent = _at(document, names)
    if is_nothing(value):
        _refuse_if_elsewhere(document, names, absent)
        way = path_of(tuple(map(Property, names)))
        reason = f"there is no '{absent}'" if absent else f"there is {_spelt(value)} at '{way}'"
        return _with(document, names, None if parallel else []), reason
    if rows_are == "array":
        return document, ""
    return _with(document, names, _rows_of(value, rows_are, path)), ""


def is_error(name: str) -> bool:
    """Whether a property of that name holds an error; a SOAP fault has a prefix: soap:Fault."""
    return name.rpartition(":")[2].lower() in ERRORS


def is_nothing(value: Any) -> bool:  # noqa: ANN401
    """Whether a value in place of rows says that there are none: null, false, an empty text or object."""
    return value is None or value is False or value == "" or (type(value) is dict and not value)


def _leading_names(steps: Steps) -> list[str]:
    names = []
    for step in steps:
        if not isinstance(step, Property):
            break
        names.append(step.name)
    return names


def _at(value: Any, names: list[str]) -> tuple[Any, str]:  # noqa: ANN401
    """What is at some names, and the path of the first that is absent."""
    for at, name in enumerate(names):
        if is_nothing(value):
            return None, path_of(tuple(map(Property, names[: at + 1]))) if type(value) is dict else ""
        if type(value) is not dict:
            way = path_of(tuple(map(Property, names[:at])))
            whole = path_of(tuple(map(Property, names)))
            raise ResponseShapeInvalid(
                reason=f"there is no array at '{whole}'; there is {kind_of(value)} at '{way}'"
            )
        if name not in value:
            return None, path_of(tuple(map(Property, names[: at + 1])))
        value = value[name]
    return value, ""


def _refuse_if_elsewhere(document: Any, names: list[str], absent: str) -> None:  # noqa: ANN401
    """Refuse an answer that has its rows, or an error, in another place than where nothing is."""
    if type(document) is not dict:
        return
    around: Any = document
    for step in (*names, None):
        for name, said in around.items() if type(around) is dict else ():
            if said and name not in names and is_error(name):
                raise ResponseShapeInvalid(
                    reason=f"there are no rows, and the answer has '{name}': {_short(said)}",
                    cure="Correct what is sent, or ask the partner.",
                )
        around = around.get(step) if type(around) is dict else None
    value: Any = document
    for name in names:
        if type(value) is not dict or name not in value:
            break
        value = value[name]
    if absent and type(value) is dict and any(map(_holds_rows, value.values())):
        raise ResponseShapeInvalid(
            reason=f"there is no array at '{path_of(tuple(map(Property, names)))}'; the answer is an object with"
            f" {some_of(document)}"
        )


def _holds_rows(value: Any, depth: int = 0) -> bool:  # noqa: ANN401
    if type(value) is list:
        return True
    return type(value) is dict and depth < 3 and any(_holds_rows(inner, depth + 1) for inner in value.values())


def _short(value: Any) -> str:  # noqa: ANN401
    return words_of(value)


def _spelt(value: Any) -> str:  # noqa: ANN401
    if value == "":
        return "an empty text"
    return "an empty object" if value == {} else kind_of(value) if value is None else "false"


def _with(document: Any, names: list[str], rows: Any) -> Any:  # noqa: ANN401
    """The document with other rows at some names; what is around them stays."""
    if not names:
        return rows
    inner = document if type(document) is dict else {}
    return {**inner, names[0]: _with(inner.get(names[0]), names[1:], rows)}


def _rows_of(value: Any, rows_are: RowsAre, path: str) -> list[Any]:  # noqa: ANN401
    def refuse(wanted: str) -> NoReturn:
        raise ResponseShapeInvalid(
            reason=f"there is no {wanted} at '{path}'; there is {kind_of(value)}{hint_of(value)}"
        )

    if rows_are == "one_or_many":
        if type(value) is list:
            return value
        if type(value) is not dict:
            refuse("object or array")
        numbered = all(name.isdecimal() for name in value)
        return [value[name] for name in sorted(value, key=int)] if numbered else [value]
    if rows_are == "map":
        if type(value) is not dict:
            refuse("object")
        return [{KEY: key, **(inner if type(inner) is dict else {VALUE: inner})} for key, inner in value.items()]
    if type(value) is not list or not all(type(row) is list for row in value):
        refuse("array of arrays")
    return _table(value, path, named=rows_are == "table_with_names")


def _table(table: list[list[Any]], path: str, *, named: bool) -> list[Mapping[str, Any]]:
    """Rows of an array of arrays: by the names in the first one, or by position ("0", "1", ...)."""
    if not named:
        return [{str(place): value for place, value in enumerate(row)} for row in table]
    names, rows = (table[0], table[1:]) if table else ([], [])
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ResponseShapeInvalid(reason=f"the first array at '{path}' is no list of different names")
    longest = max(map(len, rows), default=0)
    if longest > len(names):
        raise ResponseShapeInvalid(reason=f"an array at '{path}' has {longest} values for {len(names)} names")
    return [dict(zip(names, row, strict=False)) for row in rows]
