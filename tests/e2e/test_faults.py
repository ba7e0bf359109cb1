"""Start-up that fails: one error and one hint for each fault, the documented exit code, and no traceback."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.kit.edge import PROJECT, clean_environment, edge_command, run_edge
from tests.kit.privileges import without_capabilities
from tests.kit.tls_files import write_tls_files

CONFIGURATION, STARTUP = 2, 3
FREE = ("--host", "127.0.0.1", "--port", "0")
FIRST_UNPRIVILEGED_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
FAULTY = "tests.kit.gateways.faulty"


def fail(
    *options: str, code: int = STARTUP, faults: Sequence[tuple[str, str]], cwd: Path = PROJECT, **popen: Any
) -> subprocess.CompletedProcess[str]:
    """Run an edge that cannot start, and see that it says these faults, as patterns of error and hint, and no more."""
    started = time.monotonic()
    result = run_edge("serve", *options, cwd=cwd, **popen)
    assert time.monotonic() - started < 30
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "Warning" not in result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("sage-edge:")]
    assert len(said) == 2 * len(faults), result.stderr
    pairs = list(zip(said[::2], said[1::2], strict=True))
    for what, hint in faults:
        wanted = [
            pair for pair in pairs if re.search(f"^sage-edge: error: .*{what}", pair[0]) and re.search(hint, pair[1])
        ]
        assert len(wanted) == 1, f"{what!r} with {hint!r} is not once in:\n{result.stderr}"
        assert wanted[0][1].startswith("sage-edge: hint: ")
    return result


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with certificates and keys, good and bad."""
    directory = tmp_path_factory.mktemp("tls")
    write_tls_files(directory)
    old = trustme.CA().issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    old.cert_chain_pems[0].write_to_path(str(directory / "expired.pem"))
    old.private_key_pem.write_to_path(str(directory / "expired-key.pem"))
    (directory / "unreadable.pem").write_bytes((directory / "cert.pem").read_bytes())
    (directory / "unreadable.pem").chmod(0)
    (directory / "wrong-password").write_text("not it\n")
    return directory


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ("--certfile none.pem --keyfile key.pem", "--certfile: cannot read none.pem: no such file", "certs create"),
        ("--certfile cert.pem --keyfile none.pem", "--keyfile: cannot read none.pem: no such file", "certs create"),
        ("--certfile unreadable.pem --keyfile key.pem", "cannot read unreadable.pem: permission denied", "let this"),
        ("--certfile cert.pem --keyfile expired-key.pem", "expired-key.pem is not that of cert.pem", "name the key"),
        ("--certfile expired.pem --keyfile expired-key.pem", "expired.pem .*expired 2020-01-01", "renew it"),
        (
            "--certfile cert.pem --keyfile encrypted.pem --keyfile-password-file wrong-password",
            "the password in wrong-password does not open encrypted.pem",
            "write the right password",
        ),
        (
            "--certfile cert.pem --keyfile encrypted.pem",
            "--keyfile-password-file: not given, but the private key in encrypted.pem is encrypted",
            "write the password into a file",
        ),
        ("--certfile cert.pem", "--keyfile: not given, and cert.pem holds no private key", "--keyfile"),
        ("--certfile combined.pem --client-auth required --ca-certs none.pem", "cannot read none.pem", "name an"),
    ],
    ids=lambda value: value if value.startswith("--certfile") else "",
)
def test_certificates_that_cannot_be_served(tls: Path, options: str, what: str, hint: str) -> None:
    privileges = {"preexec_fn": without_capabilities} if "unreadable" in options else {}
    # stdin is closed and there is no terminal: a prompt for a password would fail the run, or hang it.
    fail("--no-llm", *FREE, *options.split(), faults=[(what, hint)], cwd=tls, start_new_session=True, **privileges)


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ("--port 0 --host no-such-host.invalid", "no-such-host.invalid:0: the host name does not resolve", "spelling"),
        ("--port 0 --host 192.0.2.1", "192.0.2.1:0: this machine has no such address", "0.0.0.0"),
        ("--bind [2001:db8::1]:0", r"\[2001:db8::1\]:0: this machine has no such address", r"\[::\]"),
        ("--bind unix:none/edge.sock", "unix:none/edge.sock: no such ", "existing directory"),
        ("--bind unix:file", "unix:file: .*in use", "path"),
        (f"--bind unix:{'long' * 40}", "path too long", "shorter"),
        ("--bind fd://99", "fd://99: ", "listening socket that the parent process passes on"),
    ],
    ids=lambda value: value[:40] if value.startswith("--") else "",
)
def test_places_where_nobody_can_listen(tmp_path: Path, options: str, what: str, hint: str) -> None:
    (tmp_path / "file").write_text("not a socket")
    fail("--no-llm", *options.split(), faults=[(f"cannot listen on .*{what}", hint)], cwd=tmp_path)
    assert (tmp_path / "file").read_text() == "not a socket"


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        fail("--no-llm", "--bind", place, faults=[(f"cannot listen on {place}: the address is in use", "another port")])


