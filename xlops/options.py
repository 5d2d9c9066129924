"""``set_options``: the one place for settings that outlive a call."""

from __future__ import annotations

import dataclasses
from types import TracebackType

from xlops.errors import ArgumentError, shown

__all__ = ["set_options"]


@dataclasses.dataclass(frozen=True)
class Options:
    """All settings, with their defaults."""

    display_width: int = 88
    progress: bool = False

    def __post_init__(self) -> None:
        width = self.display_width
        if isinstance(width, bool) or not isinstance(width, int) or width < 40:
            raise ArgumentError(
                "set_options: display_width must be an integer of at least 40, "
                f"got {width!r}"
            )
        if not isinstance(self.progress, bool):
            raise ArgumentError(
                f"set_options: progress must be True or False, got {shown(self.progress)}"
            )


_current = Options()


def options() -> Options:
    """The settings in force."""
    return _current


class set_options:
    """Change settings, for good or inside a ``with`` block.

    Parameters
    ----------
    display_width : int, optional
        Columns that a ``repr`` may use (88 unless set, at least 40).
    progress : bool, optional
        Whether solvers show a progress bar where the call does not say (False
        unless set).

    Raises
    ------
    TypeError
        For an unknown setting; nothing is changed then.
    ArgumentError
        For a value that a setting cannot take; nothing is changed then.

    Examples
    --------
    >>> import xlops as xl
    >>> with xl.set_options(display_width=60):
    ...     pass
    """

    def __init__(self, **settings: int | bool) -> None:
        global _current
        known = [field.name for field in dataclasses.fields(Options)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise TypeError(
                f"set_options: no setting {unknown[0]!r}; there are {', '.join(known)}"
            )
        self._before = _current
        _current = Options(**{**dataclasses.asdict(_current), **settings})

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _current
        _current = self._before
