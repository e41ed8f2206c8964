"""
A catalogue for the shop to ask: every item costs as many cents as its number.

    python examples/catalogue.py [PORT]
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Catalogue(BaseHTTPRequestHandler):
    """``GET /items/7``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer in JSON: the item, or that there is none."""
        sku = self.path.removeprefix("/items/")
        known = sku.isdecimal()
        found = {"sku": sku, "cents": int(sku)} if known else {"error": "no such item"}
        body = json.dumps(found).encode()
        self.send_response(200 if known else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    with ThreadingHTTPServer(("127.0.0.1", port), Catalogue) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
