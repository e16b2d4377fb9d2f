#!/usr/bin/env bash
# Sends a question: ./scripts/publish_task.sh "Design a minimal CI pipeline"
exec "$(dirname "$0")/../.venv/bin/atlas" ask --detach "$@"
