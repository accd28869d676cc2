"""The README's campaign is run as it is written, on one part and on many."""

import mailbox
import re
from collections.abc import Callable
from datetime import date
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import polars as pl
import pytest

from deployments.sandbox.partner import Partner

ROOT = Path(__file__).parents[2]


@pytest.fixture
def campaign(tmp_path: Path) -> Callable[..., object]:
    """The flow of the README, as a file of its own."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text = next(block for block in blocks if "@flow" in block)
    path = tmp_path / "spring_offers.py"
    path.write_text(text.replace('"flows/templates', f'"{ROOT}/flows/templates'))
    spec = spec_from_file_location("spring_offers", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.spring_offers


def test_the_campaign_of_the_readme_is_the_same_on_one_part_and_on_many(
    campaign: Callable[..., object],
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", "100000")
    use_partner(start_partner())
    whole = campaign(date(2026, 11, 24))
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", "500")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__FOLDER", "another")
    assert campaign(date(2026, 11, 24)) == whole
    assert whole.delivered > 0
    one, other = (
        {str(message["To"]): message.get_payload()[0].get_payload() for message in mailbox.Maildir(folder)}
        for folder in (
            in_folder / name / "spring-offers" / "2026-11-24" / "maildir" for name in ("outbox", "another")
        )
    )
    assert one == other
