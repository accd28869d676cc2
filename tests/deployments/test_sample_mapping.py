from pathlib import Path

import pytest

from deployments.sample_mapping import main
from tasks.endpoint.answer.definitions import pasted
from tasks.endpoint.answer.mapping import OutboundMapping

SAMPLE = '{"a": [{"x": 1}], "b": [{"y": "2026-11-24"}]}'


def write(folder: Path, content: bytes) -> str:
    path = folder / "answer.json"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("form", [[], ["--yaml"]])
@pytest.mark.parametrize(
    ("arguments", "options"), [(["--path", "b"], {"path": "b"}), (["--flatten"], {"flatten": True})]
)
def test_what_is_printed_can_be_pasted_back(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: list[str],
    arguments: list[str],
    options: dict[str, object],
) -> None:
    assert main([write(tmp_path, SAMPLE.encode()), *arguments, *form]) == 0
    assert pasted(capsys.readouterr().out) == OutboundMapping(sample=SAMPLE, **options)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (SAMPLE.encode(), "give path as one of 'a', 'b'"),
        (b"[" * 11 + b"]" * 11, "deeper than 10 levels"),
        (b"<html>", "sent no JSON"),
        (b"\xff", "it is not UTF-8 text"),
    ],
)
def test_a_sample_without_a_mapping_ends_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    assert main([write(tmp_path, content)]) == 1
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ""


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "none.json' cannot be read: No such file" in capsys.readouterr().err


def test_a_deep_sample_is_read_with_a_raised_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = write(tmp_path, b'[{"a": 1, "v": ' + b"[" * 9 + b"]" * 9 + b"}]")
    assert main([sample]) == 1
    assert main([sample, "--max-depth", "11"]) == 0
