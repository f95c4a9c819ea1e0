"""The relay that Flower runs at a site: it hands each message to the agent, and the answer back.

Flower starts a new process for every message and runs code that the researcher sent. So this
module imports no torch, reads no image and decides nothing: the agent, which the hospital
installed and started, does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from federation.agent_socket import SocketAgent
from federation.messages import error_message, read_request, reply_message
from segfed.protocol import (
    SOCKET_KEY,
    STAGES,
    AgentConnection,
    AgentError,
    AgentErrorCode,
    Stage,
    Verb,
)

logger = logging.getLogger(__name__)


def make_client_app(connect: Callable[[Context], AgentConnection]) -> ClientApp:
    """A Flower client that relays to an agent.

    Args:
        connect: Finds the agent of the node in whose context Flower calls the client.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _relay(message, "train", connect, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _relay(message, "validate", connect, context)

    for stage in STAGES:
        app.query(stage)(partial(_relay_stage, verb=stage, connect=connect))
    return app


def _relay_stage(
    message: Message,
    context: Context,
    *,
    verb: Stage,
    connect: Callable[[Context], AgentConnection],
) -> Message:
    """The agent's answer in one stage of secure aggregation, which the relay cannot read."""
    return _relay(message, verb, connect, context)


def _relay(
    message: Message,
    verb: Verb,
    connect: Callable[[Context], AgentConnection],
    context: Context,
) -> Message:
    """The agent's answer, or the code of whatever went wrong."""
    try:
        reply = connect(context).answer(read_request(message, verb))
        return reply_message(reply, message, verb)
    except AgentError as error:
        return error_message(error.code, message)
    except Exception:  # Flower would send the exception's text to the server.
        logger.exception("The relay failed; the server is told no more than a code.")
        return error_message(AgentErrorCode.INTERNAL, message)


def _behind_socket(context: Context) -> AgentConnection:
    """The agent at the socket that the node's own configuration names."""
    return SocketAgent(Path(str(context.node_config[SOCKET_KEY])))


app = make_client_app(_behind_socket)
"""What Flower loads at a site; its node is started with ``--node-config agent-socket="PATH"``."""
