"""A headless Chromium, spoken to over a pair of pipes (Chrome DevTools Protocol): pages, their faults, screenshots."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.edge import WAIT_SECONDS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


class Page:
    """One page of a browser.

    Attributes:
        faults: what it wrote to its console as an error, and what it could not load or run.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = os.fdopen(answers, "rb")
        self._number = 0
        self._session: str | None = None
        self.faults: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self._call(f"{domain}.enable")

    def show(self, url: str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Open an address in a window of that size."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Page.navigate", url=url)
        self.wait_until("document.readyState === 'complete'")

    def disable_scripts(self) -> None:
        """Let the pages do without scripts."""
        self._call("Emulation.setScriptExecutionDisabled", value=True)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, or what its promise comes to."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait until an expression is true. Asked from here: a page without scripts has no timers either."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never: {condition}"
            time.sleep(0.02)

    def roles(self) -> list[tuple[str, str]]:
        """What a screen reader is told: role and name of each thing."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [(_value(node, "role"), _value(node, "name")) for node in nodes if not node.get("ignored")]

    def press(self, key: str) -> None:
        """Press a key: Tab or Enter."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: Path) -> None:
        """Draw the whole page into a PNG file."""
        picture = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def _call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, message
        result: Mapping[str, Any] = message["result"]
        return result

    def _receive(self) -> Mapping[str, Any]:
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            data += byte
        message: Mapping[str, Any] = json.loads(data)
        return message

    def _note(self, message: Mapping[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.faults.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "warning"}:
                self.faults.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in {"error", "warning"}:
                self.faults.append(str(parameters["entry"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own.

    Args:
        profile: an empty directory for what it keeps.
    """
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    assert CHROMIUM is not None

    def place_pipes() -> None:
        os.dup2(read_commands, 1003)
        os.dup2(write_answers, 1004)
        os.dup2(1003, 3)
        os.dup2(1004, 4)

    process = subprocess.Popen(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",  # containers seldom allow one
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=place_pipes,
        start_new_session=True,
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        page = Page(commands, answers)
        yield page
    finally:
        os.close(commands)  # which ends it
        process.wait(30)
        page._answers.close()


def _value(node: Mapping[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", ""))
