"""What every engine asks of a callback's connection: the store's own errors, and no transaction control."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from trunkline_store.errors import StoreError

Translate = Callable[[BaseException], BaseException]


def translate_errors(engine: Engine, translate: Translate) -> None:
    """Raise the store's errors where they rise, also inside callbacks, which may catch them."""

    def handle(context: ExceptionContext) -> None:
        original = context.original_exception
        error = translate(original)
        if error is not original:
            raise error from original
        if isinstance(error, StoreError):  # a column type refused the value; SQLAlchemy would wrap it
            raise error

    event.listen(engine, "handle_error", handle)


def forbid_transaction_control(engine: Engine, inside: Callable[[], bool]) -> None:
    """Refuse commit() and rollback() by a callback: the transaction is not its own."""

    def refuse(_: Connection) -> None:
        if inside():
            raise StoreError("a callback must neither commit nor roll back; raise to undo it")

    event.listen(engine, "commit", refuse)
    event.listen(engine, "rollback", refuse)
