"""Files of annotations beside a MIDI file: which one a pattern names."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from aurljax.errors import UserError


class SidecarError(UserError):
    """A file beside a MIDI file that is not there, cannot be read or does not fit the music."""


def beside(midi: str | os.PathLike, pattern: str, what: str) -> Path:
    """The one file that `pattern` names in the folder of a MIDI file; {stem} stands for its name without suffix.

    `what` names the file in errors: a SidecarError if none or several fit.
    """
    folder = Path(midi).parent
    try:
        fits = sorted(folder.glob(pattern.replace("{stem}", glob.escape(Path(midi).stem))))
    except (NotImplementedError, ValueError) as error:  # an absolute or empty pattern
        raise SidecarError(f"{folder}: '{pattern}' is no pattern of a file in this folder ({error})") from None
    if len(fits) != 1:
        raise SidecarError(f"{folder}: {len(fits)} files fit the pattern '{pattern}' of {what}; it must name one")
    return fits[0]
