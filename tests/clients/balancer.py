"""A small balancer for HTTP, as in front of servers that are rolled: requests go in turn to the
backends whose /readyz is 200, over connections that are kept. It tries nothing twice."""
import http.client
import http.server
import threading
import time

PROBE_S = 0.02


class Backend:
    def __init__(self, port):
        self.port = port
        self.is_ready = False
        self.idle = []

    def probe(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class Balancer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, ports):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.backends = [Backend(port) for port in ports]
        self.turn = 0
        self.n_forwarded = {port: 0 for port in ports}
        self.is_closing = threading.Event()
        self.threads = [threading.Thread(target=self.serve_forever, daemon=True),
                        threading.Thread(target=self._probe, daemon=True)]
        for thread in self.threads:
            thread.start()

    @property
    def port(self):
        return self.server_address[1]

    def add(self, port):
        with self.lock:
            self.backends.append(Backend(port))
            self.n_forwarded[port] = 0

    def remove(self, port):
        with self.lock:
            self.backends = [b for b in self.backends if b.port != port]

    def is_ready(self, port):
        with self.lock:
            return any(b.port == port and b.is_ready for b in self.backends)

    def _probe(self):
        while not self.is_closing.wait(PROBE_S):
            for backend in list(self.backends):
                is_ready = backend.probe()
                with self.lock:
                    backend.is_ready = is_ready
                    dropped = [] if is_ready else backend.idle
                    if not is_ready:
                        backend.idle = []
                for connection in dropped:
                    connection.close()

    def take(self):
        """A backend, and a connection to it; None when none is ready."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with self.lock:
                ready = [b for b in self.backends if b.is_ready]
                if ready:
                    self.turn += 1
                    backend = ready[self.turn % len(ready)]
                    self.n_forwarded[backend.port] += 1
                    if backend.idle:
                        return backend, backend.idle.pop()
                    return backend, http.client.HTTPConnection("127.0.0.1", backend.port,
                                                               timeout=60)
            time.sleep(PROBE_S)
        return None, None

    def give_back(self, backend, connection):
        with self.lock:
            if backend.is_ready and connection.sock is not None:
                backend.idle.append(connection)
                return
        connection.close()

    def close(self):
        self.is_closing.set()
        self.shutdown()
        self.server_close()
        for thread in self.threads:
            thread.join()
        for backend in self.backends:
            for connection in backend.idle:
                connection.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece: two would wait for each other's acknowledgement

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        backend, connection = self.server.take()
        try:
            if backend is None:
                raise ConnectionError("no backend is ready")
            connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            self.server.give_back(backend, connection)
        except (OSError, http.client.HTTPException) as error:
            status, content = 502, repr(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass
