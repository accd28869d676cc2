"""Packages that only some users need, imported when they are needed."""

from importlib import import_module
from types import ModuleType

from tasks.errors import ExtraMissing


def extra_module(name: str, *, extra: str, purpose: str) -> ModuleType:
    """The module `name`, which comes with the extra of this package. Errors: `ExtraMissing`."""
    try:
        return import_module(name)
    except ImportError:
        raise ExtraMissing(purpose=purpose, extra=extra) from None
