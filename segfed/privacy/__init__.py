"""Secure aggregation: sites send sums that nobody can take apart. Light: no torch."""

from segfed.privacy.fixed_point import Arrays, FixedPoint, Numbers, clip, euclidean_norm
from segfed.privacy.masks import Group, with_masks
from segfed.privacy.session import SiteSession, round_context, session_context
from segfed.privacy.stages import (
    KeyRequest,
    MaskRequest,
    PublicKeys,
    ShareReply,
    ShareRequest,
    UnmaskReply,
    UnmaskRequest,
)

__all__ = [
    "Arrays",
    "FixedPoint",
    "Group",
    "KeyRequest",
    "MaskRequest",
    "Numbers",
    "PublicKeys",
    "ShareReply",
    "ShareRequest",
    "SiteSession",
    "UnmaskReply",
    "UnmaskRequest",
    "clip",
    "euclidean_norm",
    "round_context",
    "session_context",
    "with_masks",
]
