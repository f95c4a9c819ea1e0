"""What a hospital has: tasks, the site folder, cases, labels and their ledger, imports."""

from segfed.sites.cases import Case, add_case, hash_image
from segfed.sites.labels import (
    LabelledCase,
    checked_label,
    select_labels,
    store_label,
    submit_label,
)
from segfed.sites.ledger import Assignment, LabelRecord, Ledger, NewLabel, Origin, Status
from segfed.sites.site import Policy, Site, SiteSettings, create_site, load_site
from segfed.sites.splits import assign_splits
from segfed.sites.tasks import PlanSettings, Task, list_tasks, load_task

__all__ = [
    "Assignment",
    "Case",
    "LabelRecord",
    "LabelledCase",
    "Ledger",
    "NewLabel",
    "Origin",
    "PlanSettings",
    "Policy",
    "Site",
    "SiteSettings",
    "Status",
    "Task",
    "add_case",
    "assign_splits",
    "checked_label",
    "create_site",
    "hash_image",
    "list_tasks",
    "load_site",
    "load_task",
    "select_labels",
    "store_label",
    "submit_label",
]
