"""What a person says about a registry elsewhere: its address and settings, refused without ever showing a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineitem.adapters.schemaregistry.settings import read_address
from lineitem.core.errors import InputError, LineitemError, UsageError


def settings(folder: Path, text: str) -> Path:
    path = folder / "registry.properties"
    path.write_text(text)
    return path


def test_who_calls(tmp_path: Path) -> None:
    """A user and password, or a token, become a header; neither is in what the address shows of itself."""
    config = settings(tmp_path, "# ours\n\nbasic.auth.user.info = ana:secret\nssl.ca.location = ca.pem\n")
    found = read_address("https://registry/base/", config)
    assert (found.url, found.secret, found.ca) == ("https://registry/base", "Basic YW5hOnNlY3JldA==", "ca.pem")
    assert "YW5h" not in repr(found)
    token = read_address("http://registry:8081", settings(tmp_path, "bearer.auth.token=abc"))
    assert token.secret == "Bearer abc"
    assert read_address("http://registry:8081", None).secret is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("basic.auth.user.info=ana:secret\nbasic.auth.user.info=ben:secret", 2),
        ("secret", 1),
        ("bearer.auth.token=", 1),
        ("# c\npassword=secret", 2),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, text: str, line: int) -> None:
    """Named by file and line, without the value."""
    path = settings(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_address("http://registry", path)
    assert error.value.where == f"{path}:{line}"
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["registry:8081", "ftp://registry", "http://", "http://r?x=secret", "http://ana:secret@r", "http://[::1"]
)
def test_addresses_that_are_wrong(url: str) -> None:
    """What is no address of a registry, and one that would end up in logs with its password."""
    with pytest.raises(UsageError) as error:
        read_address(url, None)
    assert "secret" not in str(error.value)


def test_files_that_are_wrong(tmp_path: Path) -> None:
    """Missing settings and certificates."""
    with pytest.raises(LineitemError):
        read_address("http://registry", tmp_path / "none")
    found = read_address("https://registry", settings(tmp_path, f"ssl.ca.location={tmp_path / 'none.pem'}"))
    with pytest.raises(InputError, match="certificates"):
        found.tls()
