import pytest

from tasks.http.links import links_in


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('<https://p.example/?page=2>; rel="next"', [("https://p.example/?page=2", {"next"})]),
        ("<?page=2>; rel=next", [("?page=2", {"next"})]),
        ('<?page=2>; REL="Next last"', [("?page=2", {"next", "last"})]),
        ('<?a=1,2;b=3>; rel="next"; title="a, \\"b\\"; c=d"', [("?a=1,2;b=3", {"next"})]),
        ('<?p=1>; rel="prev", <?p=3>;rel="next"', [("?p=1", {"prev"}), ("?p=3", {"next"})]),
        ('<?p=3> ; title = "x" ; rel = "next"', [("?p=3", {"next"})]),
        ('<?p=3>; rel="next"; rel="first"', [("?p=3", {"next"})]),
        ('<?p=3>; rel="next"; anchor="#other"', []),
        ("<?p=3>", [("?p=3", set())]),
        ("", []),
        ("nonsense", []),
    ],
)
def test_links_are_read_by_rfc_8288(field: str, expected: list[tuple[str, set[str]]]) -> None:
    assert [(link.target, set(link.relations)) for link in links_in([field])] == expected
