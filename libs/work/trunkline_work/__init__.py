"""What runs jobs, without a database: one worker over any source of jobs, and the kinds of job it knows."""

from trunkline_work.kinds import Attempt, FollowUp, Kind, Observer
from trunkline_work.leases import LeaseKeeper
from trunkline_work.model import (
    Advanced,
    Dead,
    Done,
    JobKey,
    LeasedJob,
    Outcome,
    Passed,
    Report,
    Retry,
    Wait,
)
from trunkline_work.reports import Reporter
from trunkline_work.source import RELEASE_SECONDS, JobSource, Slots
from trunkline_work.worker import Terms, Worker

__all__ = [
    "RELEASE_SECONDS",
    "Advanced",
    "Attempt",
    "Dead",
    "Done",
    "FollowUp",
    "JobKey",
    "JobSource",
    "Kind",
    "LeaseKeeper",
    "LeasedJob",
    "Observer",
    "Outcome",
    "Passed",
    "Report",
    "Reporter",
    "Retry",
    "Slots",
    "Terms",
    "Wait",
    "Worker",
]
