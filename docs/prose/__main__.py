"""`make lint`: fail on prose that reads as if translated."""

import sys

from prose import files, findings

found = [each for path in files() for each in findings(path, path.read_text())]
print("\n".join(found), end="\n" if found else "")
sys.exit(bool(found))
