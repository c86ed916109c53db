#!/bin/sh
# Fill the environment of `make test-engine` with vLLM's CPU build, this project's dependencies and its test tools:
#   engine_env.sh UV PYTHON
# torch comes first and by version alone. Its CPU build is whatever wheel the machine offers, so no hash can be
# promised for it; requirements/engine.txt pins the rest by hash and leaves torch out.
set -eu
uv=$1
python=$2
torch=2.13.0

links=$(tools/find_links.sh)
install() { "$uv" pip install -q --python "$python" --no-deps "$@"; }

# shellcheck disable=SC2086 # $links is a list of options
if ! { [ -n "$links" ] && install --no-index $links "torch==$torch+cpu" 2>/dev/null; } &&
  ! install --torch-backend cpu "torch==$torch" 2>/dev/null; then
  echo "test-engine: no CPU build of torch $torch in pip's find-links, nor from uv's --torch-backend cpu" >&2
  exit 1
fi
if ! "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; then
  echo "test-engine: vLLM's CPU build needs the system's libnuma.so.1 (Debian: libnuma1)" >&2
  exit 1
fi
install --require-hashes -r requirements/engine.txt
# The bench reads a stream's messages with it.
install --editable client
"$python" tools/torchvision_on_cpu.py
