"""The resident process of a site: policy, local rounds, what may leave, and the audit log."""

from segfed.agent.agent import Agent
from segfed.agent.audit import AUDIT_FILE, AuditEntry, read_audit

__all__ = ["AUDIT_FILE", "Agent", "AuditEntry", "read_audit"]
