"""The commands of `trunkline`. Each imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from trunkline_cli.screen import Failure, Misuse, reason_of, waiting

app = typer.Typer(
    name="trunkline",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Store = Annotated[Literal["sqlite", "spanner"], typer.Option(help="spanner: on the Spanner emulator")]
State = Annotated[Path, typer.Option(help="the folder of the suite's state")]
Tenant = Annotated[str, typer.Option(help="the tenant's id", envvar="TRUNKLINE_CLI_TENANT")]
Url = Annotated[
    str | None, typer.Option(help="the gateway's URL; else TRUNKLINE_CLI_URL, else `trunkline up`")
]
Filter = Annotated[str, typer.Option("--filter", help="conditions joined by AND, as in docs/operations.md")]
Mtls = Annotated[bool, typer.Option("--mtls", help="encrypt gRPC: certificates of `trunkline ca`")]
Services = Annotated[list[str] | None, typer.Argument(help="all, if none is named")]


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata  # noqa: PLC0415

        print(f"trunkline {metadata.version('trunkline-cli')}")
        raise typer.Exit


@app.callback()
def trunkline(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version, and exit")
    ] = False,
) -> None:
    """Serve, watch, replay, and back up Trunkline. Exit codes: 1 for a failure, 2 for wrong arguments."""


@app.command()
def up(store: Store = "sqlite", mtls: Mtls = False) -> None:
    """Serve until Ctrl-C. Prints URLs and keys, and writes them to var/dev.json."""
    from trunkline_cli.suite.up import up  # noqa: PLC0415

    raise typer.Exit(up(store, mtls=mtls))


@app.command()
def demo(store: Store = "sqlite", mtls: Mtls = False) -> None:
    """Take every sample call from a signed webhook to its analysis."""
    from trunkline_cli.suite.demo import demo  # noqa: PLC0415

    raise typer.Exit(demo(store, mtls=mtls))


@app.command()
def ca(
    folder: Annotated[Path, typer.Argument(help="the folder of the authority")] = Path("var/tls"),
    holder: Annotated[
        list[str] | None, typer.Option("--for", help="a service, edge, or operator; by default all of them")
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="how long certificates are valid")] = 90,
    renew: Annotated[bool, typer.Option("--renew", help="also certificates that are good")] = False,
) -> None:
    """Create a certificate authority for development, and certificates for mutual TLS. Again: renew those that end."""
    from trunkline_cli.ca import ca  # noqa: PLC0415

    ca(folder, holder or [], days, renew=renew)


@app.command()
def backup(
    to: Annotated[
        Path | None, typer.Option(help="a new folder; by default backups/<time> of the state")
    ] = None,
    state: State = Path("var"),
) -> None:
    """Copy the state, whether the suite is running or stopped."""
    from trunkline_cli.backup.commands import backup  # noqa: PLC0415

    backup(state, to)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="the folder of a backup")], state: State = Path("var")
) -> None:
    """Put a backup in the place of the state. Stop the suite first; the replaced state is kept."""
    from trunkline_cli.backup.commands import restore  # noqa: PLC0415

    restore(state, backup)


edge_app = typer.Typer(no_args_is_help=True, help="Configure Envoy, the edge of a suite of several machines.")
app.add_typer(edge_app, name="edge")


@edge_app.command("config")
def edge_config(
    file: Annotated[Path | None, typer.Argument(help="a JSON file; else the edge of `trunkline up`")] = None,
    out: Annotated[Path, typer.Option(help="the configuration to write")] = Path("build/envoy.json"),
    control_plane: Annotated[
        str | None,
        typer.Option(help="host:port of `trunkline edge serve`, which then serves the configuration"),
    ] = None,
    self_signed: Annotated[
        bool, typer.Option("--self-signed", help="make a certificate if there is none, for development")
    ] = False,
) -> None:
    """Write Envoy's configuration."""
    from trunkline_cli.edge.commands import config  # noqa: PLC0415

    config(file, out, control_plane, self_signed=self_signed)


@edge_app.command("serve")
def edge_serve(
    file: Annotated[Path | None, typer.Argument(help="a JSON file of the edge, which is watched")] = None,
    address: Annotated[str, typer.Option(help="host:port on loopback, beside Envoy")] = "127.0.0.1:18000",
    kubernetes: Annotated[
        str | None, typer.Option(help="take endpoints from the EndpointSlices of this namespace")
    ] = None,
) -> None:
    """Serve the configuration to Envoys, as their control plane."""
    from trunkline_cli.edge.commands import serve  # noqa: PLC0415

    serve(file, address, kubernetes)


@app.command()
def migrate(services: Services = None) -> None:
    """Bring stores on Cloud Spanner to the newest revision: those of TRUNKLINE_<SERVICE>_STORE_URL."""
    from trunkline_cli.services import migrate  # noqa: PLC0415

    with waiting() as say:
        migrate(services or [], say)


@app.command()
def settings(services: Services = None) -> None:
    """Print the settings of services: gateway, worker, tenant, audio, ai."""
    from trunkline_cli.services import settings  # noqa: PLC0415

    raise typer.Exit(settings(services or []))


