"""The Containerfile, and a root like that of its image for CPUs: no registry can be asked in a test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.audio import REFERENCES, reference
from tests.client import session
from tests.deploy.containerfile import FILE, Stage, stages
from tests.deploy.programs import run
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.programs import program
from tests.server import ROOT, eventually, free_port
from tests.weights import model_dir, weights

USER = "65532"
PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
"""Of Debian 12: what distroless/python3-debian12 is made of, and the image needs."""
HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
TARGETS = ("cpu", "cuda")
BUBBLEWRAP = "install Debian's package bubblewrap"


def test_hadolint_accepts_the_containerfile() -> None:
    """No rule is broken, warnings and hints among them."""
    run(Path(sys.executable).parent / "hadolint", "--failure-threshold", "style", FILE)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_needs_no_privileges_and_no_shell(target: str) -> None:
    """It runs as nobody, gets SIGTERM itself, and its commands are in exec form."""
    stage = stages()[target]

    assert stage.single("USER") == f"{USER}:{USER}"
    assert stage.single("STOPSIGNAL") == "SIGTERM"
    assert stage.command("ENTRYPOINT") == ["python3", "app.py"]
    assert stage.command("HEALTHCHECK")[0] == "python3"
    assert {stage.environment()["HOME"], stage.environment()["STT_MODEL_DIR"]} == {"/cache", "/cache/models"}


def test_the_build_sends_what_is_copied() -> None:
    """The ignore file lets through the sources of COPY and nothing else."""
    lines = (ROOT / ".dockerignore").read_text().split()
    copied = {source for stage in stages().values() for source in sources(stage)}

    assert "*" in lines
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


def sources(stage: Stage) -> list[str]:
    """Files and folders of the repository that the stage copies."""
    copies = [arguments.split() for arguments in stage.all("COPY") if not arguments.startswith("--")]
    return [source for *some, _ in copies for source in some]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like the image's root: Debian's packages without any other program, the locked wheels, the server."""
    strap = program("mmdebstrap", "install Debian's package mmdebstrap")
    require_namespaces()
    folder = tmp_path_factory.mktemp("image") / "root"
    include = f"--include={','.join(PACKAGES)}"
    try:
        run(strap, "--quiet", "--variant=extract", include, f"--hook-dir={HOOKS}", "bookworm", folder)
        only_python(folder)
        install(folder / "site")
        copy_server(folder)
        yield folder
    finally:
        shutil.rmtree(folder.parent)


def require_namespaces() -> None:
    """Skip where the kernel lets this user confine no process."""
    words = [program("bwrap", BUBBLEWRAP), "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "true"]
    tried = subprocess.run(words, check=False, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")


def only_python(folder: Path) -> None:
    """Remove dpkg and the like, which Debian's packages ask for and the image does not have."""
    for programs in (folder / "usr" / "bin", folder / "usr" / "sbin"):
        for each in programs.iterdir():
            if each.name != "python3.11":
                each.unlink()
    (folder / "usr" / "bin" / "python3").symlink_to("python3.11")


def install(site: Path) -> None:
    """The packages that the image has, with their hashes checked."""
    (locked,) = sources(stages()["cpu-packages"])
    found = shutil.which("uv")
    uv = [found] if found else [sys.executable, "-m", "uv"]
    run(
        *uv, "pip", "install", "--quiet", "--target", site, "--python-version", "3.11", "--require-hashes", "-r", locked
    )


def copy_server(folder: Path) -> None:
    """What the Containerfile copies into the image."""
    for arguments in stages()["server"].all("COPY"):
        *some, target = arguments.split()
        into = folder / target.removeprefix("/")
        for source in some:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, into)
    for mounted in ("cache", "dev", "proc", "tmp"):
        (folder / mounted).mkdir(exist_ok=True)


def contained(root: Path, command: list[str], settings: dict[str, str]) -> list[str]:
    """A command line that runs `command` on the read-only root as a container would: as nobody and process 1."""
    stage = stages()["cpu"]
    words = [program("bwrap", BUBBLEWRAP), "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    words += ["--tmpfs", "/tmp", "--tmpfs", "/cache", "--ro-bind", str(model_dir()), "/cache/models"]  # noqa: S108 - its own
    words += ["--chdir", stage.single("WORKDIR"), "--clearenv"]
    words += ["--unshare-user", "--unshare-pid", "--as-pid-1", "--uid", USER, "--gid", USER, "--cap-drop", "ALL"]
    for name, value in {"PATH": "/usr/bin", **stage.environment(), **settings}.items():
        words += ["--setenv", name, value]
    return [*words, *command]


@contextmanager
def server(root: Path, folder: Path, settings: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The image's entry point: bubblewrap, whose status is the server's, and the server's process id."""
    facts, log = folder / "facts.json", folder / "server.log"
    with facts.open("wb") as info, log.open("wb") as output:
        command = contained(root, stages()["cpu"].command("ENTRYPOINT"), settings)
        command[1:1] = ["--info-fd", str(info.fileno())]
        process = subprocess.Popen(command, stdout=output, stderr=output, pass_fds=[info.fileno()])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings['STT_PORT']}", timeout=PATIENCE_SECONDS) as client:
            eventually(lambda: answers(client, process, log))
        yield process, json.loads(facts.read_text())["child-pid"]
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether the server is ready."""
    assert process.poll() is None, log.read_text()
    try:
        return client.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_the_image_transcribes_and_drains(root: Path, folder: Path) -> None:
    """On a read-only root, as nobody, without a shell: a streamed final, an upload, and after SIGTERM a last final."""
    weights("tiny.en")
    settings = {"STT_WHISPER_MODEL": "tiny.en", "STT_PORT": str(free_port()), "STT_DRAIN_SECONDS": "60"}
    programs = [each.name for folder in ("bin", "sbin") for each in (root / "usr" / folder).iterdir()]

    with server(root, folder, settings) as (process, pid):
        url = f"127.0.0.1:{settings['STT_PORT']}"
        run(*contained(root, stages()["cpu"].command("HEALTHCHECK"), settings))
        with (REFERENCES / "meeting.wav").open("rb") as recording:
            file = HTTP.post(f"http://{url}/v1/stt/transcribe", files={"file": recording})
        with session(f"ws://{url}/v1/stt/ws?call_id=image&sample_rate=16000&events=speech") as caller:
            caller.send(reference("hello"))
            caller.commit()
            (streamed,) = caller.finals(1)
            caller.send(reference("hello"))
            caller.until("speech_started")
            os.kill(pid, signal.SIGTERM)
            last, code = caller.rest()
        status = process.wait(PATIENCE_SECONDS)

    assert sorted(programs) == ["python3", "python3.11"]
    assert file.status_code == httpx.codes.OK, file.text
    assert "when the meeting is over" in file.json()["text"]
    texts = [each["text"] for each in (streamed, *last) if each["type"] == "final"]
    assert [text.lower() for text in texts] == ["hello and welcome to the speech server."] * 2
    assert (code, status) == (1012, 0)


@pytest.mark.slow
def test_the_container_is_confined(root: Path) -> None:
    """The user is nobody, the process is the first of its own, and nothing is writable but the mounted folders."""
    script = "import os, pathlib; print(os.getuid(), os.getpid()); pathlib.Path('/tmp/x').touch()"
    assert run(*contained(root, ["python3", "-c", script], {})) == f"{USER} 1\n"
    with pytest.raises(AssertionError, match=r"Read-only file system: '/srv/x'"):
        run(*contained(root, ["python3", "-c", "import pathlib; pathlib.Path('/srv/x').touch()"], {}))
