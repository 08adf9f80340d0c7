"""The durable queue over a service's own store: fair claim, fenced leases, backoff, dead letters."""

from trunkline_jobs.claim import Load, Room, Tries
from trunkline_jobs.depth import Depth, Depths
from trunkline_jobs.keyed import create_v3
from trunkline_jobs.leases import Ended
from trunkline_jobs.local import LocalJobs, Subjects, apply_outcome
from trunkline_jobs.model import Job, JobState, Lease, LeaseLost, NewJob, QueueClass, Ran
from trunkline_jobs.queue import Queue
from trunkline_jobs.table import create_v1, create_v2, create_v4, jobs_table, turns_of
from trunkline_jobs.tasks import HOUSE, TaskKind, TaskRunner, Tasks
from trunkline_jobs.untold import Untold

__all__ = [
    "HOUSE",
    "Depth",
    "Depths",
    "Ended",
    "Job",
    "JobState",
    "Lease",
    "LeaseLost",
    "Load",
    "LocalJobs",
    "NewJob",
    "Queue",
    "QueueClass",
    "Ran",
    "Room",
    "Subjects",
    "TaskKind",
    "TaskRunner",
    "Tasks",
    "Tries",
    "Untold",
    "apply_outcome",
    "create_v1",
    "create_v2",
    "create_v3",
    "create_v4",
    "jobs_table",
    "turns_of",
]
