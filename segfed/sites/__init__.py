"""What a hospital has: tasks, the site folder, cases, labels and their ledger, imports."""

from segfed.sites.cases import Case
from segfed.sites.check import Problem, check_site, require_ready
from segfed.sites.images import add_case, hash_image
from segfed.sites.labels import (
    LabelledCase,
    checked_label,
    select_labels,
    store_label,
    submit_label,
)
from segfed.sites.ledger import Ledger
from segfed.sites.records import Assignment, LabelRecord, NewLabel, Origin, Status
from segfed.sites.site import AgentSettings, Policy, Site, SiteSettings, create_site, load_site
from segfed.sites.splits import assign_splits
from segfed.sites.tasks import PlanSettings, Task, list_tasks, load_task

__all__ = [
    "AgentSettings",
    "Assignment",
    "Case",
    "LabelRecord",
    "LabelledCase",
    "Ledger",
    "NewLabel",
    "Origin",
    "PlanSettings",
    "Policy",
    "Problem",
    "Site",
    "SiteSettings",
    "Status",
    "Task",
    "add_case",
    "assign_splits",
    "check_site",
    "checked_label",
    "create_site",
    "hash_image",
    "list_tasks",
    "load_site",
    "load_task",
    "require_ready",
    "select_labels",
    "store_label",
    "submit_label",
]
