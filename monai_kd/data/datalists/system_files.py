# SPDX-License-Identifier: Apache-2.0
"""What operating systems, file servers, archivers and editors put beside people's files."""

from __future__ import annotations

__all__ = ["is_system_name"]

_NAMES = {
    "__macosx",
    "__pycache__",
    "lost+found",
    "recycler",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
}
_STARTS = (".", "@eadir", "@recycle", "@recently", "@syno", "@tmp", "#recycle", "#snapshot", "~$", "$recycle")


def is_system_name(name: str) -> bool:
    """Whether a file or folder is none of the user's: it is hidden, or the system's, a file server's or an editor's.

    >>> [is_system_name(name) for name in ("@eaDir", "._1.dcm", "Thumbs.db", "anna.dcm")]
    [True, True, True, False]
    """
    return name.lower() in _NAMES or name.lower().startswith(_STARTS)
