"""`stt` as a person at a terminal and a script use it."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stt_client import Transcript
from stt_client.cli.commands import app
from stt_client.cli.formats import Format
from tests.audio import reference, silence, text_of
from tests.client import session
from tests.models.stand_in import Hub
from tests.patience import PATIENCE_SECONDS
from tests.processes import ending
from tests.server import ROOT, Server, free_port
from tests.stt_client.terminal import COLUMNS, Terminal, command, environment, piped
from tests.weights import settings_of

HELLO = "references/hello.wav"
PAUSES = "references/pauses_meeting.wav"
_HUMAN_PLACES = (parent / "shared" / "speech" / "en_jfk.wav" for parent in ROOT.parents)
HUMAN = next((path for path in _HUMAN_PLACES if path.exists()), None)
HUMAN_TEXT = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def test_a_stream_shows_partials_in_place_and_finals_as_lines(mock_server: Server) -> None:
    """A partial stands on the last line while somebody speaks; in the end only the final is there, with its time."""
    with Terminal({}, "stream", HELLO, "--server", mock_server.http) as terminal:
        terminal.until(lambda lines: lines and lines[-1].startswith("hello and welcome to"))
        code = terminal.ended()

    assert code == 0
    assert terminal.lines == [f"0:00  {text_of('hello')}"]


def test_control_c_still_prints_the_last_final(mock_server: Server) -> None:
    """The first Ctrl-C ends the speech, and its last words still come."""
    with Terminal({}, "stream", PAUSES, "--server", mock_server.http) as terminal:
        terminal.until(lambda lines: lines and lines[-1].startswith("there is a"))
        terminal.press(b"\x03")
        code = terminal.ended()

    assert code == 130
    assert terminal.lines[-2] == "0:00  the meeting starts at nine"
    assert re.match(r"0:0\d  there is a", terminal.lines[-1])


@pytest.mark.slow
def test_control_c_ends_a_pipe_that_stalls(mock_server: Server) -> None:
    """While the standard input gives nothing, Ctrl-C still prints the last words, and nothing else."""
    process = subprocess.Popen(
        command("stream", "-", "--server", mock_server.http), cwd=ROOT, env=environment({}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with ending(process):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(reference("hello") + silence(800) + reference("keys"))
        process.stdin.flush()
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
        process.wait(PATIENCE_SECONDS)

    assert (process.returncode, first.decode(), rest.decode(), errors.decode()) == (
        130, f"{text_of('hello')}\n", f"{text_of('keys')}\n", ""
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("arecord") is None, reason="apt-get install alsa-utils")
def test_the_microphone_is_streamed(mock_server: Server, tmp_path: Path) -> None:
    """ALSA's own recorder reads a microphone that plays a recording, and its words appear."""
    (tmp_path / "speech.raw").write_bytes(reference("hello") + silence(1000))
    (tmp_path / ".asoundrc").write_text(
        "pcm.!default { type plug slave.pcm { type file slave.pcm null file /dev/null format raw "
        f"infile {tmp_path / 'speech.raw'} }} }}"
    )
    with Terminal({"HOME": str(tmp_path)}, "stream", "mic", "--server", mock_server.http) as terminal:
        terminal.until(lambda lines: f"0:00  {text_of('hello')}" in lines)
        terminal.press(b"\x03\x03")  # this microphone is ahead of real time, and the second one waits for nothing
        code = terminal.ended()

    assert code == 130
    assert b"Traceback" not in terminal.written


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "sentence"), [("stream", "Connecting to http://"), ("transcribe", "hello.wav: ")])
def test_control_c_ends_a_wait_for_a_server(verb: str, sentence: str) -> None:
    """Where a server does not answer, a line says so, one Ctrl-C is enough, and nothing but the prompt follows."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Terminal({}, verb, HELLO, "--server", address) as terminal:
            silent.settimeout(PATIENCE_SECONDS)
            connection, _ = silent.accept()
            terminal.until(lambda lines: any(sentence in line for line in lines))
            terminal.press(b"\x03")
            code = terminal.ended(8)
            connection.close()

    assert code == 130
    assert b"Traceback" not in terminal.written


@pytest.mark.slow
def test_a_full_server_is_waited_for(folder: Path) -> None:
    """One sentence says that the server is full and when it is asked again; with room the words come."""
    sentence = "The server answered 503: full: 1 of 1 sessions are open; connecting again in 5 s."
    with (
        Server(folder, {"STT_BACKEND": "mock", "STT_MAX_SESSIONS": "1"}) as server,
        session(server.ws()) as other,
        Terminal({}, "stream", HELLO, "--server", server.http) as terminal,
    ):
        terminal.until(lambda lines: sentence in lines)
        other.socket.close()
        assert terminal.ended() == 0

    assert terminal.lines == [sentence, f"0:00  {text_of('hello')}"]


def test_a_stream_without_a_terminal_is_plain_text(mock_server: Server) -> None:
    """Through a pipe come finals only, without colours or control characters; raw audio comes in through a pipe too."""
    done = piped({"STT_SERVER": mock_server.http}, "stream", "-", given=reference("hello") + silence(800))

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{text_of('hello')}\n"


@pytest.mark.slow
def test_a_stream_as_json_is_one_event_a_line(mock_server: Server) -> None:
    """Other programs read every event as JSON."""
    done = piped({"STT_SERVER": mock_server.http}, "stream", "-", "--json", given=reference("hello") + silence(800))
    events = [json.loads(line) for line in done.stdout.splitlines()]

    assert {event["type"] for event in events} <= {"partial", "final"}
    assert events[-1]["text"] == text_of("hello")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("text", "hello and welcome to the speech server\n"),
        ("srt", "1\n00:00:00,100 --> 00:00:02,180\nhello and welcome to the speech server\n"),
        ("vtt", "WEBVTT\n\n00:00:00.100 --> 00:00:02.180\nhello and welcome to the speech server\n"),
        ("tsv", "start\tend\ttext\n100\t2180\thello and welcome to the speech server\n"),
    ],
)
def test_transcribe_writes_each_format(mock_server: Server, form: str, expected: str) -> None:
    """A server's transcript comes out in the format asked for."""
    done = piped({}, "transcribe", HELLO, "--format", form, "--server", mock_server.http)

    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")


