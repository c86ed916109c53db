"""Debian's Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

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
        profile = folder / "profile"
        profile.mkdir(parents=True)
        assert CHROMIUM is not None
        capture = [] if recording is None else [f"--use-file-for-fake-audio-capture={recording}%noloop"]
        self._log = (folder / "chromium.log").open("wb")
        command = [CHROMIUM, *_FLAGS, *capture, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        port_file = profile / "DevToolsActivePort"
        port = eventually(lambda: port_file.exists() and port_file.read_text().splitlines(), 60)[0]
        targets = eventually(lambda: self._tabs(port), 60)
        self._socket = connect(targets[0]["webSocketDebuggerUrl"], max_size=None, compression=None)
        self._calls = 0
        self.events: list[dict[str, Any]] = []
        """What the tab reported, such as exceptions."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _tabs(port: str) -> list[dict[str, Any]]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/json").json()
        except httpx.TransportError:
            return []
        return [target for target in answer if target["type"] == "page"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv(60))
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

    def wait_for(self, expression: str, seconds: float = 60) -> Any:  # noqa: ANN401 - whatever the expression gives
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

    def screenshot(self, path: Path) -> None:
        """A PNG of what the window shows."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def faults(self) -> list[str]:
        """Exceptions, and what the security policy or the browser complained about."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found
