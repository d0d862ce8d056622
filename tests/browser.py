"""Headless Chromium, driven over a pipe by its DevTools protocol, and a server of a folder."""

import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


class Browser:
    """A page in Chromium. Its calls return what the protocol answers, or raise RuntimeError."""

    def __init__(self, profile, *flags, seconds=120):
        to_read, self.output = os.pipe()
        self.input, to_write = os.pipe()
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", *flags)
        line = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        command = ("bash", "-c", line, "bash", CHROMIUM, *flags, f"--user-data-dir={profile}")
        self.process = subprocess.Popen(
            command,
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.seconds, self.count, self.left, self.session = seconds, 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.output, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + self.seconds
        while (answer := self._message(end)).get("id") != self.count:
            pass
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]

    def _message(self, end):
        while b"\0" not in self.left:
            if not select.select([self.input], [], [], max(0, end - time.monotonic()))[0]:
                raise RuntimeError("Chromium does not answer")
            self.left += os.read(self.input, 2**16) or b'{"id": 0, "error": "closed"}\0'
        message, _, self.left = self.left.partition(b"\0")
        return json.loads(message)

    def value(self, script):
        """The value of JavaScript, awaited if it is a promise."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def open(self, address):
        self.call("Page.enable")
        self.call("Page.navigate", url=address)

    def wait(self, script):
        end = time.monotonic() + self.seconds
        while not (value := self.value(script)):
            if time.monotonic() > end:
                raise RuntimeError(f"{script} stays {value}")
            time.sleep(0.05)
        return value

    def choose(self, selector, file):
        """Choose a file for an input, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def close(self):
        os.close(self.output)
        os.close(self.input)
        self.process.terminate()
        self.process.wait()


class Handler(http.server.SimpleHTTPRequestHandler):
    """As `python -m http.server`, but silent, never cached, and open to other pages as a CDN is."""

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_):
        pass


def serve(folder):
    """Serve a folder as `python -m http.server` does. Return the server and its address."""
    handler = functools.partial(Handler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"
