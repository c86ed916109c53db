"""The page in Debian's Chromium, on a real server with real weights."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.audio import REFERENCES, text_of
from tests.client import session
from tests.page.browser import Browser
from tests.page.conftest import OpenBrowser
from tests.server import Server, eventually, free_port
from tests.weights import settings_of

STATE = "document.getElementById('state').textContent"
PRESSED = "document.getElementById('record').getAttribute('aria-pressed')"
FINALS = "[...document.querySelectorAll('li.entry .words')].map((each) => each.textContent)"


def words(text: str) -> list[str]:
    return "".join(each if each.isalnum() else " " for each in text.lower()).split()


def wait_for_words(browser: Browser, wanted: str, finals: int) -> list[str]:
    """The finals, once there are so many; together they say what was wanted."""
    browser.wait_for(f"{FINALS}.length >= {finals}")
    texts: list[str] = browser.evaluate(FINALS)
    assert words(" ".join(texts)) == words(wanted)
    return texts


def stop(browser: Browser) -> None:
    browser.press("#record")
    browser.wait_for(f"{PRESSED} === 'false'")


def test_what_is_said_appears(whisper_server: Server, open_browser: OpenBrowser, speech: Path) -> None:
    """Partials settle into finals without a layout shift; the meter, the times, and the last words come."""
    browser = open_browser(f"{whisper_server.http}/", speech)
    browser.evaluate(
        "globalThis.shifts = [], globalThis.seen = new Set(),"
        "new PerformanceObserver((list) => shifts.push(...list.getEntries().map((each) => each.value)))"
        ".observe({type: 'layout-shift'}),"
        "new MutationObserver(() => {"
        "  const meter = document.querySelector('.meter');"
        "  if (meter.matches('.voiced.measured')) seen.add('voice');"
        "  if (document.querySelector('.partial .words')?.textContent) seen.add('partial');"
        "}).observe(document.body, {subtree: true, childList: true, attributes: true}), 0"
    )
    browser.press("#record")
    browser.wait_for(f"{STATE} === 'Listening'")
    wait_for_words(browser, f"{text_of('weather')} {text_of('hello')}", 2)

    assert browser.evaluate("[...seen].sort()") == ["partial", "voice"]
    assert browser.evaluate("shifts.reduce((sum, each) => sum + each, 0)") < 0.05
    facts = "[...document.querySelector('.facts').children].map((each) => each.textContent)"
    confidence, delay = browser.evaluate(facts)
    assert re.fullmatch(r"\d+ %", confidence)
    assert re.fullmatch(r"\d+\.\d\d s", delay)
    assert browser.evaluate("document.querySelector('#spoken').textContent")
    stop(browser)
    assert browser.faults() == []


def test_a_dropped_file_is_transcribed(whisper_server: Server, open_browser: OpenBrowser) -> None:
    """Its words appear under its name; so do those of a second file dropped at once; what is no audio says so."""
    browser = open_browser(f"{whisper_server.http}/")
    browser.drop(REFERENCES / "weather.wav")
    browser.drop(REFERENCES / "hello.wav")
    browser.drop(REFERENCES / "hello.txt")
    wait_for_words(browser, f"{text_of('weather')} {text_of('hello')}", 2)
    browser.wait_for("document.querySelector('.note') !== null")

    titles = browser.evaluate("[...document.querySelectorAll('h2')].map((each) => each.textContent)")
    assert titles == ["weather.wav", "hello.wav", "hello.txt"]
    assert "not audio" in browser.evaluate("document.querySelector('.note').textContent")
    assert browser.evaluate("document.querySelectorAll('.progress:not([hidden])').length") == 0


def test_words_are_found_and_taken_away(whisper_server: Server, open_browser: OpenBrowser, folder: Path) -> None:
    """The search counts and goes to what it finds; the copy and the downloads hold the text, subtitles and times."""
    browser = open_browser(f"{whisper_server.http}/")
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.drop(REFERENCES / "weather.wav")
    wait_for_words(browser, text_of("weather"), 1)
    browser.press("#query")
    browser.call("Input.insertText", text=words(text_of("weather"))[1].upper())
    assert browser.evaluate("document.getElementById('found').textContent") == "in 1"
    browser.key("Enter")
    assert browser.evaluate("document.getElementById('found').textContent") == "1 of 1"
    assert browser.evaluate("document.querySelectorAll('li.entry.current').length") == 1
    browser.call("Input.insertText", text="zzz")
    assert browser.evaluate("document.getElementById('found').textContent") == "nothing found"

    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.press("[data-action=copy]")
    browser.wait_for("document.querySelector('[data-action=copy]').textContent === 'Copied'")
    assert words(browser.evaluate("navigator.clipboard.readText()")) == words(text_of("weather"))
    for kind in ("txt", "srt", "json"):
        browser.press(f"[data-action={kind}]")
        eventually((folder / f"weather.{kind}").exists)
    assert words((folder / "weather.txt").read_text()) == words(text_of("weather"))
    assert (folder / "weather.srt").read_text().startswith("1\n00:00:00,")
    (segment,) = json.loads((folder / "weather.json").read_text())["segments"]
    assert [word["start_ms"] for word in segment["words"]] == sorted(word["start_ms"] for word in segment["words"])


def test_subtitles_wrap(whisper_server: Server, open_browser: OpenBrowser) -> None:
    """At most two lines of 42 characters and 7 s a cue, no word cut or lost, with words' times and without."""
    browser = open_browser(f"{whisper_server.http}/")
    text = " ".join(f"word{number}" for number in range(60))
    timed = [
        {"word": word, "start_ms": 400 * number, "end_ms": 400 * number + 300, "confidence": 1}
        for number, word in enumerate(text.split())
    ]
    segment: dict[str, Any] = {"text": text, "start_ms": 0, "end_ms": 24_000}
    for each in (segment, segment | {"words": timed}):
        srt = browser.evaluate(f"import('/page/exports.js').then(({{toSrt}}) => toSrt([{json.dumps(each)}]))")
        cues = [cue.split("\n") for cue in srt.strip().split("\n\n")]

        assert [cue[0] for cue in cues] == [str(number + 1) for number in range(len(cues))]
        assert all(len(cue) <= 4 and max(map(len, cue[2:])) <= 42 for cue in cues)
        assert " ".join(" ".join(cue[2:]) for cue in cues) == text
        times = [time for cue in cues for time in cue[1].split(" --> ")]
        assert times == sorted(times)
        assert len(cues) >= 4


