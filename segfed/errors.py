"""Exceptions raised by segfed.

* SegfedError
  - ConfigError      a settings, task, site or study file is missing, malformed or contradictory
  - VolumeError      a file cannot be read as a volume, or holds values that no volume may hold
  - GeometryError    two volumes that must share a voxel grid do not
  - LabelError       a label holds values that its task does not know
  - CaseError        a case is incomplete: an image, a channel or a label is missing
  - LedgerError      the record of labels is damaged, or a record contradicts it
  - WeightsError     network weights are damaged, not finite, or made for another network
  - TrainingError    training cannot start or cannot go on
  - OutOfMemoryError a device has too little memory for the work
  - FederationError  a federated run cannot start or did not finish
  - PrivacyError     a step of secure aggregation is refused, or its result cannot be right
  - BudgetError      a study has spent what it may learn of a site's patients
  - ServerError      the label server does not start, or answers with an error
"""

from collections.abc import Sequence

_SHOWN = 20
"""Problems that one message names."""


class SegfedError(Exception):
    """Base class: catch this to handle any failure that segfed explains itself."""


class ConfigError(SegfedError, ValueError):
    """A settings, task, site or study file is missing, malformed or contradictory."""


class VolumeError(SegfedError, ValueError):
    """A file cannot be read as a volume, or holds values that no volume may hold."""


class GeometryError(SegfedError, ValueError):
    """Two volumes that must share a voxel grid do not."""


class LabelError(SegfedError, ValueError):
    """A label holds values that its task does not know."""


class CaseError(SegfedError, LookupError):
    """A case is incomplete: an image, a channel or a label is missing."""


class LedgerError(SegfedError, ValueError):
    """The record of labels is damaged, or a new record contradicts it."""


class WeightsError(SegfedError, ValueError):
    """Network weights are damaged, not finite, or made for another network."""


class TrainingError(SegfedError, RuntimeError):
    """Training cannot start or cannot go on."""


class OutOfMemoryError(SegfedError, MemoryError):
    """A device has too little memory for the work."""


class FederationError(SegfedError, RuntimeError):
    """A federated run cannot start or did not finish."""


class PrivacyError(SegfedError, RuntimeError):
    """A step of secure aggregation is refused, or its result cannot be right."""


class BudgetError(SegfedError, RuntimeError):
    """A study has spent what it may learn of a site's patients."""


class ServerError(SegfedError, RuntimeError):
    """The label server does not start, or answers with an error."""


def raise_together(problems: Sequence[SegfedError], *, advice: str) -> None:
    """Raise what is wrong with several cases as one error, so that all can be corrected at once.

    Args:
        problems: One for each case that cannot be used; nothing is raised for none.
        advice: What to do; a single problem is raised as it is and has advice of its own.

    Raises:
        SegfedError: The single problem.
        CaseError: If there are several; it names up to twenty.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    shown = [f"  {problem}" for problem in problems[:_SHOWN]]
    hidden = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    lines = "\n".join([*shown, *hidden])
    raise CaseError(f"{len(problems)} cases cannot be used:\n{lines}\n{advice}")
