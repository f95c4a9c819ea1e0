"""The resident process of a site: policy, local rounds, what may leave, and the audit log."""

from segfed.agent.agent import Agent
from segfed.agent.approval import approved_studies, decide
from segfed.agent.audit import AUDIT_FILE, AuditEntry, read_audit
from segfed.agent.personal import read_personal
from segfed.agent.resident import ResidentAgent
from segfed.agent.shared_history import SharedHistory, shared_history
from segfed.agent.signing import (
    SignedManifest,
    check_signature,
    is_signed_by,
    read_owner_key,
    read_signed,
    sign,
    trust,
)

__all__ = [
    "AUDIT_FILE",
    "Agent",
    "AuditEntry",
    "ResidentAgent",
    "SharedHistory",
    "SignedManifest",
    "approved_studies",
    "check_signature",
    "decide",
    "is_signed_by",
    "read_audit",
    "read_owner_key",
    "read_personal",
    "read_signed",
    "shared_history",
    "sign",
    "trust",
]
