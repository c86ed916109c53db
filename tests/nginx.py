"""nginx as a process of a test, without root."""

from __future__ import annotations

from pathlib import Path

from tests.programs import program


def nginx_command(folder: Path, site: str) -> list[str]:
    """The command that runs nginx with this `server` block; the files are written into `folder`."""
    nginx = program("nginx", "apt-get install nginx")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}include {folder}/site.conf;\n}}\n"
    )
    return [nginx, "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(folder / "nginx.conf")]
