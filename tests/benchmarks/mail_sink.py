"""A mail server that takes what comes, as fast as it can: `python mail_sink.py` prints its port.

It offers PIPELINING, keeps nothing, and when its standard input closes it tells how many messages came and how
many of them were different. One loop over bare sockets, so that it is the last to limit what is measured.
"""

import contextlib
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

END = b"\r\n.\r\n"
EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
OK = b"250 2.0.0 Ok\r\n"


@contextlib.contextmanager
def running_sink() -> Iterator[tuple[int, Callable[[], tuple[int, int]]]]:
    """A sink in another process: its port, and a function that ends it and counts messages and different ones."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def ended() -> tuple[int, int]:
            server.stdin.close()
            count, different = server.stdout.readline().split()
            return int(count), int(different)

        yield int(server.stdout.readline()), ended


class Sink:
    """All connections."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: set[bytes] = set()
        self._rest: dict[socket.socket, bytes] = {}
        self._in_content: set[socket.socket] = set()

    def opened(self, connection: socket.socket) -> None:
        """Greet."""
        self._rest[connection] = b""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"220 sink\r\n")

    def readable(self, connection: socket.socket) -> bool:
        """Read and answer; False when the connection is closed."""
        try:
            data = connection.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            return False
        answers = self._answers(connection, self._rest[connection] + data)
        if answers:
            connection.sendall(b"".join(answers))
        return True

    def _answers(self, connection: socket.socket, buffer: bytes) -> list[bytes]:
        answers = []
        begin = 0
        in_content = connection in self._in_content
        while (end := buffer.find(END if in_content else b"\r\n", begin)) >= 0:
            if in_content:
                at = buffer.find(b"Message-ID: ", begin, end) + 12
                self.seen.add(buffer[at : buffer.find(b"\r\n", at)])
                self.count += 1
                in_content = False
                answers.append(b"250 2.0.0 Ok: queued as %08X\r\n" % self.count)
                begin = end + 5
                continue
            verb = buffer[begin : begin + 4].upper()
            begin = end + 2
            if verb == b"DATA":
                in_content = True
                answers.append(b"354 go\r\n")
                begin = end  # an empty content ends by this line's own end
            else:
                answers.append(EHLO if verb == b"EHLO" else OK)
        self._rest[connection] = buffer[begin:]
        (self._in_content.add if in_content else self._in_content.discard)(connection)
        return answers


def main() -> None:
    """Serve until standard input closes."""
    sink = Sink()
    listener = socket.create_server(("127.0.0.1", 0))
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                with contextlib.suppress(BrokenPipeError):
                    print(sink.count, len(sink.seen), flush=True)
                return
            if key.fileobj is listener:
                connection, _ = listener.accept()
                sink.opened(connection)
                selector.register(connection, selectors.EVENT_READ)
            elif isinstance(key.fileobj, socket.socket) and not sink.readable(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()


if __name__ == "__main__":
    main()