@app.command()
def check(services: Services = None) -> None:
    """Verify the settings of services in this environment, and that they reach each other."""
    from trunkline_cli.services import check  # noqa: PLC0415

    raise typer.Exit(check(services or []))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def models(context: typer.Context) -> None:
    """List, fetch, or verify speech models. `trunkline models --help` tells more."""
    from trunkline_cli.services import run  # noqa: PLC0415

    raise typer.Exit(run("trunkline_audio.models", *context.args))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def lifecycle(context: typer.Context) -> None:
    """Set how recordings age in the bucket. `trunkline lifecycle --help` tells more."""
    from trunkline_cli.services import run  # noqa: PLC0415

    raise typer.Exit(run("trunkline_audio.media.blobs", *context.args))


@app.command()
def send(
    tenant: Tenant = "acme",
    call: Annotated[
        int, typer.Option(min=1, help="the call's number; under `up`, 1 to 20 have recordings")
    ] = 1,
    hook: Annotated[str, typer.Option(help="the URL of a CallRail source, without the event type")] = "",
    secret_file: Annotated[Path | None, typer.Option(help="the file of that source's secret")] = None,
) -> None:
    """Send a signed CallRail webhook, to try a source."""
    from trunkline_cli.sending import send, source_at, source_of  # noqa: PLC0415

    if bool(hook) != (secret_file is not None):
        raise Misuse("give both --hook and --secret-file, or neither")
    try:
        source = source_at(hook, secret_file.read_text().strip()) if secret_file else source_of(tenant)
    except OSError as error:
        raise Misuse(f"cannot read the secret: {reason_of(error)}") from None
    receipt, taken = send(source, call)
    print(f"accepted in {taken:.1f} ms: receipt {receipt}")


@app.command()
def replay(
    tenant: Tenant,
    condition: Filter = "state = dead_letter",
    force: Annotated[bool, typer.Option(help="also events that are done, from the start")] = False,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="events a second")] = 10,
    dry_run: Annotated[bool, typer.Option(help="only count the events")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    wait: Annotated[bool, typer.Option(help="wait until every event has started")] = True,
    url: Url = None,
) -> None:
    """Process events again that match a filter. Counts them first, and asks."""
    from trunkline_cli.api import Api, access  # noqa: PLC0415
    from trunkline_cli.replay import replay  # noqa: PLC0415

    if not (dry_run or yes or sys.stdin.isatty()):
        raise Misuse("nobody can be asked here: give --yes or --dry-run")
    wanted: dict[str, Any] = {"filter": condition, "force": force, "ratePerSecond": rate}

    def confirm(count: int) -> bool:
        return yes or typer.confirm(f"Replay {count} of {tenant}?")

    if not replay(
        Api(access(tenant, url)), tenant, wanted=wanted, dry_run=dry_run, confirm=confirm, wait=wait
    ):
        raise Failure("nothing was replayed")


@app.command()
def tail(
    tenant: Tenant,
    kind: Annotated[Literal["events", "calls"], typer.Argument()] = "events",
    condition: Filter = "",
    since: Annotated[str, typer.Option(help="a time, or the cursor of an earlier tail")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=500, help="how many to show first")] = 10,
    keep: Annotated[bool, typer.Option("--follow/--no-follow", help="go on until Ctrl-C")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print each resource as a line of JSON")] = False,
    url: Url = None,
) -> None:
    """Follow a tenant's events or calls. A tail that continues may repeat the last ten seconds."""
    from trunkline_cli import tail as tails  # noqa: PLC0415
    from trunkline_cli.api import Api, access  # noqa: PLC0415

    told = tails.Tail(Api(access(tenant, url)), tenant, kind, condition, since)

    def show(item: dict[str, Any]) -> None:
        print(tails.as_json(item) if as_json else tails.line(kind, item), flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the cursor is told then, too
    try:
        tails.follow(told, lines, keep, show)
    except KeyboardInterrupt:
        pass
    finally:
        if told.cursor:
            print(f"to continue: --since {told.cursor}", file=sys.stderr)


@app.command()
def costs(
    tenant: Annotated[
        str | None, typer.Option(help="the tenant's id; else all tenants", envvar="TRUNKLINE_CLI_TENANT")
    ] = None,
    month: Annotated[str, typer.Option(help="the month (UTC), such as 2026-11; else the current one")] = "",
    count: Annotated[
        int, typer.Option("--months", min=1, max=60, help="how many months, up to that one")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="print each month's costs as a line of JSON")
    ] = False,
    url: Url = None,
) -> None:
    """Show what engines cost a tenant, by kind and engine, or, to an operator, what each tenant costs."""
    from trunkline_cli import costs as told  # noqa: PLC0415
    from trunkline_cli.api import Api, access  # noqa: PLC0415
    from trunkline_cli.tail import as_json as written  # noqa: PLC0415

    wanted = told.months(month, count)
    api = Api(access(tenant or "", url))
    found = list(told.of_tenant(api, tenant, wanted) if tenant else told.of_all(api, wanted))
    if as_json:
        for one in found:
            print(written(one))
    elif any("answerCount" in one for one in found):
        told.show(found, tenant)
    else:
        print(f"nothing was paid for or measured in {' to '.join(dict.fromkeys((wanted[0], wanted[-1])))}")


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process with its exit code."""
    try:
        app()
    except Failure as failure:
        print(f"trunkline: {failure}", file=sys.stderr)
        raise SystemExit(failure.code) from None
    except BrokenPipeError:  # `trunkline tail | head`
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:  # such as a full disk behind standard output
        print(f"trunkline: {reason_of(error)}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails again
        raise SystemExit(1) from None
    raise SystemExit(0)
