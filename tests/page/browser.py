"""Debian's Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.client import connect
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.processes import ending
from tests.server import eventually

CHROMIUM = shutil.which("chromium")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0", "--hide-scrollbars",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
)  # fmt: skip


class Browser:
    """One browser with one tab, whose microphone plays `recording` (a WAV file of 48 kHz) once."""

    def __init__(self, folder: Path, recording: Path | None = None, flags: Sequence[str] = ()) -> None:
        self._folder = folder
        capture = [] if recording is None else [f"--use-file-for-fake-audio-capture={recording}%noloop"]
        self._flags = (*_FLAGS, *capture, *flags)
        self._stack = ExitStack()
        self._calls = 0
        self.events: list[dict[str, Any]] = []
        """What the tab reported, such as exceptions."""

    def __enter__(self) -> Browser:
        with ExitStack() as starting:
            port = self._start(starting)
            targets = eventually(lambda: self._tabs(port))
            address = targets[0]["webSocketDebuggerUrl"]
            self._socket = starting.enter_context(connect(address, max_size=None, compression=None))
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
            self._stack = starting.pop_all()
        return self

    def _start(self, stack: ExitStack) -> str:
        """Start the process; the port that it listens on."""
        profile = self._folder / "profile"
        profile.mkdir(parents=True)
        assert CHROMIUM is not None
        log = stack.enter_context((self._folder / "chromium.log").open("wb"))
        command = [CHROMIUM, *self._flags, f"--user-data-dir={profile}", "about:blank"]
        self._process = stack.enter_context(ending(subprocess.Popen(command, stdout=log, stderr=log)))
        port_file = profile / "DevToolsActivePort"
        port: str = eventually(lambda: port_file.exists() and port_file.read_text().splitlines())[0]
        return port

    @staticmethod
    def _tabs(port: str) -> list[dict[str, Any]]:
        try:
            answer = HTTP.get(f"http://127.0.0.1:{port}/json").json()
        except httpx.TransportError:
            return []
        return [target for target in answer if target["type"] == "page"]

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.call("Browser.close")
            self._process.wait(PATIENCE_SECONDS)  # it ends its own processes

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv(PATIENCE_SECONDS))
            if message.get("id") == self._calls:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever the expression gives
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = PATIENCE_SECONDS) -> Any:  # noqa: ANN401 - whatever the expression gives
        """The expression's value once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}; the page says: {self.text()}"
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """What the page shows."""
        shown: str = self.evaluate("document.body.innerText")
        return shown

    def press(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        x, y = self.evaluate(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, key: str) -> None:
        """Press a key on the keyboard, such as `Tab`."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        pressed = {"key": key, "code": key.replace(" ", "Space"), "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def drop(self, path: Path) -> None:
        """Drop a file on the page."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def appearance(self, width: int, height: int, scheme: str = "light", scale: float = 1) -> None:
        """Size of the window in CSS pixels, and `light` or `dark`."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def faults(self) -> list[str]:
        """Exceptions, and what the security policy or the browser complained about."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found
