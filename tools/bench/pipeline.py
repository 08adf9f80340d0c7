"""From acknowledgement to recorded call with instant engines, calls a second, and claims a second.

Real processes, real gRPC, real recordings fetched and decoded; only what hears and understands is a stand-in.
`pipeline_*`: one call at a time, until a reader of the tenant service's store sees the analysis. `calls_per_s`: a
backlog of calls, spread over tenants, through one worker of 256 slots, from the first webhook's receipt to the last
recorded call (`calls_per_s_16`: of 16, its default); `cpu_ms_*`: the processor time of one of the former, by process
(`bench` is this client with the providers' stand-in); `cpu_ms_steady_*`: the same of one of five calls a second.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from pathlib import Path

import grpc
from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2_grpc
from trunkline_cli.suite import webhooks
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels

from tools.bench import Target, report
from tools.bench.calls import Bench, load, percentile, processor_ms, running

FOLDER = Path("build/bench/pipeline")
# As for engines that are waited for rather than computed here: the more calls at once, the more share a commit.
WIDE = {
    "TRUNKLINE_WORKER_WORKER_CONCURRENCY": "256",
    "TRUNKLINE_AUDIO_FETCHES_AT_ONCE": "256",
    "TRUNKLINE_AUDIO_TRANSCRIPTIONS_AT_ONCE": "256",
    "TRUNKLINE_AI_ANALYSES_AT_ONCE": "256",
}
SINGLE = 60
STEADY = 5.0  # calls a second
BACKLOG = 1500
TENANTS = 5
CLAIMED = 3000
CLAIM_LIMIT = 16  # a worker's slots
TARGETS = {
    "pipeline_p50_ms": Target("<", 60),
    "pipeline_p95_ms": Target("<", 150),
    "calls_per_s": Target(">=", 200),
}
_ids = itertools.count(700_000_000)


def one_at_a_time(bench: Bench, count: int) -> list[float]:
    """Milliseconds from each call's acknowledgement to the moment it is seen recorded."""
    took = []
    for _ in range(count):
        call_id = str(next(_ids))
        began = bench.post(bench.call("single", call_id))
        took.append((bench.wait_recorded("single", [call_id], 30, pause=0.001) - began) * 1000)
        time.sleep(0.02)
    return took


def steady(bench: Bench, count: int) -> dict[str, float]:
    """Processor time that each process spends on one of STEADY calls a second, with what it does meanwhile."""
    ids = [str(next(_ids)) for _ in range(count)]
    hooks = [bench.call("single", call_id) for call_id in ids]
    before, begun = processor_ms(bench), time.monotonic()
    for place, hook in enumerate(hooks):
        time.sleep(max(0.0, begun + place / STEADY - time.monotonic()))
        bench.post(hook)
    bench.wait_recorded("single", ids, 60, pause=0.5)
    after = processor_ms(bench)
    return {f"cpu_ms_steady_{name}": (after[name] - before[name]) / count for name in after}


def backlog(bench: Bench, count: int) -> dict[str, float]:
    """Calls recorded a second, and the processor time that each process spent on one."""
    tenants = [f"many-{n}" for n in range(TENANTS)]
    ids = {tenant: [str(next(_ids)) for _ in range(count // TENANTS)] for tenant in tenants}
    hooks = [bench.call(tenant, call_id) for tenant in tenants for call_id in ids[tenant]]
    before = processor_ms(bench)
    began = bench.post_all(hooks)
    for tenant in tenants:
        bench.wait_recorded(tenant, ids[tenant], 300, pause=0.5)
    after = processor_ms(bench)
    ended = max(_written(bench, tenant) for tenant in tenants)
    spent = {f"cpu_ms_{name}": (after[name] - before[name]) / len(hooks) for name in after}
    return {"calls_per_s": len(hooks) / (ended - began), **spent}


def _written(bench: Bench, tenant: str) -> float:
    """When the last of a tenant's calls was written (Unix seconds)."""
    with bench.calls_of(tenant) as look:
        return max(look().values())


async def claims(bench: Bench, workers: int) -> float:
    """Claims a second of that many workers that do nothing but claim and report."""
    keys = bench.suite.folder / "keys"
    channels = [Channels(TokenSigner(keys, "gateway")) for _ in range(workers)]
    stubs = [job_service_pb2_grpc.JobServiceStub(c.get(bench.suite.grpc["gateway"])) for c in channels]
    began = time.perf_counter()
    done = await asyncio.gather(*(_claim_all(stub, f"bench-{n}") for n, stub in enumerate(stubs)))
    taken = time.perf_counter() - began
    for channel in channels:
        await channel.close()
    assert sum(done) == CLAIMED, f"{sum(done)} of {CLAIMED} jobs were claimed"
    return sum(done) / taken


async def _claim_all(stub: job_service_pb2_grpc.JobServiceAsyncStub, worker: str) -> int:
    done = 0
    request = pb.ClaimJobsRequest(worker=worker, limit=CLAIM_LIMIT)
    request.lease.FromSeconds(30)
    while True:
        try:
            jobs = (await stub.ClaimJobs(request, timeout=20)).jobs
        except grpc.aio.AioRpcError as error:
            raise SystemExit(f"a claim failed: {error.details()}") from None
        if not jobs:
            return done
        reports = [
            pb.JobReport(
                lease=pb.Lease(
                    job_id=job.job_id, lease_token=job.lease_token, tenant=job.event.rsplit("/", 2)[0]
                ),
                stage="record",
                done=pb.JobDone(call=""),
            )
            for job in jobs
        ]
        await stub.ReportJobs(pb.ReportJobsRequest(worker=worker, reports=reports), timeout=20)
        done += len(jobs)


def fill(bench: Bench, count: int) -> None:
    """Post that many events of several tenants, and wait until each is admitted."""
    hooks = []
    for n in range(count):
        source = bench.tenant(f"many-{n % TENANTS}").source("callrail")
        call = webhooks.callrail_call(source, str(next(_ids)), recorded=False)
        hooks.append(webhooks.callrail(source, "pre_call", call))
    bench.post_all(hooks)
    bench.wait_admitted()


def main() -> None:
    """Take every figure."""
    figures: dict[str, float] = {"load_before": load()}
    with running(FOLDER, {}) as bench:
        one_at_a_time(bench, 10)  # connections open, workers warm
        singles = one_at_a_time(bench, SINGLE)
        figures["pipeline_p50_ms"] = statistics.median(singles)
        figures["pipeline_p95_ms"] = percentile(singles, 0.95)
        print(f"one at a time: {figures['pipeline_p50_ms']:.0f} ms", file=sys.stderr, flush=True)
        figures |= steady(bench, 100)
        figures["calls_per_s_16"] = backlog(bench, BACKLOG)["calls_per_s"]
        print(f"backlog, 16 slots: {figures['calls_per_s_16']:.0f}/s", file=sys.stderr, flush=True)
    with running(FOLDER, WIDE) as bench:
        one_at_a_time(bench, 10)
        figures |= backlog(bench, BACKLOG)
        print(f"backlog, 256 slots: {figures['calls_per_s']:.0f}/s", file=sys.stderr, flush=True)
        bench.suite.stop("worker", "ai", "audio")
        for workers in (1, 4, 16):
            fill(bench, CLAIMED)
            figures[f"claims_per_s_{workers}"] = asyncio.run(claims(bench, workers))
    report("pipeline", figures, TARGETS)


if __name__ == "__main__":
    main()