def test_a_restart_loses_no_word(folder: Path, open_browser: OpenBrowser, speech: Path) -> None:
    """The server restarts in mid-sentence: every word is there once."""
    port = free_port()
    settings = settings_of("tiny.en") | {"STT_PORT": str(port)}

    def server(name: str) -> Server:
        (folder / name).mkdir()
        made = Server(folder / name, settings, script=True)
        made.port = port
        return made

    with server("first") as first:
        browser = open_browser(f"{first.http}/", speech)
        browser.press("#record")
        browser.wait_for("document.querySelector('.partial .words')?.textContent")
        first.signal(signal.SIGTERM)
        browser.wait_for(f"!{STATE}.startsWith('Listening')")
    with server("second"):
        browser.wait_for(f"{STATE} === 'Listening'")
        browser.wait_for(f"{FINALS}.join(' ').toLowerCase().includes('{words(text_of('hello'))[-1]}')")
        wait_for_words(browser, f"{text_of('weather')} {text_of('hello')}", 2)


def test_a_full_server_is_named(folder: Path, open_browser: OpenBrowser, speech: Path) -> None:
    """The page says that the server is full, and goes on when there is room."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_MAX_SESSIONS": "1"}) as server:
        with session(server.ws()):
            browser = open_browser(f"{server.http}/", speech)
            browser.press("#record")
            browser.wait_for(f"{STATE}.startsWith('The server is full: 1 of 1')")
        browser.wait_for(f"{STATE} === 'Listening'")


def test_plain_http_from_afar_is_explained(whisper_server: Server, open_browser: OpenBrowser) -> None:
    """Where the browser gives no microphone, the page says why and what to do."""
    browser = open_browser(
        f"http://stt.example:{whisper_server.port}/", None, "--host-resolver-rules=MAP stt.example 127.0.0.1"
    )
    browser.press("#record")
    notice = browser.wait_for("document.getElementById('notice').textContent")

    assert "HTTPS" in notice
    assert f"ssh -L {whisper_server.port}:localhost:{whisper_server.port} stt.example" in notice
    assert browser.evaluate(PRESSED) == "false"


def test_two_speakers_are_distinguished(whisper_server: Server, open_browser: OpenBrowser, stereo_speech: Path) -> None:
    """With the stereo switch each channel has its own finals, under its own name."""
    browser = open_browser(f"{whisper_server.http}/", stereo_speech)
    browser.press("#stereo")
    browser.press("#record")
    browser.wait_for(f"{FINALS}.length >= 2")

    said = browser.evaluate(
        "[...document.querySelectorAll('li.entry')].map((each) =>"
        " [each.querySelector('.speaker').textContent, each.querySelector('.words').textContent])"
    )
    assert sorted((side, *words(text)) for side, text in said) == [
        ("Left", *words(text_of("weather"))),
        ("Right", *words(text_of("hello"))),
    ]
    assert browser.evaluate("document.querySelectorAll('.meter').length") == 2


def test_the_text_is_in_the_order_of_speech(whisper_server: Server, open_browser: OpenBrowser) -> None:
    """Who began first stands first, though the other ended first; what is taken back goes."""
    browser = open_browser(f"{whisper_server.http}/")
    browser.evaluate(
        "import('/page/transcript.js').then(({Part}) => {"
        " const part = new Part('both');"
        " for (const start_ms of [300, 100, 400, 200])"
        "   part.add({key: start_ms, text: `at ${start_ms}`, start_ms, end_ms: 500});"
        " part.remove(400); })"
    )

    assert browser.evaluate(FINALS) == ["at 100", "at 200", "at 300"]


def test_the_language_chosen_is_asked_for(mock_server: Server, open_browser: OpenBrowser, speech: Path) -> None:
    """Each language has a name; the server is told the one chosen, and the device's own rate."""
    browser = open_browser(f"{mock_server.http}/", speech)
    browser.wait_for("document.querySelector('#language option[value=de]') !== null")
    unnamed = "[...document.getElementById('language').options].filter((each) => each.text === each.value).length"
    assert browser.evaluate(unnamed) == 0
    browser.evaluate("document.getElementById('language').value = 'de'")
    browser.press("#record")
    browser.wait_for(f"{STATE} === 'Listening'")

    (opened,) = [event["params"]["url"] for event in browser.events if event["method"] == "Network.webSocketCreated"]
    query = httpx.URL(opened).params
    assert query["language"] == "de"
    assert (query["words"], query["events"], query["channels"]) == ("true", "speech,level", "1")
    assert int(query["sample_rate"]) == browser.evaluate("new AudioContext().sampleRate")


