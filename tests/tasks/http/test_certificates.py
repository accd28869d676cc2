from pathlib import Path
from typing import Any

import pytest
import trustme

from tasks.errors import SourceUnreadable
from tasks.http.certificates import trusted_certificates


def trusted(ca_file: Path | None) -> list[str]:
    found: list[Any] = trusted_certificates(ca_file).get_ca_certs()
    return [dict(part[0] for part in each["subject"])["organizationName"] for each in found]


def test_the_authorities_of_a_file_are_trusted_instead_of_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, systems = tmp_path / "own.pem", tmp_path / "system.pem"
    trustme.CA(organization_name="Partner").cert_pem.write_to_path(own)
    trustme.CA(organization_name="Everybody").cert_pem.write_to_path(systems)
    monkeypatch.setenv("SSL_CERT_FILE", str(systems))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert trusted(own) == ["Partner"]
    assert trusted(None) == ["Everybody"]


@pytest.mark.parametrize("name", ["empty.pem", "absent.pem"])
def test_a_file_without_certificates_is_told_of(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(SourceUnreadable, match=name):
        trusted_certificates(tmp_path / name)
