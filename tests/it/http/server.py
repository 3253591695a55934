"""A server of HTTP for the tests: a small API with accounts, and one line of JSON for each request that comes."""

import base64
import http.server
import json
import os
import signal
import ssl
import sys
import urllib.parse

BASIC = "Basic " + base64.b64encode('app:Zeisig "8"/Specht'.encode()).decode()
BEARER = "Bearer Bussard.3-Milan_token"
items = {}
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"method": self.command, "target": self.path, "headers": headers, "body": body}
        print(json.dumps(told), flush=True)
        path, _, query = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        parts = [urllib.parse.unquote(part) for part in path.split("/")[1:]]
        if parts[0] == "url":
            same = query.get("q") == parts[1]
            return self.answer(200 if same else 418, (parts[1] + "\0").encode(), "text/plain")
        if parts[0] == "list":
            text = "".join(value + "\0" for value in json.loads(body))
            return self.answer(200, text.encode(), "text/plain")
        if parts[0] == "form":
            fields = dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
            return self.answer(200, json.dumps(fields).encode())
        if parts[0] == "moved":
            return self.answer(302, Location="http://127.0.0.1:1/other?\x9b31mred")
        if parts[0] == "shows":
            return self.answer(200, json.dumps(headers).encode(), Location=headers.get("authorization", "none"))
        if parts[0] == "points":
            return self.answer(302, Location=headers.get("x-api-key", "none"))
        if parts[0] == "closes":
            self.close_connection = True
            return self.answer(200, b"{}", Connection="close")
        if parts[0] in ("basic", "bearer"):
            wanted = BASIC if parts[0] == "basic" else BEARER
            if headers.get("authorization") != wanted:
                return self.answer(401, b'{"error": "who are you?"}')
            return self.item(parts[1:], body)
        if self.command == "DELETE" or (self.command == "PATCH" and "zones" in parts):
            return self.answer(204)
        if parts[-1] == "restart":
            return self.answer(204)
        return self.answer(200, b'{"ok": true}')

    def item(self, parts, body):
        name = parts[1]
        if self.command == "PUT":
            new = name not in items
            items[name] = body
            return self.answer(201 if new else 200, b'{"saved": true}')
        if name not in items:
            return self.answer(404, b'{"error": "no such item"}')
        if self.command == "DELETE":
            del items[name]
            return self.answer(204)
        return self.answer(200, items[name].encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client):
        print(json.dumps({"error": type(sys.exc_info()[1]).__name__}), flush=True)


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1] + "/server.crt", sys.argv[1] + "/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
