#!/bin/sh
# Print, as options for uv, the find-links that pip is configured with: uv does not read pip's configuration.
set -eu
python3 -m pip config list 2>/dev/null | sed -n "s/^[^=]*find-links='\(.*\)'$/\1/p" | sed 's/\\n/ /g' | tr -s ' ' '\n' |
  sort -u | sed '/./!d; s/^/--find-links /'
