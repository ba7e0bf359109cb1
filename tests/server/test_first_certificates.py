"""Certificates that an edge or a worker starts with, compared with what others serve already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from sage_edge.core.errors import EdgeError
from sage_edge.server.certificate_store import CertificateStore
from sage_edge.server.tls import TLSFiles
from tests.kit.captured_logs import captured_logs
from tests.kit.tls_files import write_pair


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with captured_logs() as entries:
        yield entries


def test_faults_of_the_first_files_are_all_raised(tmp_path: Path) -> None:
    with pytest.raises(EdgeError) as caught:
        CertificateStore([TLSFiles(tmp_path / "a.pem"), TLSFiles(tmp_path / "b.pem")])
    assert len(caught.value.faults) == 2


def test_the_first_files_are_compared_with_what_others_serve(
    tmp_path: Path, authority: trustme.CA, logs: list[Any]
) -> None:
    files = write_pair(tmp_path, authority, "edge.test", "old.test")
    path = str(files.certfile)
    for names in ({}, {path: ["edge.test"]}, {path: ["edge.test", "gone.test"]}, {"elsewhere": ["other.test"]}):
        assert CertificateStore([files], names=names).current.names == {path: ("edge.test", "old.test")}
    assert [entry["names"] for entry in logs] == ["gone.test"]
    with pytest.raises(EdgeError, match=r"is for none of: other\.test"):
        CertificateStore([files], names={path: ["other.test"]})


@pytest.mark.parametrize("name", ["EDGE.test", "*.test"])
def test_a_certificate_for_the_same_names_may_spell_them_otherwise(
    tmp_path: Path, authority: trustme.CA, logs: list[Any], name: str
) -> None:
    files = write_pair(tmp_path, authority, name)
    CertificateStore([files], names={str(files.certfile): ["edge.test"]})
    assert logs == []
