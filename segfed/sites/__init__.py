"""What a hospital has: tasks, the site folder, cases, labels and their ledger, imports."""

from segfed.sites.accounts import (
    Account,
    Role,
    add_account,
    is_password,
    may_act_as,
    read_accounts,
    remove_account,
    set_password,
    set_role,
    signing_key,
)
from segfed.sites.approved import approved_labels
from segfed.sites.cases import Case
from segfed.sites.check import Problem, check_site, require_ready
from segfed.sites.fingerprint import (
    Fingerprint,
    fingerprint_site,
    read_fingerprint,
    write_fingerprint,
)
from segfed.sites.histograms import Histogram, merged
from segfed.sites.images import add_case, hash_image
from segfed.sites.intact import check_intact
from segfed.sites.labels import (
    LabelledCase,
    checked_label,
    store_label,
    submit_label,
)
from segfed.sites.ledger import Ledger
from segfed.sites.readings import Reading, current_reading, readings_of
from segfed.sites.records import (
    TO_REDO,
    Assignment,
    LabelRecord,
    NewAssignment,
    NewLabel,
    Origin,
    ReadingEvent,
    Status,
)
from segfed.sites.selection import select_labels
from segfed.sites.site import (
    AgentSettings,
    Policy,
    ReadingSettings,
    Site,
    SiteSettings,
    create_site,
    load_site,
)
from segfed.sites.splits import assign_splits
from segfed.sites.tasks import PlanSettings, Task, list_tasks, load_task

__all__ = [
    "TO_REDO",
    "Account",
    "AgentSettings",
    "Assignment",
    "Case",
    "Fingerprint",
    "Histogram",
    "LabelRecord",
    "LabelledCase",
    "Ledger",
    "NewAssignment",
    "NewLabel",
    "Origin",
    "PlanSettings",
    "Policy",
    "Problem",
    "Reading",
    "ReadingEvent",
    "ReadingSettings",
    "Role",
    "Site",
    "SiteSettings",
    "Status",
    "Task",
    "add_account",
    "add_case",
    "approved_labels",
    "assign_splits",
    "check_intact",
    "check_site",
    "checked_label",
    "create_site",
    "current_reading",
    "fingerprint_site",
    "hash_image",
    "is_password",
    "list_tasks",
    "load_site",
    "load_task",
    "may_act_as",
    "merged",
    "read_accounts",
    "read_fingerprint",
    "readings_of",
    "remove_account",
    "require_ready",
    "select_labels",
    "set_password",
    "set_role",
    "signing_key",
    "store_label",
    "submit_label",
    "write_fingerprint",
]
