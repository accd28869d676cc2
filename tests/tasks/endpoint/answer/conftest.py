"""Real answers of partners."""

from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLES = Path("shared", "samples")


@pytest.fixture(scope="session")
def real_answer() -> Callable[[str], bytes]:
    """Gives the body of an answer by its file's name; the folder lies beside the repository, or further up."""
    folder = next(above / SAMPLES for above in Path(__file__).parents if (above / SAMPLES).is_dir())
    return lambda name: (folder / name).read_bytes()
