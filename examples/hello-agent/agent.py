"""A small HTTP agent on the standard library alone.

GET  /health  200 "ok" as soon as it can answer.
GET  /        who and where it is, as text.
POST /tasks   {"task": "word-statistics", "text": "..."} -> counts, as JSON.

What it is not: a framework. Every bound is named, and a bad request gets an answer that says why.
"""

import json
import os
import re
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8000
BODY_BYTES_MAX = 1 << 20
REQUEST_SECONDS_MAX = 30
TOP_WORDS = 5
NAME = os.environ.get("AGENT_NAME", "hello-agent")
GREETING = os.environ.get("GREETING", "Hello")
HERE = os.path.dirname(os.path.abspath(__file__))


class BadTask(Exception):
    """A task that cannot be done; the text says why."""


def common_words():
    with open(os.path.join(HERE, "words", "common.txt"), encoding="utf-8") as lines:
        return frozenset(line.strip() for line in lines if line.strip())


COMMON = common_words()


def word_statistics(text):
    words = [word.lower() for word in re.findall(r"\w+", text)]
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    telling = [item for item in counts.items() if item[0] not in COMMON]
    telling.sort(key=lambda item: (-item[1], item[0]))
    return {
        "characters": len(text),
        "lines": text.count("\n") + 1 if text else 0,
        "words": len(words),
        "distinct_words": len(counts),
        "longest_word": max(counts, key=lambda word: (len(word), word), default=""),
        "top_words": [{"word": word, "count": count} for word, count in telling[:TOP_WORDS]],
    }


TASKS = {"word-statistics": word_statistics}


def run_task(body):
    try:
        request = json.loads(body)
    except ValueError as error:
        raise BadTask(f"the body is no JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("text"), str):
        raise BadTask('the body is an object with a string "text"')
    name = request.get("task", "word-statistics")
    if name not in TASKS:
        raise BadTask(f"there is no task {name!r}; there are: {', '.join(TASKS)}")
    return {"agent": NAME, "task": name, "status": "completed", "result": TASKS[name](request["text"])}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hello-agent"
    sys_version = ""
    timeout = REQUEST_SECONDS_MAX

    def answer(self, status, text, kind):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?", 1)[0]
        if path == "/health":
            self.answer(200, "ok\n", "text/plain")
        elif path == "/":
            address = self.connection.getsockname()[0].removeprefix("::ffff:")
            text = f"{GREETING}\nagent: {NAME}\nhost: {socket.gethostname()}\naddress: {address}\n"
            self.answer(200, text, "text/plain")
        else:
            self.answer(404, "there are /, /health and POST /tasks\n", "text/plain")

    do_HEAD = do_GET

    def do_POST(self):
        # A body that is not read would be taken for the next request.
        self.close_connection = True
        if self.path.split("?", 1)[0] != "/tasks":
            return self.answer(404, "there are /, /health and POST /tasks\n", "text/plain")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self.answer(411, json.dumps({"error": "send a Content-Length"}), "application/json")
        if int(length) > BODY_BYTES_MAX:
            error = {"error": f"the body has more than {BODY_BYTES_MAX} bytes"}
            return self.answer(413, json.dumps(error), "application/json")
        try:
            result = run_task(self.rfile.read(int(length)))
        except BadTask as error:
            return self.answer(400, json.dumps({"error": str(error)}), "application/json")
        self.close_connection = False
        return self.answer(200, json.dumps(result), "application/json")

    def log_message(self, format, *args):
        print(f"{self.address_string()} {format % args}", flush=True)

    def address_string(self):
        return self.client_address[0].removeprefix("::ffff:")


class Server(ThreadingHTTPServer):
    """Listens on IPv6 and IPv4 at once."""

    address_family = socket.AF_INET6
    request_queue_size = 128
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's own, which asks DNS for the host's full name and may wait for it.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = socket.gethostname(), self.server_address[1]


def main():
    if sys.argv[1:] == ["--check"]:
        found = word_statistics("the fog, the fog")
        assert found["top_words"] == [{"word": "fog", "count": 2}], found
        return
    port = int(os.environ.get("PORT", PORT))
    with Server(("::", port), Handler) as server:
        print(f"{NAME} listens on port {port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
