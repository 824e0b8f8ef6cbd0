"""The operator's own certificate: its files are followed while the node runs."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.rpc import given_certificate as module
from relay.rpc.certificate import self_signed
from relay.rpc.given_certificate import GivenCertificate, given_certificate
from tests.network import eventually
from tests.rpc.test_certificate import kept_leaf, leaf_at, serving


def written(folder: Path) -> tuple[Path, Path]:
    """Another certificate and its key, as an ACME client writes them."""
    certificate, key = self_signed("127.0.0.1", datetime.now(UTC))
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return folder / "cert.pem", folder / "key.pem"


async def test_a_renewal_is_served_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)
    given = GivenCertificate(*written(tmp_path))
    async with serving(given) as port:
        first = await asyncio.to_thread(leaf_at, port)
        assert first == kept_leaf(tmp_path)
        keeping = asyncio.create_task(given.keep())
        try:
            with caplog.at_level(logging.INFO, logger=module.__name__):
                (tmp_path / "key.pem").write_bytes(b"half a k")
                await eventually(lambda: "the certificate is not changed" in caplog.text)
                assert await asyncio.to_thread(leaf_at, port) == first
                assert len(caplog.records) == 1, "told once, not at each look"
                written(tmp_path)
                await eventually(lambda: "is served from now on" in caplog.text)
            assert await asyncio.to_thread(leaf_at, port) == kept_leaf(tmp_path)
        finally:
            keeping.cancel()


def test_it_is_none_or_a_pair(tmp_path: Path) -> None:
    cert, key = written(tmp_path)
    assert given_certificate(None, None, setting="gateway.tls") is None
    for pair in ((cert, None), (None, key)):
        with pytest.raises(ConfigError, match=r"gateway\.tls: cert and key go together"):
            given_certificate(*pair, setting="gateway.tls")
    with pytest.raises(ConfigError, match=r"no such file: .*nowhere \(orchestrator\.tls\.key\)"):
        given_certificate(cert, tmp_path / "nowhere", setting="orchestrator.tls")
    with pytest.raises(ConfigError, match="cannot use"):
        given_certificate(cert, cert, setting="gateway.tls")
