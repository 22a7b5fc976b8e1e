"""Command line: `python -m hstu_capture --out DIR [options] -- script.py args...`; or `-m package.module`."""

# This file must be readable for every Python there is: an unsupported one shall get a sentence, not a syntax error.
import sys

if sys.version_info < (3, 9):
    sys.stderr.write(
        "hstu_capture: Python 3.9 or newer is needed, but %s is Python %d.%d\n"
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
    sys.exit(2)

# `-m` put the working directory first: modules of the user's that are named as ones of the standard library are the
# script's affair, not the agent's.
_before = set(sys.modules)
_first = None if getattr(sys.flags, "safe_path", False) else sys.path.pop(0)
from hstu_capture.command_line import main  # noqa: E402

if _first is not None:
    sys.path.insert(0, _first)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], set(sys.modules) - _before))
