"""A relay in front of a TCP server, whose connections a test can cut at once, as a failing switch does."""

import asyncio
import contextlib
import socket
import struct
import threading

HOST = "127.0.0.1"
CHUNK_BYTES = 256 * 1024
# closing with this option sends a reset: neither side is told in good order
RESET = struct.pack("ii", 1, 0)


class Relay:
    """Hands on bytes between clients and a server on loopback. A context manager.

    Parameters
    ----------
    upstream_port
        Where the server listens, once a client comes.
    """

    def __init__(self, upstream_port):
        self._upstream_port = upstream_port
        self._listener = socket.create_server((HOST, 0))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._writers = set()
        self._tasks = set()
        self._refusing = False

    @property
    def port(self):
        """Where clients connect to."""
        return self._listener.getsockname()[1]

    def __enter__(self):
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, sock=self._listener))
        return self

    def __exit__(self, kind, error, trace):
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self):
        """Reset every connection. Returns how many clients lost theirs; they may connect again at once."""
        return self._run(self._cut())

    def refuse(self, refusing):
        """Reset new connections too, or serve them again."""
        self._refusing = refusing

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self._writers.add(writer)
        upstream = None
        try:
            if self._refusing:
                _reset(writer)
                return
            upstream_reader, upstream = await asyncio.open_connection(HOST, self._upstream_port)
            self._writers.add(upstream)
            await asyncio.gather(_copy(reader, upstream), _copy(upstream_reader, writer))
        except OSError:
            # one side is gone: so is the other, below
            pass
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.close()
                    with contextlib.suppress(OSError):
                        await each.wait_closed()
            self._tasks.discard(asyncio.current_task())

    async def _cut(self):
        writers = list(self._writers)
        for writer in writers:
            _reset(writer)
        return len(writers) // 2

    async def _stop(self):
        self._server.close()
        await self._cut()
        while self._tasks:
            await asyncio.wait(list(self._tasks))


async def _copy(reader, writer):
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    # half a connection is of no use to this protocol
    raise ConnectionResetError


def _reset(writer):
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
