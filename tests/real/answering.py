"""A program that answers 200 as fast as one thread of Python can, and remembers nothing but how often."""

from __future__ import annotations

import asyncio
import threading


class Answering:
    """HTTP/1.1 on a port of the system's choice, in a thread of its own. Bodies of requests are not expected.

    A request with ``x-delay: SECONDS`` is answered that much later.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.answered = 0
        self._head = f"HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: 2\r\n\r\nok".encode()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"\r\nx-delay: " in head:
                    await asyncio.sleep(float(head.split(b"\r\nx-delay: ")[1].split(b"\r\n")[0]))
                self.answered += 1
                writer.write(self._head)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def __enter__(self) -> Answering:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._leave())
        self._loop.close()

    async def _leave(self) -> None:
        self._server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
