"""What sslyze, the scanner, says of an edge: no weakness, and what Mozilla's profiles ask for.

Left out where sslyze is not installed; docs/dependencies.md says how scripts/setup does that.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.edge import PROJECT, clean_environment, running_edge

pytestmark = pytest.mark.skipif(importlib.util.find_spec("sslyze") is None, reason="sslyze is not installed")

UNKNOWN_CA = {"certificate_path_validation"}
"""What is said of every certificate that no browser's CA has signed."""


@dataclass
class Scan:
    """What sslyze found.

    Attributes:
        results: by its name of the check.
        remarks: what is not as a profile of Mozilla's has it, by name.
    """

    results: Mapping[str, Any]
    remarks: Mapping[str, str]


def scan(
    directory: Path, profile: str, certificates: Path, *options: str, env: Mapping[str, str] | None = None
) -> Scan:
    """Scan an edge of its own, and compare it with a profile."""
    path = directory / f"{profile}.json"
    with running_edge("--no-llm", *options, certificates=certificates, env=env) as edge:
        command = [sys.executable, "-m", "sslyze", f"--json_out={path}", f"--mozilla_config={profile}"]
        target = f"localhost:{edge.port}"
        done = subprocess.run(
            [*command, target], env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert "SCANS COMPLETED" in done.stdout, done.stdout + done.stderr
    found = json.loads(path.read_text())["server_scan_results"][0]["scan_result"]
    results = {name: check["result"] for name, check in found.items() if check["status"] == "COMPLETED"}
    assert len(results) >= 15
    return Scan(results, dict(re.findall(r"^ {8}\* (\w+): (.*)$", done.stdout, re.MULTILINE)))


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Scan:
    return scan(tmp_path_factory.mktemp("scan"), "intermediate", certificates)


def suites(result: Mapping[str, Any]) -> set[str]:
    return {accepted["cipher_suite"]["name"] for accepted in result["accepted_cipher_suites"]}


def test_no_weakness_is_found(default: Scan) -> None:
    results = default.results
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert suites(results[f"{version}_cipher_suites"]) == set()
    for version in ("tls_1_2", "tls_1_3"):
        assert len(suites(results[f"{version}_cipher_suites"])) == 3
    assert results["heartbleed"] == {"is_vulnerable_to_heartbleed": False}
    assert results["openssl_ccs_injection"] == {"is_vulnerable_to_ccs_injection": False}
    assert results["robot"] == {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}
    assert results["tls_compression"] == {"supports_compression": False}
    assert results["tls_fallback_scsv"] == {"supports_fallback_scsv": True}
    assert results["tls_extended_master_secret"] == {"supports_ems_extension": True}
    assert results["session_renegotiation"]["supports_secure_renegotiation"]
    assert not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]


def test_of_the_intermediate_profile_two_strong_groups_too_many_are_all_that_is_said(default: Scan) -> None:
    assert default.remarks.keys() <= {*UNKNOWN_CA, "tls_curves"}
    if "tls_curves" in default.remarks:  # how many groups OpenSSL offers by itself depends on its version
        assert set(re.findall(r"'(\w+)'", default.remarks["tls_curves"])) <= {"X448", "secp521r1"}


@pytest.mark.parametrize(("profile", "options"), [("intermediate", ()), ("modern", ("--tls-min", "1.3"))])
def test_with_the_groups_that_docs_security_lists_a_profile_is_met(
    tmp_path: Path, certificates: Path, profile: str, options: tuple[str, ...]
) -> None:
    page = (PROJECT / "docs" / "security.md").read_text()
    (listed,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    (tmp_path / "openssl.cnf").write_text(listed)
    found = scan(tmp_path, profile, certificates, *options, env={"OPENSSL_CONF": str(tmp_path / "openssl.cnf")})
    assert found.remarks.keys() == UNKNOWN_CA
