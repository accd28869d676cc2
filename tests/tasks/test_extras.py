import json

import pytest

from tasks.errors import ExtraMissing
from tasks.extras import extra_module


def test_a_package_that_is_not_installed_is_told_with_its_extra() -> None:
    assert extra_module("json", extra="none", purpose="JSON") is json
    with pytest.raises(ExtraMissing, match=r"SFTP needs packages .* Install campaign-flows\[sftp\]"):
        extra_module("no_such_package", extra="sftp", purpose="SFTP")
