"""Names that become parts of paths: of models, versions, encoders and the files of both.

They come over topics, in manifests, from settings and from the command line; one rule holds for all of them.
"""

from __future__ import annotations

import re

from ranker.contracts.errors import BundleError

#: Letters, digits, '.', '_' and '-', and no '.' in front. Of a pattern that Python and ECMAScript take alike; `$` would
#: allow a line's end after the name.
PATH_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?![\s\S])"
_PATTERN = re.compile(PATH_NAME)


def path_name(name: str, what: str) -> str:
    """The name, which may stand in a path.

    Args:
        name: as it was given.
        what: it names.

    Raises:
        BundleError: it might lead out of its folder.
    """
    if not _PATTERN.search(name):
        raise BundleError(
            f"{name[:200]!r} names no {what}; a name is up to 128 letters, digits, '.', '_' and '-', and begins with "
            "a letter or digit",
            "bad-name",
        )
    return name
