"""What of an update leaves a site: sums that nobody can take apart, or fewer bytes. No torch."""

from segfed.privacy.compression import Method, compress, compressed_form, decompress, method_of
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
    "Method",
    "Numbers",
    "PublicKeys",
    "ShareReply",
    "ShareRequest",
    "SiteSession",
    "UnmaskReply",
    "UnmaskRequest",
    "clip",
    "compress",
    "compressed_form",
    "decompress",
    "euclidean_norm",
    "method_of",
    "round_context",
    "session_context",
    "with_masks",
]
