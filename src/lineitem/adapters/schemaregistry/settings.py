"""What a person says about a registry: its address, and a file of settings (who calls, TLS)."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lineitem.adapters.address import read_settings, refuse_secrets
from lineitem.core.errors import InputError, UsageError

_KNOWN = {
    "basic.auth.user.info": "user:password",
    "bearer.auth.token": "a token",
    "ssl.ca.location": "a file of certificates to trust",
    "ssl.certificate.location": "a certificate to show",
    "ssl.key.location": "its key",
}
"""Named as Confluent's clients name them."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a registry is and how to call it. ``secret``: the Authorization header; it is never shown."""

    url: str
    secret: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)

    def tls(self) -> ssl.SSLContext:
        """How to trust an https address. Raises InputError for files that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"certificates for the schema registry cannot be used: {error.strerror or 'not in PEM form'}",
                do="See ssl.ca.location, ssl.certificate.location and ssl.key.location in its settings.",
            ) from error
        return context


def read_address(url: str, config: Path | None) -> Address:
    """``http(s)://host[:port][/path]`` and a file of ``name=value`` lines.

    Raises UsageError, and InputError with file and line, never with a value: it may be a password.
    """
    refuse_secrets(
        url, "the schema registry's address", "--schema-registry-config, as basic.auth.user.info=user:password"
    )
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets of an IPv6 address that do not match
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise UsageError(f"{url!r} is no address of a schema registry", do="Write http://host:8081")
    found = {} if config is None else read_settings(config, known=_KNOWN)
    secret = None
    if "basic.auth.user.info" in found:
        secret = "Basic " + b64encode(found["basic.auth.user.info"].encode()).decode()
    elif "bearer.auth.token" in found:
        secret = f"Bearer {found['bearer.auth.token']}"
    files = (found.get(f"ssl.{name}.location") for name in ("ca", "certificate", "key"))
    return Address(url.rstrip("/"), secret, *files)
