"""The real emulator of the Google Cloud CLI, for tests and demos: started on a free port, with databases on demand."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from trunkline_store.errors import StoreUnavailable, StoreUnsupported
from trunkline_store.spanner.address import EMULATOR

PROJECT, INSTANCE = "trunkline", "local"
_START_SECONDS = 20.0


def emulator_binary() -> Path | None:
    """Return the emulator's own binary (without gcloud around it, it starts in 0.1 s and ends when told)."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    binary = Path(gcloud).resolve().parent / "cloud_spanner_emulator" / "emulator_main"
    return binary if binary.exists() else None


class Emulator:
    """A running emulator; it holds everything in memory and forgets it when stopped."""

    def __init__(self, port: int | None = None) -> None:
        self._binary = emulator_binary()
        if self._binary is None:
            raise StoreUnsupported(
                "no Spanner emulator: install the Google Cloud CLI with its component cloud-spanner-emulator"
            )
        self.address = f"127.0.0.1:{port or _free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)

    def start(self) -> None:
        """Start it and wait until it answers; SPANNER_EMULATOR_HOST then names it, for this process and its own."""
        self._process = subprocess.Popen(  # noqa: S603 - the binary of the CLI on the PATH
            [str(self._binary), f"--host_port={self.address}", "--disable_query_null_filtered_index_check"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.environ[EMULATOR] = self.address
        os.environ["SPANNER_DISABLE_BUILTIN_METRICS"] = "true"
        end = time.monotonic() + _START_SECONDS
        host, _, port = self.address.partition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError as exc:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise StoreUnavailable("the Spanner emulator did not start") from exc
                time.sleep(0.02)
        self._create_instance()

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if os.environ.get(EMULATOR) == self.address:
            del os.environ[EMULATOR]

    def pause(self) -> None:
        """Stop it as a debugger would: it takes connections and says nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)  # until all of its threads have stopped

    def go_on(self) -> None:
        """Undo pause()."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def create_database(self, name: str | None = None) -> str:
        """Create an empty database; its store URL."""
        name = name or f"db-{next(self._numbers)}"
        parent = f"projects/{PROJECT}/instances/{INSTANCE}"
        with self._admin() as admin:
            made: Any = admin.create_database(
                parent=parent, create_statement=f"CREATE DATABASE `{name}`", timeout=_START_SECONDS
            )
            made.result(timeout=_START_SECONDS)
        return f"spanner+spanner:///{parent}/databases/{name}"

    def drop_database(self, url: str) -> None:
        """Drop a database: an instance holds at most 100."""
        with self._admin() as admin:
            admin.drop_database(database=_name_of(url), timeout=_START_SECONDS)

    def schema_of(self, url: str) -> list[str]:
        """Return a database's DDL, sorted: equal for a migrated and a declared schema that agree."""
        with self._admin() as admin:
            told = admin.get_database_ddl(database=_name_of(url), timeout=_START_SECONDS)
            return sorted(statement for statement in told.statements if "alembic_version" not in statement)

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        import grpc  # noqa: PLC0415
        from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient  # noqa: PLC0415
        from google.cloud.spanner_admin_database_v1.services.database_admin.transports.grpc import (  # noqa: PLC0415
            DatabaseAdminGrpcTransport,
        )

        with grpc.insecure_channel(self.address) as channel:
            yield DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=channel))

    def _create_instance(self) -> None:
        import grpc  # noqa: PLC0415
        from google.cloud.spanner_admin_instance_v1 import InstanceAdminClient  # noqa: PLC0415
        from google.cloud.spanner_admin_instance_v1.services.instance_admin.transports.grpc import (  # noqa: PLC0415
            InstanceAdminGrpcTransport,
        )

        with grpc.insecure_channel(self.address) as channel:
            admin = InstanceAdminClient(transport=InstanceAdminGrpcTransport(channel=channel))
            instance: Any = {
                "config": f"projects/{PROJECT}/instanceConfigs/emulator-config",
                "display_name": INSTANCE,
                "node_count": 1,
            }
            made: Any = admin.create_instance(
                parent=f"projects/{PROJECT}", instance_id=INSTANCE, instance=instance, timeout=_START_SECONDS
            )
            made.result(timeout=_START_SECONDS)


def _name_of(url: str) -> str:
    return url.partition(":///")[2].partition("?")[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