def test_a_unix_path_where_a_server_listens_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "live.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        fail("--no-llm", "--bind", f"unix:{path}", faults=[(f"{path}: the address is in use", "another path")])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_privileged_port_without_the_capability_for_it() -> None:
    if FIRST_UNPRIVILEGED_PORT.exists() and int(FIRST_UNPRIVILEGED_PORT.read_text()) <= 80:
        pytest.skip("this kernel lets every user listen on port 80")
    hint = r"choose a port from \d+, or give the process CAP_NET_BIND_SERVICE"
    faults = [("127.0.0.1:80: no permission to listen on a privileged port", hint)]
    fail("--no-llm", "--bind", "127.0.0.1:80", faults=faults, preexec_fn=without_capabilities)


def test_descriptors_that_are_not_listening_sockets() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb"), socket.socket() as idle:  # noqa: PTH123  # of descriptors
        numbers = [reading, idle.fileno()]
        hint = "fd:// takes a listening socket"
        binds = [text for number in numbers for text in ("--bind", f"fd://{number}")]
        faults = [(f"cannot listen on fd://{number}: ", hint) for number in numbers]
        fail("--no-llm", *binds, faults=faults, pass_fds=numbers)


@pytest.mark.parametrize(
    ("gateway", "what", "hint"),
    [
        ("no_such_module:app", "there is no module no_such_module", "check the spelling"),
        (f"{FAULTY}.needs_dependency:app", "No module named 'no_such_dependency'", "install what it needs"),
        (f"{FAULTY}.needs_name:app", "ImportError: cannot import name 'no_such_name'", "--log-level debug"),
        (f"{FAULTY}.raises:app", "RuntimeError: the model is not configured$", "--log-level debug"),
        (f"{FAULTY}.leaves:app", "set MODEL_PATH first", "--log-level debug"),
        (f"{FAULTY}.applications:aplication", "has no attribute aplication", "did you mean application?"),
        (f"{FAULTY}.applications:number", "is not callable: it is an int", "name the ASGI application"),
        (f"{FAULTY}.applications:Ready", "is not an ASGI application", r"write \S+:Ready\(\)$"),
        (f"{FAULTY}.applications:create", "is not an ASGI application", r"write \S+:create\(\)$"),
        (f"{FAULTY}.applications:create_for()", "missing 1 required positional argument: 'model'", "argument"),
        (f"{FAULTY}.applications:create_nothing()", r"create_nothing\(\) .*None", "return"),
        (f"{FAULTY}.applications:create_with_error()", "factory raised ValueError: no such model", "debug"),
        (f"{FAULTY}.applications:create_asynchronously()", r"create_asynchronously\(\) .*coroutine", "plain def"),
        (f"{FAULTY}.applications:wsgi", "is not an ASGI application", "WSGI"),
        (f"{FAULTY}.applications:asgi2", "is not an ASGI application", "ASGI application"),
        (f"{FAULTY}.applications:plain", "failed to start: .*not an asynchronous function", "--log-level debug|async"),
    ],
    ids=lambda value: value.removeprefix(FAULTY) if ":" in value else "",
)
def test_gateways_that_cannot_be_mounted(gateway: str, what: str, hint: str) -> None:
    fail(*FREE, "--gateway", gateway, faults=[(what, hint)])


def test_a_gateway_with_a_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("import os\n\ndef app(:\n")
    what = r"importing typo failed: SyntaxError: invalid syntax \(typo.py, line 3\)"
    fail(*FREE, "--gateway", "typo:app", faults=[(what, "mend the module")], cwd=tmp_path)


