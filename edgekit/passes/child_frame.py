"""The outermost frame of a child process: ``python child_frame.py TASK`` runs ``convert(order)`` of the file TASK.

Standard library only, as it also runs in environments without edgekit. Memory and the size of files are limited, and
nothing is computed on a GPU. The order is JSON on standard input, the answer the last line of standard output; an
error is the last line of standard error.
"""

from __future__ import annotations

import json
import os
import re
import resource
import runpy
import sys

MEMORY_BYTES = 16 << 30
FILE_BYTES = 4 << 30
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    os.environ.update(ENVIRONMENT)
    answer = runpy.run_path(sys.argv[1])["convert"](json.loads(sys.stdin.read()))
    print(json.dumps(answer))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras prints in bold
        print(f"{type(error).__name__}: {' '.join(plain.split())}", file=sys.stderr)
        sys.exit(1)