@pytest.mark.slow
def test_transcribe_writes_json(mock_server: Server) -> None:
    """JSON has times and text."""
    done = piped({}, "transcribe", HELLO, "--json", "--server", mock_server.http)
    transcript = Transcript.model_validate_json(done.stdout)

    assert (transcript.text, transcript.duration_ms) == (text_of("hello"), 2320)


@pytest.mark.slow
def test_transcribe_without_a_server_runs_the_engine_itself(tmp_path: Path) -> None:
    """Several files at a terminal: the engine is in this process, and a subtitle file lies beside each name."""
    files = (HELLO, "references/wind.wav")
    with Terminal({"STT_BACKEND": "mock"}, "transcribe", *files, "-f", "srt", "-o", str(tmp_path)) as terminal:
        code = terminal.ended()

    assert code == 0, terminal.lines
    assert text_of("hello") in (tmp_path / "hello.srt").read_text()
    spoken = re.sub(r"\d+\n\S+ --> \S+\n", "", (tmp_path / "wind.srt").read_text())
    assert " ".join(spoken.split()) == text_of("wind")
    assert b"transcribing" in terminal.written


@pytest.mark.slow
def test_real_words_on_the_terminal(folder: Path) -> None:
    """With real recognition: a stream's last line, and the same words by the engine in this process."""
    settings = settings_of("tiny.en")
    with Server(folder, settings) as server, Terminal({}, "stream", HELLO, "-s", server.http) as terminal:
        assert terminal.ended() == 0
    done = piped(settings, "transcribe", HELLO, "--format", "json", "--words")

    assert terminal.lines == ["0:00  Hello and welcome to the speech server."]
    transcript = Transcript.model_validate_json(done.stdout)
    assert transcript.text == "Hello and welcome to the speech server."
    assert transcript.segments[0].words


@pytest.mark.slow
@pytest.mark.skipif(HUMAN is None, reason="shared speech is not here")
def test_a_human_voice_on_the_terminal(folder: Path) -> None:
    """A recorded speech, streamed and transcribed to each format at a terminal by a real server: the same words."""
    shown = {}
    with Server(folder, settings_of("tiny.en")) as server:
        for verb in (("stream",), *(("transcribe", "-f", form) for form in Format)):
            with Terminal({}, *verb, str(HUMAN), "-s", server.http) as terminal:
                assert terminal.ended() == 0, terminal.lines
                shown[verb[-1]] = terminal.lines

    transcript = Transcript.model_validate_json("".join(line.ljust(COLUMNS) for line in shown["json"]))
    said = {
        "stream": [line[6:] for line in shown["stream"]],
        "json": [transcript.text],
        "text": shown["text"],
        "srt": [line for line in shown["srt"] if "-->" not in line and not line.isdigit()],
        "vtt": [line for line in shown["vtt"][1:] if "-->" not in line],
        "tsv": [line.split(maxsplit=2)[2] for line in shown["tsv"][1:]],
    }
    assert {form: words(" ".join(lines)) for form, lines in said.items()} == dict.fromkeys(said, words(HUMAN_TEXT))
    assert max(map(len, said["srt"] + said["vtt"])) <= 42
    assert (shown["vtt"][0], shown["tsv"][0].split()) == ("WEBVTT", ["start", "end", "text"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("transcribe", "references/hello.txt"), 4, "The server answered 422"),
        (("stream", HELLO, "--language", "nonsense!"), 4, "language"),
        (("stream", "nowhere.wav"), 1, "There is no file nowhere.wav"),
        (("transcribe", "nowhere.wav"), 1, "nowhere.wav cannot be read"),
        (("stream",), 2, "Missing argument"),
        (("stream", HELLO, "--server", "nonsense"), 2, "is not the address of a server"),
        (("transcribe", HELLO, "--server", "http://a:99999"), 2, "is not the address of a server"),
        (("stream", "-", "--rate", "0"), 2, "--rate"),
        (("transcribe", HELLO, "elsewhere/hello.wav", "-o", "."), 1, "2 files would be written to hello.wav.txt"),
    ],
)
def test_exit_codes_tell_what_went_wrong(mock_server: Server, arguments: list[str], code: int, sentence: str) -> None:
    """Scripts learn from the exit code who is to blame, and people from one sentence on stderr."""
    done = piped({"STT_SERVER": mock_server.http}, *arguments)

    assert (done.returncode, done.stdout) == (code, b"")
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_no_server_is_an_exit_code_of_its_own() -> None:
    """Where nothing listens the program says where it looked, and ends with 3."""
    done = piped({"STT_SERVER": f"http://127.0.0.1:{free_port()}"}, "stream", HELLO)

    assert done.returncode == 3
    assert b"No server answers at ws://127.0.0.1:" in done.stderr
    assert done.stderr.count(b"connecting again") == 1
    assert b"`stt serve` starts one here" in done.stderr


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "vocabulary.txt": b"a\n"}
    with Hub({**files, "model.bin": random.Random(7).randbytes(3_000_000)}) as hub:
        yield hub


