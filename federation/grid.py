"""Flower's grid inside one process: real client apps and messages, without Ray or sockets."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class InProcessGrid(Grid):
    """Runs each message's client app in turn, in the order in which the messages come.

    Each node gets its own copy of a message's content, as it would over a network: Flower's mods
    change content in place. Time limits do not apply, since nothing can be cut off in between.
    """

    def __init__(self, client_app: ClientApp, contexts: Mapping[int, Context]) -> None:
        """Take the client app and the context of each node, by node id."""
        self._client_app = client_app
        self._contexts = dict(contexts)
        self._replies: dict[str, Message] = {}
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
        """Run the messages' client apps; returns the ids under which their replies wait."""
        pushed = []
        for message in messages:
            received = copy.deepcopy(message)
            # Flower's own grids set the same fields the same way; there is no public setter.
            message_id = next(self._message_ids)
            received.metadata.__dict__.update(_run_id=self._run.run_id, _message_id=message_id)
            context = self._contexts[message.metadata.dst_node_id]
            self._replies[message_id] = self._client_app(received, context)
            pushed.append(message_id)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand out the replies to some messages, once."""
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies to all messages."""
        del timeout
        return self.pull_messages(self.push_messages(messages))
