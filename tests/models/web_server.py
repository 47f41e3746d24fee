"""A small web server on the loopback that misbehaves as told. Not a test file."""

from __future__ import annotations

import dataclasses
import http.server
import re
import threading
from types import TracebackType


@dataclasses.dataclass
class Behaviour:
    """What the server does.

    Attributes:
        body: the file it has.
        etag: its entity tag; None sends none.
        ranges: whether it honours ranges.
        cut_after: in the first answers, how many bytes of the body are sent before the connection
            is closed; one entry per answer.
        length: whether it sends a Content-Length.
        chunked: send the body in chunks instead.
        statuses: what the first answers are instead of a file.
        redirect: where it sends everybody.
        encoding: a Content-Encoding to claim.
        announce: a Content-Length that is not the body's.
    """

    body: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    cut_after: list[int] = dataclasses.field(default_factory=list)
    length: bool = True
    chunked: bool = False
    statuses: list[int] = dataclasses.field(default_factory=list)
    redirect: str | None = None
    encoding: str | None = None
    announce: int | None = None


class WebServer:
    """Serves one file while the context is open and notes the requests' ranges.

    Args:
        behaviour: what to do; it may be changed between requests.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.ranges: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The file's address."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/folder/model.onnx"

    def __enter__(self) -> WebServer:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answers one request as the behaviour says."""
        does = self.behaviour
        asked = request.headers["Range"]
        self.ranges.append(asked)
        request.close_connection = True
        if does.statuses:
            request.send_error(does.statuses.pop(0))
            return
        if does.redirect:
            request.send_response(302)
            request.send_header("Location", does.redirect)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = 0
        unchanged = request.headers["If-Range"] in (None, does.etag)
        if asked and does.ranges and unchanged:
            match = re.fullmatch(r"bytes=(\d+)-", asked)
            assert match
            start = int(match[1])
        part = does.body[start:]
        request.send_response(206 if start else 200)
        if start:
            last = len(does.body) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(does.body)}")
        if does.etag:
            request.send_header("ETag", does.etag)
        if does.encoding:
            request.send_header("Content-Encoding", does.encoding)
        if does.chunked:
            request.send_header("Transfer-Encoding", "chunked")
        elif does.length:
            announced = len(part) if does.announce is None else does.announce
            request.send_header("Content-Length", str(announced))
        else:
            request.send_header("Connection", "close")
        # Before the client knows enough to leave, and the test asks something of the next answer.
        sent = part[: does.cut_after.pop(0)] if does.cut_after else part
        request.end_headers()
        if does.chunked:
            request.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            if len(sent) == len(part):
                request.wfile.write(b"0\r\n\r\n")
        else:
            request.wfile.write(sent)
        request.wfile.flush()
