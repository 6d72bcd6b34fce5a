#!/usr/bin/env bash
# Arguments: the address of the file, and the folder that becomes the partition.
set -euo pipefail

python -m dsflow.sources.download "$1" "$2"
