"""Every public name of the client library has an example, and each runs."""

from __future__ import annotations

import asyncio
import doctest
import inspect

import pytest

import stt_client
from tests.audio import reference, silence
from tests.server import Server

DOCUMENTED = [name for name in stt_client.__all__ if name != "Event"]
"""`Event` is a union, which has no docstring of its own; its members are documented."""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_of_a_public_name_runs(name: str, mock_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public name's docstring has an example, and the example prints what it says on a real server."""
    monkeypatch.setenv("STT_SERVER", mock_server.http)
    documentation = inspect.getdoc(getattr(stt_client, name)) or ""
    public = {each: getattr(stt_client, each) for each in stt_client.__all__}
    names = {**public, "asyncio": asyncio, "client": stt_client.Client(), "hello": reference("hello") + silence(800)}
    source = documentation.replace("http://localhost:8000", mock_server.http)
    example = doctest.DocTestParser().get_doctest(source, names, name, None, 0)
    printed: list[str] = []

    assert example.examples
    doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not printed, "".join(printed)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_method_says_what_it_does(name: str) -> None:
    """Methods and attributes of public classes have docstrings."""
    documented = getattr(stt_client, name)
    members = {key: member for key, member in vars(documented).items() if not key.startswith("_")}

    assert not [key for key, member in members.items() if callable(member) and not inspect.getdoc(member)]
    fields = getattr(documented, "model_fields", {})
    assert not [key for key, field in fields.items() if not field.description]