@pytest.mark.slow
def test_an_interrupted_pull_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    """A download that broke off goes on where it was, with a bar on the terminal, and the list shows the model."""
    settings = {"STT_MODEL_DIR": str(tmp_path), "HF_ENDPOINT": hub.url, "PIP_NO_INDEX": "1"}
    hub.breaks["model.bin"] = [1_000_000, 0]
    with Terminal(settings, "models", "pull", "small") as terminal:
        assert terminal.ended() == 1
    with Terminal(settings, "models", "pull", "small") as terminal:
        assert terminal.ended() == 0
    listed = json.loads(piped(settings, "models", "--json").stdout)

    assert hub.asked("model.bin")[-1] == "bytes=1000000-"
    assert "%" in terminal.written.decode()
    assert [model["name"] for model in listed if model["folder"]] == ["small"]
    assert piped(settings, "models", "remove", "small").returncode == 0
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_the_list_of_models_says_what_each_is(tmp_path: Path) -> None:
    """Name, size, licence, languages, and whether it is here."""
    with Terminal({"STT_MODEL_DIR": str(tmp_path)}, "models") as terminal:
        assert terminal.ended() == 0

    assert terminal.lines[0].split() == ["name", "MB", "languages", "licence", "on", "this", "machine"]
    assert ["base", "148", "99", "MIT", "no"] in [line.split() for line in terminal.lines]


def test_doctor_says_what_to_do_on_a_machine_without_models(tmp_path: Path) -> None:
    """Without a model no engine starts: the exit code is 1, and a line says which command mends it."""
    with Terminal({"STT_MODEL_DIR": str(tmp_path / "none")}, "doctor") as terminal:
        code = terminal.ended()
    by_name = {line.split()[1]: line for line in terminal.lines if line.split()[0] in ("ok", "missing", "broken")}

    assert code == 1
    assert "run `stt models pull base`" in by_name["models"]
    assert by_name["engine"].startswith("broken")
    assert {"python", "cores", "mic", "server", "cuda", "whisper", "qwen3", "port"} <= by_name.keys()


@pytest.mark.slow
def test_doctor_as_json_is_one_finding_a_line() -> None:
    """Programs read the same findings."""
    findings = [json.loads(line) for line in piped({"STT_BACKEND": "mock"}, "doctor", "--json").stdout.splitlines()]

    assert {"name": "engine", "state": "ok", "fact": "STT_BACKEND=mock can start", "advice": ""} in findings


@pytest.mark.slow
def test_serve_takes_flags_and_names_what_to_try() -> None:
    """The server's closing lines have its address; its flags win over the environment; Ctrl-C ends it cleanly."""
    port = str(free_port())
    with Terminal({"STT_PORT": "1"}, "serve", "--backend", "mock", "--host", "127.0.0.1", "--port", port) as terminal:
        terminal.until(lambda lines: any("is ready on" in line for line in lines))
        terminal.until(lambda lines: any(HELLO in line for line in lines))
        terminal.press(b"\x03")
        code = terminal.ended()

    assert code == 0
    written = terminal.written.decode()
    assert f"the engine mock is ready on http://127.0.0.1:{port}" in written
    assert f"Open http://127.0.0.1:{port}/ in a browser" in written
    for tried in ("stt stream mic", "stt transcribe", "stt doctor"):
        assert tried in written


@pytest.mark.parametrize("name", ["serve", "transcribe", "stream", "models", "models pull", "models remove"])
def test_help_teaches_by_example(name: str) -> None:
    """A command's help has a line to copy, with more than its name."""
    shown = CliRunner().invoke(app, [*name.split(), "--help"], prog_name="stt", env={"COLUMNS": "200"})
    described = shown.stdout.split("Options", 1)[0].split("\n", 2)[2]

    assert shown.exit_code == 0
    assert re.search(rf"\bstt {name} \S+", described)


def test_help_without_a_terminal_has_no_colours() -> None:
    """Control characters are for terminals."""
    done = piped({}, "--help")

    assert done.returncode == 0
    assert b"stt stream mic" in done.stdout
    assert b"\x1b" not in done.stdout
