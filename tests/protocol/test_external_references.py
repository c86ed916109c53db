"""Uploads that name other files and addresses: whatever they name stays unread."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from protocol.file_audio import AudioRejected
from protocol.pcm import Samples
from tests.audio import reference
from tests.protocol.audio_files import encoded, wav
from tests.protocol.test_file_audio import read

SECRET = np.frombuffer(reference("hello"), "<i2")
ANCESTORS = (b"moov", b"trak", b"mdia", b"minf", b"dinf")


class Site:
    """Serves the secret to whoever asks, and remembers what was asked for."""

    def __init__(self, content: bytes) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(wav(SECRET))
    yield site
    site.close()


def movie(entry: bytes) -> bytes:
    """A QuickTime file whose only samples lie where the entry of its data reference box says."""
    whole = encoded(SECRET, "mov", "pcm_s16le")
    data, moov = whole.index(b"mdat") + 4, whole.rindex(b"moov")
    at = whole.index(b"dref", moov) - 4
    (size,) = struct.unpack_from(">I", whole, at)
    changed = bytearray(whole)
    changed[data : moov - 4] = bytes(moov - 4 - data)
    for name in ANCESTORS:
        place = whole.rindex(name, moov, at) - 4
        struct.pack_into(">I", changed, place, struct.unpack_from(">I", whole, place)[0] + 16 + len(entry) - size)
    changed[at : at + size] = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    return bytes(changed)


def url(address: str) -> bytes:
    """An entry that names an address (ISO 14496-12, section 8.7.2)."""
    content = address.encode() + b"\0"
    return struct.pack(">I4sI", 12 + len(content), b"url ", 0) + content


def alias(path: Path) -> bytes:
    """An entry of QuickTime: a Macintosh alias with an absolute path, which is what FFmpeg can follow."""
    absolute = str(path).encode()
    absolute += b"\0" * (len(absolute) % 2)
    record = bytes(10 + 1 + 27 + 12 + 1 + 63 + 16 + 4 + 16)
    record += struct.pack(">HH", 2, len(absolute)) + absolute + struct.pack(">hH", -1, 0)
    return struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record


def samples_of(container: av.container.InputContainer) -> Samples:
    """All samples of a file that FFmpeg opened."""
    return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])


def says_nothing(data: bytes, name: str) -> bool:
    """Whether the upload is rejected, or what the server hears in it is silence."""
    try:
        signal, _ = read(data, name=name)
    except AudioRejected:
        return True
    return not signal.any()


def test_an_alias_could_be_followed(tmp_path: Path) -> None:
    """With everything allowed FFmpeg reads the file that it names: the next test is about a real reference."""
    secret, referring = tmp_path / "secret.mov", tmp_path / "referring.mov"
    secret.write_bytes(encoded(SECRET, "mov", "pcm_s16le"))
    referring.write_bytes(movie(alias(secret)))
    with av.open(str(referring), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert np.array_equal(samples_of(container)[: len(SECRET)], SECRET)


@pytest.mark.parametrize("kind", ["alias", "file", "http"])
@pytest.mark.parametrize("name", ["a.mov", "a.mp4", ""])
def test_a_movie_whose_samples_lie_elsewhere(tmp_path: Path, site: Site, kind: str, name: str) -> None:
    """Nothing outside the upload is read, and no address is asked."""
    secret = tmp_path / "secret.mov"
    secret.write_bytes(encoded(SECRET, "mov", "pcm_s16le"))
    entry = {"alias": alias(secret), "file": url(f"file://{secret}"), "http": url(f"{site.url}/secret.mov")}[kind]

    assert says_nothing(movie(entry), name)
    assert site.asked == []


REFERRING = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "encrypted m3u8": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:9,\n{}\n',
    "master m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n",
    "m3u": "#EXTM3U\n{}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "concat list": "file '{}'\n",
    "concat protocol": "concat:{}|{}",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    "<Representation id='1' bandwidth='1'><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "pls": "[playlist]\nFile1={}\nNumberOfEntries=1\nVersion=2\n",
    "smil": '<smil><body><audio src="{}"/></body></smil>',
    "xspf": '<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>{}</location></track>'
    "</trackList></playlist>",
    "asf redirector": "[Reference]\nRef1={}\n",
    "rtsp text": "RTSPtext\n{}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "data address": "data:audio/wav;base64,UklGRg=={}",
    "address alone": "{}",
}


@pytest.mark.parametrize("form", REFERRING)
@pytest.mark.parametrize("to", ["path", "file", "http"])
def test_lists_and_addresses(tmp_path: Path, site: Site, form: str, to: str) -> None:
    """Each is rejected, whatever the upload is called, and nothing that it names is opened."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(SECRET))
    address = {"path": str(secret), "file": f"file://{secret}", "http": f"{site.url}/secret.wav"}[to]
    data = REFERRING[form].replace("{}", address).encode()
    for name in ("", f"a.{form.rsplit(maxsplit=1)[-1]}", str(secret), f"{site.url}/secret.wav"):
        with pytest.raises(AudioRejected, match="is not audio"):
            read(data, name=name)
    assert site.asked == []