def test_a_key_is_asked_for(folder: Path, open_browser: OpenBrowser, speech: Path) -> None:
    """The page asks for a key, says when it is wrong, and connects with a token for the right one."""
    key = "a-key-of-the-test-0123456789"
    with Server(folder, {"STT_BACKEND": "mock", "STT_API_KEYS": f"page={key}"}) as server:
        browser = open_browser(f"{server.http}/", speech)

        def enter(secret: str) -> None:
            browser.wait_for("document.activeElement.id === 'secret'")
            browser.evaluate("document.getElementById('secret').value = ''")
            browser.call("Input.insertText", text=secret)
            browser.key("Enter")

        browser.press("#record")
        enter("wrong")
        browser.wait_for("document.getElementById('notice').textContent.includes('does not accept this key')")
        enter(key)
        browser.wait_for(f"{STATE} === 'Listening'")
        stop(browser)
        browser.drop(REFERENCES / "hello.wav")
        wait_for_words(browser, text_of("hello"), 1)
        assert key not in server.output()
        sockets = [event for event in browser.events if event["method"].startswith("Network.webSocket")]
        assert "stt-token." in json.dumps(sockets)
        assert key not in json.dumps(sockets)


def test_the_keyboard_is_enough(whisper_server: Server, open_browser: OpenBrowser, speech: Path) -> None:
    """Tab reaches the button and every control of the recorder; Space starts and stops."""
    browser = open_browser(f"{whisper_server.http}/", speech)
    reached = []
    for _ in range(4):
        browser.key("Tab")
        reached.append(browser.evaluate("document.activeElement.id"))
    assert reached == ["record", "language", "stereo", "choose"]
    browser.evaluate("document.getElementById('record').focus()")
    browser.key(" ")
    browser.wait_for(f"{STATE} === 'Listening'")
    browser.key(" ")
    browser.wait_for(f"{PRESSED} === 'false'")


def test_a_tab_in_the_background_goes_on(whisper_server: Server, open_browser: OpenBrowser, speech: Path) -> None:
    """Words appear while another tab is in front."""
    browser = open_browser(f"{whisper_server.http}/", speech)
    browser.press("#record")
    browser.wait_for(f"{STATE} === 'Listening'")
    browser.call("Target.createTarget", url="about:blank")
    browser.wait_for("document.visibilityState === 'hidden'")
    wait_for_words(browser, f"{text_of('weather')} {text_of('hello')}", 2)


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """The source of axe-core, the accessibility checker, from npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: apt-get install npm")
    folder = request.config.cache.mkdir("axe-core")
    source = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        command = [
            "npm",
            "install",
            "--prefix",
            str(folder),
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "axe-core@4",
        ]
        subprocess.run(command, check=True)
    return source.read_text()


def test_nothing_stands_in_the_way(whisper_server: Server, open_browser: OpenBrowser, speech: Path, axe: str) -> None:
    """axe-core finds no serious violation: empty, while recording and with text, light, dark and on a phone."""
    browser = open_browser(f"{whisper_server.http}/", speech)
    browser.evaluate(f"{axe};0")

    def check(state: str) -> None:
        for width, scheme in ((1000, "light"), (1000, "dark"), (390, "light")):
            browser.appearance(width, 800, scheme)
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{state}, {width}: too wide"
            browser.evaluate("Promise.allSettled(document.getAnimations().map((each) => each.finished)).then(() => 0)")
            found = browser.evaluate("axe.run().then(({violations}) => violations)")
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            nodes = [f"{node['failureSummary']} {node['html']}" for each in serious for node in each["nodes"]]
            assert nodes == [], f"{state}, {width}, {scheme}"

    check("empty")
    browser.press("#record")
    browser.wait_for("document.querySelector('.partial .words')?.textContent")
    check("recording")
    browser.drop(REFERENCES / "hello.wav")
    browser.wait_for(f"{FINALS}.length >= 3")
    browser.evaluate("document.getElementById('key').hidden = false")
    check("with text")
