"""A TCP proxy between a site's node and its server, which tests cut, slow down and reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

# A reset instead of a farewell: nothing that was not sent yet is sent any more.
_RESET = struct.pack("ii", 1, 0)


class FaultyLink:
    """What a test may do to the link; the connections live in a thread of their own."""

    def __init__(self, target_port: int) -> None:
        self.delay_seconds = 0.0
        """Before a piece is passed on, in both directions."""

        self.bytes_per_second: float | None = None
        self.port = 0
        self.bytes_passed = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._serve)

    def cut(self) -> None:
        """From now on nothing passes and nobody is told, as when a cable is pulled."""
        self._do(self._whole.clear)

    def mend(self) -> None:
        """Let pass what waits, as TCP does once a cable is back."""
        self._do(self._whole.set)

    def reset(self) -> None:
        """Break every connection at once; new ones are let in."""
        self._do(self._reset)

    def _do(self, action) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (action(), done.set()))
        assert done.wait(10)

    def _reset(self) -> None:
        for writer in self._writers:
            connection = writer.get_extra_info("socket")
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        """Leave no connection behind."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a caller to the server, for as long as both stay."""
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers |= {writer, far_writer}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(reader, far_writer))
                    group.create_task(self._pass_on(far_reader, writer))
            except* OSError:
                pass
            finally:
                self._writers -= {writer, far_writer}
                far_writer.transport.abort()
        writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, piece by piece; its end is the other's end, too."""
        while piece := await reader.read(2**14):
            await self._whole.wait()
            if self.bytes_per_second is not None:
                await asyncio.sleep(len(piece) / self.bytes_per_second)
            await asyncio.sleep(self.delay_seconds)
            writer.write(piece)
            await writer.drain()
            self.bytes_passed += len(piece)
        raise ConnectionResetError


@contextlib.contextmanager
def faulty_link(target_port: int) -> Iterator[FaultyLink]:
    """A link to a port of this machine that works until it is told not to."""
    link = FaultyLink(target_port)
    link._thread.start()
    started = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(link._connect, "127.0.0.1"), link._loop
    )
    server = started.result(10)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        link.mend()
        link._loop.call_soon_threadsafe(server.close)
        link._loop.call_soon_threadsafe(link._loop.stop)
        link._thread.join()
