"""The program `stt`: its commands, their help, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable


def main() -> None:
    """Run the command line."""
    try:
        import rich  # noqa: F401 - asked whether it is there
        import typer  # noqa: F401 - likewise
    except ImportError:
        sys.exit("`stt` needs typer and rich: run `pip install 'realtime-stt-client[cli]'`.")
    from stt_client.cli.commands import app

    sys.exit(_ended(app))


def _ended(app: Callable[..., object]) -> int:
    """Run the program; returns its exit code. An error is printed as one sentence."""
    from stt_client.cli.exit_codes import Exit, Failure, code_of, describe
    from stt_client.errors import SttError

    try:
        app(prog_name="stt")
    except SttError as error:
        _tell(describe(error))
        return code_of(error)
    except (Failure, OSError) as failure:
        _tell(str(failure))
        return Exit.FAILED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return Exit.DONE


def _tell(sentence: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, style="red", markup=False)


if __name__ == "__main__":
    main()
