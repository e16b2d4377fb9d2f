#!/usr/bin/env bash
# Indexes what the team knows: ./scripts/index_repo.sh docs/
exec "$(dirname "$0")/../.venv/bin/atlas" index "$@"
