"""Every error mdm_kit raises on purpose, and the exit code each one ends with.

    MdmError                    1   something inside mdm_kit went wrong
    ├── RecipeError             2   the recipe says something it must not
    ├── UsageError              2   a command or call says something it must not
    │   └── OutputExists        2   the output folder is there already
    ├── MisfitError             3   the models do not fit together
    │   └── NotFiniteError      3   a NaN or an infinity in the result
    ├── IntegrityError          4   bytes, headers or digests that contradict themselves
    ├── SourceError             5   a model, folder, repository or login that cannot be had
    │   └── UploadsLost         5   the Hub no longer has what was uploaded to it before
    ├── RoomError               6   no room, no memory, or somebody else holds the output
    │   └── OutputLocked        6   another process writes this output
    └── FindingsError        2..5   a plan that found errors; carries all of them

A message says what was expected, what was found, where, and what to do. It holds no secret: what
looks like one is taken out when the error is made.
"""

from __future__ import annotations

from mdm_kit.secrets import redacted


class MdmError(Exception):
    """The root of every deliberate error; `exit_code` is what the command line returns."""

    exit_code: int = 1

    def __init__(self, message: str = "") -> None:
        """Carry the message, without tokens, keys and the home folder's path."""
        super().__init__(redacted(message))


class RecipeError(MdmError):
    """The recipe is wrong; the message holds every finding with its line and a caret."""

    exit_code = 2


class UsageError(MdmError):
    """A command line or a call is wrong."""

    exit_code = 2


class OutputExists(UsageError):
    """The output folder exists and may not be replaced without being told so."""


class MisfitError(MdmError):
    """The models named cannot be merged with one another."""

    exit_code = 3


class NotFiniteError(MisfitError):
    """A result holds a NaN or an infinity."""


class IntegrityError(MdmError):
    """A file contradicts itself, its index, its header or its digest."""

    exit_code = 4


class SourceError(MdmError):
    """A model cannot be had: missing folder or repository, no access, no network."""

    exit_code = 5


class UploadsLost(SourceError):
    """Files that were uploaded in an earlier run are not on the Hub any more."""


class RoomError(MdmError):
    """There is not enough disk or memory, or the output is in use."""

    exit_code = 6


class OutputLocked(RoomError):
    """Another process is writing the same output."""


class FindingsError(MdmError):
    """A plan found errors; the message lists every one, the exit code is the gravest kind's."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Carry the rendered findings and the exit code of their gravest kind."""
        super().__init__(message)
        self.exit_code = exit_code
