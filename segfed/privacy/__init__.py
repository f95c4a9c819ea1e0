"""What of an update leaves a site: sums that nobody can take apart, noised with a budget, or fewer
bytes. No torch.
"""

from segfed.privacy.accounting import Mechanism, noise_multiplier_for, spent_epsilon, with_noise
from segfed.privacy.budget import Charge, Limit, charge, read_charges, release
from segfed.privacy.compression import Method, compress, compressed_form, decompress, method_of
from segfed.privacy.fixed_point import Arrays, FixedPoint, Numbers, clip, euclidean_norm
from segfed.privacy.masks import Group, with_masks
from segfed.privacy.noise import longest_update, noised, share_of_noise, stated
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
    "Charge",
    "FixedPoint",
    "Group",
    "KeyRequest",
    "Limit",
    "MaskRequest",
    "Mechanism",
    "Method",
    "Numbers",
    "PublicKeys",
    "ShareReply",
    "ShareRequest",
    "SiteSession",
    "UnmaskReply",
    "UnmaskRequest",
    "charge",
    "clip",
    "compress",
    "compressed_form",
    "decompress",
    "euclidean_norm",
    "longest_update",
    "method_of",
    "noise_multiplier_for",
    "noised",
    "read_charges",
    "release",
    "round_context",
    "session_context",
    "share_of_noise",
    "spent_epsilon",
    "stated",
    "with_masks",
    "with_noise",
]