@pytest.mark.parametrize(
    ("gateway", "what", "hint"),
    [
        ("hangs:app", "was not complete within 5 seconds", "raise --startup-seconds"),
        ("applications:create_never()", "was not complete within 5 seconds", "raise --startup-seconds"),
        ("lifespans:raising", "failed to start: RuntimeError: no database", "--log-level debug"),
        ("lifespans:leaving", "failed to start: .*no licence", "--log-level debug"),
        ("lifespans:waiting", "failed to start: start-up was not complete within 5 seconds", "--startup-seconds"),
        ("lifespans:waiting_for_thread", "failed to start: start-up was not complete", "--startup-seconds"),
        ("lifespans:blocking", "failed to start: start-up was not complete within 5 seconds", "--startup-seconds"),
    ],
    ids=lambda value: value if "s:" in value else "",
)
def test_gateways_that_do_not_start_in_time(gateway: str, what: str, hint: str) -> None:
    # Long enough for the module to be loaded, which counts too, where several tests run at once.
    fail(*FREE, "--startup-seconds", "5", "--gateway", f"{FAULTY}.{gateway}", faults=[(what, hint)])


def test_loading_a_gateway_and_starting_it_have_one_limit_together(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio, time\ntime.sleep(1.2)\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n    await asyncio.sleep(1.2)\n    await send({'type': 'lifespan.startup.complete'})\n"
    )
    faults = [("failed to start: start-up was not complete within 2 seconds", "raise --startup-seconds")]
    fail(*FREE, "--startup-seconds", "2", "--gateway", "slow:app", faults=faults, cwd=tmp_path)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_current_directory_that_is_gone(tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    none = ("--metrics-bind", "none", "--admin-bind", "none")  # others may have the defaults, which is warned of
    started = [
        "sh",
        "-c",
        'rmdir "$0" && exec "$@"',
        str(gone),
        *edge_command(command, "--gateway", "mine:app", *FREE, *none),
    ]
    done = subprocess.run(started, cwd=gone, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert re.fullmatch(
        "sage-edge: error: --gateway: the current directory, .* cannot be found: no such file\n"
        "sage-edge: hint: start from a directory that exists .*\n",
        done.stderr,
    )


def test_more_workers_than_the_limit_of_open_files_lets_have_sockets() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    what = "--workers: no 40 sockets can be opened for each address: too many open files"
    fail("--no-llm", *FREE, "--workers", "40", faults=[(what, "ulimit -n")], preexec_fn=limit)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--no-llm", "--certfile", "none.pem"), "FileNotFoundError: .*none.pem"),
        (("--gateway", f"{FAULTY}.raises:app"), "RuntimeError: the model is not configured"),
        (("--gateway", f"{FAULTY}.applications:create_with_error()"), "ValueError: no such model"),
        (("--gateway", f"{FAULTY}.lifespans:raising"), "RuntimeError: no database"),
    ],
    ids=["certificate", "import", "factory", "lifespan"],
)
def test_debug_shows_where_the_cause_was_raised_and_no_local_variables(options: Sequence[str], cause: str) -> None:
    result = run_edge("serve", *FREE, "--log-level", "debug", *options)

    assert result.returncode == STARTUP
    assert "Traceback (most recent call last)" in result.stderr
    assert re.search(f"^ *{cause}", result.stderr, re.MULTILINE)
    # Values of variables hold keys and prompts.
    assert "locals" not in result.stderr
    assert len(re.findall("^sage-edge: error: ", result.stderr, re.MULTILINE)) == 1


def test_every_fault_is_reported_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text("prot = 1\nllm_prefix = 'llm'\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--config", "edge.toml", "--bind", place, "--certfile", "none.pem", "--keyfile", "none-key.pem"]
        faults = [
            ("edge.toml: unknown setting 'prot'", "did you mean port?"),
            ("edge.toml: llm_prefix: 'llm' does not start with '/'", "/llm"),
            ("--log-level: 'loud'", "info"),
            ("cannot read none.pem: no such file", "certs create"),
            ("cannot read none-key.pem: no such file", "certs create"),
            (f"cannot listen on {place}: the address is in use", "another port"),
            ("there is no module no_such_module", "check the spelling"),
        ]
        fail(
            *options,
            *("--log-level", "loud", "--gateway", "no_such_module:app"),
            code=CONFIGURATION,
            faults=faults,
            cwd=tmp_path,
        )
