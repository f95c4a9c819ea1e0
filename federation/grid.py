"""Flower's grid inside one process: real client apps and messages, without Ray or sockets."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

Answer = Callable[[Message, Context], Message]
"""A client app, or what stands for it: a node's reply to a message."""


class InProcessGrid(Grid):
    """Runs each message's client app when its reply is asked for, one after the other.

    So no more replies lie in memory than were asked for at once.
    Each node gets its own copy of a message's content, as it would over a network: Flower's mods
    change content in place. Time limits do not apply, since nothing can be cut off in between.
    """

    def __init__(self, client_app: Answer, contexts: Mapping[int, Context]) -> None:
        """Take the client app and the context of each node, by node id."""
        self._client_app = client_app
        self._contexts = dict(contexts)
        self._waiting: dict[str, Message] = {}
        self._message_ids = (f"message-{number}" for number in itertools.count(1))
        self._run = Run.create_empty(run_id=1)

    def set_run(self, run: Run) -> None:
        """Replace the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node; the signature is Flower's."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; none ever comes or goes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take in messages; returns the ids under which their replies can be had."""
        pushed = {next(self._message_ids): message for message in messages}
        self._waiting |= pushed
        return list(pushed)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the client apps of some messages and hand out the replies, once."""
        return [self._run_client(key) for key in message_ids if key in self._waiting]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies to all messages."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _run_client(self, message_id: str) -> Message:
        """The reply of a message's node."""
        message = self._waiting.pop(message_id)
        received = copy.deepcopy(message)
        # Flower's own grids set the same fields the same way; there is no public setter.
        received.metadata.__dict__.update(_run_id=self._run.run_id, _message_id=message_id)
        return self._client_app(received, self._contexts[message.metadata.dst_node_id])
