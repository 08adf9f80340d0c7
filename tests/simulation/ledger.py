"""What must hold after every single commit of the gateway's store, and in every claim."""

from trunkline_gateway.jobs.service import NOTHING, JobService
from trunkline_jobs import LeaseLost

_JOBS = (
    "SELECT job_id, tenant_id, group_key, state, lease_owner, lease_token, lease_until, visible_at FROM jobs"
)
# A tenant that has a job due and none in work gets its turn before this many claims went to others.
_PASSED_OVER = 6


class Ledger:
    """Compares each state of the queue with the one before it."""

    def __init__(self, world, in_flight):
        self._world = world
        self._in_flight = in_flight
        self._jobs = {}
        self._passed = {}
        self.leases = 0

    def now(self):
        return round(self._world.loop.wall().timestamp() * 1e6)

    def committed(self, raw):
        """Look at the queue as it is on disk now."""
        now = self.now()
        jobs = {row[0]: row for row in raw.execute(_JOBS)}
        begun = []
        for job_id, row in jobs.items():
            before = self._jobs.get(job_id)
            if before == row:
                continue
            self._world.tell("job", *row[:1], *row[2:7])
            if before is not None:
                self._moved(job_id, before, row, now)
            if _live(row, now) and not (before is not None and _live(before, now) and before[5] == row[5]):
                begun.append(row)
        for job_id in self._jobs.keys() - jobs.keys():
            self._world.broken(f"job {job_id} is gone")
        if begun:
            self._begun(begun, [row for row in jobs.values() if _live(row, now)])
        self._jobs = jobs

    def _begun(self, begun, live):
        """Look at leases that are live now and were not before, beside all that are."""
        for row in begun:
            job_id, tenant, group = row[:3]
            for other in live:
                if group is not None and other[0] != job_id and other[1:3] == (tenant, group):
                    self._world.broken(f"{job_id} came to be worked on beside {other[0]} of the same call")
            count = sum(other[1] == tenant for other in live)
            if row[5] > self._token(job_id) and count > self._in_flight:
                self._world.broken(f"{tenant} got {count} jobs in work; {self._in_flight} are allowed")

    def _token(self, job_id):
        before = self._jobs.get(job_id)
        return 0 if before is None else before[5]

    def _moved(self, job_id, before, row, now):
        _, _, _, was, _, old, until, _ = before
        _, _, _, state, _, token, _, _ = row
        if token < old or token > old + 1:
            self._world.broken(f"job {job_id}: its token went from {old} to {token}")
        if was in ("done", "dead") and state != was:
            self._world.broken(f"job {job_id} was {was} and is {state} again")
        if token > old:
            self.leases += 1
            if was == "leased" and until > now:
                self._world.broken(
                    f"job {job_id}: its lease was given away {(until - now) / 1e6:.1f} s too early"
                )

    def claimed(self, before, after):
        """Look at one claim: due jobs by tenant before it, and what it gave to whom."""
        for tenant in list(self._passed):
            if tenant not in before or tenant in after:
                del self._passed[tenant]
        if after:
            for tenant in before:
                if tenant not in after:
                    self._passed[tenant] = self._passed.get(tenant, 0) + 1
                    if self._passed[tenant] > _PASSED_OVER:
                        self._world.broken(f"{tenant} was passed over in {self._passed[tenant]} claims")


class WatchedJobs(JobService):
    """The gateway's own JobService, with an eye on each claim and each report."""

    def watch(self, world, ledger):
        self._world, self._ledger = world, ledger
        return self

    def _claim(self, conn, request, caps):
        now = self._ledger.now()
        raw = self._world.gateway_disk.raw
        rows = raw.execute(_JOBS).fetchall()
        at_work = {row[1] for row in rows if row[3] == "leased" and row[6] > now}
        due = {row[1] for row in rows if row[7] is not None and row[7] <= now} - at_work
        if not any(row[7] is not None and row[7] <= now for row in rows):
            return NOTHING  # what the claim would find too, after ten statements
        found = super()._claim(conn, request, caps)
        self._ledger.claimed(due, {job.event.split("/")[1] for job in found.jobs})
        return found

    def _apply(self, conn, report, *more):
        job_id, shown = report.lease.job_id, report.lease.lease_token
        state = "SELECT lease_token, state FROM jobs WHERE job_id = ?"
        token, was = self._world.gateway_disk.raw.execute(state, (job_id,)).fetchone()
        try:
            result = super()._apply(conn, report, *more)
        except LeaseLost:
            raise
        if token != shown or was != "leased":
            self._world.broken(
                f"job {job_id}: a report under token {shown} was taken; {token} is the latest, {was}"
            )
        return result


def _live(row, now):
    return row[3] == "leased" and row[6] > now
